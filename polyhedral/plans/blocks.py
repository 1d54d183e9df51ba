# SPDX-License-Identifier: MIT
"""Which statements are computed block by block, so that the large values that flow between them never leave a core.

    S(i, k) = ...; m(i) = max[k] S; out(i, j) = sum[k] exp(S - m) * V    ->    for blocks of i: { S; m; out }

Decided before any of them is planned, because their tiles must divide the block; whether it pays is left to
`polyhedral.plans.blocked`, and the loops themselves to `polyhedral.transforms.share`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import TRUE, Affine
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.expr import Load
from polyhedral.ir.interpreter import cell_domain
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Array, Domain, Program, Role, Statement, reads, touched
from polyhedral.machine.prices import rate
from polyhedral.machine.target import Target
from polyhedral.plans.block_loops import Blocks, brought_by, common_extent, common_loops
from polyhedral.rewrites.clone import clone
from polyhedral.sets.isl import NamedSet, named
from polyhedral.transforms.share import Shared

LARGE = 1.0
"""Temporaries that take more than so much of the second cache are worth asking about."""
MOST = 24
"""Statements that run in common blocks at most."""


def blocks(
    p: Program, layouts: Mapping[str, Layout], target: Target, near: Set[str] = frozenset()
) -> tuple[Blocks, ...]:
    """The groups of statements around temporaries that no cache of a core holds, the largest of these first; none where
    statements depend on each other in a circle.  Those that are `near` stay in the cache of a nest without this.
    """
    large = [a for a in p.arrays if a.name not in near and _private(p, a) and array_bytes(a) > LARGE * target.l2]
    order = _in_order(p) if large else {}
    groups: list[frozenset[str]] = []
    found: dict[frozenset[str], Blocks] = {}
    for a in sorted(large, key=lambda a: (-array_bytes(a), a.name)):
        users = frozenset(s.name for s in p.users[a.name])
        if not users <= order.keys():
            continue
        touching = [g for g in groups if g & users]
        group = _between(p, order, users.union(*touching))
        made = None if len(group) > MOST else _common(p, sorted(group, key=lambda n: order[n]), layouts, target)
        if made is not None and a.name in made.local and _worth_joining(p, made, [found[g] for g in touching], target):
            groups = [*(g for g in groups if not g & group), group]
            found[group] = made
    return tuple(found[g] for g in groups)


def _worth_joining(p: Program, made: Blocks, apart: Sequence[Blocks], target: Target) -> bool:
    """Whether blocks of more statements take no longer to bring what they read than those that they would replace, with
    what these store for each other or for others among them, and what these others read.
    """
    if not apart:
        return True
    inside = {n for b in apart for n in b.members}
    private = {n for b in apart for n in b.local}
    sizes = [2 * array_bytes(p.array(n)) for n in made.local if n not in private]
    new = {load.array for n in made.members if n not in inside for load in reads(p.statement(n))} - {*made.local}
    sizes += [array_bytes(p.array(n)) for n in new]
    return _bringing(p, made, target) <= sum(_bringing(p, b, target) for b in apart) + sum(
        n / rate(n, target) for n in sizes
    )


def _bringing(p: Program, b: Blocks, target: Target) -> float:
    """Cycles to bring what all blocks read from where each array is kept."""
    return sum(size * times / rate(size, target) for size, times in brought_by(p, b))


def companies(p: Program, name: str, target: Target) -> tuple[frozenset[str], ...]:
    """The readers of a temporary in groups, each of which could have one of its own, block by block; none where some
    reader cannot.  With a reader whose result is as large go those that read this, so that it is not stored either.
    """
    order = _in_order(p)
    (maker,) = (s.name for s in p.users[name] if s.write.array == name)
    readers = [s.name for s in p.users[name] if s.name != maker]
    if not order.keys() >= {maker, *readers}:
        return ()
    found: list[frozenset[str]] = []
    for r in sorted(readers, key=lambda n: order[n]):
        own = frozenset((r, *(s.name for a in _as_large(p, name, (r,)) for s in p.users[a])))
        if not own <= order.keys():
            return ()
        if found and company(p, name, found[-1] | own, target):
            found[-1] |= own
        elif company(p, name, own, target):
            found.append(own)
        else:
            return ()
    return tuple(found)


def company(p: Program, name: str, group: frozenset[str], target: Target) -> Blocks | None:
    """The blocks of some readers that have a temporary of their own, with all that lies between them; None where these
    depend on each other in a circle.
    """
    if any(not e.is_const for a in p.arrays for _, e in a.dims):
        return None
    layouts = {a.name: row_major(a) for a in p.arrays}
    readers = frozenset(s.name for s in p.users[name] if s.write.array != name)
    alone, (_, own) = clone(p, name, (readers - group, group))
    order = _in_order(alone)
    if not order.keys() >= {own, *group}:
        return None
    members = sorted({own, *_between(alone, order, group)}, key=lambda n: order[n])
    found = None if len(members) > MOST else _common(alone, members, {**layouts, own: layouts[name]}, target)
    return found if found and {own, *_as_large(p, name, group)} <= {*found.local} else None


def _as_large(p: Program, name: str, group: Iterable[str]) -> set[str]:
    """What statements make that is about as large as a temporary, and could lie in memory of their own."""
    least = array_bytes(p.array(name)) / 2
    made = (p.array(p.statement(n).write.array) for n in group)
    return {a.name for a in made if _private(p, a) and array_bytes(a) >= least}


def _private(p: Program, a: Array) -> bool:
    """Whether one statement makes a temporary that others read, all of it at places that are numbers."""
    writers = [s for s in p.users.get(a.name, ()) if s.write.array == a.name]
    fixed = all(e.is_const for _, e in a.dims)
    return a.role is Role.TEMPORARY and not a.planes and fixed and len(writers) == 1


def _in_order(p: Program) -> dict[str, int]:
    """A place for each statement after those whose results it reads, for as many as have one."""
    makers: dict[str, list[str]] = {}
    for s in p.statements:
        makers.setdefault(s.write.array, []).append(s.name)
    after: dict[str, list[str]] = {s.name: [] for s in p.statements}
    waiting: dict[str, int] = {}
    for s in p.statements:
        needed = {m for load in reads(s) for m in makers.get(load.array, ())}
        waiting[s.name] = len(needed)
        for m in needed:
            after[m].append(s.name)
    ready = [s.name for s in p.statements if not waiting[s.name]]
    for name in ready:
        for n in after[name]:
            waiting[n] -= 1
            if not waiting[n]:
                ready.append(n)
    return {n: k for k, n in enumerate(ready)}


def _between(p: Program, order: Mapping[str, int], group: Iterable[str]) -> frozenset[str]:
    """A group with all that lies on a way from one of its statements to another."""
    inside = set(group)
    first, last = min(order[n] for n in inside), max(order[n] for n in inside)
    window = sorted((s for s in p.statements if first <= order.get(s.name, -1) <= last), key=lambda s: order[s.name])
    makers: dict[str, set[str]] = {}
    for s in window:
        makers.setdefault(s.write.array, set()).add(s.name)
    sources = {s.name: {m for load in reads(s) for m in makers.get(load.array, ())} for s in window}
    below: set[str] = set()
    for s in window:
        if s.name in inside or sources[s.name] & below:
            below.add(s.name)
    above: set[str] = set()
    for s in reversed(window):
        if s.name in inside or s.name in above:
            above |= {s.name, *sources[s.name]}
    return frozenset(inside | (below & above))


# --- common loops ----------------------------------------------------------------------------------------------------


def _common(p: Program, members: Sequence[str], layouts: Mapping[str, Layout], target: Target) -> Blocks | None:
    """The loops that a group can share, in blocks that fit, and what then lies in memory of its own."""
    statements = [p.statement(n) for n in members]
    if not all(_suitable(p, s) for s in statements):
        return None
    alike = [dims for dims in _alike(statements) if common_extent(statements, dims) is not None]
    if not alike or not all(_numbered(s) for s in statements):
        return None
    inside = set(members)
    made = dict.fromkeys(s.write.array for s in statements)
    local = [p.array(n) for n in made if _private(p, p.array(n)) and {s.name for s in p.users[n]} <= inside]
    loops = common_loops(p, statements, alike, local, layouts, target)
    if loops is None or not _in_step(statements, alike, loops):
        return None
    return Blocks(tuple(members), loops, tuple(a.name for a in local))


def _suitable(p: Program, s: Statement) -> bool:
    """Whether the order of a statement's rows is free."""
    fixed = s.ordered or s.accumulate or s.strict or not s.kept
    arrays = map(p.array, touched(s))
    whole = all(isinstance(i, Affine) for load in reads(s) for _, i in load.index)
    return not fixed and whole and not any(a.role is Role.INOUT or a.planes for a in arrays)


