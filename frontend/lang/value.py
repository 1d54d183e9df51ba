# SPDX-License-Identifier: MIT
"""Values under the users' objects: an IR expression, how firmly it is typed, ranges that travel with its dims.

Types are joined here after rule R18; arithmetic is left to `arithmetic`, operators and everything that needs a running
trace to the files above.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import cast

import numpy as np

from frontend.lang.location import here
from frontend.lang.owner import Owner, foreign, recording
from polyhedral.errors import ArgumentError, DimError, DtypeError, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes as dt
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.dtypes import DType

DEEPEST = 200
"""Expressions are walked recursively below; deeper ones are cut by `ph.let`."""


class Weak(IntEnum):
    """How firmly a value is typed: STRONG has a dtype, INDEX is an index as data, LITERAL a Python number."""

    STRONG = 0
    INDEX = 1
    LITERAL = 2


@dataclass(frozen=True)
class Span:
    """lo <= dim < hi, said by the user; `fixed` when it is the dim's size (`ph.dims(k=3)`), not a mere restriction."""

    lo: Affine
    hi: Affine
    fixed: bool = True
    owner: Owner | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Value:
    """A scalar at each point of `dims`; `depth` bounds how deeply the expression is nested.

    `owner` is the recording whose tensors, sizes or private dims it is made of, None without any.
    """

    node: ex.Expr
    dims: frozenset[str] = frozenset()
    weak: Weak = Weak.STRONG
    spans: Mapping[str, Span] = field(default_factory=dict[str, Span])
    depth: int = 0
    owner: Owner | None = None

    @property
    def dtype(self) -> DType:
        return ex.dtype_of(self.node)


class Handle:
    """Base of the objects that users hold: a wrapper around one `Value`."""

    __slots__ = ("value",)
    value: Value


# --- making values ---------------------------------------------------------------------------------------------------


def lift(obj: object) -> Value | None:
    """The value of a user's object or Python number; None for what cannot stand in an expression.

    PH020 for an object of another recording than the one that goes on.
    """
    if isinstance(obj, Handle):
        value = obj.value
        if value.owner is not None and (now := recording.get()) is not None:
            require(value, now)
        return value
    if isinstance(obj, np.bool_ | np.number):
        return lift(cast(object, obj.item()))
    if isinstance(obj, bool):
        return Value(ex.Const(obj, dt.bool_), weak=Weak.LITERAL)
    if isinstance(obj, int):
        return Value(ex.Const(obj, dt.i64), weak=Weak.LITERAL)
    if isinstance(obj, float):
        return Value(ex.Const(obj, dt.f64), weak=Weak.LITERAL)
    if isinstance(obj, complex):
        return Value(ex.Const(obj, dt.c128), weak=Weak.LITERAL)
    if hasattr(obj, "__array__") or hasattr(obj, "__dlpack__"):
        shape = tuple(getattr(obj, "shape", ()))
        axes = getattr(obj, "axes", None)
        names = " ".join(axes or "ijklmnpq"[: len(shape)])
        what = f"an unnamed array of shape {shape}" if axes is None else f"the array {obj!r}"
        raise ArgumentError(
            "PH040",
            f"{what} stands in an expression; "
            + ("its axes need names" if axes is None else "it is not part of the program"),
            hints=(f"ph.const(array, '{names}') for a small constant table", "or make it an argument of the function"),
            location=here(),
        )
    return None


def require(v: Value, owner: Owner) -> None:
    """PH020 unless the value may stand in this recording."""
    if v.owner is not None and v.owner is not owner:
        raise foreign(_called(v), v.owner, owner)


def joint(parts: Sequence[Value]) -> Owner | None:
    """The recording that values belong to together; PH020 where they are of two."""
    found: Owner | None = None
    for v in parts:
        if v.owner is not found and v.owner is not None:
            if found is not None:
                now = recording.get()
                stays = found if now is None else now
                for part in parts:
                    require(part, stays)
            found = v.owner
    return found


