# SPDX-License-Identifier: MIT
"""Arguments: what a user passes, as arrays, specs and keys of a cache.

A Function knows when to ask; nothing here traces, specialises or runs.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard, cast

import numpy as np

from frontend.arrays import specs
from frontend.arrays.incoming import array
from frontend.arrays.memory import Strided, check_written, empty
from frontend.arrays.named import Array
from frontend.arrays.specs import Spec
from frontend.lang import ScalarType, Size
from polyhedral.errors import ArgumentError, DimError
from polyhedral.ir.dtypes import DType, f32


class _Symbolic:
    """`ph.symbolic`: leave a size symbolic in `f.lower(sizes={"b": ph.symbolic})`."""

    def __repr__(self) -> str:
        return "ph.symbolic"


symbolic = _Symbolic()


LARGEST = 1 << 62
"""Indices have 64 bits, with room for arithmetic."""


@dataclass(frozen=True)
class Parameter:
    """One argument of a function: an array with declared axes, a size, a scalar, or a plain Python value."""

    name: str
    axes: tuple[str, ...] | None = None
    size: bool = False
    scalar: DType | None = None
    default: Any = inspect.Parameter.empty


@dataclass(frozen=True, eq=False)
class Arguments:
    """The parameters of a function, some of them bound, and how calls meet them."""

    name: str
    parameters: tuple[Parameter, ...]
    bound: Mapping[str, Any]

    def values(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The arguments in the order of the parameters, defaults and bound ones filled in."""
        names, free = self._names, self._free
        given = dict(self.bound)
        if len(args) > len(free):
            raise ArgumentError(
                "PH045", f"{self.name} takes {len(free)} arguments, got {len(args)}", hints=(self.usage(),)
            )
        given.update(zip(free, args, strict=False))
        for n, v in kwargs.items():
            if n not in names:
                raise ArgumentError("PH045", f"{self.name} has no argument {n!r}", hints=(self.usage(),))
            if n in given:
                raise ArgumentError("PH045", f"{self.name} got {n} twice", hints=(self.usage(),))
            given[n] = v
        if len(given) < len(names):
            for p in self.parameters:
                if p.name not in given:
                    if p.default is inspect.Parameter.empty:
                        raise ArgumentError("PH045", f"{self.name} misses argument {p.name}", hints=(self.usage(),))
                    given[p.name] = p.default
        return [given[n] for n in names]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @cached_property
    def _free(self) -> tuple[str, ...]:
        return tuple(n for n in self._names if n not in self.bound)

    def usage(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parameters if p.name not in self.bound)})"

    def specs(self, values: Sequence[Any]) -> tuple[dict[str, Spec], dict[str, int], dict[str, Any]]:
        arrays: dict[str, Spec] = {}
        numbers: dict[str, int] = {}
        static: dict[str, Any] = {}
        for p, v in zip(self.parameters, values, strict=True):
            if p.size:
                numbers[p.name] = integer(p.name, v)
            elif is_array(p, v):
                arrays[p.name] = specs.of_array(as_array(p, v, self.name))
            else:
                static[p.name] = v
        return arrays, numbers, static

    def require_sizes(self, sizes: Mapping[str, Any] | None, given: Mapping[str, Spec]) -> None:
        """PH047 for sizes that are no sizes, PH001 for those of dims that no argument has."""
        if not (sizes is None or is_mapping(sizes)):
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
                integer(n, v)

    def described(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Spec], dict[str, Any]]:
        """Specs of the array arguments and values of the plain ones; arrays left out are f32 of symbolic size."""
        names = [p.name for p in self.parameters if p.name not in self.bound]
        values = {**self.bound, **dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names):
            raise ArgumentError(
                "PH045", f"{self.name} takes {len(names)} arguments, got {len(args)}", hints=(self.usage(),)
            )
        unknown = [n for n in values if n not in {p.name for p in self.parameters}]
        if unknown:
            raise ArgumentError("PH045", f"{self.name} has no argument {unknown[0]!r}", hints=(self.usage(),))
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
            elif v is not inspect.Parameter.empty and is_array(p, v):
                given[p.name] = specs.of_array(as_array(p, v, self.name))
            elif v is inspect.Parameter.empty:
                raise ArgumentError("PH045", f"{self.name} misses argument {p.name}", hints=(self.usage(),))
            else:
                static[p.name] = v
        return given, static


def parameters_of(python: Callable[..., Any], axes: Mapping[str, tuple[str, ...]]) -> tuple[Parameter, ...]:
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


def as_array(p: Parameter, v: Any, caller: str) -> Array:
    """The argument under its names; a copy where its strides do not count elements."""
    if p.scalar is not None:
        return Array(_number(p, v), (), p.scalar)
    names = None if is_labelled(v) else p.axes or ()
    a = v if isinstance(v, Array) else array(v, names, name=p.name, caller=caller)
    return a if _aligned(a.data) else Array(copied(a.data), a.axes, a.dtype, a.coords)


