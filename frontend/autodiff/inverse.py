# SPDX-License-Identifier: MIT
"""The inverse of an access: which instances of a statement touch a given cell, exactly.

    X(x=y + ky - 1) over y < 8, ky < 3     at cell x:     ky < 3 if 0 <= x - ky + 1 < 8,    with y = x - ky + 1
    X(x=2*y + ky)                                         y < 4, ky < 3 if 2*y + ky == x

A dim with a unit coefficient is solved for; what is left stays an equation of the domain, floors included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from frontend.autodiff.boxes import Box, box
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Compare, Condition, Var
from polyhedral.ir.program import Domain, Range
from polyhedral.sets.isl import named


@dataclass(frozen=True)
class Inverse:
    """The instances that touch a cell: free `ranges` where `guard` holds, and every dim of an instance in terms of
    these and of the cell."""

    ranges: tuple[Range, ...]
    guard: Condition
    at: Mapping[str, Affine]
    cells: Mapping[str, Affine]

    def further(self, condition: Condition) -> Condition:
        """The guard and a condition on the instance: without what says again that the cell exists."""
        own = aff.conjuncts(self.guard)
        zero = [c.expr for c in own if isinstance(c, Compare) and c.equal]
        more = aff.map_affine(condition, lambda e: aff.substitute(e, self.at))
        return aff.both(*own, *(c for c in aff.conjuncts(more) if not _exists(c, zero, self.cells)))


def inverse(
    domain: Domain, index: Sequence[tuple[str, Affine]], cells: Mapping[str, Affine], first: Sequence[str]
) -> Inverse:
    """Invert `cell = index` over a domain; `cells` are the names of the cell's dims, apart from the domain's, with
    their extents.  Of several dims that could be solved for, those in `first` are.
    """
    at: dict[str, Affine] = {}
    left: list[tuple[str, Affine]] = []
    for cell, i in index:
        e = aff.substitute(i, at)
        solved = _solution(aff.var(cell), e, [d for d in aff.dims_of(e) if d in domain.dims], bare=True)
        if solved is None:
            left.append((cell, i))
        else:
            at = _with(at, *solved)
    zero: list[Affine] = []
    for cell, i in left:
        e = aff.substitute(i, at)
        dims = [d for d in domain.dims if d in aff.dims_of(e)]
        units = all(abs(c) == 1 for t, c in e.terms if isinstance(t, Var) and t.name in dims)
        by = sorted(dims, key=lambda d: d not in first) if units else []
        solved = _solution(aff.var(cell), e, by, bare=False)
        if solved is None:
            zero.append(aff.var(cell) - e)
        else:
            at = _with(at, *solved)
            zero = [aff.substitute(z, at) for z in zero]
    rest: list[Condition] = []
    for c in aff.conjuncts(domain.guard):
        solved = _tied(aff.substitute(c.expr, at), zero, first) if isinstance(c, Compare) and c.equal else None
        if solved is None:
            rest.append(c)
        else:
            at = _with(at, *solved)
            zero = [aff.substitute(z, at) for z in zero]
    equations = [aff.equal(z) for z in zero]
    return _domain(Domain(domain.ranges, aff.both(*rest)), at, equations, cells)


def _tied(e: Affine, zero: Sequence[Affine], first: Sequence[str]) -> tuple[str, Affine] | None:
    """A dim that an equation of the domain, `e == 0`, determines, by the cell alone if it can be."""
    forms = sorted((e, *(e + z for z in zero), *(e - z for z in zero)), key=lambda f: len(aff.dims_of(f)))
    for f in forms:
        solved = _solution(aff.const(0), -f, [d for d in first if d in aff.dims_of(f)], bare=False)
        if solved is not None:
            return solved
    return None


def _solution(cell: Affine, e: Affine, dims: Sequence[str], *, bare: bool) -> tuple[str, Affine] | None:
    """A dim with a unit coefficient, outside every floor, and its value; `bare` where it must be the only dim."""
    for d in dims:
        c = e.coefficient(Var(d))
        rest = e - aff.var(d) * c
        if abs(c) == 1 and d not in aff.dims_of(rest) and not (bare and rest.terms and aff.dims_of(rest)):
            return d, (cell - rest) * c
    return None


def _with(at: Mapping[str, Affine], dim: str, value: Affine) -> dict[str, Affine]:
    return {**{d: aff.substitute(e, {dim: value}) for d, e in at.items()}, dim: value}


def _domain(
    domain: Domain, at: Mapping[str, Affine], equations: Sequence[Condition], cells: Mapping[str, Affine]
) -> Inverse:
    def one(e: Affine) -> Affine:
        return aff.substitute(e, at)

    parts: list[Condition] = []
    free: list[Range] = []
    for r in domain.ranges:
        if r.dim in at:
            parts += [aff.at_least(at[r.dim], one(r.lo)), aff.at_least(one(r.hi) - 1, at[r.dim])]
        else:
            free.append(Range(r.dim, one(r.lo), one(r.hi)))
    ranges, tied = _in_order(free, frozenset(cells), box(domain.ranges))
    parts += tied
    found = Inverse(ranges, aff.both(*equations), {**{r.dim: aff.var(r.dim) for r in free}, **at}, cells)
    return replace(found, guard=_needed(ranges, cells, found.further(aff.both(*parts, domain.guard))))


def _needed(ranges: Sequence[Range], cells: Mapping[str, Affine], guard: Condition) -> Condition:
    """The guard without inequalities that follow from the ranges and from what is left of it."""
    kept = list(aff.conjuncts(guard))
    dims = (*cells, *(r.dim for r in ranges))
    box = (
        *(aff.between(0, aff.var(d), e) for d, e in cells.items()),
        *(aff.between(r.lo, aff.var(r.dim), r.hi) for r in ranges),
    )
    for c in aff.conjuncts(guard):
        others = [o for o in kept if o != c]
        if (
            not (isinstance(c, Compare) and c.equal)
            and named(dims, (), aff.both(*box, *others, aff.negate(c))).is_empty()
        ):
            kept = others
    return aff.both(*kept)


def _exists(c: Condition, zero: Sequence[Affine], cells: Mapping[str, Affine]) -> bool:
    """Whether a condition only says, up to what is `zero`, that a cell lies within the array."""
    if not isinstance(c, Compare) or c.equal:
        return False
    ends = [*(aff.var(d) for d in cells), *(e - 1 - aff.var(d) for d, e in cells.items())]
    return any(c.expr - end in (aff.const(0), *zero, *(-z for z in zero)) for end in ends)


def _in_order(ranges: Sequence[Range], known: frozenset[str], around: Box) -> tuple[tuple[Range, ...], list[Condition]]:
    """Each range after those that its bounds mention.

    One of those that depend on each other gets the box around it; what it loses so is a condition.
    """
    left, done, tied = list(ranges), list[Range](), list[Condition]()
    while left:
        seen = known | {r.dim for r in done}
        ready = next((r for r in left if aff.dims_of(r.lo) | aff.dims_of(r.hi) <= seen), None)
        if ready is None:
            tied.append(aff.between(left[0].lo, aff.var(left[0].dim), left[0].hi))
            left[0] = Range(left[0].dim, *around[left[0].dim])
            continue
        left.remove(ready)
        done.append(ready)
    return tuple(done), tied
