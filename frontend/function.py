# SPDX-License-Identifier: MIT
"""The decorator: a Python function over named tensors that compiles itself for whatever it is called with.

Tracing, specialisation and the choice between exact and symbolic sizes live here; what a kernel does with the arrays is
in `frontend.staged`.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from frontend import driver, specs
from frontend.arrays import Array, array, names_of
from frontend.assemble import assemble
from frontend.driver import Timings
from frontend.hints import NO_HINTS, Hints
from frontend.infer import settle
from frontend.lang import ScalarType, Size, Trace, current, is_recording
from frontend.lang.statements import constant
from frontend.memory import check_written, empty
from frontend.options import Options
from frontend.specs import Spec
from frontend.staged import Executable, Lowered, Module
from polyhedral.check import check
from polyhedral.dtypes import DType, f32
from polyhedral.errors import ArgumentError, DimError, OrderError, UserError
from polyhedral.program import Program, Role
from polyhedral.text import to_text

CHANGES = 2
"""A size that has had more than this many changes becomes symbolic (rule R21)."""


class _Symbolic:
    """`ph.symbolic`: leave a size symbolic in `f.lower(sizes={"b": ph.symbolic})`."""

    def __repr__(self) -> str:
        return "ph.symbolic"


symbolic = _Symbolic()

_Key = tuple[Any, ...]


@dataclass(frozen=True)
class Parameter:
    """One argument of a function: an array with declared axes, a size, a scalar, or a plain Python value."""

    name: str
    axes: tuple[str, ...] | None = None
    size: bool = False
    scalar: DType | None = None
    default: Any = inspect.Parameter.empty


class Function:
    """What `@ph.function` makes.  Call it with arrays; `lower` it to look inside; `bind` arguments that stay the same."""

    def __init__(
        self,
        python: Callable[..., Any],
        axes: Mapping[str, tuple[str, ...]],
        inout: tuple[str, ...] = (),
        returns: tuple[tuple[str, ...], ...] = (),
        bound: Mapping[str, Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, python)
        self.python = python
        self.name: str = getattr(python, "__name__", "function")
        self.parameters = _parameters(python, axes)
        self.inout = inout
        self.returns = returns
        self._axes = dict(axes)
        self._bound = dict(bound or {})
        self._modules: dict[_Key, tuple[Module, Timings]] = {}
        self._executables: dict[_Key, Executable] = {}
        self._seen: dict[str, list[int]] = {}

    # --- calling -----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Run on arrays; inside another function, compose."""
        if is_recording():
            return self._composed(args, kwargs)
        values = self._values(args, kwargs)
        data: list[Any] = []
        key: list[Any] = [driver.session().options()]
        sizes: dict[str, int] = {}
        labelled: list[Array] = []
        updated: list[tuple[np.ndarray, np.ndarray]] = []
        for p, v in zip(self.parameters, values, strict=True):
            if p.size:
                sizes[p.name] = _integer(p.name, v)
                key.append(sizes[p.name])
            elif p.axes is not None and type(v) is np.ndarray and v.ndim == len(p.axes) and _whole_strides(v):
                data.append(v)
                key += (p.axes, v.shape, v.strides, v.dtype)
            elif _is_array(p, v):
                a = self._array(p, v)
                if p.name in self.inout:
                    updated += _updated(p.name, v, a)
                if a.coords or _labelled(v):
                    labelled.append(a)
                data.append(a.data)
                key += (a.axes, a.data.shape, a.data.strides, a.data.dtype)
            else:
                key.append(_hashable(p.name, v))
        exe = self._executables.get(tuple(key))
        if exe is None:
            exe = self._specialise(tuple(key), values)
        if exe.lowered.specs:
            sizes |= _sizes(exe, data)
        result = exe.run(data, sizes, out)
        return _returned(result, labelled, updated) if labelled or updated else result

    def _composed(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The expression, inside another function; bound arrays become constants of that program."""
        recorder = current(self.name)

        def inline(p: Parameter, v: Any) -> Any:
            if p.name in self._bound and isinstance(v, Array):
                return constant(recorder, recorder.unique(p.name), v.data, " ".join(v.axes))
            return v

        return self.python(
            **{p.name: inline(p, v) for p, v in zip(self.parameters, self._values(args, kwargs), strict=True)}
        )

    def _values(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The arguments in the order of the parameters, defaults and bound ones filled in."""
        names = [p.name for p in self.parameters]
        free = [n for n in names if n not in self._bound]
        given = dict(self._bound)
        if len(args) > len(free):
            raise ArgumentError(
                "PH045", f"{self.name} takes {len(free)} arguments, got {len(args)}", hints=(self._usage(),)
            )
        given.update(zip(free, args, strict=False))
        for n, v in kwargs.items():
            if n not in names:
                raise ArgumentError("PH045", f"{self.name} has no argument {n!r}", hints=(self._usage(),))
            if n in given:
                raise ArgumentError("PH045", f"{self.name} got {n} twice", hints=(self._usage(),))
            given[n] = v
        for p in self.parameters:
            if p.name not in given:
                if p.default is inspect.Parameter.empty:
                    raise ArgumentError("PH045", f"{self.name} misses argument {p.name}", hints=(self._usage(),))
                given[p.name] = p.default
        return [given[n] for n in names]

    def _usage(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parameters if p.name not in self._bound)})"

    def _array(self, p: Parameter, v: Any) -> Array:
        if p.scalar is not None:
            return Array(_number(p, v), (), p.scalar)
        if isinstance(v, Array):
            a = v
        else:
            a = array(v, None if _labelled(v) else p.axes or (), name=p.name, caller=self.name)
        return a if _aligned(a.data) else Array(_copied(a.data), a.axes, a.dtype, a.coords)

    # --- specialisation ----------------------------------------------------------------------------------------------

    def _specialise(self, key: _Key, values: Sequence[Any]) -> Executable:
        """A kernel for these arguments: exact sizes at first, symbolic for a size that keeps changing."""
        options = key[0]
        given, numbers, static = self._specs(values)
        actual = {
            f"{n}.{d}": s for n, spec in given.items() for d, s in zip(spec.axes, spec.sizes, strict=True)
        } | numbers
        changing = self._changing(actual) if options.sizes == "auto" else frozenset()
        general = {n: _generalised(n, spec, changing) for n, spec in given.items()}
        fixed = {n: v for n, v in actual.items() if n not in changing}
        general_key = (options, *((n, s) for n, s in general.items()), *fixed.items(), *static.items())
        exe = self._executables.get(general_key)
        if exe is None:
            exe = self._lowered(general, fixed, static, options).compile()
            self._executables[general_key] = exe
        if not changing:
            self._executables[key] = exe
        else:
            _check_call(exe, actual)
        return exe

    def _changing(self, actual: Mapping[str, int | None]) -> frozenset[str]:
        found: list[str] = []
        for n, v in actual.items():
            seen = self._seen.setdefault(n, [])
            if v not in seen and v is not None:
                seen.append(v)
            if len(seen) > CHANGES:
                found.append(n)
        return frozenset(found)

    def _specs(self, values: Sequence[Any]) -> tuple[dict[str, Spec], dict[str, int], dict[str, Any]]:
        arrays: dict[str, Spec] = {}
        numbers: dict[str, int] = {}
        static: dict[str, Any] = {}
        for p, v in zip(self.parameters, values, strict=True):
            if p.size:
                numbers[p.name] = _integer(p.name, v)
            elif _is_array(p, v):
                arrays[p.name] = specs.of_array(self._array(p, v))
            else:
                static[p.name] = v
        return arrays, numbers, static

    def _lowered(
        self,
        given: Mapping[str, Spec],
        sizes: Mapping[str, int],
        static: Mapping[str, Any],
        options: Options,
        hints: Hints = NO_HINTS,
    ) -> Lowered:
        module, timings = self._module(given, static)
        known = {n: v for n, v in sizes.items() if n in module.program.sizes}
        return Lowered(
            module,
            {n: s for n, s in given.items() if n in module.arguments},
            known,
            options,
            timings,
            hints,
            frozenset(self._bound),
        )

    def _module(self, given: Mapping[str, Spec], static: Mapping[str, Any]) -> tuple[Module, Timings]:
        """The traced and checked program for these axes and types (sizes stay symbolic)."""
        key = (
            tuple((n, s.dtype, s.axes) for n, s in given.items()),
            tuple((n, _hashable(n, v)) for n, v in static.items()),
        )
        found = self._modules.get(key)
        if found is None:
            found = self._modules[key] = self._traced(given, static)
            return found
        return found[0], Timings()

    def _traced(self, given: Mapping[str, Spec], static: Mapping[str, Any]) -> tuple[Module, Timings]:
        start = time.perf_counter()
        summaries: dict[str, Any] = {}
        trace = Trace(self.name, settle=lambda r, recording: settle(r, recording, summaries))
        with trace:
            values = {p.name: self._traceable(trace, p, given, static) for p in self.parameters}
            recording = trace.finish(self.python(**values))
        traced = time.perf_counter()
        program = assemble(recording, summaries)
        assembled = time.perf_counter()
        checked = check(program)
        end = time.perf_counter()
        steps = (("trace", traced - start), ("assemble", assembled - traced), ("check", end - assembled))
        names = tuple(p.name for p in self.parameters if p.name in given)
        lifted = frozenset(
            d for p in self.parameters if p.name in given for d in given[p.name].axes if d not in (p.axes or ())
        )
        orders = self._orders(program, trace.returned, lifted)
        return Module(checked, names, trace.returned, orders), Timings(steps)

    def _traceable(self, trace: Trace, p: Parameter, given: Mapping[str, Spec], static: Mapping[str, Any]) -> Any:
        if p.size:
            return trace.size_argument(p.name)
        if p.scalar is not None:
            return trace.scalar_argument(p.name, p.scalar)
        if p.name not in given:
            return static[p.name]
        spec = given[p.name]
        role = Role.INOUT if p.name in self.inout else Role.INPUT
        lifted = tuple(d for d in spec.axes if d not in (p.axes or ()))
        return trace.argument(p.name, spec.axes, spec.dtype, role, lifted)

    def _orders(self, program: Program, returned: Any, lifted: frozenset[str]) -> dict[str, tuple[str, ...]]:
        """The declared axis order of each result; one that lifting gave further dims has none."""
        names = [returned] if isinstance(returned, str) else list(_flat(returned))
        if self.returns and len(self.returns) != len(names):
            raise ArgumentError(
                "PH319",
                f"{self.name} returns {len(names)} results, but returns= gives the axis order of {len(self.returns)}",
                hints=("returns=('i j', 'i'): one string of dimensions for each result",),
            )
        found: dict[str, tuple[str, ...]] = {}
        for name, order in zip(names, self.returns, strict=False):
            dims = frozenset(program.array(name).dim_names)
            if dims == set(order):
                found[name] = order
            elif not set(order) <= dims or not dims - set(order) <= lifted:
                shown = " ".join(sorted(dims))
                raise OrderError(
                    "PH043",
                    f"returns='{' '.join(order)}' is no order of the result's dimensions, {{{', '.join(sorted(dims))}}}",
                    hints=(f"returns='{shown}', in the order you want",),
                )
        return found

    # --- stages ------------------------------------------------------------------------------------------------------

    def trace(self, *args: Any, **kwargs: Any) -> Module:
        """The checked program for arguments given as arrays or as text such as 'f32[c:64, y]'."""
        given, static = self._described(args, kwargs)
        return self._module(given, static)[0]

    def lower(
        self,
        *args: Any,
        target: str | None = None,
        sizes: Mapping[str, Any] | None = None,
        threads: int | None = None,
        checked: bool | None = None,
        tile: int | None = None,
        parallel: bool | None = None,
        hints: Hints | None = None,
        **kwargs: Any,
    ) -> Lowered:
        """Schedule and print without compiling.

        Arguments are arrays or text: `f.lower(X="f32[c:64, y:224]", W="f32[o, c:64]")`.  `sizes` fixes or frees sizes by
        dim or by full name: `{"b": ph.symbolic, "c": 64, "X.y": 224}`.  `hints` (see `ph.hints`) are each checked for legality.
        """
        options = driver.session().options(
            target=target, threads=threads, checked=checked, tile=tile, parallel=parallel
        )
        given, static = self._described(args, kwargs)
        numbers = {
            p.name: int(kwargs[p.name]) for p in self.parameters if p.size and isinstance(kwargs.get(p.name), int)
        }
        self._require_sizes(sizes, given)
        given = {n: _resized(n, s, sizes or {}) for n, s in given.items()}
        numbers |= {
            n: v
            for n, v in (sizes or {}).items()
            if any(p.size and p.name == n for p in self.parameters) and isinstance(v, int)
        }
        fixed = {f"{n}.{d}": v for n, s in given.items() for d, v in zip(s.axes, s.sizes, strict=True) if v is not None}
        return self._lowered(given, fixed | numbers, static, options, hints or NO_HINTS)

    def _require_sizes(self, sizes: Any, given: Mapping[str, Spec]) -> None:
        """PH047 for sizes that are no sizes, PH001 for those of dims that no argument has."""
        if sizes is not None and not isinstance(sizes, Mapping):
            raise ArgumentError(
                "PH047", f"sizes={sizes!r} is no dict of sizes", hints=("sizes={'b': ph.symbolic, 'c': 64}",)
            )
        known = {p.name for p in self.parameters if p.size}
        known |= {n for a, s in given.items() for d in s.axes for n in (d, f"{a}.{d}")}
        for n, v in (sizes or {}).items():
            if n not in known:
                raise DimError(
                    "PH001", f"sizes: {self.name} has no size {n!r}", hints=(f"known: {', '.join(sorted(known))}",)
                )
            if v is not symbolic:
                _integer(n, v)

    def _described(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Spec], dict[str, Any]]:
        """Specs of the array arguments and values of the plain ones; arrays left out are f32 of symbolic size."""
        names = [p.name for p in self.parameters if p.name not in self._bound]
        values = {**self._bound, **dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names):
            raise ArgumentError(
                "PH045", f"{self.name} takes {len(names)} arguments, got {len(args)}", hints=(self._usage(),)
            )
        unknown = [n for n in values if n not in {p.name for p in self.parameters}]
        if unknown:
            raise ArgumentError("PH045", f"{self.name} has no argument {unknown[0]!r}", hints=(self._usage(),))
        given: dict[str, Spec] = {}
        static: dict[str, Any] = {}
        for p in self.parameters:
            v = values.get(p.name, p.default)
            if p.size:
                continue
            if p.scalar is not None:
                given[p.name] = specs.dense(p.scalar, (), ())
            elif isinstance(v, str) and (p.axes is not None or "[" in v):
                given[p.name] = specs.parse(v, p.name)
            elif p.axes is not None and v is inspect.Parameter.empty:
                given[p.name] = specs.dense(f32, p.axes, (None,) * len(p.axes))
            elif v is not inspect.Parameter.empty and _is_array(p, v):
                given[p.name] = specs.of_array(self._array(p, v))
            elif v is inspect.Parameter.empty:
                raise ArgumentError("PH045", f"{self.name} misses argument {p.name}", hints=(self._usage(),))
            else:
                static[p.name] = v
        return given, static

    def bind(self, **constants: Any) -> Function:
        """The function with some arguments fixed; arrays are copied now, later changes of the originals are not seen."""
        for n in constants:
            if n not in {p.name for p in self.parameters}:
                raise ArgumentError("PH045", f"{self.name} has no argument {n!r}", hints=(self._usage(),))
        by_name = {p.name: p for p in self.parameters}
        kept = {n: self._kept(by_name[n], v) for n, v in constants.items()}
        return Function(self.python, self._axes, self.inout, self.returns, {**self._bound, **kept})

    def _kept(self, p: Parameter, v: Any) -> Any:
        if not _is_array(p, v):
            return v
        a = self._array(p, v)
        frozen = _copied(a.data)
        frozen.flags.writeable = False
        return Array(frozen, a.axes, a.dtype, a.coords)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.python)

    def __repr__(self) -> str:
        shown = ", ".join(f"{p.name}{{{','.join(p.axes)}}}" if p.axes is not None else p.name for p in self.parameters)
        return f"<ph.function {self.name}({shown})>"

    def __str__(self) -> str:
        """The canonical text, for f32 arguments of symbolic sizes; `ph.parse` reads it back.

        A function that f32 does not suit is printed as it was called last.
        """
        try:
            return to_text(self.trace().program)
        except UserError as error:
            if self._modules:
                return to_text(next(reversed(self._modules.values()))[0].program)
            return f"{self!r}\n{error}"


