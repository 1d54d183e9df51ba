# SPDX-License-Identifier: MIT
"""What `place = value` and `place op= value` record: equations on variables, updates of inout arguments (R15, R16).

Decides only what is written and how; ranges, definedness and order are left to `frontend.inference` and what
comes after.
"""

from __future__ import annotations

from dataclasses import dataclass

from frontend.lang.access import braces, spoken, title
from frontend.lang.arithmetic import negative, select
from frontend.lang.location import here
from frontend.lang.recorder import Recorder, extents
from frontend.lang.value import Value, Weak, astype, derive
from polyhedral.errors import ArgumentError, DimError, DtypeError, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes as dt
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Array, Role


@dataclass(frozen=True)
class Update:
    """`base op= rhs` seen by Python before the assignment that follows."""

    op: str
    base: Value
    rhs: Value


def assign(recorder: Recorder, place: Value, value: Value, update: Update | None) -> None:
    """Record a statement that writes `place`."""
    recorder.require(place)
    array = _target(recorder, place, update)
    index = _cell(place)
    if array.name in recorder.variables:
        _refuse_unseen(recorder, array, index, value)
        value = _masked(recorder, array, _stored(recorder, array, value), None)
        name = recorder.unique("S", number=True)
        recorder.record(recorder.statement("equation", name, array.name, value, index))
        return
    op = None
    if update is not None and _unseen(recorder, index, update.rhs):
        op, value = _accumulated(array, update, _unseen(recorder, index, update.rhs))
    else:
        _refuse_unseen(recorder, array, index, value)
    if value.dtype.kind == "c" and array.dtype.kind != "c":
        raise DtypeError(
            "PH301",
            f"{array.name} holds {array.dtype} but is assigned {value.dtype}, which would lose the imaginary part",
            hints=(f"assign a real value, or make {array.name} over {braces(array.dim_names)} complex",),
            location=here(),
        )
    value = _masked(recorder, array, astype(value, array.dtype), place if op is None else op)
    name = recorder.unique("S", number=True)
    recorder.record(recorder.statement("update", name, array.name, value, index, op))


def _target(recorder: Recorder, place: Value, update: Update | None) -> Array:
    """The array behind a place; inputs and lets cannot be written (PH310)."""
    array = recorder.arrays.get(place.node.array) if isinstance(place.node, ex.Load) else None
    if array is None:
        raise ArgumentError(
            "PH310",
            f"{title(place)} is computed and cannot be assigned",
            hints=(f"assign to a cell of ph.var('v', like=...) or of an inout argument over {braces(place.dims)}",),
            location=here(),
        )
    at = braces(array.dim_names)
    if array.role is Role.INPUT:
        raise ArgumentError(
            "PH310",
            f"{array.name} is assigned but is an input",
            hints=(f'@ph.function(..., inout="{array.name}") or work on ph.let({array.name}), a new tensor over {at}',),
            location=here(),
        )
    if array.role is not Role.INOUT and array.name not in recorder.variables:
        raise ArgumentError(
            "PH310",
            f"{array.name} is assigned but is defined already, by ph.let or ph.const",
            hints=(f"v = ph.var('v', like={array.name}) has equations over {at}: v[...] = ...",),
            location=here(),
        )
    if update is not None and array.name in recorder.variables:
        raise ArgumentError(
            "PH310",
            f"{array.name} {update.op}= ...: a variable is defined by equations, which only know =",
            hints=(f"a reduction says it without order: {array.name}[...] = e.sum(k); or make {array.name} inout, "
                   f"with dimensions {at}",),
            location=here(),
        )  # fmt: skip
    return array


def _cell(place: Value) -> tuple[tuple[str, Affine], ...]:
    index: list[tuple[str, Affine]] = []
    for dim, i in place.node.index if isinstance(place.node, ex.Load) else ():
        if not isinstance(i, Affine):
            raise Unsupported(
                "PH900",
                f"{title(place)} is written at a data-dependent {spoken(dim)}",
                hints=(f"turn it round: gather with where=(idx == {spoken(dim)}) and a reduction",),
                dim=dim,
                location=here(),
            )
        index.append((dim, i))
    return tuple(index)


