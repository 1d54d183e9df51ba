# SPDX-License-Identifier: MIT
"""Reductions (R6, R7, R19): bound dims are renamed, affine predicates kept apart, leaves widened, the whole hoisted.

A reduction becomes one definition, read by a load over its free dims; where it is computed is left to later stages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from frontend.lang.access import braces, spoken, substitute, title
from frontend.lang.arithmetic import binary, call, require_real, select, truth
from frontend.lang.location import here
from frontend.lang.recorder import Recorder
from frontend.lang.value import (
    Span,
    Value,
    Weak,
    as_condition,
    coerce,
    derive,
    merge,
    must_lift,
    of_affine,
    of_condition,
)
from frontend.recorded import Reduction
from polyhedral.errors import DimError, DtypeError
from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes as dt
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Condition
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Role


def check_reduced(v: Value, op: str, dims: Iterable[str]) -> tuple[str, ...]:
    """PH002 unless every reduced dim is one of the expression's, listed once."""
    dims = tuple(dims)
    name = title(v)
    if not dims:
        raise DimError(
            "PH002",
            f"{name}.{op}() names no dimension; it has {braces(v.dims)}",
            hints=(f".{op}({', '.join(map(spoken, sorted(v.dims)))})",),
            location=here(),
        )
    for n, dim in enumerate(dims):
        if dim not in v.dims:
            raise DimError(
                "PH002",
                f"{name}.{op}({spoken(dim)}): there is no dimension {spoken(dim)} to reduce; "
                f"{name} has {braces(v.dims)}",
                hints=(f"a missing dimension is no parameter: leave {spoken(dim)} out, or reduce one of "
                       f"{braces(v.dims)}",),
                dim=dim,
                location=here(),
            )  # fmt: skip
        if dim in dims[:n]:
            raise DimError(
                "PH002",
                f"{name}.{op}: dimension {spoken(dim)} is listed twice",
                hints=(f"list {spoken(dim)} once",),
                dim=dim,
                location=here(),
            )
    return dims


def reduce(
    recorder: Recorder,
    op: str,
    v: Value,
    dims: Iterable[str],
    where: Value | None = None,
    acc: DType | None = None,
    strict: bool = False,
) -> Value:
    """`op` of `v` over `dims`, as a function of the other dims."""
    dims = check_reduced(v, op, dims)
    if op in ("max", "min"):
        require_real(op, v.dtype)
    affine, mask = split(where)
    body = truth(v, f"the argument of .{op}") if op in ("any", "all") else widened(recorder, op, v, acc)
    known = as_condition(affine)
    if known is not None and known != aff.TRUE:
        body = replace(body, node=under(body.node, known))
    if mask is not None:
        unit = Value(ex.identity(op, body.dtype), weak=body.weak)
        body = select(mask, body, unit)
    inner, rows = _rows(affine, dims)
    result = _hoist(recorder, op, body, inner, dims, strict)
    if rows is None:
        return result
    return select(rows, result, Value(ex.identity(op, body.dtype), weak=body.weak))


def _rows(where: Value, dims: tuple[str, ...]) -> tuple[Value, Value | None]:
    """An affine predicate without the conjuncts that mention no reduced dim, and these: they decide whole rows, which
    are empty where they fail.
    """
    parts = aff.conjuncts(as_condition(where) or aff.TRUE)
    rows = [c for c in parts if c != aff.FALSE and not aff.condition_dims(c) & set(dims)]
    if not rows:
        return where, None
    inner = aff.both(*(c for c in parts if c not in rows))
    return of_condition(inner, where.spans, where.owner), of_condition(aff.both(*rows), where.spans, where.owner)


def split(where: Value | None) -> tuple[Value, Value | None]:
    """A predicate's affine conjuncts and the rest."""
    affine, mask = of_condition(aff.TRUE), None
    stack = [] if where is None else [truth(where, "where=")]
    while stack:
        part = stack.pop()
        if isinstance(part.node, ex.Binary) and part.node.op == "and":
            stack += [replace(part, node=part.node.rhs), replace(part, node=part.node.lhs)]
        elif as_condition(part) is not None:
            affine = binary("&", affine, of_condition(as_condition(part) or aff.FALSE, part.spans, part.owner))
        else:
            mask = part if mask is None else binary("&", mask, part)
    if mask is not None:
        mask = replace(mask, dims=ex.dims_of(mask.node))
    return affine, mask