def function(python: Callable[..., Any] | None = None, /, *, inout: Any = (), returns: Any = None, **axes: Any) -> Any:
    """Make a compiled function of a Python function over named tensors.

    `X="c y x"` names an unnamed array's axes, in axis order; `inout="u"` allows updates of an argument; `returns="o y x"`
    fixes the axis order of the result (a tuple for several), so that `np.asarray(f(...))` works.
    """
    if python is not None:
        _require_function(python)
        return Function(python, {}, (), ())

    def decorate(f: Callable[..., Any]) -> Function:
        _require_function(f)
        several = returns if isinstance(returns, (tuple, list)) else (returns,)
        orders = () if returns is None else tuple(names_of(r) for r in several)
        declared = {n: names_of(v) for n, v in axes.items()}
        parameters = inspect.signature(f).parameters
        for n in (*declared, *names_of(inout)):
            if n not in parameters:
                raise ArgumentError(
                    "PH045",
                    f"{f.__name__} has no argument {n!r} to declare",
                    hints=(f"its arguments are {', '.join(parameters)}",),
                )
        return Function(f, declared, names_of(inout), orders)

    return decorate


def _require_function(f: object) -> None:
    """PH045 for what is no function, or has parameters without names of their own."""
    if not callable(f):
        raise ArgumentError("PH045", f"@ph.function wants a function, not {f!r}", hints=("@ph.function(X='c y x')",))
    for p in inspect.signature(f).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY):
            raise ArgumentError(
                "PH045",
                f"{getattr(f, '__name__', f)} has the parameter {p}; each array needs a name of its own",
                hints=("list the arguments by name: def f(X, W):",),
            )


