# SPDX-License-Identifier: MIT
"""Reductions that are not sums: who gets the derivative of a maximum, and how much that of a product gives to each.

    M(i) = max[k] V(i, k)      M_winner(i) = min[k] where(V(i, k) == M(i), k, none)     dV = where(k == M_winner, dM, 0)

The winner is the first instance in the order of the reduced dims that attains the result (a NaN does).  A factor of a
product gets the product of all others, multiplied out for each of them, so that zeros do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from frontend.autodiff.boxes import box
from frontend.autodiff.naming import fresh
from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.derivatives import Branch, selected, times
from polyhedral.ir.dtypes import i64
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement


@dataclass(frozen=True)
class Reduced:
    """An array that says how the derivative of a reduction is shared out, and the share of one instance."""

    array: Array
    statement: Statement
    share: Callable[[Statement, Expr], Expr]
    remarks: tuple[Remark, ...] = ()


def winner(p: Program, s: Statement, taken: set[str]) -> Reduced:
    """Number the instances of each cell in order, and keep the number of the first that attains the result."""
    result = p.array(s.write.array)
    name = fresh(f"{s.name}_winner", taken)
    own = ex.Load(result.name, s.write.index, result.dtype)
    hit = ex.Binary("or", ex.Binary("==", s.value, own), ex.Call("isnan", (s.value,)))
    first = ex.Select(hit, _number(s), ex.identity("min", i64))
    array = Array(name, result.dims, i64, Role.TEMPORARY)
    statement = Statement(name, s.domain, Access(name, s.write.index), first, "min", location=s.location)

    def share(here: Statement, seed: Expr) -> Expr:
        mine = ex.Binary("==", _number(here), ex.Load(name, here.write.index, i64))
        return selected((Branch(mine, True),), seed)

    return Reduced(array, statement, share)


def _number(s: Statement) -> Expr:
    """A number for each instance of a cell that grows in the lexicographic order of the reduced dims."""
    reduced = [r for r in s.domain.ranges if r.dim in s.reduced]
    total: Expr | None = None
    around = box(reduced)
    for r in reduced:
        lo, hi = around[r.dim]
        step = ex.Index(aff.var(r.dim) - lo, i64)
        total = step if total is None else ex.Binary("+", ex.Binary("*", total, ex.Index(hi - lo, i64)), step)
    assert total is not None, "a reduction has reduced dims"
    return total


def others(p: Program, s: Statement, taken: set[str]) -> Reduced:
    """The product of all other factors, for every factor."""
    name = fresh(f"{s.name}_others", taken)
    dtype = ex.dtype_of(s.value)
    names = set(s.dims)
    again = {d: fresh(d, names) for d in s.reduced}
    at = {d: aff.var(n) for d, n in again.items()}

    def one(e: Affine) -> Affine:
        return aff.substitute(e, at)

    inner = tuple(Range(again[r.dim], one(r.lo), one(r.hi)) for r in s.domain.ranges if r.dim in again)
    apart = aff.either(*(aff.negate(aff.equal(aff.var(d), aff.var(n))) for d, n in again.items()))
    guard = aff.both(s.domain.guard, aff.map_affine(s.domain.guard, one), apart)
    result = p.array(s.write.array)
    extra = {r.dim: fresh(r.dim, {*result.dim_names, *again.values()}) for r in s.domain.ranges if r.dim in again}
    known = box(s.domain.ranges)
    dims = (*result.dims, *((extra[d], known[d][1] - known[d][0]) for d in again))

    def cell(here: Statement, mapped: dict[str, str]) -> tuple[tuple[str, Affine], ...]:
        return (*here.write.index, *((extra[d], aff.var(mapped[d]) - known[d][0]) for d in again))

    plain = {d: d for d in again}
    statement = Statement(
        name,
        Domain((*s.domain.ranges, *inner), guard),
        Access(name, cell(s, plain)),
        ex.substitute(s.value, at),
        "prod",
        location=s.location,
    )
    array = Array(name, dims, dtype, Role.TEMPORARY)

    def share(here: Statement, seed: Expr) -> Expr:
        mapped = dict(zip(s.dims, here.dims, strict=True))
        return times(seed, ex.Load(name, cell(here, mapped), dtype))

    slow = Remark(
        f"the derivative of {s.name} multiplies all pairs of factors",
        "each factor gets the product of all others, which a quotient would not give where one is zero",
        s.name,
    )
    return Reduced(array, statement, share, (slow,))