def check_declared(p: Parameter, axes: Sequence[str], caller: str) -> None:
    """PH040 for an argument that lacks a declared dim: a function is lifted over more dims, never over fewer."""
    missing = [d for d in p.axes or () if d not in axes]
    if not missing:
        return
    spare = [d for d in axes if d not in (p.axes or ())]
    near = [(d, n) for d in missing for n in difflib.get_close_matches(d, spare, 1, 0.5)]
    has = f"has {{{', '.join(axes)}}}" if axes else "is a number"
    declared = f"{p.name} is declared '{' '.join(p.axes or ())}'"
    raise ArgumentError(
        "PH040",
        f"{caller}({p.name}=...): {declared}, but what is given has no {', '.join(missing)}: it {has}",
        hints=tuple(f"did you mean '{d}' for '{n}'?" for d, n in near)
        or (f"give it {', '.join(missing)}, or declare another function without",),
    )


def is_array(p: Parameter, v: Any) -> bool:
    if p.scalar is not None or p.axes is not None:
        return True
    return isinstance(v, (Array, np.ndarray)) or is_labelled(v) or hasattr(v, "__dlpack__")


def is_labelled(v: Any) -> bool:
    return type(v).__module__.partition(".")[0] == "xarray"


def whole_strides(data: Strided) -> bool:
    """Aligned, and strides count elements; NumPy aligns complex numbers to half of their size only."""
    return data.flags.aligned if data.dtype.kind != "c" else _aligned(data)


def _aligned(data: Strided) -> bool:
    return bool(data.flags.aligned) and all(s % data.itemsize == 0 for s in data.strides)


def updates(name: str, v: Any, used: Array) -> list[tuple[Strided, Strided]]:
    """Where the kernel updates a copy of a misaligned array, the original to write back to."""
    memory: Any = v if is_strided(v) else getattr(v, "data", None)
    kind: str = type(v).__name__
    if isinstance(v, (list, tuple, int, float, complex, np.generic)):
        raise ArgumentError("PH312", f"{name} is updated, but a {kind} cannot be", hints=("give a NumPy array",))
    if memory is used.data or not is_strided(memory) or _aligned(memory):
        return []
    check_written([(name, memory)])
    return [(memory, used.data)]


def copied(data: Strided) -> Strided:
    made = empty(data.shape, data.dtype)
    made[...] = data
    return made


def is_strided(v: object) -> TypeGuard[Strided]:
    return isinstance(v, np.ndarray)


def is_mapping(v: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(v, Mapping)


def is_integer(v: object) -> TypeGuard[int | np.integer[Any]]:
    return isinstance(v, (int, np.integer)) and not isinstance(v, bool)


def _number(p: Parameter, v: Any) -> Strided:
    """A run-time scalar in its declared type; PH048 for what is no single number."""
    assert p.scalar is not None
    given = np.asarray(v.data if isinstance(v, Array) else v)
    if given.ndim or given.dtype.kind not in "biufcV" or (given.dtype.kind == "c" and p.scalar.kind != "c"):
        raise ArgumentError("PH048", f"scalar {p.name} is {v!r}, not one {p.scalar}", hints=(f"{p.name}=0.5",))
    return given.astype(p.scalar.numpy)


def integer(name: str, v: Any) -> int:
    if is_integer(v):
        if v < 0:
            raise ArgumentError("PH047", f"size {name} is {v}; sizes are not negative", hints=(f"{name}=0 or more",))
        if v >= LARGEST:
            raise ArgumentError("PH047", f"size {name} is {v}; sizes are below 2**62", hints=(f"{name}=10",))
        return int(v)
    raise ArgumentError("PH047", f"size {name} is {v!r}, not an integer", hints=(f"{name}=10",))


def hashable(name: str, v: Any) -> Any:
    """A plain Python value as part of a key: by what it holds, where it cannot be one itself."""
    match v:
        case np.ndarray():
            held = cast("Strided", v)
            return (name, held.dtype.str, held.shape, held.tobytes())
        case list() | tuple():
            return (type(cast("object", v)), *(hashable(name, e) for e in cast("list[object]", v)))
        case dict():
            return (dict, *((hashable(name, k), hashable(name, e)) for k, e in cast("dict[object, object]", v).items()))
        case _:
            try:
                hash(v)
            except TypeError:
                return (name, repr(v))
            return (type(v), v)


def generalised(name: str, spec: Spec, changing: frozenset[str]) -> Spec:
    """The spec with changing sizes symbolic; strides other than 0 and 1 then are too."""
    if not any(f"{name}.{d}" in changing for d in spec.axes):
        return spec
    sizes = tuple(None if f"{name}.{d}" in changing else n for d, n in zip(spec.axes, spec.sizes, strict=True))
    return Spec(spec.dtype, spec.axes, sizes, tuple(s if s in (0, 1) else None for s in spec.strides))


def resized(name: str, spec: Spec, sizes: Mapping[str, Any]) -> Spec:
    """The spec with the sizes that the user fixed or freed."""
    changed: list[int | None] = []
    for d, n in zip(spec.axes, spec.sizes, strict=True):
        chosen = sizes.get(f"{name}.{d}", sizes.get(d, n))
        changed.append(None if chosen is symbolic else chosen)
    return spec if tuple(changed) == spec.sizes else specs.dense(spec.dtype, spec.axes, tuple(changed))
