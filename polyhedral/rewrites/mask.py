# SPDX-License-Identifier: MIT
"""Mask a guarded statement: its domain becomes the box around it, and points outside count as nothing.

out(s) = sum[t < 2048 if t <= s] P(s, t)    ->    out(s) = sum[t < 2048] where(t <= s, P(s, t), 0)

A register tile then has no partial iterations.  `hull` takes back whole tiles that lie outside: where they are s from
64*n on, t goes to 64*n + 63 only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Compare, Var
from polyhedral.ir.operands import box, interval
from polyhedral.ir.program import Domain, Program, Role, Statement


@dataclass(frozen=True)
class Masked:
    """The statement over its box, and the inequalities that its domain had."""

    statement: Statement
    within: tuple[Affine, ...]


def mask(p: Program, s: Statement) -> Masked | None:
    """The statement over its box; None where it would read or write what it must not, or an equation ties its dims."""
    parts = aff.conjuncts(s.domain.guard)
    within = tuple(c.expr for c in parts if isinstance(c, Compare) and not c.equal)
    simple = all(isinstance(t, Var) for e in within for t, _ in e.terms)
    numbers = all(r.lo == aff.const(0) and r.hi.is_const and r.hi.const > 0 for r in s.domain.ranges)
    if len(within) < len(parts) or not simple or not numbers or not _inside(p, s):
        return None
    reduced = frozenset(s.reduced)
    rows = [e for e in within if not aff.dims_of(e) & reduced]
    if rows and not _spare(p, s):
        return None
    inner = [Compare(e) for e in within if aff.dims_of(e) & reduced]
    value = s.value
    if inner and s.op is not None:
        value = ex.Select(ex.Test(aff.both(*inner)), value, ex.identity(s.op, ex.dtype_of(value)), eager=True)
    return Masked(replace(s, domain=Domain(s.domain.ranges), value=value), within)


def _inside(p: Program, s: Statement) -> bool:
    """Whether every read stays in bounds all over the box."""
    ranges = box(s.domain)
    for load in ex.loads(s.value):
        extents = dict(p.array(load.array).dims)
        for d, i in load.index:
            if not isinstance(i, Affine) or not extents[d].is_const or aff.sizes_of(i):
                return False
            lo, hi = interval(i, ranges)
            if lo < 0 or hi >= extents[d].const:
                return False
    return True


def _spare(p: Program, s: Statement) -> bool:
    """Whether cells outside the domain are nobody's: they may be written."""
    alone = all(t is s or t.write.array != s.write.array for t in p.statements)
    return alone and p.array(s.write.array).role is Role.TEMPORARY


def hull(s: Statement, within: Sequence[Affine], tile: Callable[[str], int]) -> Statement:
    """The statement without the tiles, so long along each dim, that lie outside the domain altogether."""
    starts = {r.dim: r.lo for r in s.domain.ranges}
    conditions = [Compare(_reached(e, starts, tile)) for e in within if aff.dims_of(e) <= starts.keys()]
    return replace(s, domain=Domain(s.domain.ranges, aff.both(*conditions) if conditions else TRUE))


def _reached(e: Affine, starts: dict[str, Affine], tile: Callable[[str], int]) -> Affine:
    """The greatest value of an inequality's left-hand side in a tile."""
    total = aff.const(e.const)
    for term, c in e.terms:
        assert isinstance(term, Var)
        d, size = term.name, tile(term.name)
        first = aff.var(d) if size == 1 else starts[d] + (aff.var(d) - starts[d]) // size * size
        total = total + (first + (size - 1 if c > 0 else 0)) * c
    return total