def _alike(statements: Sequence[Statement]) -> list[dict[str, str]]:
    """The dims along which every value that flows between the statements stays in place: for each, that of every
    statement.
    """
    makers = {s.write.array: s for s in statements}
    same: dict[tuple[str, str], tuple[str, str]] = {}

    def root(x: tuple[str, str]) -> tuple[str, str]:
        while same.get(x, x) != x:
            x = same[x]
        return x

    flows = [(makers[x.array], s, x) for s in statements for x in reads(s) if x.array in makers]
    for maker, s, load in flows:
        written = dict(maker.write.index)
        for axis, i in load.index:
            d, e = written[axis].as_var(), i.as_var() if isinstance(i, Affine) else None
            if d is not None and e is not None and d in maker.kept and e in s.kept:
                same[root((s.name, e))] = root((maker.name, d))
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for s in statements:
        for d in s.kept:
            found.setdefault(root((s.name, d)), []).append((s.name, d))
    whole = [dict(c) for c in found.values() if len(c) == len(statements) == len({n for n, _ in c})]
    return [dims for dims in whole if all(_stays(dims, *flow) for flow in flows)]


def _stays(dims: Mapping[str, str], maker: Statement, s: Statement, load: Load) -> bool:
    """Whether a read is of what the same iteration wrote."""
    axis = next((a for a, i in maker.write.index if i.as_var() == dims[maker.name]), None)
    index = dict(load.index)
    return axis is not None and index[axis] == aff.var(dims[s.name])


