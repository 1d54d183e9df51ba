# SPDX-License-Identifier: MIT
"""Stages as objects: Lowered (look inside) and Executable (run, inspect, benchmark).

Both hold finished values of the stages below; deciding when to make them is `frontend.function`'s.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codegen import loops as lp
from codegen.runtime.build import BuildInfo
from codegen.runtime.native import Native, address
from frontend import driver
from frontend.arrays import Array, array
from frontend.cost import Cost, cost
from frontend.driver import Built, Timings
from frontend.explain import Explain
from frontend.hints import NO_HINTS, Hints
from frontend.memory import Strided, check_written, empty, overlapping
from frontend.options import Options
from frontend.specs import Spec, dense
from polyhedral import affine as aff
from polyhedral import program as ir
from polyhedral import tree as tr
from polyhedral.check import Checked, check, violation
from polyhedral.errors import ArgumentError, BoundsError, DimError, DtypeError, InternalError, OrderError, Remark
from polyhedral.layout import Layout, row_major, runtime_stride
from polyhedral.program import Program, Role
from polyhedral.schedule import original

Structure = str | tuple["Structure", ...] | dict[str, "Structure"] | None
"""The shape of a result: names of arrays in tuples and dicts."""


@dataclass(frozen=True, eq=False)
class Module:
    """A checked program and how it meets the outside: argument names in order, result structure, wanted axis orders."""

    checked: Checked
    arguments: tuple[str, ...]
    returned: Structure
    orders: Mapping[str, tuple[str, ...]]

    @property
    def program(self) -> Program:
        return self.checked.program


def module_of(checked: Checked) -> Module:
    """A program on its own: arguments are its inputs and inouts, results all its outputs."""
    p = checked.program
    outputs = tuple(a.name for a in p.with_role(Role.OUTPUT))
    inputs = tuple(a.name for a in p.with_role(Role.INPUT, Role.INOUT))
    return Module(checked, inputs, outputs[0] if len(outputs) == 1 else outputs or None, {})


class Lowered:
    """A program specialised to sizes and strides, with its schedule, loops and text.

    >>> low = f.lower(X="f32[c:64, y:224, x:224]")                                              # doctest: +SKIP
    >>> low.domains; low.dependences; low.schedule("final"); low.layouts; low.ast; low.compile()   # doctest: +SKIP
    """

    def __init__(
        self,
        module: Module,
        specs: Mapping[str, Spec],
        sizes: Mapping[str, int],
        options: Options,
        before: Timings,
        hints: Hints = NO_HINTS,
        constants: frozenset[str] = frozenset(),
    ) -> None:
        self.module = module
        self.specs = specs
        self.sizes = dict(sizes)
        self.options = options
        self.check_sizes(self.sizes)
        program = ir.specialise(module.program, self.sizes)
        layouts = {n: s.layout(n) for n, s in specs.items()}
        for name, order in module.orders.items():
            layouts[name] = row_major(program.array(name), order)
        self.built: Built = driver.lower(program, layouts, options, before, hints, constants)

    def check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Hold the preconditions that these sizes decide: O(1) each."""
        for c in self.module.program.assumptions:
            if aff.condition_sizes(c) <= sizes.keys() and not aff.holds(c, {}, sizes):
                raise _broken(self.module.program, c, sizes)
        for p in self.module.checked.preconditions:
            if aff.condition_sizes(p.condition) <= sizes.keys() and not aff.holds(p.condition, {}, sizes):
                raise violation(p, sizes)

    @property
    def program(self) -> Program:
        """The program for these sizes."""
        return self.built.program

    @property
    def domains(self) -> dict[str, str]:
        return {f.shown: f"{{ {', '.join(f.dims)} : {f.domain} }}" for f in self.built.analyzed.frame.families}

    @property
    def accesses(self) -> dict[str, tuple[str, ...]]:
        """Per statement: the write, then the reads."""
        return {
            s.name: (f"writes {s.write}", *(f"reads {ir.Access(r.array, _affine_index(r))}" for r in ir.reads(s)))
            for s in self.program.statements
        }

    @property
    def dependences(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(d) for d in self.built.analyzed.dependences.all))

    def schedule(self, which: str = "final") -> str:
        """The schedule tree, `initial` (as written) or `final`, with the user's names."""
        frame = self.built.analyzed.frame
        shown = {f.id: f.shown for f in frame.families}
        tree = original(frame.families) if which == "initial" else self.tree
        return tr.render(tree, shown)

    @property
    def tree(self) -> tr.Tree:
        return self.built.scheduled.schedule.tree

    @property
    def layouts(self) -> Mapping[str, Layout]:
        return self.built.layouts

    @property
    def ast(self) -> str:
        return lp.render(self.built.loops)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        return (*self.module.checked.remarks, *self.built.scheduled.schedule.remarks)

    @property
    def explain(self) -> Explain:
        """`low.explain.tile("u", t=8, x=64)`: legal?  chosen?  what would change it."""
        return Explain(self)

    @property
    def timings(self) -> Timings:
        return self.built.timings

    def source(self, language: str = "c") -> str:
        return _source(self.built, language)

    def compile(self) -> Executable:
        """Native code, from the cache when it was made before."""
        return Executable(self, *driver.load(self.built))

    def __repr__(self) -> str:
        return f"<Lowered {self.program.name}: {', '.join(f'{n}={s}' for n, s in self.specs.items())}>"

    def __str__(self) -> str:
        return f"{self.schedule()}\n\n{self.ast}"


