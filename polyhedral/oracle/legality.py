# SPDX-License-Identifier: MIT
"""The legality oracle: from the Program alone, which pairs of instances must stay ordered, and does a tree keep them.

Independent of the scheduler: it shares neither its dependences nor isl's view of the schedule, only integer sets.  The
answer is None or a Violation with a pair of instances; a schedule is a proposal, this check disposes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import (
    Component,
    Local,
    Member,
    Promote,
    Run,
    Stage,
    Tree,
    elsewhere,
    held,
    members_of,
    regions,
    times,
)
from polyhedral.oracle.threads import PRIME, on_device, prime, race, shared_by_threads
from polyhedral.sets.instances import Family, Kind, Reference, families, is_memory, precedes, references
from polyhedral.sets.isl import NamedSet, named

_ONE_BY_ONE = (Run.SERIAL, Run.WRITTEN, Run.HOST)
_APART = (Run.PARALLEL, Run.VECTOR, Run.BLOCK, Run.THREAD)
"""Iterations of these run at the same time."""
_COMBINED_LATER = (Run.LANES, Run.TEAM)
"""Iterations of these too, but each with a partial result, which are combined where the registers that hold it end."""
_PARTIAL = (*_COMBINED_LATER, Run.MATRIX)
"""A matrix instruction has combined its own when it ends."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Instance pairs (first, then) that touch the same cell: over first's dims and then's dims, the latter primed.

    `relaxed`: two updates of one reduction; either may come first, but not both at once.
    """

    first: Family
    then: Family
    array: str
    points: NamedSet
    relaxed: bool = False


@dataclass(frozen=True)
class Violation:
    """Why a tree is not legal: instance `first` must come before `then` (both touch `cell`), and does not."""

    first: str
    first_at: tuple[tuple[str, int], ...]
    then: str
    then_at: tuple[tuple[str, int], ...]
    array: str
    why: str

    def __str__(self) -> str:
        def at(who: str, point: tuple[tuple[str, int], ...]) -> str:
            return f"{who}({', '.join(f'{d}={v}' for d, v in point)})"

        first, then = at(self.first, self.first_at), at(self.then, self.then_at)
        if first == then:
            return f"{first} touches {self.array}: {self.why}"
        return f"{first} and {then} both touch {self.array}: {self.why}"


def obligations(p: Program) -> tuple[Pairs, ...]:
    """Every pair of accesses that orders (or, relaxed, serialises) two instances."""
    refs = [r for f in families(p) for r in references(f)]
    by_array: dict[str, list[Reference]] = {}
    for r in refs:
        by_array.setdefault(r.array, []).append(r)
    folded = {a.name for a in p.arrays if a.planes}
    found: list[Pairs] = []
    for a in refs:
        for b in by_array[a.array]:
            if a.writes or b.writes:
                found += _pairs(p, a, b)
                if b.writes and a.array in folded:
                    found += _nonempty(Pairs(a.family, b.family, a.array, _meet(p, a, b, aff.TRUE, planes=True)))
    return tuple(found)


def _pairs(p: Program, a: Reference, b: Reference) -> Iterator[Pairs]:
    if a.writes and b.writes and a.family == b.family and a.family.kind is Kind.UPDATE:
        if not a.family.statement.strict:
            yield from _nonempty(Pairs(a.family, b.family, a.array, _meet(p, a, b, aff.TRUE), relaxed=True))
            return
        order = _strict_order(a.family)
        if is_memory(p, a.array):
            order = aff.either(precedes(a.family, b.family, PRIME), aff.both(_same_position(a.family, b.family), order))
        yield from _nonempty(Pairs(a.family, b.family, a.array, _meet(p, a, b, order)))
        return
    if is_memory(p, a.array):
        order = precedes(a.family, b.family, PRIME)
        if _same_statement(a.family, b.family) and a.family.kind is Kind.INIT and b.family.kind is Kind.UPDATE:
            order = aff.either(order, _same_position(a.family, b.family))
        if order != aff.FALSE:
            yield from _nonempty(Pairs(a.family, b.family, a.array, _meet(p, a, b, order)))
        return
    if not a.writes:
        return
    if not b.writes or (
        _same_statement(a.family, b.family) and a.family.kind is Kind.INIT and b.family.kind is Kind.UPDATE
    ):
        yield from _nonempty(Pairs(a.family, b.family, a.array, _meet(p, a, b, aff.TRUE)))


def _same_statement(a: Family, b: Family) -> bool:
    return a.statement.name == b.statement.name


def _same_position(a: Family, b: Family) -> Condition:
    return aff.both(*(aff.equal(aff.var(d), aff.var(d + PRIME)) for d in a.statement.ordered))


def _strict_order(f: Family) -> Condition:
    """Lexicographic order of the dims; those that the result has agree, unless several of its rows share a cell."""
    result, equal = aff.FALSE, aff.TRUE
    for d in f.dims:
        x, y = aff.var(d), aff.var(d + PRIME)
        result = aff.either(result, aff.both(equal, aff.at_least(y - x, 1)))
        equal = aff.both(equal, aff.equal(x, y))
    return result


def _nonempty(pairs: Pairs) -> Iterator[Pairs]:
    if not pairs.points.is_empty():
        yield pairs


def primed(c: Condition, dims: Sequence[str]) -> Condition:
    return aff.map_affine(c, lambda e: prime(e, dims))


def _meet(p: Program, a: Reference, b: Reference, order: Condition, *, planes: bool = False) -> NamedSet:
    """The pairs of instances whose accesses meet in one cell, in the given order; with `planes`, in different cells
    stored in one place, the earlier plane first.
    """
    fa, fb = a.family, b.family
    same: list[Condition] = []
    stored = dict(p.array(a.array).planes) if planes else {}
    for (d, i), (_, j) in zip(a.index, b.index, strict=True):
        if i is not None and j is not None:
            apart = prime(j, fb.dims) - i
            reused = d in stored
            same.append(aff.both(aff.equal(apart % stored[d]), aff.at_least(apart, 1)) if reused else aff.equal(apart))
    condition = aff.both(
        fa.domain, a.when, primed(fb.domain, fb.dims), primed(b.when, fb.dims), order, *p.assumptions, *same
    )
    return named((*fa.dims, *(d + PRIME for d in fb.dims)), p.sizes, condition)


def violation(
    p: Program, tree: Tree, pairs: tuple[Pairs, ...] | None = None, among: Sequence[Family] | None = None
) -> Violation | None:
    """The first pair of instances that the tree does not keep in order, or None when it keeps all; the tree is of all
    families, or of those `among` which the pairs are.
    """
    fs = families(p) if among is None else among
    at = times(tree, tuple(f.id for f in fs))
    every = obligations(p) if pairs is None else pairs
    threaded = frozenset(f.id for f in fs if on_device(tree, f.id))
    for pair in every:
        found = _broken(pair, at[pair.first.id], at[pair.then.id]) or _raced(tree, pair, threaded)
        if found is not None:
            return found
    of: dict[str, list[Pairs]] = {}
    for pair in every:
        of.setdefault(pair.array, []).append(pair)
    touching = _touching(fs) if elsewhere(tree) else {}
    for node, inside, depth in regions(tree, 0, tuple(at)):
        here = of.get(node.array, [])
        match node:
            case Local():
                around = _around(tree, node, inside)
                threads = any(shared_by_threads(tree, f, node) for f in inside)
                region = _Region(p, node, inside, depth, at, around, touching.get(node.array, ()), threads)
                found = _kept_apart(region, here)
            case Stage():
                found = _staged(p, tree, node, [f for f in fs if f.id in inside], here)
            case Promote():
                found = _held_apart(p, node, inside, depth, at, here) or _not_stored(p, tree, node, touching)
        if found is not None:
            return found
    return None


def _raced(tree: Tree, pair: Pairs, threaded: frozenset[str]) -> Violation | None:
    """Whether two instances that are in order are so on different threads of a device, which do not meet between."""
    if pair.first.id not in threaded and pair.then.id not in threaded:
        return None
    found = race(tree, pair.first, pair.then, pair.array, pair.points)
    return None if found is None else _explain(pair, found.points, found.why)


def _touching(fs: Sequence[Family]) -> dict[str, list[Reference]]:
    """The references to each array."""
    found: dict[str, list[Reference]] = {}
    for f in fs:
        for r in references(f):
            found.setdefault(r.array, []).append(r)
    return found


@dataclass(frozen=True)
class _Region:
    """One Local, the families in it, the time components above it, of each family the band members among them, and the
    references to its array.
    """

    program: Program
    node: Local
    inside: tuple[str, ...]
    depth: int
    at: Mapping[str, tuple[Component, ...]]
    around: Mapping[str, tuple[Affine, ...]]
    references: Sequence[Reference]
    threads: bool
    """Whether it begins inside a loop over threads."""


def _around(tree: Tree, node: Local, inside: Sequence[str]) -> dict[str, tuple[Affine, ...]]:
    """The times of the band members above a region, outermost first: what a Fold counts, and what loops there are."""
    depths = {f: next(depth for depth, n in held(tree, f) if n is node) for f in inside}
    return {f: tuple(m.time(f) for m in members_of(tree, f)[:depth]) for f, depth in depths.items()}


def _kept_apart(region: _Region, pairs: Sequence[Pairs]) -> Violation | None:
    """Whether an execution of a region with memory of its own would miss a value that another one wrote, or touch a
    cell that this memory does not have.
    """
    at = region.at
    for pair in pairs:
        a, b = at[pair.first.id], at[pair.then.id]
        if pair.first.id not in region.inside or pair.then.id not in region.inside:
            return _explain(pair, pair.points, "its memory is gone by then")
        for (ta, _), (tb, _) in zip(a[: region.depth], b[: region.depth], strict=True):
            later = prime(tb, pair.then.dims) - ta
            crossing = _first_nonempty(pair.points, aff.at_least(later, 1), aff.at_least(-later, 1))
            if crossing is not None:
                return _explain(pair, crossing, "each iteration of the loops around has memory of its own")
    return next(filter(None, (_beyond(region, r) for r in region.references)), None)


def _beyond(region: _Region, r: Reference) -> Violation | None:
    """An access outside the cells that an execution has, or to an array that cannot lie in memory of its own."""
    p, node, f = region.program, region.node, r.family
    domain = named(f.dims, p.sizes, aff.both(f.domain, r.when, *p.assumptions))
    array, axes = p.array(node.array), dict(r.index)
    odd = next((d for d, e in array.dims if not e.is_const and all(x.axis != d for x in node.folds)), None)
    if array.role is not Role.TEMPORARY or array.planes:
        return _alone(r, domain, "only temporaries whose cells all have a place lie in memory of their own")
    if f.id not in region.inside:
        return _alone(r, domain, "its memory is not there")
    if odd is not None:
        return _alone(r, domain, f"memory of its own has a fixed size, and that along {odd} is not a number")
    if region.threads:
        return _alone(r, domain, "its memory is that of a block, whose threads all have the same")
    times = region.around[f.id]
    for fold in node.folds:
        why = f"its memory has {fold.size} cells along {fold.axis} there"
        index = axes.get(fold.axis)
        if index is None or not 1 <= fold.up <= len(times):
            return _alone(r, domain, why)
        cell = index - times[-fold.up] * fold.size
        if fold.further is not None:
            cells, up = fold.further
            if not 1 <= up <= len(times):
                return _alone(r, domain, why)
            cell = cell - times[-up] * cells
        wrong = domain.where(aff.negate(aff.between(aff.const(0), cell, aff.const(fold.size))))
        if not wrong.is_empty():
            return _alone(r, wrong, why)
    return None


def _staged(p: Program, tree: Tree, node: Stage, fs: Sequence[Family], pairs: Sequence[Pairs]) -> Violation | None:
    """Whether a copy of cells would miss a value that is written while it is used, or lack a cell that is read; all
    threads of a block share it, so that it begins at the same cell for all of them.
    """
    ids = {f.id for f in fs}
    for pair in pairs:
        if pair.first.id in ids and pair.then.id in ids:
            return _explain(pair, pair.points, "a copy of it is read while it is written")
    for f in fs:
        depth = next(depth for depth, n in held(tree, f.id) if n is node)
        around = {m.name: m for m in members_of(tree, f.id)[:depth]}
        for r in references(f):
            if r.array == node.array:
                found = _not_copied(p, r, node, around)
                if found is not None:
                    return found
    return None


def _not_copied(p: Program, r: Reference, node: Stage, around: Mapping[str, Member]) -> Violation | None:
    """An access outside the box of cells that was copied."""
    domain = named(r.family.dims, p.sizes, aff.both(r.family.domain, r.when, *p.assumptions))
    index = dict(r.index)
    for box in node.cells:
        names = aff.dims_of(box.first)
        why = f"{box.size} of its cells along {box.axis} were copied, from {box.first} on"
        own = {around[d].run for d in names if d in around} & {Run.THREAD, *_PARTIAL}
        at = index.get(box.axis)
        if at is None or own or not names <= around.keys():
            return _alone(r, domain, why)
        cell = at - aff.substitute(box.first, {d: around[d].time(r.family.id) for d in names})
        wrong = domain.where(aff.negate(aff.between(aff.const(0), cell, aff.const(box.size))))
        if not wrong.is_empty():
            return _alone(r, wrong, why)
    return None


def _alone(r: Reference, points: NamedSet, why: str) -> Violation | None:
    """One access that cannot be made, where there is any such instance."""
    if points.is_empty():
        return None
    sample = points.sample([dict.fromkeys(points.sizes, 4), {}]) or {}
    at = tuple((d, sample[d]) for d in r.family.dims)
    return Violation(r.family.shown, at, r.family.shown, at, r.array, why)


def _held_apart(
    p: Program,
    node: Promote,
    inside: Sequence[str],
    depth: int,
    at: Mapping[str, tuple[Component, ...]],
    pairs: Sequence[Pairs],
) -> Violation | None:
    """Whether executions of a region that holds cells in registers would see another value than memory does."""
    found: dict[str, NamedSet] = {}
    elsewhere: list[tuple[Pairs, NamedSet]] = []
    for pair in pairs:
        both = [f.id in inside for f in (pair.first, pair.then)]
        if not all(both):
            if any(both) and not node.stored:
                return _explain(pair, pair.points, f"{pair.array} is held in registers there, and not stored")
            continue
        a, b = at[pair.first.id], at[pair.then.id]
        together = zip(a[:depth], b[:depth], strict=True)
        same = [aff.equal(prime(tb, pair.then.dims) - ta) for (ta, _), (tb, _) in together]
        here = pair.points.where(aff.both(*same))
        wrong = _other_register(p, pair, here, a[depth:], b[depth:])
        if wrong is not None:
            return wrong
        apart = pair.points - here
        if not node.stored and not apart.is_empty():
            return _explain(pair, apart, f"{pair.array} is held in registers for one of them, and not stored")
        if not _combines(pair):
            mine = here.only(d + PRIME for d in pair.then.dims)
            found[pair.then.id] = found[pair.then.id] | mine if pair.then.id in found else mine
            elsewhere.append((pair, apart))
    writers = {pair.first.id: pair.first for pair, _ in elsewhere}
    moving = next(filter(None, (_moving(p, node.array, f, depth, at[f.id]) for f in writers.values())), None)
    if moving is not None:
        return moving
    for pair, apart in elsewhere:
        if not apart.only(d + PRIME for d in pair.then.dims).is_subset(found[pair.then.id]):
            return _explain(pair, apart, f"{pair.array} is held in registers of another iteration")
    return None


def _moving(p: Program, array: str, f: Family, depth: int, at: tuple[Component, ...]) -> Violation | None:
    """Whether a register that is read would stand for several cells: a loop inside the region moves along them."""
    fixed = [t for n, (t, run) in enumerate(at) if n < depth or run in (Run.UNROLL, Run.VECTOR)]
    index = [i for _, i in f.statement.write.index]
    if frozenset[str]().union(*map(aff.dims_of, index)) <= {t.as_var() for t in fixed}:
        return None
    still = [aff.equal(prime(t, f.dims) - t) for t in fixed]
    other = aff.either(*(aff.negate(aff.equal(prime(i, f.dims) - i)) for i in index))
    domain = aff.both(f.domain, primed(f.domain, f.dims), *p.assumptions)
    points = named((*f.dims, *(d + PRIME for d in f.dims)), p.sizes, aff.both(domain, *still, other))
    why = "their cells are held in registers, and both in the same one"
    return None if points.is_empty() else _explain(Pairs(f, f, array, points), points, why)


def _not_stored(p: Program, tree: Tree, node: Promote, touching: Mapping[str, Sequence[Reference]]) -> Violation | None:
    """An access to cells that are in registers alone, from where these are not."""
    if node.stored:
        return None
    where = (
        families
        for n, families, _ in regions(tree)
        if isinstance(n, Promote) and n.array == node.array and not n.stored
    )
    inside = frozenset(f for families in where for f in families)
    array = p.array(node.array)
    for r in touching.get(node.array, ()):
        domain = named(r.family.dims, p.sizes, aff.both(r.family.domain, r.when, *p.assumptions))
        if array.role is not Role.TEMPORARY or array.planes:
            return _alone(r, domain, "only temporaries whose cells all have a place need not be stored")
        if r.family.id not in inside:
            return _alone(r, domain, "it is held in registers elsewhere, and not stored")
    return None


def _other_register(
    p: Program, pair: Pairs, here: NamedSet, a: tuple[Component, ...], b: tuple[Component, ...]
) -> Violation | None:
    """Whether two instances of one execution that share a cell would not share its register: through a read from
    memory, or through a register for each of several unrolled iterations.  `a` and `b` are their times inside.
    """
    partial = any(run in _COMBINED_LATER for _, run in (*a, *b))
    if not _combines(pair) and (partial or is_memory(p, pair.array) or p.array(pair.array).planes):
        why = f"{pair.array} is held in registers, and {pair.then.shown} would read it from memory"
        return _explain(pair, pair.points, why)
    mine, others = ([t for t, run in c if run in (Run.UNROLL, Run.VECTOR)] for c in (a, b))
    if len(mine) != len(others):
        return _explain(pair, here, f"{pair.array} is held in registers, but not in the same ones for both")
    for ta, tb in zip(mine, others, strict=True):
        apart = prime(tb, pair.then.dims) - ta
        crossing = _first_nonempty(here, aff.at_least(apart, 1), aff.at_least(-apart, 1))
        if crossing is not None:
            return _explain(pair, crossing, f"{pair.array} is held in a register for each, but both need the same cell")
    return None


def _combines(pair: Pairs) -> bool:
    """Whether both only set or update their own cell, which is what registers stand for.  Executions of a region leave
    their cells in memory and find them there, so the order of instances says the rest.
    """
    read = any(r.array == pair.array and not r.writes for f in (pair.first, pair.then) for r in references(f))
    return _same_statement(pair.first, pair.then) and not read


def _broken(pair: Pairs, a: tuple[Component, ...], b: tuple[Component, ...]) -> Violation | None:
    """Walk the two time vectors; `left` are the pairs not yet told apart."""
    left = pair.points
    for (ta, run), (tb, _) in zip(a, b, strict=False):
        later = prime(tb, pair.then.dims) - ta
        if later.is_const and later.const > 0 and run in _ONE_BY_ONE and not pair.relaxed:
            return None
        apart = run in _APART or (run in _PARTIAL and not pair.relaxed)
        if apart and later != aff.const(0):
            crossing = _first_nonempty(left, aff.at_least(later, 1), aff.at_least(-later, 1))
            if crossing is not None:
                return _explain(pair, crossing, f"they run at the same time, in {run.value} iterations")
        elif not pair.relaxed:
            wrong = _first_nonempty(left, aff.at_least(-later, 1))
            if wrong is not None:
                return _explain(pair, wrong, "the first must come before the second, but is scheduled after it")
        left = left.where(aff.equal(later))
        if left.is_empty():
            return None
    if pair.relaxed:
        return None
    return _explain(pair, left, "the first must come before the second, but nothing orders them")


def _first_nonempty(points: NamedSet, *conditions: Condition) -> NamedSet | None:
    for c in conditions:
        some = points.where(c)
        if not some.is_empty():
            return some
    return None


def _explain(pair: Pairs, points: NamedSet, why: str) -> Violation:
    sample = points.sample([dict.fromkeys(points.sizes, 4), {}]) or {}
    first = tuple((d, sample[d]) for d in pair.first.dims)
    then = tuple((d, sample[d + PRIME]) for d in pair.then.dims)
    return Violation(pair.first.shown, first, pair.then.shown, then, pair.array, why)
