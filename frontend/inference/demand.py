# SPDX-License-Identifier: MIT
"""Where a temporary is needed: the union over its readers of the image of the reader's domain under the read's index.

The answer is a box, whose extents the temporary takes, and a guard for the exact shape inside the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from frontend.inference.ranges import single
from frontend.inference.reads import Facts, Need
from polyhedral.errors import Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import TRUE, Affine, Condition, Or
from polyhedral.ir.program import Domain, Range
from polyhedral.sets.isl import Bound, NamedSet, named


@dataclass(frozen=True)
class Demand:
    """One read: the reader's domain, the index of each dim of the temporary, and the branch in which it happens.

    A dim that is missing from `index` is gathered through data: all of it may be needed.
    """

    domain: Domain
    index: tuple[tuple[str, Affine], ...]
    when: Condition = TRUE


def demanded(dims: Sequence[str], demands: Sequence[Demand], known: Condition, facts: Facts, name: str) -> Domain:
    """The domain over `dims` that covers all demands; `facts` are those of the value to be stored."""
    demands = tuple(dict.fromkeys(demands))
    return _copied(dims, demands, known) or _projected(dims, demands, known, facts, name)


def _copied(dims: Sequence[str], demands: Sequence[Demand], known: Condition) -> Domain | None:
    """The readers' own ranges, renamed, when all read the same box at bare dims; no sets are needed for that."""
    merge = aff.same_sizes(known)

    def normal(domain: Domain) -> list[Affine]:
        return [aff.substitute(e, {}, merge) for r in domain.ranges for e in (r.lo, r.hi)]

    found = [_renamed(dims, d) for d in demands]
    first = found[0]
    if first is None or any(f is None or normal(f) != normal(first) for f in found[1:]):
        return None
    guards = dict.fromkeys(f.guard for f in found if f is not None)
    if len(guards) > 1 and TRUE not in guards:
        return None
    return Domain(first.ranges, TRUE if TRUE in guards else first.guard)


def _renamed(dims: Sequence[str], d: Demand) -> Domain | None:
    bare = {i.as_var(): name for name, i in d.index}
    if None in bare or len(bare) != len(dims):
        return None
    ranges = {bare[r.dim]: r for r in d.domain.ranges if r.dim in bare}
    if any(aff.dims_of(r.lo) or aff.dims_of(r.hi) for r in d.domain.ranges):
        return None
    kept: list[Condition] = []
    for part in aff.conjuncts(aff.both(d.domain.guard, d.when)):
        used = aff.condition_dims(part)
        if used <= bare.keys():
            kept.append(part)
        elif used & bare.keys():
            return None
    names = {v: aff.var(name) for v, name in bare.items() if v is not None}
    guard = aff.map_affine(aff.both(*kept), lambda e: aff.substitute(e, names))
    return Domain(tuple(Range(n, ranges[n].lo, ranges[n].hi) for n in dims), guard)


def _projected(dims: Sequence[str], demands: Sequence[Demand], known: Condition, facts: Facts, name: str) -> Domain:
    """The exact image of every demand; the box is its hull."""
    extents = {d: [p.extent for p in facts.pins if p.dim == d] for d in dims}
    points: NamedSet | None = None
    for d in demands:
        source = named(d.domain.dims, (), aff.both(d.domain.condition, known)).where(d.when)
        image = source.image(dict(d.index)).over(dims)
        gathered = [n for n in dims if n not in dict(d.index)]
        if any(not extents[n] for n in gathered):
            raise _unclear(name, gathered[0], "it is read through data, at any value")
        image = image.where(aff.both(*(aff.between(0, aff.var(n), extents[n][0]) for n in gathered)))
        points = image if points is None else points | image
    assert points is not None, "a definition is only asked for by its readers"
    if points.is_empty():
        return Domain(tuple(Range(n, aff.const(0), aff.const(0)) for n in dims))
    box = Domain(tuple(_hull(points, n, extents[n], name) for n in dims))
    # Exactness matters only for sizes for which anything is read at all.
    context = named(dims, points.sizes, aff.both(box.condition, known)) & points.params()
    if context.is_subset(points):
        return box
    guard = points.gist(context).condition()
    # A ragged image (every third row, say) costs more in conditions than the few cells that nobody reads.
    return box if isinstance(guard, Or) and _safe(box, facts.needs, known) else replace(box, guard=guard)


def _safe(box: Domain, needs: Sequence[Need], known: Condition) -> bool:
    """Are all reads of the value in bounds on the whole box?"""
    ranges = {r.dim: (r.lo, r.hi) for r in box.ranges}
    for n in needs:
        if ranges.get(n.index.as_var() or "") == (n.lo, n.hi):
            continue
        spans = aff.both(*(aff.between(lo, aff.var(b), hi) for b, lo, hi in n.bound))
        names = (*box.dims, *(b for b, _, _ in n.bound))
        if not named(names, (), aff.both(box.condition, known, spans, n.when, aff.negate(n.holds))).is_empty():
            return False
    return True


def _hull(points: NamedSet, dim: str, extents: Sequence[Affine], name: str) -> Range:
    low, high = points.bounds(dim)
    lo = _cover(points, dim, low, (aff.const(0),), -1)
    hi = _cover(points, dim, high, tuple(e - 1 for e in extents), 1)
    if lo is None or hi is None:
        raise _unclear(name, dim, "it is read over different ranges")
    return Range(dim, lo, hi + 1)


def _unclear(name: str, dim: str, because: str) -> Unsupported:
    return Unsupported(
        "PH900",
        f"{name} is needed over a range of {dim} that is not a single expression of the sizes",
        details=(because,),
        hints=(f"store it first, over a range that you give: ph.let(..., {dim}=(lo, hi))",),
        statement=name,
        dim=dim,
    )


def _cover(points: NamedSet, dim: str, bound: Bound, spare: Sequence[Affine], sign: int) -> Affine | None:
    """One expression at or beyond a possibly piecewise bound: one of its pieces, a spare, or the sum of the pieces."""
    exact = single(bound)
    if exact is not None:
        return exact
    pieces = tuple(dict.fromkeys(e for _, e in bound))
    for e in (*pieces, *spare, sum(pieces, aff.const(0))):
        if points.where(aff.at_least((aff.var(dim) - e) * sign, 1)).is_empty():
            return e
    return None