def _numbered(s: Statement) -> bool:
    """Whether the ranges of a statement are numbers, and none is empty."""
    return all(r.lo.is_const and r.hi.is_const and r.lo.const < r.hi.const for r in s.domain.ranges)


def _in_step(statements: Sequence[Statement], alike: Sequence[Mapping[str, str]], loops: Sequence[Shared]) -> bool:
    """Whether all statements have instances in every iteration of all dims in common, or all of them, and all cells of
    their results, in the same blocks of these: isl would move one that runs in fewer out of the iteration that has the
    memory.
    """
    if all(_everywhere(s, [dims[s.name] for dims in alike]) for s in statements):
        return True
    first, *others = (_iterations(s, d, loops) for s in statements for d in (s.domain, cell_domain(s)))
    return all((first - o).is_empty() and (o - first).is_empty() for o in others)


def _iterations(s: Statement, domain: Domain, loops: Sequence[Shared]) -> NamedSet:
    """The blocks of common loops in which a statement has a point of a domain, numbered along each."""
    own = {f"block {loop.name}": (dict(loop.dims)[s.name], loop.size) for loop in loops}
    inside = (aff.between(aff.var(b) * n, aff.var(d), (aff.var(b) + 1) * n) for b, (d, n) in own.items())
    return named((*own, *domain.dims), (), aff.both(domain.condition, *inside)).only(own)


def _everywhere(s: Statement, dims: Sequence[str]) -> bool:
    """Whether a statement has instances in every iteration of some loops."""
    if s.domain.guard == TRUE:
        return True
    own = aff.both(*(aff.between(r.lo, aff.var(r.dim), r.hi) for r in s.domain.ranges if r.dim in dims))
    mine = tuple(d for d in s.dims if d in dims)
    return (named(mine, (), own) - named(s.dims, (), s.domain.condition).only(dims)).is_empty()


# --- blocks ----------------------------------------------------------------------------------------------------------
