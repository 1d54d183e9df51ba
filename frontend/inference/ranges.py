# SPDX-License-Identifier: MIT
"""Ranges of dims that no access pins: the largest interval for which every index stays in bounds (rule R10).

Boxes and plain affine indices, nearly all programs, are solved by interval arithmetic; the rest goes through isl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frontend.inference.reads import Interval, Need
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import TRUE, Affine, Condition, Floor, Var
from polyhedral.sets.isl import Bound, NamedSet, named

Ranges = Mapping[str, Interval]


@dataclass(frozen=True)
class Unclear:
    """A dim has no single affine bound: it is unbounded (no expression), or bounded by the least of several."""

    dim: str
    low: tuple[Affine, ...]
    high: tuple[Affine, ...]


def in_rounds(
    dims: Sequence[str], pinned: Ranges, needs: Sequence[Need], guard: Condition, known: Condition
) -> tuple[dict[str, Interval], dict[str, Need], Unclear | None]:
    """Ranges for as many dims as can be found, for each inferred dim a need that bounds it, and a dim that stopped it.

    Every round takes each dim that is the only open one of some index; what it finds is pinned for the next round.
    """
    ranges = dict(pinned)
    because: dict[str, Need] = {}
    merge = aff.same_sizes(known)
    while left := [d for d in dims if d not in ranges]:
        found: dict[str, Interval] = {}
        for d in left:
            mine = tuple(dict.fromkeys(n for n in needs if n.dims - ranges.keys() == frozenset({d})))
            if not mine and d not in _closed_by(guard, ranges, left):
                continue
            range_ = _by_intervals(d, mine, ranges, guard, merge) or _by_sets(d, mine, ranges, guard, known)
            if isinstance(range_, Unclear):
                return ranges, because, range_
            found[d] = range_
            if mine:
                because[d] = mine[-1]
        if not found:
            break
        ranges |= found
    return ranges, because, None


def _closed_by(guard: Condition, ranges: Ranges, left: Sequence[str]) -> set[str]:
    """Dims without any need that the enclosing condition may bound by itself."""
    parts = aff.conjuncts(guard)
    mentioned = [aff.condition_dims(p) - ranges.keys() for p in parts]
    return {d for d in left if sum(m == frozenset({d}) for m in mentioned) >= 2}


# --- interval arithmetic ---------------------------------------------------------------------------------------------


def extreme(e: Affine, ranges: Ranges, greatest: bool) -> Affine | None:
    """The least or greatest value of a floor-free expression over a box, None when it is not one."""
    result = aff.const(e.const)
    for term, c in e.terms:
        match term:
            case Var(name):
                lo, hi = ranges[name]
                end = hi - 1 if (c > 0) == greatest else lo
                if aff.dims_of(end):
                    return None
                result = result + end * c
            case Floor(arg, _) if aff.dims_of(arg):
                return None
            case _:
                result = result + Affine(((term, c),))
    return result


def _by_intervals(
    dim: str, needs: Sequence[Need], ranges: Ranges, guard: Condition, merge: Mapping[str, Affine]
) -> Interval | None:
    guarded = aff.condition_dims(guard)
    if not needs:
        return None
    lows: list[Affine] = []
    highs: list[Affine] = []
    for n in needs:
        box = dict(ranges) | {b: (lo, hi) for b, lo, hi in n.bound}
        c = n.index.coefficient(Var(dim))
        rest = n.index - aff.var(dim) * c
        if n.when != TRUE or c == 0 or dim in aff.dims_of(rest) or guarded & aff.dims_of(n.index):
            return None
        least, greatest = extreme(rest, box, False), extreme(rest, box, True)
        if least is None or greatest is None:
            return None
        if c > 0:
            lows.append(-((least - n.lo) // c))
            highs.append((n.hi - 1 - greatest) // c + 1)
        else:
            lows.append(-((n.hi - 1 - greatest) // -c))
            highs.append((least - n.lo) // -c + 1)
    low, high = _outermost(lows, merge, 1), _outermost(highs, merge, -1)
    return None if low is None or high is None else (low, high)


def _outermost(bounds: Sequence[Affine], merge: Mapping[str, Affine], sign: int) -> Affine | None:
    """The greatest (sign 1) or least (-1) of some bounds, None unless they differ by constants."""
    best = bounds[0]
    for b in bounds[1:]:
        difference = aff.substitute(b - best, {}, merge)
        if not difference.is_const:
            return None
        if difference.const * sign > 0:
            best = b
    return best


# --- sets ------------------------------------------------------------------------------------------------------------


def _by_sets(dim: str, needs: Sequence[Need], ranges: Ranges, guard: Condition, known: Condition) -> Interval | Unclear:
    """Complement of the projection of the out-of-bounds points, for sizes for which the statement runs at all."""
    space = named((dim,), (), known)
    good = space
    bad: list[NamedSet] = []
    for n in needs or (None,):
        where = guard if n is None else aff.both(guard, n.when)
        seen = {dim} | aff.condition_dims(where) | (aff.dims_of(n.index) if n else frozenset[str]())
        box = dict(ranges) | ({} if n is None else {b: (lo, hi) for b, lo, hi in n.bound})
        names, inside = _box(dim, seen, box)
        points = named(names, (), aff.both(inside, guard, known))
        good = good & points.only((dim,))
        if n is not None:
            bad.append(points.where(where).where(aff.negate(n.holds)).only((dim,)))
    for b in bad:
        good = good - b
    low, high = good.bounds(dim)
    lo, hi = single(low), single(high)
    if lo is None or hi is None:
        return Unclear(dim, tuple(e for _, e in low), tuple(e + 1 for _, e in high))
    return lo, hi + 1


def _box(dim: str, seen: set[str], box: Ranges) -> tuple[tuple[str, ...], Condition]:
    """The known ranges of the dims in sight and of those that their bounds mention."""
    names = {dim: None}
    parts: list[Condition] = []
    todo = sorted(seen - {dim})
    while todo:
        d = todo.pop(0)
        if d in names:
            continue
        names[d] = None
        if d in box:
            lo, hi = box[d]
            parts.append(aff.between(lo, aff.var(d), hi))
            todo += sorted((aff.dims_of(lo) | aff.dims_of(hi)) - names.keys())
    return tuple(names), aff.both(*parts)


def single(bound: Bound) -> Affine | None:
    """The one expression that holds on every piece of a bound, if there is one."""
    for _, e in bound:
        if all(e == other or where.where(aff.negate(aff.equal(e, other))).is_empty() for where, other in bound):
            return e
    return None
