# SPDX-License-Identifier: MIT
"""The loops that a group of statements shares, block by block: which dims they advance, by how much, and in what order.

What is made in a block lies in the second cache until the block is done, beside what it reads if that can be; of the
loops that allow it those are taken with which all blocks together bring least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Var
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import extents_of
from polyhedral.ir.program import Array, Program, Statement, reads
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import EVEN, balance
from polyhedral.transforms.share import Shared, own_bytes

HELD = 0.6
"""The part of the second cache that the values of a block may fill."""
STACK = float(1 << 20)
"""Bytes that they have on the stack of each thread at most."""
LEAST, LARGEST = 8, 128
"""Elements of the shortest block that is worth a look, unless there are no more, and of the longest: what it reads is
then used often enough."""
TOGETHER = 0.8
"""The part of the second cache that these may fill with what their block reads, if a block can be that short."""
FULL = 0.25
"""A shorter block will do, too, if its values fill so much of their room: it reads little beside them."""


@dataclass(frozen=True)
class Blocks:
    """Statements that run one after the other in common loops, and the arrays that only they see."""

    members: tuple[str, ...]
    loops: tuple[Shared, ...]
    local: tuple[str, ...]

    def sizes(self, member: str) -> dict[str, int]:
        """How many elements of each common dim of a statement one block has."""
        return {dict(loop.dims)[member]: loop.size for loop in self.loops}


def common_loops(
    p: Program,
    statements: Sequence[Statement],
    alike: Sequence[Mapping[str, str]],
    local: Sequence[Array],
    layouts: Mapping[str, Layout],
    target: Target,
) -> tuple[Shared, ...] | None:
    """One dim in blocks and all others one by one outside it: the densest of the largest array made, which lanes run
    along, or where this is common to only some of the statements, the one with which blocks bring least.  Where whole
    dims still fit into a block, and it then brings less, they are no loops.
    """
    if not local:
        return None
    first = max(local, key=lambda a: (array_bytes(a), a.name))
    maker = next(s for s in statements if s.write.array == first.name)
    axes = {i.as_var(): a for a, i in maker.write.index}
    place = {a: n for n, a in enumerate(layouts[first.name].order)}
    ranked = sorted(alike, key=lambda dims: place[axes[dims[maker.name]]])
    along = place[axes[ranked[-1][maker.name]]]
    g = _Group(p, tuple(statements), tuple(ranked), tuple(local), target)
    found: list[tuple[float, list[int]]] = []
    for k in reversed(range(len(ranked))) if along < len(place) - 1 else (len(ranked) - 1,):
        n = g.extents[k]
        sizes = g.sized(k, n + 1 if k + 1 < len(ranked) else min(n, LEAST))
        loops = g.loops(sizes) if sizes else None
        if sizes is not None and loops is not None:
            found.append((g.brought(loops), sizes))
    if not found:
        return None
    least, sizes = min(found, key=lambda x: x[0])
    while True:
        wider = [[*sizes[:k], n, *sizes[k + 1 :]] for k, n in enumerate(g.extents) if sizes[k] < n]
        wider = [w for w in wider if g.filled(w) <= room(target) and g.together(w) >= g.together(sizes)]
        better = [(g.brought(loops), w) for w in wider if (loops := g.loops(w)) is not None]
        if not better or min(better)[0] >= least:
            return g.loops(sizes)
        least, sizes = min(better)


@dataclass(frozen=True)
class _Group:
    """Statements, the dims that they have in common from the slowest, and what only they see; `sizes` are how many
    elements of each common dim one block has.
    """

    program: Program
    statements: tuple[Statement, ...]
    ranked: tuple[Mapping[str, str], ...]
    local: tuple[Array, ...]
    target: Target

    @property
    def extents(self) -> list[int]:
        return [common_extent(self.statements, dims) or 1 for dims in self.ranked]

    def sized(self, k: int, least: int) -> list[int] | None:
        """One element of every dim but one, and of this the longest block whose values fit the second cache, with what
        it reads if one does: a divisor of at least so many, or one that fills a part of the cache.
        """
        longest: list[int] | None = None
        for size in range(min(self.extents[k], LARGEST), 0, -1):
            sizes = [size if n == k else 1 for n in range(len(self.ranked))]
            most, filled = room(self.target), self.filled(sizes)
            if self.extents[k] % size == 0 and filled <= most and (size >= least or filled >= FULL * most):
                longest = longest or sizes
                if self.together(sizes):
                    return sizes
        return longest

    def loops(self, sizes: Sequence[int]) -> tuple[Shared, ...] | None:
        """The loops, one that keeps all cores busy in front, blocks of more than one element last; None where none
        does.
        """
        name, cores = self.statements[0].name, self.target.cores
        loops = [Shared(dims[name], tuple(dims.items()), size) for dims, size in zip(self.ranked, sizes, strict=True)]
        trips = (extent // size for extent, size in zip(self.extents, sizes, strict=True))
        kept = sorted(((x, n) for x, n in zip(loops, trips, strict=True) if n > 1), key=lambda x: x[0].size > 1)
        front = next((x for x in kept if balance(x[1], cores) > EVEN), None)
        front = front or max(kept, key=lambda x: balance(x[1], cores), default=None)
        if front is None or front[1] < cores:
            return None
        return tuple(loop for loop, _ in (front, *(x for x in kept if x is not front)))

    def brought(self, loops: tuple[Shared, ...]) -> float:
        """Bytes that all blocks bring."""
        names = tuple(s.name for s in self.statements)
        return brought(self.program, Blocks(names, loops, tuple(a.name for a in self.local)))

    def together(self, sizes: Sequence[int]) -> bool:
        """Whether the second cache holds what a block makes and what it reads."""
        return self.filled(sizes) + self.read(sizes) <= TOGETHER * self.target.l2

    def filled(self, sizes: Sequence[int]) -> int:
        """Bytes of the local arrays in one block."""
        makers = {s.write.array: s for s in self.statements}
        total = 0
        for a in self.local:
            maker = makers[a.name]
            axes = {i.as_var(): d for d, i in maker.write.index}
            cells = {axes[dims[maker.name]]: size for dims, size in zip(self.ranked, sizes, strict=True)}
            total += own_bytes(a, cells)
        return total

    def read(self, sizes: Sequence[int]) -> int:
        """Bytes that one block reads of other arrays."""
        own = {a.name for a in self.local}
        found: dict[str, int] = {}
        for s in self.statements:
            inside = {**extents_of(s), **{d[s.name]: size for d, size in zip(self.ranked, sizes, strict=True)}}
            for load in (x for x in reads(s) if x.array not in own):
                axes = zip(load.index, self.program.array(load.array).dims, strict=True)
                cells = prod(min(e.const, _reach(i, inside, e.const)) for (_, i), (_, e) in axes)
                found[load.array] = max(found.get(load.array, 0), cells * load.dtype.numpy.itemsize)
        return sum(found.values())


def _reach(i: Affine | ex.Expr, inside: Mapping[str, int], extent: int) -> int:
    """How far apart the first and the last cell of an axis are that an index goes to, and one more."""
    if not isinstance(i, Affine):
        return extent
    return 1 + sum(abs(c) * (inside[t.name] - 1) for t, c in i.terms if isinstance(t, Var) and t.name in inside)


def room(target: Target) -> float:
    """Bytes that the values of a block may take."""
    return min(HELD * target.l2, STACK)


def brought(p: Program, b: Blocks) -> float:
    """Bytes that all blocks bring."""
    return sum(size * times for size, times in brought_by(p, b))


def brought_by(p: Program, b: Blocks) -> Iterator[tuple[float, int]]:
    """The bytes of what each statement reads, and how often all blocks bring them: what does not move with a loop,
    again at each step of it.
    """
    trips = {
        loop: -(-(common_extent([p.statement(n) for n, _ in loop.dims], dict(loop.dims)) or 1) // loop.size)
        for loop in b.loops
    }
    for name in b.members:
        moving: dict[str, frozenset[str]] = {}
        for load in reads(p.statement(name)):
            dims = frozenset[str]().union(*(aff.dims_of(i) for _, i in load.index if isinstance(i, Affine)))
            moving[load.array] = moving.get(load.array, frozenset()) | dims
        for array, dims in moving.items():
            if array not in b.local:
                still = (n for loop, n in trips.items() if dict(loop.dims)[name] not in dims)
                yield array_bytes(p.array(array)), prod(still)


def common_extent(statements: Sequence[Statement], dims: Mapping[str, str]) -> int | None:
    """How far all of them go along a common dim, from 0; None where they do not go equally far."""
    ranges = {(r.lo, r.hi) for s in statements for r in s.domain.ranges if r.dim == dims[s.name]}
    lo, hi = next(iter(ranges))
    return hi.const if len(ranges) == 1 and lo == aff.const(0) and hi.is_const and hi.const > 0 else None