def _called(v: Value) -> str:
    """The first name in a value that only its recording knows."""
    for node in ex.walk(v.node):
        match node:
            case ex.Load(array):
                return array
            case ex.Index(index):
                if names := sorted(aff.sizes_of(index)) or sorted(aff.dims_of(index)):
                    return names[0].partition("'")[0] + ("'" if "'" in names[0] else "")
            case _:
                continue
    return "this value"


def must_lift(obj: object, what: str = "this") -> Value:
    value = lift(obj)
    if value is None:
        raise DtypeError(
            "PH301",
            f"{what} must be a tensor, an expression or a number, not {type(obj).__name__}",
            hints=("name the axes of arrays first, for example ph.const(array, 'i j')",),
            location=here(),
        )
    return value


def as_tuple(key: object) -> tuple[object, ...]:
    """What stands between brackets, as a tuple."""
    return cast("tuple[object, ...]", key) if isinstance(key, tuple) else (key,)


def of_affine(index: Affine, spans: Mapping[str, Span] | None = None, owner: Owner | None = None) -> Value:
    return Value(ex.Index(index, dt.i64), aff.dims_of(index), Weak.INDEX, spans or {}, owner=owner)


def of_condition(condition: Condition, spans: Mapping[str, Span] | None = None, owner: Owner | None = None) -> Value:
    return Value(ex.Test(condition), aff.condition_dims(condition), Weak.STRONG, spans or {}, owner=owner)


def derive(node: ex.Expr, parts: Iterable[Value], weak: Weak = Weak.STRONG) -> Value:
    """A value computed from others: their dims and spans together.  PH020 where they are of two recordings."""
    parts = tuple(parts)
    dims = frozenset[str]().union(*(p.dims for p in parts))
    depth = 1 + max((p.depth for p in parts), default=0)
    if depth > DEEPEST:
        raise Unsupported(
            "PH900",
            f"an expression is nested more than {DEEPEST} operations deep, probably by a Python loop",
            hints=("name the value every so often, h = ph.let(h); or reduce over a dimension: X.sum(k)",),
            location=here(),
        )
    return Value(node, dims, weak, merge(*(p.spans for p in parts)), depth, joint(parts))


def merge(*spans: Mapping[str, Span]) -> Mapping[str, Span]:
    """Ranges said in several places; a restriction wins over a size, two different sizes are an error (R4)."""
    given = [s for s in spans if s]
    if len(given) <= 1:
        return given[0] if given else {}
    result: dict[str, Span] = dict(given[0])
    for more in given[1:]:
        for dim, span in more.items():
            old = result.get(dim, span)
            if old != span and old.fixed == span.fixed:
                raise _two_sizes(dim, old, span)
            result[dim] = span if old.fixed else old
    return result


def _two_sizes(dim: str, a: Span, b: Span) -> DimError:
    return DimError(
        "PH010",
        f"dimension {dim} has two sizes in one expression: {_extent(a)} and {_extent(b)}",
        hints=(f"one name is one thing inside a statement; if they are different axes rename one, for example {dim}2",),
        dim=dim,
        location=here(),
    )


def _extent(span: Span) -> str:
    return str(span.hi) if span.lo == Affine() else f"[{span.lo}, {span.hi})"


def as_affine(v: Value) -> Affine | None:
    """The value as an index, if it is one: an affine index or an integer literal."""
    match v.node:
        case ex.Index(index):
            return _bounded(index)
        case ex.Const(value) if v.weak is Weak.LITERAL and type(value) is int:
            return _bounded(aff.const(value))
        case _:
            return None


def _bounded(index: Affine) -> Affine:
    """Indices are 64-bit integers with room for arithmetic: larger literals are refused (PH030)."""
    if max(abs(index.const), *(abs(f) for _, f in index.terms), 0) >= 1 << 62:
        raise DimError(
            "PH030",
            f"index {index} has a number beyond 2**62",
            hints=("X(x=x + 1): an index is a 64-bit integer",),
            location=here(),
        )
    return index


def as_condition(v: Value) -> Condition | None:
    """The value as an affine condition, if it is one."""
    match v.node:
        case ex.Test(condition):
            return condition
        case ex.Const(bool(value)):
            return aff.TRUE if value else aff.FALSE
        case _:
            return None