def _unseen(recorder: Recorder, index: tuple[tuple[str, Affine], ...], value: Value) -> frozenset[str]:
    """Dims of the right side that neither the target sees nor a loop orders."""
    seen = frozenset[str]().union(*(aff.dims_of(i) for _, i in index))
    return value.dims - seen - {f.loop.dim for f in recorder.loops}


def _refuse_unseen(recorder: Recorder, array: Array, index: tuple[tuple[str, Affine], ...], value: Value) -> None:
    extra = sorted(_unseen(recorder, index, value))
    if extra:
        raise DimError(
            "PH002",
            f"{array.name} is assigned a value over {braces(extra)}, which {array.name} does not have",
            hints=(f"reduce it: .sum({', '.join(map(spoken, extra))}); order it: with ph.loop({spoken(extra[0])}, n):; "
                   f"or give {array.name} the dimension {spoken(extra[0])}",),
            dim=extra[0],
            location=here(),
        )  # fmt: skip


def _accumulated(array: Array, update: Update, extra: frozenset[str]) -> tuple[str, Value]:
    """The reduction that an update over unseen dims is: `+=` sums them, `*=` multiplies them."""
    match update.op:
        case "+":
            return "sum", update.rhs
        case "-":
            return "sum", negative(update.rhs)
        case "*":
            return "prod", update.rhs
        case _:
            raise DimError(
                "PH002",
                f"{array.name} {update.op}= a value over {braces(extra)}, which {array.name} does not have",
                hints=(f"reduce it first: .prod({', '.join(map(spoken, sorted(extra)))})",),
                location=here(),
            )


def _masked(recorder: Recorder, array: Array, value: Value, otherwise: Value | str | None) -> Value:
    """The value under the data-dependent conditions of enclosing `ph.when` blocks."""
    for condition in recorder.when:
        if isinstance(condition.node, ex.Test):
            continue
        if otherwise is None:
            raise Unsupported(
                "PH900",
                f"an equation of {array.name} stands under a data-dependent ph.when",
                hints=(f"say both cases at each point of {braces(array.dim_names)}: ph.where(cond, a, b)",),
                location=here(),
            )
        rest = Value(ex.identity(otherwise, array.dtype)) if isinstance(otherwise, str) else otherwise
        value = select(condition, value, rest)
    return value


def _stored(recorder: Recorder, array: Array, value: Value) -> Value:
    """The value in the variable's type; only `.astype` narrows (R19)."""
    bends = value.weak is not Weak.STRONG and (array.dtype.is_float or not value.dtype.is_float)
    if bends or dt.promote(value.dtype, array.dtype) == array.dtype:
        return astype(value, array.dtype)
    how = f"ph.var(..., dtype=ph.{value.dtype})" if array.name in recorder.assumed else "ph.var(like=...)"
    raise DtypeError(
        "PH301",
        f"{array.name} holds {array.dtype} but is assigned {value.dtype}",
        hints=(f".astype(ph.{array.dtype}) on the right side, or declare {array.name} over "
               f"{braces(array.dim_names)} otherwise: {how}",),
        location=here(),
    )  # fmt: skip


def scan(recorder: Recorder, op: str, step: str, value: Value, dim: str, dtype: dt.DType) -> Value:
    """The running reduction along `dim`, as a variable with one equation: s = op(s[dim-1] where dim > 0, value)."""
    settled = recorder.ranges(value)
    name = recorder.unique("scan", number=True)
    dims = extents(settled)
    recorder.weak[name] = value.weak
    own = recorder.add_array(Array(name, dims, dtype, Role.TEMPORARY))
    recorder.variables.add(name)
    index = tuple((d, aff.var(d)) for d, _ in dims)
    shifted = tuple((d, aff.var(d) - 1 if d == dim else aff.var(d)) for d, _ in dims)
    before = derive(ex.Load(name, shifted, dtype), (own,))
    inner = ex.Test(aff.at_least(aff.var(dim), 1))
    start = ex.Select(inner, before.node, ex.identity(op, dtype))
    equation = derive(ex.Binary(step, start, value.node), (own, value))
    recorder.record(recorder.statement("equation", recorder.unique("S", number=True), name, equation, index))
    return own
