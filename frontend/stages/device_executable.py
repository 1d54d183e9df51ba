# SPDX-License-Identifier: MIT
"""Executables whose kernels run on a device: the same calls, with arrays that go there and come back.

What happens between is `frontend.running.on_device`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, cast

from codegen.launch import DeviceSource
from codegen.runtime.build import BuildInfo
from frontend.arrays.device import DeviceView
from frontend.arrays.memory import Strided
from frontend.inspection.cost import Cost, cost
from frontend.lowering.built import Timings
from frontend.lowering.scratch import require_memory
from frontend.running.buffers import Buffer, buffer
from frontend.running.loading import resources
from frontend.running.on_device import OnDevice
from frontend.stages.executable import Executable
from frontend.stages.module import Specialised
from polyhedral.errors import ArgumentError
from polyhedral.ir.program import Role, specialise


class DeviceExecutable(Executable):
    """Kernels of a device for one specialisation."""

    def __init__(self, lowered: Specialised, loaded: OnDevice, info: BuildInfo, timings: Timings) -> None:
        self.lowered = lowered
        self.loaded = loaded
        self.info = info
        self.timings = timings
        program, source = lowered.program, lowered.built.source
        every = [buffer(program.array(n), lowered.layouts[n]) for n in source.buffers]
        self._buffers = tuple(b for b in every if b.role is not Role.TEMPORARY)
        self._between = tuple(b for b in every if b.role is Role.TEMPORARY)
        self._arguments = {n: i for i, n in enumerate(lowered.module.arguments)}
        self.source_sizes = source.sizes
        self.threads = 1
        self._written = frozenset(b.name for b in self._buffers if b.role in (Role.OUTPUT, Role.INOUT))
        self._inout = any(b.role is Role.INOUT for b in self._buffers)
        self._kept: dict[str, Strided] = {}
        self._seconds: list[float] | None = None
        self._repeat = 0

    def _accept(self, data: Sequence[Strided]) -> None:
        """ArgumentError PH314 for arrays on a CUDA device where kernels run on another kind."""
        if self.loaded.driver.language == "cuda":
            return
        for name, at in self._arguments.items():
            if isinstance(data[at], DeviceView):
                raise ArgumentError(
                    "PH314",
                    f"{name} lies on a CUDA device, and this kernel runs on {self.loaded.driver.device.name}",
                    hints=("target='cuda'", f"move {name} to the host first"),
                )

    def _fresh(self, b: Buffer, sizes: Mapping[str, int], data: Sequence[Strided]) -> Strided:
        """Results stay on the device where an argument lies there."""
        if any(isinstance(a, DeviceView) for a in data):
            return cast("Strided", self.loaded.result(b.shape_for(sizes), b.dtype))
        return super()._fresh(b, sizes, data)

    def _stand_in(self, b: Buffer, given: Strided) -> Strided:
        if isinstance(given, DeviceView):
            raise ArgumentError(
                "PH528",
                f"out for {b.name} lies on the device with strides {given.strides} in bytes; it is written dense, with "
                f"{', '.join(b.axes)} from the slowest to the fastest",
                hints=("leave out= out",),
            )
        return super()._stand_in(b, given)

    def _temporaries(self, sizes: Mapping[str, int]) -> dict[str, Strided]:
        """None here: they stay on the device."""
        return {}

    def _invoke(self, arrays: Sequence[Strided], sizes: Mapping[str, int]) -> int:
        built = self.lowered.built
        if built.lives and built.options.budget is not None:
            require_memory(built.program, built.placement(sizes), built.options.budget)
        buffers, given = (*self._buffers, *self._between), (*arrays, *(None for _ in self._between))
        return self.loaded.run(buffers, given, sizes, self._seconds, self._repeat)

    def timed(self, repeat: int, /, **arguments: Any) -> tuple[Any, tuple[float, ...]]:
        """The results of a call whose results were poison before, and the seconds of so many runs after it, without
        what is copied to the device and back.
        """
        self._seconds, self._repeat = [], repeat
        try:
            made = self(**arguments)
            return made, tuple(self._seconds)
        finally:
            self._seconds, self._repeat = None, 0

    @property
    def predicted(self) -> float:
        """Seconds of one call, as plans predict them: NaN where they do not; of kernels, not of copies."""
        mapped = self.lowered.built.mapped
        assert mapped is not None
        return sum(nan if p is None else p.whole for _, p in mapped.prices) / mapped.device.clock / 1e9

    def cost(self) -> Cost:
        """Operations, bytes, intensity and footprint of one call, and what each kernel takes, where that is known."""
        sizes = self.lowered.sizes
        program = specialise(self.lowered.module.program, sizes)
        taken = resources(self.lowered.built)
        return cost(program, sizes, self.lowered.built.placement(sizes), tuple(map(str, taken)))

    def __repr__(self) -> str:
        made = "cached" if self.info.hit else "compiled"
        source = cast("DeviceSource", self.lowered.built.source)
        count = len(source.launches)
        return (
            f"<Executable {self.lowered.program.name}: {made}, {count} {'kernel' if count == 1 else 'kernels'} "
            f"on {self.loaded.driver.device.name}>"
        )