# --- types (R18) -----------------------------------------------------------------------------------------------------


def _rank(t: DType) -> int:
    return "biufc".index(t.kind) - (t.kind in "ufc")


def join(a: Value, b: Value) -> DType | None:
    """The common type of two operands; weak ones bend."""
    if a.weak == b.weak:
        return dt.promote(a.dtype, b.dtype)
    firm, loose = (a, b) if a.weak < b.weak else (b, a)
    if loose.weak is Weak.INDEX and firm.dtype.is_integer and loose.dtype.is_integer:
        return dt.promote(firm.dtype, loose.dtype)
    if _rank(loose.dtype) <= _rank(firm.dtype):
        return firm.dtype
    if loose.dtype.kind == "c" and firm.dtype.kind == "f":
        return dt.c64 if firm.dtype.bits <= 32 else dt.c128
    return loose.dtype


def common(op: str, *values: Value) -> tuple[DType, Weak]:
    """The type in which `op` combines its operands."""
    first, *rest = values
    weak = first.weak
    dtype = first.dtype
    for v in rest:
        joined = join(Value(ex.Const(0, dtype), weak=weak), v)
        if joined is None:
            raise _no_common_type(op, dtype, v)
        dtype, weak = joined, min(weak, v.weak)
    return dtype, weak


def _no_common_type(op: str, dtype: DType, other: Value) -> DtypeError:
    wide = dt.f32 if dtype.is_float or other.dtype.is_float else dt.i64
    at = "{" + ", ".join(sorted(other.dims)) + "}"
    return DtypeError(
        "PH301",
        f"{dtype} {op} {other.dtype} has no common type",
        hints=(f"say which is meant: .astype(ph.{wide}) on one side (the right side has dimensions {at})",),
        location=here(),
    )


def coerce(v: Value, dtype: DType) -> Value:
    """The same value as `dtype`; literals are retyped, everything else gets a Cast.  PH301 for complex as real."""
    if v.dtype == dtype:
        return v
    match v.node:
        case ex.Const(bool(c)) if dtype.is_integer:
            return replace(v, node=ex.Const(int(c), dtype))
        case ex.Const(int(c)) if dtype.is_integer:
            return replace(v, node=ex.Const(_in_range(c, dtype), dtype))
        case ex.Const(bool(c) | int(c) | float(c)) if dtype.kind == "f":
            return replace(v, node=ex.Const(float(c), dtype))
        case ex.Const(c) if dtype.kind == "c":
            return replace(v, node=ex.Const(complex(c), dtype))
        case _ if v.dtype.kind == "c" and dtype.kind not in "cb":
            raise DtypeError(
                "PH301",
                f"a value of type {v.dtype} as {dtype} would lose its imaginary part",
                hints=(
                    f"say which is meant: .real, .imag or ph.abs(...), then .astype(ph.{dtype})",
                    f"the value is one over {{{', '.join(sorted(v.dims))}}}",
                ),
                location=here(),
            )
        case _:
            return replace(v, node=ex.Cast(dtype, v.node))


def _in_range(value: int, dtype: DType) -> int:
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "i" else 0
    if low <= value < low + (1 << dtype.bits):
        return value
    raise DtypeError(
        "PH301",
        f"the literal {value} does not fit {dtype}",
        hints=("widen the tensor first, at all its dimensions: X.astype(ph.i32)",),
        location=here(),
    )


def dtype_of(given: object, what: str) -> DType:
    """An element type as users name it: `ph.f32`, "f32" or np.float32.  PH301 for anything else."""
    found = dt.as_dtype(given)
    if found is None:
        raise DtypeError(
            "PH301",
            f"{what}: {given!r} is not an element type",
            hints=(f"one of {', '.join('ph.' + n for n in dt.BY_NAME)}; a dimension has none, i counts in i64",),
            location=here(),
        )
    return found


def astype(v: Value, dtype: DType) -> Value:
    return replace(coerce(v, dtype), weak=Weak.STRONG)
