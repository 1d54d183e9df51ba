# SPDX-License-Identifier: MIT
"""Which statements share their outer loops, so that what one makes is still in the cache when the next reads it.

    max(i) = ...; sum(i) = ... exp(X - max); out(i, j) = ...    ->    for blocks of i: { max; sum; out }

A greedy walk over the statements in order, near-linear in their number: each joins the nest before it where every value
that flows between the two stays within a block, and where the traffic and the barrier that this saves are worth the
operands that are read again for each block.  The tree is built by `polyhedral.scheduling.schedule`; the oracle judges
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm, prod

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.cluster import components
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.expr import Load
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Access, Program, Role, Statement, reads, touched
from polyhedral.machine.prices import BARRIER, rate
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import EVEN, RegisterPlan, balance
from polyhedral.transforms.share import Nest, Shared, own_bytes

FULL = 0.5
"""The part of a cache that a block may fill."""
LOCAL = float(256 << 10)
"""Bytes of memory of their own that nests may have on the stack of each thread."""
MOST = 32
"""Statements that one nest has at most: what more would share is little, and every one of them is asked about each."""
BUSY = 4
"""Blocks for each core from which on it does not matter that the last ones finish apart."""


@dataclass(frozen=True)
class _Facts:
    """What every question about a program is answered from."""

    program: Program
    layouts: Mapping[str, Layout]
    plans: Mapping[str, RegisterPlan]
    target: Target

    def together(self, cluster: Sequence[str]) -> bool:
        """Whether a cluster is one statement, or one register tile with its epilogue."""
        return len(cluster) == 1 or any(n in self.plans and self.plans[n].epilogue for n in cluster)

    def accesses(self, name: str) -> tuple[tuple[str, frozenset[str], float], ...]:
        """What a statement brings into caches, past which some results stream: arrays, the dims along which it moves,
        and bytes.
        """
        found = self._accesses.get(name)
        if found is None:
            p, s = self.program, self.program.statement(name)
            past = name in self.plans and self.plans[name].streams and s.write.array not in p.read
            found = self._accesses[name] = tuple(
                (a.array, _moving(a), array_bytes(p.array(a.array)))
                for a in (reads(s) if past else (s.write, *reads(s)))
            )
        return found

    def operands(self, name: str) -> tuple[tuple[str, frozenset[str], float], ...]:
        """The arrays that a statement reads, the dims along which any read of it moves, and bytes."""
        found = self._operands.get(name)
        if found is None:
            moving: dict[str, frozenset[str]] = {}
            for load in reads(self.program.statement(name)):
                moving[load.array] = moving.get(load.array, frozenset()) | _moving(load)
            sizes = ((n, dims, array_bytes(self.program.array(n))) for n, dims in moving.items())
            found = self._operands[name] = tuple(sizes)
        return found

    @cached_property
    def _accesses(self) -> dict[str, tuple[tuple[str, frozenset[str], float], ...]]:
        return {}

    @cached_property
    def _operands(self) -> dict[str, tuple[tuple[str, frozenset[str], float], ...]]:
        return {}

    @cached_property
    def only(self) -> frozenset[str]:
        """The arrays that are in registers alone."""
        return frozenset[str]().union(*(plan.only for plan in self.plans.values()))


def _moving(access: Access | Load) -> frozenset[str]:
    """The dims along which an access moves."""
    return frozenset[str]().union(*(aff.dims_of(i) for _, i in access.index if isinstance(i, Affine)))


def nests(
    p: Program,
    clusters: Sequence[tuple[str, ...]],
    edges: Iterable[tuple[str, str]],
    layouts: Mapping[str, Layout],
    plans: Mapping[str, RegisterPlan],
    target: Target,
    planned: Sequence[Nest] = (),
) -> tuple[Nest, ...]:
    """The clusters, given in a legal order, as nests in a legal order; those that were `planned` stay as they are."""
    q = _Facts(p, layouts, plans, target)
    before: dict[str, set[str]] = {}
    for a, b in edges:
        before.setdefault(b, set()).add(a)
    found: list[Nest] = []
    for part in _parted(clusters, before, planned):
        found += [part] if isinstance(part, Nest) else _greedy(q, part, before)
    return tuple(found)


def _parted(
    clusters: Sequence[tuple[str, ...]], before: Mapping[str, Set[str]], planned: Sequence[Nest]
) -> list[Nest | list[tuple[str, ...]]]:
    """Planned nests whose statements are all there, alone, and stretches of other clusters between them, in a legal
    order; without nests that something else must run in the middle of.
    """
    place = {s: n for n, c in enumerate(clusters) for s in c}
    whole = {frozenset(c): c for c in clusters}
    found_whole = [[whole.get(frozenset(c)) for c in n.clusters] for n in planned]
    usable = [
        replace(n, clusters=tuple(c for c in own if c is not None))
        for n, own in zip(planned, found_whole, strict=True)
        if None not in own
    ]
    own = {c: k for k, n in enumerate(usable) for c in n.clusters}
    units: dict[int, list[tuple[str, ...]]] = {}
    for n, c in enumerate(clusters):
        units.setdefault(-1 - own[c] if c in own else n, []).append(c)
    unit = {s: u for u, inside in units.items() for c in inside for s in c}
    edges = {(str(unit[a]), str(u)) for s, u in unit.items() for a in before.get(s, ()) if a in place and unit[a] != u}
    order = components([str(u) for u in units], edges)
    if any(len(c) > 1 for c in order):
        wrong = {int(u) for c in order if len(c) > 1 for u in c}
        kept = [n for k, n in enumerate(usable) if -1 - k not in wrong]
        return _parted(clusters, before, kept)
    found: list[Nest | list[tuple[str, ...]]] = []
    for (u,) in order:
        inside = units[int(u)]
        if int(u) < 0:
            found.append(replace(usable[-1 - int(u)], clusters=tuple(inside)))
        elif found and isinstance(found[-1], list):
            found[-1] += inside
        else:
            found.append(list(inside))
    return found


def _greedy(q: _Facts, clusters: Sequence[tuple[str, ...]], before: Mapping[str, Set[str]]) -> Iterator[Nest]:
    """Each cluster joins the nest before it, where that pays."""
    done: list[Nest] = []
    open_: Nest | None = None
    for cluster in clusters:
        inside = {s for c in open_.clusters for s in c} if open_ else set[str]()
        depends = any(before.get(s, set()) & inside for s in cluster)
        joined = _joined(q, open_, cluster) if open_ and depends and q.together(cluster) else None
        if joined is not None:
            open_ = joined
        elif open_ is not None and not depends and len(open_.clusters) > 1:
            done.append(Nest((cluster,)))  # before the nest that is being gathered
        else:
            done += [open_] if open_ else []
            open_ = Nest((cluster,))
    for nest in (*done, *([open_] if open_ else [])):
        yield _contracted(q, nest)


def _contracted(q: _Facts, nest: Nest) -> Nest:
    """The nest with the temporaries that only it sees in memory of their own, a block at a time, as far as the stack of
    a thread allows.
    """
    inside = [s for c in nest.clusters for s in c]
    trips = [-(-_extent(q, dict(loop.dims)) // loop.size) for loop in nest.loops]
    if not nest.loops or min(trips) < 2 or not all(_in_step(q, loop) for loop in nest.loops):
        return nest
    found: list[tuple[str, tuple[str, ...]]] = []
    room = LOCAL
    for a in (q.program.array(q.program.statement(name).write.array) for name in inside):
        users = q.program.users[a.name]
        writers = [s for s in users if s.write.array == a.name]
        fixed = all(e.is_const for _, e in a.dims) and a.name not in q.only
        if a.role is not Role.TEMPORARY or not {s.name for s in users} <= set(inside) or len(writers) > 1 or not fixed:
            continue
        axes = {i.as_var(): d for d, i in writers[0].write.index}
        mine = [axes.get(dict(loop.dims)[writers[0].name]) for loop in nest.loops]
        cells = {d: loop.size for d, loop in zip(mine, nest.loops, strict=True) if d is not None}
        size = own_bytes(a, cells)
        if None not in mine and size <= room:
            room -= size
            found.append((a.name, tuple(cells)))
    return replace(nest, local=tuple(found))


def _in_step(q: _Facts, loop: Shared) -> bool:
    """Whether all statements run in the same blocks.  Where one runs in the last block only, isl moves it behind the
    loop, out of the iteration that has the memory.
    """
    blocks: set[tuple[int, int]] = set()
    for name, d in loop.dims:
        domain = q.program.statement(name).domain
        r = next(r for r in domain.ranges if r.dim == d)
        if d in aff.condition_dims(domain.guard):
            return False
        blocks.add((r.lo.const // loop.size, (r.hi.const - 1) // loop.size))
    return len(blocks) == 1


def _joined(q: _Facts, nest: Nest, cluster: tuple[str, ...]) -> Nest | None:
    """The nest with one more statement or tile, or None where they cannot share loops, or had better not."""
    members = [s for c in nest.clusters for s in c]
    every = (*members, *cluster)
    if (
        not all(map(q.together, nest.clusters))
        or len(members) >= MOST
        or not all(_suitable(q, q.program.statement(s)) for s in every)
    ):
        return None
    alike = _alike(q, nest, every)
    if not alike:
        return None
    loops = _loops(q, alike)
    if loops is None or _saved(q, members, cluster) <= _again(q, every, loops):
        return None
    return Nest((*nest.clusters, cluster), loops)


def _suitable(q: _Facts, s: Statement) -> bool:
    """Whether the order of a statement's rows is free, and what it touches is written once."""
    fixed = s.ordered or s.accumulate or not s.kept
    arrays = map(q.program.array, touched(s))
    return not fixed and not any(a.role is Role.INOUT or a.planes for a in arrays)


