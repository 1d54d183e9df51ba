# SPDX-License-Identifier: MIT
"""Kernels on a device: arrays go there dense, the host starts kernels in order, results come back.

Which device is `frontend.driver`'s business; what a call checks first is `frontend.executable`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from codegen.launch import Axis, Choose, DeviceSource, HostStep, Launch, Repeat
from codegen.loops import Bound
from codegen.runtime.device import Driver, Loaded, Memory
from frontend.buffers import Buffer
from frontend.memory import Strided
from polyhedral.errors import ToolchainError, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout, runtime_stride
from polyhedral.ir.program import Program, Role

_UNSURE = 64
"""Blocks for a loop whose bounds the host does not know."""


@dataclass(frozen=True, eq=False)
class OnDevice:
    """A program's kernels, loaded on a device."""

    driver: Driver
    source: DeviceSource
    kernels: Mapping[str, Loaded]
    layouts: Mapping[str, Layout]

    def run(
        self,
        buffers: Sequence[Buffer],
        arrays: Sequence[Strided | None],
        sizes: Mapping[str, int],
        seconds: list[float] | None = None,
        repeat: int = 0,
    ) -> int:
        """Run once: what was written is in the arrays afterwards; temporaries have none.  Gives the number of the
        statement that met a wrong index, or 0.  With `seconds` all results and temporaries are poison before, and as
        many further runs as `repeat` says are timed after.
        """
        held: dict[str, Memory] = {}
        numbers = dict(sizes)
        try:
            dense: dict[str, np.ndarray[Any, Any]] = {}
            for b, a in zip(buffers, arrays, strict=True):
                shape = b.shape_for(sizes)
                order = self.layouts[b.name].order
                steps = 1
                for d in reversed(order):
                    numbers[runtime_stride(b.name, d)] = steps
                    steps *= max(dict(zip(b.axes, shape, strict=True))[d], 1)
                held[b.name] = self.driver.allocate(max(steps * b.dtype.itemsize, b.dtype.itemsize))
                if a is not None:
                    dense[b.name] = np.ascontiguousarray(a.transpose([b.axes.index(d) for d in order]))
                    if b.role is not Role.OUTPUT and a.size:
                        self.driver.upload(held[b.name], dense[b.name])
                if seconds is not None and b.role in (Role.OUTPUT, Role.TEMPORARY):
                    self.driver.upload(held[b.name], np.full(max(steps, 1) * b.dtype.itemsize, 0xFF, np.uint8))
            held["\0fault"] = self.driver.allocate(4)
            fault = np.zeros(1, np.int32)
            self.driver.upload(held["\0fault"], fault)
            self._steps(self.source.steps, held, numbers)
            self.driver.finish()
            for b, a in zip(buffers, arrays, strict=True):
                if a is not None and b.role in (Role.OUTPUT, Role.INOUT) and a.size:
                    order = self.layouts[b.name].order
                    self.driver.download(held[b.name], dense[b.name])
                    a.transpose([b.axes.index(d) for d in order])[...] = dense[b.name]
            self.driver.download(held["\0fault"], fault)
            if seconds is not None and not fault[0]:
                again = partial(self._steps, self.source.steps, held, numbers)
                seconds += [self.driver.seconds(again) for _ in range(repeat)]
            return int(fault[0])
        finally:
            for memory in held.values():
                self.driver.release(memory)

    def _steps(self, steps: Sequence[HostStep], held: Mapping[str, Memory], numbers: Mapping[str, int]) -> None:
        for s in steps:
            match s:
                case Launch():
                    self._launch(s, held, numbers)
                case Repeat(name, lo, hi, by, inner):
                    for v in range(value(lo, numbers), value(hi, numbers) + 1, by):
                        self._steps(inner, held, {**numbers, name: v})
                case Choose(condition, then, orelse):
                    self._steps(then if aff.holds(condition, numbers, numbers) else orelse, held, numbers)

    def _launch(self, k: Launch, held: Mapping[str, Memory], numbers: Mapping[str, int]) -> None:
        grid = grid_of(k, numbers, self.driver.device.grid)
        if 0 in grid:
            return
        number = np.int32 if self.source.bits == 32 else np.int64
        arguments = [*(held[a] for a in k.arrays), *(number(numbers[n]) for n in k.numbers)]
        self.driver.launch(self.kernels[k.symbol], grid, k.block, [*arguments, *([held["\0fault"]] if k.fault else [])])


def value(b: Bound, numbers: Mapping[str, int]) -> int:
    """A bound, where all that it mentions is known."""
    if isinstance(b, Affine):
        return aff.evaluate(b, numbers, numbers)
    return (min if b.least else max)(value(a, numbers) for a in b.args)


def grid_of(k: Launch, numbers: Mapping[str, int], most: tuple[int, int]) -> tuple[int, int, int]:
    """Blocks along x, y and z, no more than there can be: loops that are longer take turns."""
    x, y, z = (_blocks(a, numbers) for a in k.grid)
    return min(x, most[0]), min(y, most[1]), min(z, most[1])


def _blocks(axis: Axis, numbers: Mapping[str, int]) -> int:
    found: list[int] = []
    for nest in axis.loops:
        count = 1
        for lo, hi in nest:
            try:
                count *= max(value(hi, numbers) - value(lo, numbers) + 1, 0)
            except KeyError:
                count *= _UNSURE * axis.per
        found.append(count)
    return -(-max(found) // axis.per) if found else 1


def require_real(p: Program, target: str) -> None:
    """PH526 where a program has complex values, which kernels of devices do not compute with."""
    named = ((s.write.array, n) for s in p.statements for n in ex.walk(s.value))
    found = next((a.name for a in p.arrays if a.dtype.kind == "c"), None)
    found = found or next((name for name, n in named if ex.dtype_of(n).kind == "c"), None)
    if found is not None:
        raise Unsupported(
            "PH526",
            f"{found} has complex values, which target={target!r} does not compute with",
            hints=("target='cpu'", "real and imaginary parts as arrays of their own"),
        )


def require_double(source: DeviceSource, driver: Driver) -> None:
    """PH524 where a program computes in f64 and the device does not."""
    if source.double and driver.device.ratio64 == 0:
        raise ToolchainError("PH524", f"{driver.device.name} has no f64", hints=(".astype(ph.f32)", "target='cpu'"))
