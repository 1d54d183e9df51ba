# SPDX-License-Identifier: MIT
"""Hoist what does not depend on the reduced dims out of a reduction, where that saves work.

    out(i) = sum[k] a(i) * b(i, k) * c(k)    ->    out_inner(i) = sum[k] b(i, k) * c(k);   out(i) = a(i) * out_inner(i)

Sums: factors and divisors.  It is a reassociation (rule R7), so never in `strict` order, and each row must have an
instance: an empty sum is 0, but inf * 0 is not.  With that, and where no intermediate result overflows or underflows,
finite results differ by rounding only, infinite ones stay, and NaN stays non-finite (inf*x - inf*y may become
inf*(x - y)).  Maxima and minima: terms, from the outside in, which is exact because rounding is monotone; a NaN may
become infinite as above.  Integers wrap and booleans are a lattice: both are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from polyhedral.errors import Remark
from polyhedral.ir import expr as ex
from polyhedral.ir.operands import Interval
from polyhedral.ir.program import Access, Array, Program, Role, Statement, fresh, names
from polyhedral.rewrites.algebra import (
    PER_CELL,
    Product,
    circular,
    closed,
    operations,
    order_is_fixed,
    product,
    reach,
    restricted,
)


def hoist_factors(p: Program, per_cell: int = PER_CELL) -> tuple[Program, tuple[Remark, ...]]:
    """Every reduction without factors that are the same for all that it reduces."""
    arrays, taken = {a.name: a for a in p.arrays}, names(p)
    fixed = circular(p)
    made: list[Array] = []
    statements: list[Statement] = []
    remarks: list[Remark] = []
    for s in p.statements:
        parted = None if order_is_fixed(s, arrays, fixed) else _parted(s)
        if parted is None or not _pays(s, parted, per_cell):
            statements.append(s)
            continue
        array = replace(arrays[s.write.array], name=fresh(f"{s.name}_inner", taken), role=Role.TEMPORARY)
        made.append(array)
        statements += _rewritten(s, parted, array)
        remarks.append(Remark("factors hoisted", f"they do not depend on {', '.join(s.reduced)}", s.name))
    if not made:
        return p, ()
    return replace(p, arrays=(*p.arrays, *made), statements=tuple(statements)), tuple(remarks)


@dataclass(frozen=True)
class _Outer:
    """One operation done after the reduction instead of inside it: `other` op result, or result op `other`."""

    op: str
    other: ex.Expr
    left: bool

    def around(self, e: ex.Expr) -> ex.Expr:
        return ex.Binary(self.op, self.other, e) if self.left else ex.Binary(self.op, e, self.other)


@dataclass(frozen=True)
class _Parted:
    """What stays inside, and what comes after it, outermost first."""

    inner: ex.Expr
    outer: tuple[_Outer, ...]
    times: str


def _parted(s: Statement) -> _Parted | None:
    found = product(s)
    if found is None or not closed(s.domain, frozenset(s.kept)):
        return None
    hidden = frozenset(s.reduced)
    value, outer = _peeled(s.value, found.times, hidden)
    inner = product(replace(s, value=value))
    if found.regrouped and inner is not None and inner.times == found.times:
        value, regrouped = _gathered(value, inner, hidden)
        outer += regrouped
    return _Parted(value, outer, found.times) if outer and ex.dims_of(value) & hidden else None


def _peeled(value: ex.Expr, times: str, hidden: frozenset[str]) -> tuple[ex.Expr, tuple[_Outer, ...]]:
    """Operations at the root with an operand that is the same for all instances of a row."""
    inverse = {"*": "/", "+": "-"}.get(times) if ex.dtype_of(value).kind == "f" else None
    outer: list[_Outer] = []
    while isinstance(value, ex.Binary):
        if value.op == times and not ex.dims_of(value.lhs) & hidden:
            outer.append(_Outer(times, value.lhs, left=True))
            value = value.rhs
        elif value.op in (times, inverse) and not ex.dims_of(value.rhs) & hidden:
            outer.append(_Outer(value.op, value.rhs, left=False))
            value = value.lhs
        else:
            break
    return value, tuple(outer)


def _gathered(value: ex.Expr, p: Product, hidden: frozenset[str]) -> tuple[ex.Expr, tuple[_Outer, ...]]:
    """Factors further inside, brought together."""
    same = [f for f in p.factors if not ex.dims_of(f) & hidden]
    other = [f for f in p.factors if ex.dims_of(f) & hidden]
    if not same or not other:
        return value, ()
    return p.value(other), (_Outer(p.times, p.value(same), left=True),)


def _pays(s: Statement, parted: _Parted, per_cell: int) -> bool:
    """Whether the operations saved are worth a result stored and read back once more."""
    extents = reach(s.domain)
    if extents is None:
        return False
    outside = sum(operations(o.around(ex.Const(0, ex.dtype_of(s.value)))) for o in parted.outer)
    alone = not (isinstance(parted.inner, ex.Binary) and parted.inner.op == parted.times)
    free = (
        1 if parted.times == "*" and alone and ex.dtype_of(s.value).is_float else 0
    )  # a multiply-add is one operation
    return (outside - free) * _length(extents, s.reduced) > outside + per_cell


def _length(extents: Mapping[str, Interval], dims: tuple[str, ...]) -> int:
    return prod(extents[d][1] - extents[d][0] + 1 for d in dims)


def _rewritten(s: Statement, parted: _Parted, array: Array) -> tuple[Statement, Statement]:
    inner = replace(s, name=array.name, write=Access(array.name, s.write.index), value=parted.inner)
    value: ex.Expr = ex.Load(array.name, s.write.index, array.dtype)
    for o in reversed(parted.outer):
        value = o.around(value)
    return inner, replace(s, domain=restricted(s.domain, frozenset(s.kept)), value=value, op=None)