def under(node: ex.Expr, known: Condition) -> ex.Expr:
    """Drop the selects whose condition is part of what is known to hold."""
    facts = set(aff.conjuncts(known))

    def one(n: ex.Expr) -> ex.Expr:
        match n:
            case ex.Select(ex.Test(c), then, _) if set(aff.conjuncts(c)) <= facts:
                return then
            case _:
                return n

    return ex.rewrite(node, one)


def _hoist(recorder: Recorder, op: str, body: Value, where: Value, dims: tuple[str, ...], strict: bool) -> Value:
    recorder.require(body, where)
    fresh = {d: recorder.fresh(d) for d in dims}
    rename = {d: of_affine(aff.var(f)) for d, f in fresh.items()}
    inner, guard = substitute(body, rename), substitute(where, rename)
    spans = merge(body.spans, where.spans)
    free = tuple(sorted((inner.dims | guard.dims) - set(fresh.values())))
    name = recorder.unique(op, number=True)
    condition = as_condition(guard)
    recorder.define(
        Reduction(
            name,
            op,
            free,
            tuple(fresh.values()),
            inner.node,
            body.dtype,
            aff.FALSE if condition is None else condition,
            strict,
            tuple((fresh[d], spans[d].lo, spans[d].hi) for d in dims if d in spans),
            tuple((f, spoken(d)) for d, f in fresh.items()),
            here(),
        )
    )
    node = ex.Load(name, tuple((d, aff.var(d)) for d in free), body.dtype)
    kept = {d: s for d, s in spans.items() if d in free}
    return Value(node, frozenset(free), body.weak, kept, owner=recorder.owner)


# --- R19: accumulators -----------------------------------------------------------------------------------------------


def widened(recorder: Recorder, op: str, v: Value, acc: DType | None) -> Value:
    """The body in the accumulator's type, its leaves converted before the arithmetic, that of its lets included.

    A maximum or minimum is one of the values and accumulates nothing: it keeps their type unless `acc` is given.
    """
    if acc is None:
        acc = v.dtype if op in ("max", "min") else dt.accumulator(v.dtype)
    elif v.weak is Weak.STRONG and _loses(v.dtype, acc):
        raise DtypeError(
            "PH301",
            f".{op}: values of type {v.dtype} do not fit the accumulator {acc}",
            hints=(f"convert first: .astype(ph.{acc}).{op}(...) over {braces(v.dims)}",),
            location=here(),
        )
    return replace(v, node=_Widening(recorder, acc, {}).go(v.node))


def _loses(t: DType, acc: DType) -> bool:
    return (t.kind == "c" and acc.kind != "c") or (t.is_float and not acc.is_float)


TRANSPARENT = frozenset({"+", "-", "*", "/", "//", "%", "**", "min", "max"})