def _alike(q: _Facts, nest: Nest, every: Sequence[str]) -> list[dict[str, str]]:
    """The loops that the statements of a nest, and those after them, could share: for each, the dim of every one."""
    if nest.loops:
        found = [dict(loop.dims) for loop in nest.loops]
    else:
        found = [{every[0]: d} for d in q.program.statement(every[0]).kept]
    for n, name in enumerate(every):
        if found and name not in found[0]:
            found = _flowing(q, found, every[:n], name)
    return found


def _flowing(q: _Facts, found: list[dict[str, str]], members: Sequence[str], name: str) -> list[dict[str, str]]:
    """The loops that a statement shares with those before it: a value flows within one iteration where the cell that is
    read has the index of the dim on both sides.
    """
    s = q.program.statement(name)
    made = {q.program.statement(m).write.array: m for m in members}
    for load in reads(s):
        if load.array not in made:
            continue
        maker = made[load.array]
        written, read = dict(q.program.statement(maker).write.index), dict(load.index)
        axes = {written[a].as_var(): a for a in written}
        kept: list[dict[str, str]] = []
        for dims in found:
            axis = axes.get(dims[maker])
            index = read[axis] if axis is not None else None
            mine = index.as_var() if isinstance(index, Affine) else None
            if mine is not None and mine in s.kept and dims.get(name, mine) == mine:
                kept.append({**dims, name: mine})
        found = kept
    return found if all(name in dims for dims in found) else []