def _affine_index(load: Any) -> tuple[tuple[str, aff.Affine], ...]:
    return tuple((d, i if isinstance(i, aff.Affine) else aff.var("<data>")) for d, i in load.index)


def _broken(program: Program, c: aff.Condition, sizes: Mapping[str, int]) -> DimError:
    """An assumption on sizes that does not hold, in the words of the two sizes that it compares."""
    shown = {n: sizes[n] for n in sorted(aff.condition_sizes(c))}
    values = " but ".join(f"{n} = {v}" for n, v in shown.items())
    match c:
        case aff.Compare(aff.Affine(((aff.Size(a), 1), (aff.Size(b), -1)), 0), equal=True) | aff.Compare(
            aff.Affine(((aff.Size(b), -1), (aff.Size(a), 1)), 0), equal=True
        ):
            dim = a.rpartition(".")[2]
            array, other = a.rpartition(".")[0], b.rpartition(".")[0]
            return DimError(
                "PH010",
                f"{program.name}: sizes disagree: {values}"
                + (f" (both are indexed by dimension {dim})" if dim == b.rpartition(".")[2] else ""),
                dim=dim,
                sizes=shown,
                hints=(
                    f"if they are different axes rename one: {other or b}({dim}={dim}2)"
                    if array
                    else f"pass the same {dim}",
                ),
            )
        case _:
            return DimError(
                "PH010",
                f"{program.name} needs {c}; here {values}",
                sizes=shown,
                hints=("pass arrays of sizes that agree",),
            )


def lower(
    program: Program,
    sizes: Mapping[str, int] | None = None,
    options: Options | None = None,
    hints: Hints | None = None,
    **specs: Spec,
) -> Lowered:
    """Check and lower a Program that was built from statement definitions or parsed from text.

    `sizes` fixes sizes by name; arrays are dense in the order of their dims unless a Spec says otherwise.
    """
    start = time.perf_counter()
    if not isinstance(program, Program):
        raise ArgumentError(
            "PH045", f"ph.lower wants a Program, not a {type(program).__name__}", hints=("ph.lower(ph.parse(text))",)
        )
    module = module_of(check(program))
    fixed = dict(sizes or {})
    for n, v in fixed.items():
        if n not in program.sizes:
            raise DimError(
                "PH001", f"{program.name} has no size {n!r}", hints=(f"known: {', '.join(program.sizes) or 'none'}",)
            )
        if not isinstance(v, (int, np.integer)) or isinstance(v, bool) or v < 0:
            raise ArgumentError("PH047", f"size {n} is {v!r}, not a size", hints=(f"{n}=10",))
        fixed[n] = int(v)
    fixed |= {f"{n}.{d}": v for n, s in specs.items() for d, v in zip(s.axes, s.sizes, strict=True) if v is not None}
    given = {n: specs.get(n) or _dense(module.program.array(n), fixed) for n in module.arguments}
    timings = Timings((("check", time.perf_counter() - start),))
    return Lowered(module, given, fixed, options or driver.session().options(), timings, hints or NO_HINTS)