@dataclass(frozen=True)
class _Widening:
    """An expression computed in `acc`: literals retyped, leaves cast, arithmetic between them unchanged."""

    recorder: Recorder
    acc: DType
    memo: dict[int, tuple[ex.Expr, ex.Expr]]

    def go(self, node: ex.Expr) -> ex.Expr:
        if id(node) not in self.memo:
            self.memo[id(node)] = (node, self._widen(node))
        return self.memo[id(node)][1]

    def _widen(self, node: ex.Expr) -> ex.Expr:
        dtype, acc = ex.dtype_of(node), self.acc
        match node:
            case ex.Const():
                return coerce(Value(node), acc).node
            case ex.Cast(to, arg) if dt.promote(ex.dtype_of(arg), to) == to and dt.promote(to, acc) == acc:
                return self.go(arg)
            case ex.Unary("-" | "abs", arg) if _carries(dtype, acc):
                return replace(node, arg=self.go(arg))
            case ex.Binary(op, lhs, rhs) if op in TRANSPARENT and _carries(dtype, acc):
                return replace(node, lhs=self.go(lhs), rhs=self.go(rhs))
            case ex.Call(fn, args) if fn not in ex.PARTS and dtype.is_float and _carries(dtype, acc):
                return replace(node, args=tuple(map(self.go, args)))
            case ex.Select(_, then, other):
                return replace(node, then=self.go(then), other=self.go(other))
            case ex.Load(name) if dtype != acc and _carries(dtype, acc) and name in self.recorder.named:
                return self._let(node)
            case _:
                return node if dtype == acc else ex.Cast(acc, node)

    def _let(self, load: ex.Load) -> ex.Expr:
        """A let is a name for its value: what is summed is what would be without the name."""
        held = self.recorder.named[load.array].value
        value = self.go(held.node)
        memory = any(self._updated(part.array) for part in ex.loads(held.node))
        if memory or value == ex.Cast(self.acc, held.node):
            return ex.Cast(self.acc, load)
        return replace(
            load, array=self.recorder.widened(load.array, replace(held, node=value), self.acc), dtype=self.acc
        )

    def _updated(self, name: str) -> bool:
        """Memory may hold something else by now."""
        array = self.recorder.arrays.get(name)
        return array is not None and array.role is Role.INOUT


def _carries(dtype: DType, acc: DType) -> bool:
    """May arithmetic of type `dtype` be carried out in `acc`?  Integers go into floats only when exact there."""
    if dtype == acc:
        return True
    if dtype.is_float:
        return acc.is_float and acc.bits > dtype.bits
    if not dtype.is_integer:
        return False
    return acc.bits > dtype.bits if acc.is_integer else dtype.bits <= 16


# --- the derived reductions ------------------------------------------------------------------------------------------


def mean(recorder: Recorder, v: Value, dims: Iterable[str], where: Value | None, acc: DType | None, s: bool) -> Value:
    """The sum over the number of points; with a predicate, over the number of points where it holds."""
    dims = check_reduced(v, "mean", dims)
    total = reduce(recorder, "sum", v, dims, where, acc, s)
    number = count(recorder, v, dims, where)
    if total.dtype.kind == "u":  # the number of points is signed
        number = coerce(number, total.dtype)
    return binary("/", total, number)


def count(recorder: Recorder, v: Value, dims: tuple[str, ...], where: Value | None) -> Value:
    """The number of points of `dims` (where the predicate holds), as a number that bends to the sum's type."""
    ranges = {d: Span(lo, hi, fixed=False) for d, lo, hi in recorder.ranges(v).ranges}
    box = all(not aff.dims_of(ranges[d].hi - ranges[d].lo) for d in dims)
    if where is None and box:
        result = must_lift(1)
        for d in dims:
            result = binary("*", result, of_affine(ranges[d].hi - ranges[d].lo))
        return result
    one = derive(ex.Const(1, dt.i64), (v,), Weak.INDEX)
    one = replace(one, spans={**one.spans, **{d: ranges[d] for d in dims}})
    return reduce(recorder, "sum", one, dims, where)


def arg_extreme(recorder: Recorder, op: str, v: Value, dims: Iterable[str], where: Value | None) -> Value:
    """The first index of the extreme, a NaN counting as one: the smallest index at which the value is the extreme."""
    dims = check_reduced(v, f"arg{op}", dims)
    if len(dims) != 1:
        raise DimError(
            "PH002",
            f".arg{op} takes one dimension, not {braces(dims)}: an index along several has no single number",
            hints=(f"take them in turn, or join them first: E({spoken(dims[0])}=k//n, {spoken(dims[1])}=k%n)",),
            location=here(),
        )
    dim = dims[0]
    extreme = reduce(recorder, op, v, dims, where)
    hit = binary("==", v, extreme)
    if v.dtype.is_float:
        hit = binary("|", hit, call("isnan", v))
    position = of_affine(aff.var(dim), {d: s for d, s in v.spans.items() if d == dim})
    candidate = select(hit, position, Value(ex.identity("min", dt.i64), weak=Weak.INDEX))
    return replace(reduce(recorder, "min", candidate, dims, where), weak=Weak.STRONG)
