# SPDX-License-Identifier: MIT
"""Pad reads: inequalities of a sum's domain that keep a factor's index within its array become padding of that factor.

dX(x) = sum[k < 3 if 0 <= x - k < 8] dY(y=x - k) * W(k)    ->    sum[k < 3] where(0 <= x - k < 8, dY(y=x - k), 0) * W(k)

The sum then runs over a box, as a padded convolution does.  Infinite factors beside the padding make NaN, as they do
there; what is finite stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Compare, Condition, Var
from polyhedral.ir.operands import Interval, box, interval
from polyhedral.ir.program import Domain, Program, Statement
from polyhedral.rewrites.algebra import product


def pad_reads(p: Program, s: Statement) -> Statement | None:
    """The statement over a larger domain; the very one where no read needs its guard; None where a read that does
    would not be zero there, or its index is not what is compared.
    """
    value = product(s) if s.op == "sum" else None
    numbers = all(r.lo.is_const and r.hi.is_const and r.lo.const < r.hi.const for r in s.domain.ranges)
    if value is None or value.times != "*" or not numbers or not _plain(s):
        return None
    ranges = box(s.domain)
    guard = aff.conjuncts(s.domain.guard)
    needed: dict[ex.Load, list[Compare]] = {}
    for load in dict.fromkeys(ex.loads(s.value)):
        found = _needed(p, load, guard, ranges)
        if found is None:
            return None
        if found:
            needed[load] = found
    if not needed:
        return s
    zeros = {c for f in value.factors for load in _factor(f) for c in needed.get(load, ())}
    if any(c not in zeros for cs in needed.values() for c in cs):
        return None
    left = aff.both(*(c for c in guard if c not in zeros))
    return replace(s, domain=Domain(s.domain.ranges, left), value=ex.rewrite(s.value, lambda e: _padded(e, needed)))


def _plain(s: Statement) -> bool:
    """Whether every read is at an affine index without sizes or floors, and every condition an inequality of such."""
    indices = [i for load in ex.loads(s.value) for _, i in load.index]
    parts = aff.conjuncts(s.domain.guard)
    compared = [c.expr for c in parts if isinstance(c, Compare) and not c.equal]
    affine = [i for i in indices if isinstance(i, Affine)]
    simple = all(isinstance(t, Var) for e in (*affine, *compared) for t, _ in e.terms)
    return len(affine) == len(indices) and len(compared) == len(parts) and simple


def _needed(
    p: Program, load: ex.Load, guard: tuple[Condition, ...], ranges: Mapping[str, Interval]
) -> list[Compare] | None:
    """The conditions that keep a read in bounds, none where the box does; None where they do not."""
    found: list[Compare] = []
    extents = dict(p.array(load.array).dims)
    for d, i in load.index:
        assert isinstance(i, Affine)
        if not extents[d].is_const:
            return None
        lo, hi = interval(i, ranges)
        for beyond, end in ((lo < 0, i), (hi >= extents[d].const, extents[d] - 1 - i)):
            if not beyond:
                continue
            # The guard may say more than the array asks for.
            said = [
                c for c in guard if isinstance(c, Compare) and (end - c.expr).is_const and (end - c.expr).const >= 0
            ]
            if not said:
                return None
            found += said
    return found


def _factor(f: ex.Expr) -> list[ex.Load]:
    """The load that a factor is, guarded or converted: where it is zero, the factor is."""
    match f:
        case ex.Load():
            return [f]
        case ex.Cast(_, arg):
            return _factor(arg)
        case ex.Select(ex.Test(), then, ex.Const(value)) if value == 0:
            return _factor(then)
        case _:
            return []


def _padded(e: ex.Expr, needed: Mapping[ex.Load, list[Compare]]) -> ex.Expr:
    match e:
        case ex.Load() if e in needed:
            zero = ex.Const(0.0 if e.dtype.is_float else 0, e.dtype)
            return ex.Select(ex.Test(aff.both(*needed[e])), e, zero)
        case ex.Select(ex.Test(outer), ex.Select(ex.Test(inner), ex.Load() as load, zero), other) if other == zero:
            return ex.Select(ex.Test(aff.both(outer, inner)), load, zero)
        case _:
            return e