# --- helpers ---------------------------------------------------------------------------------------------------------


def _parameters(python: Callable[..., Any], axes: Mapping[str, tuple[str, ...]]) -> tuple[Parameter, ...]:
    found: list[Parameter] = []
    hints = _annotations(python)
    for n, p in inspect.signature(python).parameters.items():
        note = hints.get(n)
        found.append(
            Parameter(n, axes.get(n), note is Size, note.dtype if isinstance(note, ScalarType) else None, p.default)
        )
    return tuple(found)


def _annotations(python: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as values, also under `from __future__ import annotations`."""
    try:
        return inspect.get_annotations(python, eval_str=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return inspect.get_annotations(python)


def _is_array(p: Parameter, v: Any) -> bool:
    if p.scalar is not None or p.axes is not None:
        return True
    return isinstance(v, (Array, np.ndarray)) or _labelled(v) or hasattr(v, "__dlpack__")


def _labelled(v: Any) -> bool:
    return type(v).__module__.partition(".")[0] == "xarray"


def _whole_strides(data: np.ndarray) -> bool:
    """Aligned, and strides count elements; NumPy aligns complex numbers to half of their size only."""
    return data.flags.aligned if data.dtype.kind != "c" else _aligned(data)


def _aligned(data: np.ndarray) -> bool:
    return bool(data.flags.aligned) and all(s % data.itemsize == 0 for s in data.strides)


def _updated(name: str, v: Any, used: Array) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where the kernel updates a copy of a misaligned array, the original to write back to."""
    memory = v if isinstance(v, np.ndarray) else getattr(v, "data", None)
    if isinstance(v, (list, tuple, int, float, complex, np.generic)):
        raise ArgumentError(
            "PH312", f"{name} is updated, but a {type(v).__name__} cannot be", hints=("give a NumPy array",)
        )
    if memory is used.data or not isinstance(memory, np.ndarray) or _aligned(memory):
        return []
    check_written([(name, memory)])
    return [(memory, used.data)]


def _copied(data: np.ndarray) -> np.ndarray:
    made = empty(data.shape, data.dtype)
    made[...] = data
    return made


def _number(p: Parameter, v: Any) -> np.ndarray:
    """A run-time scalar in its declared type; PH048 for what is no single number."""
    assert p.scalar is not None
    given = np.asarray(v.data if isinstance(v, Array) else v)
    if given.ndim or given.dtype.kind not in "biufcV" or (given.dtype.kind == "c" and p.scalar.kind != "c"):
        raise ArgumentError("PH048", f"scalar {p.name} is {v!r}, not one {p.scalar}", hints=(f"{p.name}=0.5",))
    return given.astype(p.scalar.numpy)


def _integer(name: str, v: Any) -> int:
    if isinstance(v, (int, np.integer)) and not isinstance(v, bool):
        if v < 0:
            raise ArgumentError("PH047", f"size {name} is {v}; sizes are not negative", hints=(f"{name}=0 or more",))
        return int(v)
    raise ArgumentError("PH047", f"size {name} is {v!r}, not an integer", hints=(f"{name}=10",))


def _hashable(name: str, v: Any) -> Any:
    try:
        hash(v)
    except TypeError:
        return (name, repr(v))
    return (type(v), v)


def _sizes(exe: Executable, data: Sequence[np.ndarray]) -> dict[str, int]:
    """Sizes by name, needed only where some are symbolic."""
    if not exe.source_sizes:
        return {}
    return {
        f"{n}.{d}": s
        for (n, spec), a in zip(exe.lowered.specs.items(), data, strict=True)
        for d, s in zip(spec.axes, a.shape, strict=True)
    }


def _check_call(exe: Executable, actual: Mapping[str, int | None]) -> None:
    exe.lowered.check_sizes({n: v for n, v in actual.items() if v is not None})


def _generalised(name: str, spec: Spec, changing: frozenset[str]) -> Spec:
    """The spec with changing sizes symbolic; strides other than 0 and 1 then are too."""
    if not any(f"{name}.{d}" in changing for d in spec.axes):
        return spec
    sizes = tuple(None if f"{name}.{d}" in changing else n for d, n in zip(spec.axes, spec.sizes, strict=True))
    return Spec(spec.dtype, spec.axes, sizes, tuple(s if s in (0, 1) else None for s in spec.strides))


def _resized(name: str, spec: Spec, sizes: Mapping[str, Any]) -> Spec:
    changed = []
    for d, n in zip(spec.axes, spec.sizes, strict=True):
        chosen = sizes.get(f"{name}.{d}", sizes.get(d, n))
        changed.append(None if chosen is symbolic else chosen)
    return spec if tuple(changed) == spec.sizes else replace(specs.dense(spec.dtype, spec.axes, tuple(changed)))


def _flat(s: Any) -> Any:
    if isinstance(s, str):
        yield s
    elif isinstance(s, dict):
        for v in s.values():
            yield from _flat(v)
    elif s is not None:
        for v in s:
            yield from _flat(v)


def _returned(result: Any, labelled: Sequence[Array], updated: Sequence[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The result after updates of copies reached their originals."""
    for original, copy in updated:
        original[...] = copy
    return _relabelled(result, labelled) if labelled else result


def _relabelled(result: Any, labelled: Sequence[Array]) -> Any:
    """Results as DataArrays when an input was one; coordinates follow dims whose size did not change."""
    if isinstance(result, Array):
        coords = {k: v for a in reversed(labelled) for k, v in a.coords.items()}
        return Array(result.data, result.axes, result.dtype, coords).to_xarray()
    if isinstance(result, tuple):
        return tuple(_relabelled(r, labelled) for r in result)
    if isinstance(result, dict):
        return {k: _relabelled(r, labelled) for k, r in result.items()}
    return result