def _dense(a: ir.Array, sizes: Mapping[str, int]) -> Spec:
    known = [aff.substitute(e, {}, {n: aff.const(v) for n, v in sizes.items()}) for _, e in a.dims]
    return dense(a.dtype, a.dim_names, tuple(e.const if e.is_const else None for e in known))


def _source(built: Built, language: str) -> str:
    if language not in ("c", "C"):
        raise ArgumentError("PH505", f"this kernel has no {language} source", hints=("source('c')",))
    return built.source.text


@dataclass(frozen=True)
class _Buffer:
    """One pointer of the kernel: where it comes from, and its shape and type if it is allocated here."""

    name: str
    role: Role
    axes: tuple[str, ...]
    dtype: Any
    shape: tuple[int, ...] | None
    element: Any


class Executable:
    """Native code for one specialisation.

    Called with arrays in the function's argument order (or by name); `out=` takes preallocated results.  `source`,
    `asm`, `cost` and `benchmark` look inside.
    """

    def __init__(self, lowered: Lowered, native: Native, info: BuildInfo, timings: Timings) -> None:
        self.lowered = lowered
        self.native = native
        self.info = info
        self.timings = timings
        program, source = lowered.program, lowered.built.source
        self._buffers = tuple(_buffer(program.array(n), lowered.layouts[n]) for n in source.buffers)
        self._arguments = {n: i for i, n in enumerate(lowered.module.arguments)}
        self.source_sizes = source.sizes
        threads = lowered.options.threads or driver.session().threads
        self.threads = threads if lp.has_parallel(lowered.built.loops) else 1
        self._prepared = None if self.source_sizes else native.prepare(len(self._buffers), (), self.threads)
        self._written = frozenset(b.name for b in self._buffers if b.role in (Role.OUTPUT, Role.INOUT))
        self._kept: dict[str, Strided] = {}
        self._inout = any(b.role is Role.INOUT for b in self._buffers)

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, data: Sequence[Strided], sizes: Mapping[str, int], out: Any = None) -> Any:
        """Call the kernel on arrays in argument order that match the specialisation; the driver's fast path."""
        given = {} if out is None else self._outputs(out, sizes)
        arrays: list[Strided] = []
        results: dict[str, Array] = {}
        named: list[tuple[str, Strided]] = []
        moved: list[tuple[Strided, Strided]] = []
        for b in self._buffers:
            if b.name in self._arguments:
                a = data[self._arguments[b.name]]
            elif b.name in given:
                a = given[b.name]
            elif b.role is Role.INPUT:
                a = self._constant(b.name, data)
            else:
                a = empty(b.shape if b.shape is not None else self._shape(b, sizes), b.dtype)
            if b.name in self._written:
                results[b.name] = Array(a, b.axes, b.element)
            if b.role is not Role.TEMPORARY:
                named.append((b.name, a))
            if b.name in given and not self._fits(b, a):
                made = empty(a.shape, a.dtype)
                moved.append((a, made))
                a = made
            arrays.append(a)
        if given or self._inout:
            check_written([(n, a) for n, a in named if n in self._written])
            overlapping(named, self._written)
        if self._prepared is not None:
            fault = self._prepared(*map(address, arrays))
        else:
            fault = self.native(list(map(address, arrays)), self._sizes(arrays, sizes), self.threads)
        if fault:
            raise self._fault(fault)
        for wanted, made in moved:
            wanted[...] = made
        return self._structured(self.lowered.module.returned, results)

    def _constant(self, name: str, data: Sequence[Strided]) -> Strided:
        """An array that depends on constant arguments alone: computed at the first call and kept."""
        if name not in self._kept:
            once = self.lowered.built.once
            assert once is not None
            native, _, _ = driver.load(once)
            made: dict[str, Strided] = {}
            arrays: list[Strided] = []
            for n in once.source.buffers:
                b = _buffer(once.program.array(n), once.layouts[n])
                arrays.append(data[self._arguments[n]] if n in self._arguments else empty(b.shape or (), b.dtype))
                made[n] = arrays[-1]
            fault = native(list(map(address, arrays)), (), self.threads)
            if fault:
                raise self._fault(fault)
            self._kept = {**self._kept, **{a.name: made[a.name] for a in once.program.with_role(Role.OUTPUT)}}
        return self._kept[name]

    def _fits(self, b: _Buffer, a: Strided) -> bool:
        """Do a given result's cells lie where the kernel writes them?"""
        layout, item = self.lowered.layouts[b.name], a.itemsize
        return a.flags.aligned and all(
            s % item == 0 and (n <= 1 or layout.stride(d) in (s // item, runtime_stride(b.name, d)))
            for d, n, s in zip(b.axes, a.shape, a.strides, strict=True)
        )

    def _shape(self, b: _Buffer, sizes: Mapping[str, int]) -> tuple[int, ...]:
        array = self.lowered.program.array(b.name)
        return tuple(aff.evaluate(dict(array.stored)[d], {}, sizes) for d in b.axes)

    def _sizes(self, arrays: Sequence[Strided], sizes: Mapping[str, int]) -> list[int]:
        """Values of the kernel's size arguments: sizes, then run-time strides in elements."""
        strides = {
            f"{b.name}.{d}.stride": s // a.itemsize
            for b, a in zip(self._buffers, arrays, strict=True)
            for d, s in zip(b.axes, a.strides, strict=True)
        }
        return [sizes[n] if n in sizes else strides[n] for n in self.source_sizes]

    def _outputs(self, out: Any, sizes: Mapping[str, int]) -> dict[str, Strided]:
        """Preallocated results by name, each as the kernel's layout wants it."""
        outputs = [b for b in self._buffers if b.role is Role.OUTPUT]
        items = out if isinstance(out, (tuple, list)) else (out,)
        if isinstance(out, Mapping):
            items = tuple(out.get(b.name) for b in outputs)
        if len(items) != len(outputs):
            raise ArgumentError(
                "PH317", f"out= has {len(items)} arrays, but there are {len(outputs)} results", hints=("out=(a, b)",)
            )
        return {b.name: self._output(b, o, sizes) for b, o in zip(outputs, items, strict=True)}

    def _output(self, b: _Buffer, o: Any, sizes: Mapping[str, int]) -> Strided:
        given = array(o, self._out_axes(b, o), name=f"out for {b.name}")
        if given.data is not getattr(o, "data", o) and not isinstance(o, np.ndarray):
            raise ArgumentError(
                "PH316", f"out for {b.name} is a {type(o).__name__}, not an array", hints=("np.empty(shape)",)
            )
        if set(given.axes) != set(b.axes):
            raise DimError(
                "PH008",
                f"out for {b.name} has dimensions {{{', '.join(sorted(given.axes))}}}; "
                f"the result has {{{', '.join(sorted(b.axes))}}}",
                hints=(f"ph.array(a, '{' '.join(b.axes)}')",),
            )
        data = given.data.transpose([given.axes.index(d) for d in b.axes])
        shape = b.shape if b.shape is not None else self._shape(b, sizes)
        if data.shape != shape:
            wanted = ", ".join(f"{d}:{n}" for d, n in sorted(zip(b.axes, shape, strict=True)))
            found = ", ".join(f"{d}:{n}" for d, n in given.sizes.items())
            raise ArgumentError(
                "PH318", f"out for {b.name} is {{{found}}}; the result is {{{wanted}}}", hints=("np.empty(shape)",)
            )
        if data.dtype != b.dtype:
            raise DtypeError(
                "PH304",
                f"out for {b.name} is {data.dtype}; the result is {b.element}",
                hints=(f"np.empty(..., {b.dtype})",),
            )
        return data

    def _out_axes(self, b: _Buffer, o: Any) -> tuple[str, ...] | None:
        """The axis order of an unnamed array given as a result: the declared one, never a silent one."""
        if not isinstance(o, np.ndarray):
            return None
        order = self.lowered.module.orders.get(b.name, b.axes)
        if len(order) > 1 and b.name not in self.lowered.module.orders:
            names = sorted(b.axes)
            raise OrderError(
                "PH041",
                f"out for {b.name} is an unnamed array, but the result has unordered dimensions {{{', '.join(names)}}}",
                hints=(
                    f"out=ph.array(a, '{' '.join(names)}'), in the order of a's axes",
                    "@ph.function(..., returns='...')",
                ),
            )
        return order

    def _fault(self, code: int) -> Exception:
        if code > 0:
            s = self.lowered.program.statements[code - 1]
            return BoundsError(
                "PH103",
                f"an index computed from data is out of bounds in statement {s.name}",
                statement=s.name,
                location=s.location,
                hints=(
                    "ph.clip the index to the size of the dimension it reads",
                    "polyhedral run --check numpy names the point",
                ),
            )
        return InternalError("PH999", f"kernel {self.lowered.program.name} failed with {code}")

    def _structured(self, s: Structure, results: Mapping[str, Array]) -> Any:
        if s is None:
            return None
        if isinstance(s, str):
            a = results[s]
            order = self.lowered.module.orders.get(s)
            return a if order is None else a.positional(order)
        if isinstance(s, dict):
            return {k: self._structured(v, results) for k, v in s.items()}
        return tuple(self._structured(v, results) for v in s)

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
        if name in self._written:
            raise ArgumentError(
                "PH046",
                f"{name} is updated in place, but its strides {strides} are not those of this kernel, {spec.strides}",
                hints=("call the function itself, or lower it with this array",),
            )
        made = empty(data.shape, data.dtype)
        made[...] = data
        return made

    # --- looking inside ----------------------------------------------------------------------------------------------

    def source(self, language: str = "c") -> str:
        return _source(self.lowered.built, language)

    def asm(self) -> str:
        return driver.assembly(self.lowered.built)

    def cost(self) -> Cost:
        """Operations, bytes, intensity and footprint of one call."""
        return cost(self.lowered.program, self.lowered.sizes)

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

    def __repr__(self) -> str:
        return f"<Executable {self.lowered.program.name}: {'cached' if self.info.hit else 'compiled'}, {self.threads} threads>"


def _buffer(a: ir.Array, layout: Layout) -> _Buffer:
    axes = layout.order if a.role in (Role.OUTPUT, Role.TEMPORARY) else tuple(d for d, _ in layout.strides)
    stored = dict(a.stored)
    extents = tuple(stored[d] for d in axes)
    shape = tuple(max(e.const, 0) for e in extents) if all(e.is_const for e in extents) else None
    return _Buffer(a.name, a.role, axes, a.dtype.numpy, shape, a.dtype)


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
        return f"{self.median * 1e3:.3f} ms (IQR {self.iqr * 1e3:.3f} ms, {len(self.times)} calls, {self.threads} threads){rate}"


def with_threads(options: Options, threads: int | None) -> Options:
    return options if threads is None else replace(options, threads=threads)
