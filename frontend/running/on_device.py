# SPDX-License-Identifier: MIT
"""Kernels on a device: arrays go there dense or lie there, the host starts kernels in order, results come back or stay.

Which device is the session's business; what a call checks first is `frontend.stages.executable`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any
from weakref import finalize

import numpy as np

from codegen.launch import Axis, Choose, DeviceSource, HostStep, Launch, Repeat
from codegen.loops import Bound
from codegen.runtime.device import Driver, Loaded, Memory, not_all_fit
from frontend.arrays.device import ANY_STREAM, DEFAULT_STREAM, DeviceView
from frontend.arrays.memory import Strided
from frontend.running.buffers import Buffer
from polyhedral.errors import ArgumentError, PolyhedralError, ToolchainError
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout, runtime_stride
from polyhedral.ir.program import Role

_FAULT = "\0fault"
_UNSURE = 64
"""Blocks for a loop whose bounds the host does not know."""


class _Owner:
    """Whoever has a result on the device has this; with it goes the memory."""


def _released(driver: Driver, memory: Memory) -> None:
    """At the end of a process, the driver may be gone before, and the memory with it."""
    with suppress(PolyhedralError):
        driver.release(memory)


def _shown(plan: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in plan.items() if name != _FAULT}


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
        arrays: Sequence[Strided | DeviceView | None],
        sizes: Mapping[str, int],
        seconds: list[float] | None = None,
        repeat: int = 0,
    ) -> int:
        """Run once: what was written is in the arrays afterwards; temporaries have none.  Gives the number of the
        statement that met a wrong index, or 0.  With `seconds` all results and temporaries are poison before, and as
        many further runs as `repeat` says are timed after.
        """
        self.driver.begin()
        held: dict[str, Memory] = {}
        own: list[Memory] = []
        numbers = dict(sizes)
        plan = {_FAULT: 4}
        for b, a in zip(buffers, arrays, strict=True):
            shape = dict(zip(b.axes, b.shape_for(sizes), strict=True))
            cells = 1
            for d in reversed(self.layouts[b.name].order):
                numbers[runtime_stride(b.name, d)] = cells
                cells *= max(shape[d], 1)
            if isinstance(a, DeviceView):
                held[b.name] = self._taken(b, a)
            else:
                plan[b.name] = cells * b.dtype.itemsize
        try:
            for name, size in plan.items():
                held[name] = self._allocated(name, size, plan, own)
            dense = self._uploaded(buffers, arrays, held)
            if seconds is not None:
                self._poisoned(buffers, plan, held)
            fault = np.zeros(1, np.int32)
            self.driver.upload(held[_FAULT], fault)
            launches = self._steps(self.source.steps, held, numbers)
            self.driver.finish()
            for b, a in zip(buffers, arrays, strict=True):
                if a is not None and not isinstance(a, DeviceView) and b.role in (Role.OUTPUT, Role.INOUT) and a.size:
                    self.driver.download(held[b.name], dense[b.name])
                    a.transpose(self._order(b))[...] = dense[b.name]
            self.driver.download(held[_FAULT], fault)
            if seconds is not None and not fault[0]:
                again = partial(self._steps, self.source.steps, held, numbers)
                seconds += [self.driver.seconds(again, launches) for _ in range(repeat)]
            return int(fault[0])
        finally:
            for memory in own:
                self.driver.release(memory)

    def _order(self, b: Buffer) -> list[int]:
        return [b.axes.index(d) for d in self.layouts[b.name].order]

    def _allocated(self, name: str, size: int, plan: Mapping[str, int], own: list[Memory]) -> Memory:
        """Memory of a call; PH521 says what all of it needs."""
        try:
            memory = self.driver.allocate(size)
        except ToolchainError as error:
            if error.code != "PH521":
                raise
            while own:
                self.driver.release(own.pop())
            raise not_all_fit(_shown(plan), self.driver.free(), self.driver.device) from error
        own.append(memory)
        return memory

    def _taken(self, b: Buffer, a: DeviceView) -> Memory:
        """An array where it lies, dense in the order of its strides; what others do to it now is waited for."""
        here, where = self.driver.ordinal, a.device if a.device is not None else self.driver.where(a.address)
        if where is not None and where != here and a.size:
            raise ArgumentError(
                "PH527",
                f"{b.name} lies on device {where}, and kernels run on device {here}, {self.driver.device.name}",
                hints=(f"copy it to device {here}", "CUDA_VISIBLE_DEVICES says which device is the first"),
            )
        order, steps = self.layouts[b.name].order, 1
        shape, strides = (dict(zip(b.axes, x, strict=True)) for x in (a.shape, a.strides))
        for d in reversed(order):
            if shape[d] > 1 and strides[d] != steps * a.itemsize and a.size:
                raise ArgumentError(
                    "PH528",
                    f"{b.name} lies on the device, not dense: strides {a.strides} in bytes of extents {a.shape}",
                    hints=(f"a dense copy of {b.name}: .contiguous() in PyTorch, .copy() in CuPy",),
                )
            steps *= shape[d]
        if a.stream is not None and a.stream != DEFAULT_STREAM:
            self.driver.finish() if a.stream == ANY_STREAM else self.driver.wait_for(a.stream)
        return self.driver.borrowed(a.address, a.nbytes)

    def _uploaded(
        self, buffers: Sequence[Buffer], arrays: Sequence[Strided | DeviceView | None], held: Mapping[str, Memory]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Arguments of the host, dense as the device has them."""
        dense: dict[str, np.ndarray[Any, Any]] = {}
        for b, a in zip(buffers, arrays, strict=True):
            if a is not None and not isinstance(a, DeviceView):
                dense[b.name] = np.ascontiguousarray(a.transpose(self._order(b)))
                if b.role is not Role.OUTPUT and a.size:
                    self.driver.upload(held[b.name], dense[b.name])
        return dense

    def _poisoned(self, buffers: Sequence[Buffer], plan: Mapping[str, int], held: Mapping[str, Memory]) -> None:
        for b in buffers:
            if b.role in (Role.OUTPUT, Role.TEMPORARY) and b.name in plan:
                self.driver.upload(held[b.name], np.full(plan[b.name], 0xFF, np.uint8))

    def result(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceView:
        """An array of undefined values on the device, for as long as anybody has it."""
        self.driver.begin()
        size = prod(shape) * dtype.itemsize
        try:
            memory = self.driver.allocate(size)
        except ToolchainError as error:
            raise not_all_fit({"a result": size}, self.driver.free(), self.driver.device) from error
        strides = [prod(shape[k + 1 :]) * dtype.itemsize for k in range(len(shape))]
        address = self.driver.address(memory)
        owner = _Owner()
        finalize(owner, _released, self.driver, memory)
        return DeviceView(
            address, shape, strides, dtype, device=self.driver.ordinal, owner=owner, download=self._downloaded
        )

    def _downloaded(self, a: DeviceView) -> np.ndarray[Any, Any]:
        """A copy on the host, laid out as it is on the device."""
        self.driver.begin()
        order = sorted(range(a.ndim), key=lambda k: (-a.strides[k], k))
        host = np.empty([a.shape[k] for k in order], a.dtype)
        self.driver.download(self.driver.borrowed(a.address, a.nbytes), host)
        return host.transpose([order.index(k) for k in range(a.ndim)])

    def _steps(self, steps: Sequence[HostStep], held: Mapping[str, Memory], numbers: Mapping[str, int]) -> int:
        """Start them; how many kernels that were."""
        count = 0
        for s in steps:
            match s:
                case Launch():
                    count += self._launch(s, held, numbers)
                case Repeat(name, lo, hi, by, inner):
                    for v in range(value(lo, numbers), value(hi, numbers) + 1, by):
                        count += self._steps(inner, held, {**numbers, name: v})
                case Choose(condition, then, orelse):
                    count += self._steps(then if aff.holds(condition, numbers, numbers) else orelse, held, numbers)
        return count

    def _launch(self, k: Launch, held: Mapping[str, Memory], numbers: Mapping[str, int]) -> bool:
        grid = grid_of(k, numbers, self.driver.device.grid)
        if 0 in grid:
            return False
        number = np.int32 if self.source.bits == 32 else np.int64
        arguments = [*(held[a] for a in k.arrays), *(number(numbers[n]) for n in k.numbers)]
        self.driver.launch(self.kernels[k.symbol], grid, k.block, [*arguments, *([held[_FAULT]] if k.fault else [])])
        return True


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


def require_double(source: DeviceSource, driver: Driver) -> None:
    """PH524 where a program computes in f64 and the device does not."""
    if source.double and driver.device.ratio64 == 0:
        raise ToolchainError("PH524", f"{driver.device.name} has no f64", hints=(".astype(ph.f32)", "target='cpu'"))
