# SPDX-License-Identifier: MIT
"""Executables: native code that is called with arrays, and what it costs and takes.

A call checks, allocates and hands over addresses; which kernel is for which arrays is
`frontend.functions.kernels`'.
"""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen import loops as lp
from codegen.runtime.build import BuildInfo
from codegen.runtime.native import Native, address
from frontend.arrays.device import DeviceView
from frontend.arrays.incoming import array
from frontend.arrays.memory import Strided, check_written, empty, overlapping, views
from frontend.arrays.named import Array
from frontend.arrays.results import structured
from frontend.environment import session
from frontend.inspection.cost import Cost, cost
from frontend.inspection.plot import Plot, folds
from frontend.lowering.built import Built, Timings
from frontend.lowering.scratch import require_memory
from frontend.pictures.svg import bundle, headed
from frontend.running import loading
from frontend.running.buffers import Buffer, buffer, fits, given_outputs, scratch
from frontend.running.faults import fault
from frontend.stages.module import Specialised
from polyhedral.errors import ArgumentError, DimError, InternalError
from polyhedral.ir import affine as aff
from polyhedral.ir.program import Role

_KEPT = 64
"""For how many choices of sizes an executable remembers where its temporaries lie."""


class Executable:
    """Native code for one specialisation.

    Called with arrays in the function's argument order (or by name); `out=` takes preallocated results.  `source`,
    `asm`, `cost` and `benchmark` look inside.
    """

    def __init__(self, lowered: Specialised, native: Native, info: BuildInfo, timings: Timings) -> None:
        self.lowered = lowered
        self.native = native
        self.info = info
        self.timings = timings
        program, source = lowered.program, lowered.built.source
        self._buffers = tuple(buffer(program.array(n), lowered.layouts[n]) for n in source.buffers)
        self._arguments = {n: i for i, n in enumerate(lowered.module.arguments)}
        self.source_sizes = source.sizes
        threads = lowered.options.threads or session.current().threads
        self.threads = threads if lp.has_parallel(lowered.built.loops) else 1
        self._prepared = None if self.source_sizes else native.prepare(len(self._buffers), (), self.threads)
        self._written = frozenset(b.name for b in self._buffers if b.role in (Role.OUTPUT, Role.INOUT))
        self._kept: dict[str, Strided] = {}
        self._inout = any(b.role is Role.INOUT for b in self._buffers)
        self._scratch: dict[tuple[int, ...], _Scratch] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was compiled from: native code is loaded anew, from the cache where that has it."""
        return operator.methodcaller("compile"), (self.lowered,)

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, data: Sequence[Strided], sizes: Mapping[str, int], out: Any = None) -> Any:
        """Call the kernel on arrays in argument order that match the specialisation: the fast path."""
        self._accept(data)
        given = {} if out is None else given_outputs(self._buffers, out, sizes, self.lowered.module.orders)
        known = self._temporaries(sizes) | given
        arrays: list[Strided] = []
        results: dict[str, Array] = {}
        named: list[tuple[str, Strided]] = []
        moved: list[tuple[Strided, Strided]] = []
        for b in self._buffers:
            if b.name in self._arguments:
                a = data[self._arguments[b.name]]
            elif b.name in known:
                a = known[b.name]
            elif b.role is Role.INPUT:
                a = self._constant(b.name, data)
            else:
                a = self._fresh(b, sizes, data)
            if b.name in self._written:
                results[b.name] = Array(a, b.axes, b.element)
            if b.role is not Role.TEMPORARY:
                named.append((b.name, a))
            if b.name in given and not fits(self.lowered.layouts[b.name], b, a):
                made = self._stand_in(b, a)
                moved.append((a, made))
                a = made
            arrays.append(a)
        if given or self._inout:
            check_written([(n, a) for n, a in named if n in self._written])
            overlapping(named, self._written)
        self._succeed(self._invoke(arrays, sizes), data, sizes)
        for wanted, made in moved:
            wanted[...] = made
        return structured(self.lowered.module.returned, results, self.lowered.module.orders)

    def _accept(self, data: Sequence[Strided]) -> None:
        """ArgumentError PH314 for arrays that are not on the host."""
        for name, at in self._arguments.items():
            if isinstance(data[at], DeviceView):
                raise ArgumentError(
                    "PH314",
                    f"{name} lies on a CUDA device, and this kernel runs on the host",
                    hints=("target='cuda'", f"move {name} to the host first"),
                )

    def _fresh(self, b: Buffer, sizes: Mapping[str, int], data: Sequence[Strided]) -> Strided:
        """Where a result goes."""
        return empty(b.shape_for(sizes), b.dtype)

    def _stand_in(self, b: Buffer, given: Strided) -> Strided:
        """Where a result goes whose own place is laid out otherwise."""
        return empty(given.shape, given.dtype)

    def _temporaries(self, sizes: Mapping[str, int]) -> dict[str, Strided]:
        """One block for all of them, planned once for each choice of sizes."""
        built = self.lowered.built
        if not built.lives:
            return {}
        key = tuple(sizes[n] for n in built.program.sizes)
        found = self._scratch.get(key)
        if found is None:
            found = _Scratch(built, self._buffers, sizes)
            self._scratch = ({} if len(self._scratch) >= _KEPT else self._scratch) | {key: found}
        return found.arrays()

    def _invoke(self, arrays: Sequence[Strided], sizes: Mapping[str, int]) -> int:
        """Run the kernel; the number of the statement that met a wrong index, or 0."""
        if self._prepared is not None:
            return self._prepared(*map(address, arrays))
        return self.native(list(map(address, arrays)), self._sizes(arrays, sizes), self.threads)

    def _constant(self, name: str, data: Sequence[Strided]) -> Strided:
        """An array that depends on constant arguments alone: computed at the first call and kept."""
        if name not in self._kept:
            once = self.lowered.built.once
            assert once is not None
            native, _, _ = loading.load(once)
            buffers = [buffer(once.program.array(n), once.layouts[n]) for n in once.source.buffers]
            made = _Scratch(once, buffers, {}).arrays()
            for b in buffers:
                if b.name in self._arguments:
                    made[b.name] = data[self._arguments[b.name]]
                elif b.name not in made:
                    made[b.name] = empty(b.shape or (), b.dtype)
            arrays = [made[b.name] for b in buffers]
            self._succeed(native(list(map(address, arrays)), (), self.threads), data, {})
            self._kept = {**self._kept, **{a.name: made[a.name] for a in once.program.with_role(Role.OUTPUT)}}
        return self._kept[name]

    def _sizes(self, arrays: Sequence[Strided], sizes: Mapping[str, int]) -> list[int]:
        """Values of the kernel's size arguments: sizes, then run-time strides in elements."""
        strides = {
            f"{b.name}.{d}.stride": s // a.itemsize
            for b, a in zip(self._buffers, arrays, strict=True)
            for d, s in zip(b.axes, a.strides, strict=True)
        }
        return [sizes[n] if n in sizes else strides[n] for n in self.source_sizes]

    def _succeed(self, code: int, data: Sequence[Strided], sizes: Mapping[str, int]) -> None:
        """PH103 where a kernel met a wrong index, as exactly as the arguments tell, as the call left them."""
        if code == 0:
            return
        if code < 0:
            raise InternalError("PH999", f"kernel {self.lowered.program.name} failed with {code}")
        program, given, left = self.lowered.module.program, dict[str, Any](), dict[str, Any]()
        for n, at in self._arguments.items():
            if not isinstance(data[at], DeviceView):
                axes, known = self.lowered.specs[n].axes, left if n in self._written else given
                known[n] = np.asarray(data[at]).transpose([axes.index(d) for d in program.array(n).dim_names])
        raise fault(program, {**self.lowered.sizes, **sizes}, given, left, self.lowered.program.statements[code - 1])

    def __call__(self, *arrays: Any, out: Any = None, **named: Any) -> Any:
        module = self.lowered.module
        values = dict(zip(module.arguments, arrays, strict=False)) | named
        missing = [n for n in module.arguments if n not in values]
        unknown = [n for n in named if n not in module.arguments and n not in module.program.sizes]
        if missing or unknown or len(arrays) > len(module.arguments):
            raise ArgumentError(
                "PH045",
                f"{module.program.name} takes {', '.join(module.arguments)}"
                + (f"; missing {', '.join(missing)}" if missing else f"; not {', '.join(unknown) or 'so many'}"),
                hints=(f"exe({', '.join(module.arguments)})",),
            )
        sizes = dict(self.lowered.sizes) | {n: int(v) for n, v in named.items() if n in module.program.sizes}
        data = [self._conform(n, values[n], sizes) for n in module.arguments]
        self._infer_sizes(data, sizes)
        self.lowered.check_sizes(sizes)
        return self.run(data, sizes, out)

    def _infer_sizes(self, data: Sequence[Strided], sizes: dict[str, int]) -> None:
        """Sizes that an argument's extent is, where nobody gave them; PH045 for those that none tells."""
        program = self.lowered.module.program
        for n, a in zip(self.lowered.module.arguments, data, strict=True):
            for d, extent in zip(self.lowered.specs[n].axes, a.shape, strict=True):
                size = program.array(n).extent(d)
                known = next(iter(aff.sizes_of(size)), None)
                if known is None or size != aff.size(known) or sizes.setdefault(known, extent) == extent:
                    continue
                raise DimError(
                    "PH010",
                    f"{program.name}: sizes disagree: {known} = {sizes[known]} but {n}.{d} = {extent}",
                    dim=d,
                    hints=(f"{known}={extent}",),
                )
        for n in self.lowered.program.sizes:
            if n not in sizes:
                raise ArgumentError("PH045", f"{program.name} misses size {n}", hints=(f"exe(..., {n}=10)",))

    def _conform(self, name: str, value: Any, sizes: dict[str, int]) -> Strided:
        """The argument with the axes and strides that the kernel was specialised for; a copy where they differ."""
        spec = self.lowered.specs[name]
        if not spec.axes and spec.dtype.is_float and type(value) in (int, float):  # numbers of Python are weak
            value = np.asarray(value, spec.dtype.numpy)
        a = array(value, None if isinstance(value, Array) else spec.axes, name=name, caller=self.lowered.program.name)
        if set(a.axes) != set(spec.axes) or a.dtype != spec.dtype:
            raise ArgumentError(
                "PH046", f"{name} is {a!r}; this kernel was made for {spec}", hints=("lower the function for it",)
            )
        data = a.data.transpose([a.axes.index(d) for d in spec.axes])
        for d, n, wanted in zip(spec.axes, data.shape, spec.sizes, strict=True):
            if wanted is not None and n != wanted:
                raise ArgumentError(
                    "PH046",
                    f"{name}.{d} is {n}; this kernel was made for {spec}",
                    dim=d,
                    hints=("call the function itself",),
                )
            sizes.setdefault(f"{name}.{d}", n)
        strides = tuple(s // data.itemsize for s in data.strides)
        fits = all(w is None or n <= 1 or s == w for s, w, n in zip(strides, spec.strides, data.shape, strict=True))
        if fits:
            return data
        if name in self._written or isinstance(data, DeviceView):
            raise ArgumentError(
                "PH046",
                f"{name} is taken in place, but its strides {strides} are not those of this kernel, {spec.strides}",
                hints=("call the function itself, or lower it with this array",),
            )
        made = empty(data.shape, data.dtype)
        made[...] = data
        return made

    # --- looking inside ----------------------------------------------------------------------------------------------

    def source(self, language: str | None = None) -> str:
        return self.lowered.source(language)

    def asm(self) -> str:
        return loading.assembly(self.lowered.built)

    def cost(self) -> Cost:
        """Operations, bytes, intensity and footprint of one call."""
        sizes = self.lowered.sizes
        return cost(self.lowered.program, sizes, self.lowered.built.placement(sizes))

    def benchmark(self, *arrays: Any, repeat: int = 20, seconds: float = 1.0) -> Benchmark:
        """Median and spread of whole calls, and what that is of the machine's measured peak."""
        self(*arrays)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or (len(times) < repeat and time.perf_counter() < end):
            start = time.perf_counter()
            self(*arrays)
            times.append(time.perf_counter() - start)
        return Benchmark(tuple(times), self.cost(), self.threads)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """What a call costs, where intermediate results lie, and the text that was compiled, in folds."""
        plot = Plot(self.lowered.built, self.lowered.sizes)
        texts = {"cost": str(self.cost()), "timings": str(self.timings), "C": self.source()}
        page = headed(repr(self), folds(plot, texts, ("cost", "memory")))
        parts = {"text/plain": repr(self), "text/html": page, "image/svg+xml": plot.memory().svg}
        return bundle(parts, include, exclude)

    def __repr__(self) -> str:
        made = "cached" if self.info.hit else "compiled"
        return f"<Executable {self.lowered.program.name}: {made}, {self.threads} threads>"


class _Scratch:
    """The temporaries of a kernel at given sizes: planned, judged and held against what is allowed."""

    def __init__(self, built: Built, buffers: Sequence[Buffer], sizes: Mapping[str, int]) -> None:
        placement = built.placement(sizes)
        require_memory(built.program, placement, built.options.budget)
        self._size = placement.peak
        self._views = scratch(buffers, placement, sizes)
        self._names = tuple(s.array for s in placement.slots)

    def arrays(self) -> dict[str, Strided]:
        return dict(zip(self._names, views(self._size, self._views), strict=True))


@dataclass(frozen=True)
class Benchmark:
    """Seconds of each call, with what was computed."""

    times: tuple[float, ...]
    work: Cost
    threads: int

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def iqr(self) -> float:
        q = statistics.quantiles(self.times, n=4)
        return q[2] - q[0]

    @property
    def gflops(self) -> float:
        return self.work.flops / self.median / 1e9

    def __str__(self) -> str:
        rate = f", {self.gflops:.1f} GFLOP/s" if self.work.flops else ""
        spread = f"IQR {self.iqr * 1e3:.3f} ms, {len(self.times)} calls, {self.threads} threads"
        return f"{self.median * 1e3:.3f} ms ({spread}){rate}"