# --- how large blocks are --------------------------------------------------------------------------------------------


def _loops(q: _Facts, alike: list[dict[str, str]]) -> tuple[Shared, ...] | None:
    """The fewest loops, from the slowest dim of the results in, whose blocks fit a cache; None where none do."""
    first = next(iter(alike[0]))
    s = q.program.statement(first)
    order = {d: n for n, d in enumerate(q.layouts[s.write.array].order)}
    place = {i.as_var(): order[a] for a, i in s.write.index}
    alike = sorted(alike, key=lambda dims: place.get(dims[first], 0))
    least = [_least(q, dims) for dims in alike]
    if None in least:
        return None
    for count in range(1, len(alike) + 1):
        sizes = [n for n in least[:count] if n is not None]
        extents = [_extent(q, dims) for dims in alike[:count]]
        accesses = _touched(q, alike[:count])
        for cache in (q.target.l1, q.target.l2):
            block = _block(extents, accesses, sizes, FULL * cache, q.target.cores)
            if block is not None:
                names = [dims[first] for dims in alike[:count]]
                return tuple(
                    Shared(n, tuple(dims.items()), size) for n, dims, size in zip(names, alike, block, strict=False)
                )
    return None


def _least(q: _Facts, dims: Mapping[str, str]) -> int | None:
    """The smallest block along a loop that cuts no tile of any statement; None where tiles begin apart."""
    size = 1
    for name, d in dims.items():
        r = next(r for r in q.program.statement(name).domain.ranges if r.dim == d)
        tile = q.plans[name].tile(d) if name in q.plans else 1
        if not r.lo.is_const or not r.hi.is_const or r.lo.const % tile:
            return None
        size = lcm(size, tile)
    return size


def _block(
    extents: Sequence[int],
    accesses: Sequence[Mapping[tuple[bool, ...], float]],
    least: Sequence[int],
    room: float,
    cores: int,
) -> list[int] | None:
    """The blocks with the longest innermost one that fit the room and keep all cores busy."""
    if any(n > e for n, e in zip(least, extents, strict=True)):
        return None
    found: list[int] | None = None
    size = least[-1]
    while size <= extents[-1]:
        sizes = [*least[:-1], size]
        trips = [-(-e // n) for e, n in zip(extents, sizes, strict=True)]
        busy = trips[0] >= BUSY * cores or balance(trips[0], cores) > EVEN
        if not busy or _held(accesses, [n / max(e, 1) for n, e in zip(sizes, extents, strict=True)]) > room:
            break
        found = sizes
        size *= 2
    return found


def _extent(q: _Facts, dims: Mapping[str, str]) -> int:
    ranges = (r for name, d in dims.items() for r in q.program.statement(name).domain.ranges if r.dim == d)
    return max(r.hi.const - r.lo.const for r in ranges)


def _touched(q: _Facts, alike: Sequence[Mapping[str, str]]) -> list[dict[tuple[bool, ...], float]]:
    """For each array that the statements touch, along which of the loops an access to it moves, and its bytes."""
    found: dict[str, dict[tuple[bool, ...], float]] = {}
    for name in alike[0]:
        mine = [dims[name] for dims in alike]
        for array, moving, size in q.accesses(name):
            found.setdefault(array, {})[tuple(d in moving for d in mine)] = size
    return list(found.values())


def _held(accesses: Sequence[Mapping[tuple[bool, ...], float]], shares: Sequence[float]) -> float:
    """Bytes that one block keeps in caches, which has a share of each loop."""
    return sum(
        max(
            prod((x for x, moves in zip(shares, along, strict=True) if moves), start=1.0) * size
            for along, size in ways.items()
        )
        for ways in accesses
    )


# --- what it is worth ------------------------------------------------------------------------------------------------


def _saved(q: _Facts, members: Sequence[str], cluster: Sequence[str]) -> float:
    """Cycles to bring what a cluster reads, and others in the nest have just touched, and one barrier."""
    near = {n for m in members for n in touched(q.program.statement(m))}
    again = {load.array for name in cluster for load in reads(q.program.statement(name))} & near
    sizes = [array_bytes(q.program.array(n)) for n in sorted(again)]
    _, l2, _ = q.target.near
    return BARRIER * q.target.cores + sum(size / rate(size, q.target) - size / max(l2, 1e-9) for size in sizes)


def _again(q: _Facts, names: Sequence[str], loops: Sequence[Shared]) -> float:
    """Cycles to bring, for each block, what does not depend on it."""
    blocks = prod(-(-_extent(q, dict(loop.dims)) // loop.size) for loop in loops)
    total = 0.0
    for name in names:
        mine = {dict(loop.dims)[name] for loop in loops}
        for _, moving, size in q.operands(name):
            if not mine & moving and size > FULL * q.target.l1:
                total += (blocks - 1) * size / rate(size, q.target)
    return total
