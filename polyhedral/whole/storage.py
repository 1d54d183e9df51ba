# SPDX-License-Identifier: MIT
"""Storage: where the temporaries of a scheduled program lie in one block of memory, and how large that block is.

Temporaries that no step of the schedule needs at the same time share bytes.  Judged by `polyhedral.oracle.sharing`; who
allocates the block is the front end's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import accumulate, combinations, pairwise
from math import prod
from typing import Any, cast

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import Filter, Tree, elsewhere
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.sets.instances import families, references

ALIGNED = 64
"""Bytes of a cache line: every array starts on a multiple of it."""
_TRIES = 16
"""How often the array that ends highest is placed first instead, where a placement is larger than what is live."""


@dataclass(frozen=True)
class Life:
    """A temporary, the extents that take memory, bytes per cell, and the first and last step that touch it."""

    array: str
    extents: tuple[Affine, ...]
    item: int
    first: int
    last: int

    def bytes(self, sizes: Mapping[str, int]) -> int:
        """What its cells take; sizes that nobody gave count as 1."""
        every = {n: sizes.get(n, 1) for e in self.extents for n in aff.sizes_of(e)}
        return self.item * prod(max(aff.evaluate(e, {}, every), 0) for e in self.extents)

    def meets(self, other: Life) -> bool:
        """Whether some step may need both."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Slot:
    """A temporary at its place: the bytes [start, start + size) belong to it from step `first` to step `last`."""

    array: str
    start: int
    size: int
    first: int
    last: int

    @property
    def end(self) -> int:
        return self.start + self.size

    def shares(self, other: Slot) -> bool:
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Placement:
    """Every temporary at its place in a block of `peak` bytes.

    `least`: what the fullest step needs, which no placement undercuts; `apart`: what they take without sharing.
    """

    slots: tuple[Slot, ...]
    peak: int
    least: int
    apart: int

    def fullest(self) -> tuple[Slot, ...]:
        """The temporaries that are live at once when `least` bytes are."""
        return max(_moments(self.slots), key=_held, default=())


@dataclass(frozen=True)
class Sharing(Set[frozenset[str]]):
    """The pairs of temporaries that may lie in one place, which are too many to be written out: each has a half-open
    span of bytes, or of steps, and two share where their bytes overlap, or else where their steps do not.
    """

    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    steps: bool = False

    def apart(self, names: Collection[str]) -> bool:
        """Whether no two of these share memory."""
        mine = sorted(self.spans[n] for n in names if n in self.spans)
        if self.steps:
            return not mine or mine[-1][0] < min(end for _, end in mine)
        return all(one[1] <= other[0] for one, other in pairwise(mine))

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> frozenset[Any]:
        """What is left of the pairs after a set operation."""
        return frozenset(it)

    def __contains__(self, pair: object) -> bool:
        names = cast("frozenset[str]", pair)
        return isinstance(pair, frozenset) and len(names) == 2 and names <= self.spans.keys() and not self.apart(names)

    def __iter__(self) -> Iterator[frozenset[str]]:
        return (frozenset(pair) for pair in combinations(self.spans, 2) if not self.apart(pair))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Shortage:
    """A budget that a placement exceeds, and what is live at once where it is fullest: for whoever would recompute."""

    budget: int
    placement: Placement


def steps(tree: Tree) -> tuple[tuple[str, ...], ...]:
    """The families of the parts of a tree that run one after another, each part finished before the next begins."""
    match tree:
        case InOrder(children):
            return tuple(s for c in children for s in steps(c))
        case Filter(inside, child):
            below = steps(child)
            return below if len(below) > 1 else (inside,)
        case _:
            return ((),)


def lives(p: Program, tree: Tree) -> tuple[Life, ...]:
    """The temporaries of a program, each with the steps between which it holds values."""
    every = {f.id: f for f in families(p)}
    apart = elsewhere(tree)
    order = steps(tree)
    touched: dict[str, list[int]] = {}
    for at, inside in enumerate(order):
        for f in inside if len(order) > 1 else every:
            for r in references(every[f]):
                touched.setdefault(r.array, []).append(at)
    found: list[Life] = []
    for a in p.with_role(Role.TEMPORARY):
        if a.name in apart:
            continue
        at = touched.get(a.name, [0])
        extents = tuple(e for _, e in a.stored)
        found.append(Life(a.name, extents, a.dtype.numpy.itemsize, min(at), max(at)))
    return tuple(found)


def place(every: Sequence[Life], sizes: Mapping[str, int]) -> Placement:
    """A small block for these temporaries at these sizes.

    Greedy, in several orders: each array goes into the tightest gap that those who live with it leave (Sekiyama et al.
    2018, after Gergov's reduction to intervals); then whoever ends highest is placed first instead.  Optimal where the
    result is `least`, which is usual; the problem itself is NP-hard.
    """
    sized = [(e, _room(e.bytes(sizes))) for e in every]
    beside = _beside(every)
    orders: tuple[Callable[[tuple[Life, int]], tuple[int, ...]], ...] = (
        lambda e: (-e[1], e[0].first),
        lambda e: (e[0].first, -e[1]),
        lambda e: (-e[1] * (1 + e[0].last - e[0].first),),
    )
    least = _least(sized)
    best: list[Slot] | None = None
    for key in orders:
        order = sorted(sized, key=key)
        for _ in range(_TRIES):
            slots = _greedy(order, beside)
            best = slots if best is None or _peak(slots) < _peak(best) else best
            top = max(slots, key=lambda s: s.end, default=None)
            if top is None or _peak(best) == least or order[0][0].array == top.array:
                break
            order = [*(e for e in order if e[0].array == top.array), *(e for e in order if e[0].array != top.array)]
        if best is not None and _peak(best) == least:
            break
    chosen = {s.array: s for s in best or ()}
    slots = tuple(chosen[e.array] for e in every)
    return Placement(slots, _peak(slots), least, sum(n for _, n in sized))


def may_share(every: Sequence[Life]) -> Sharing:
    """The pairs that lie in one place at some sizes."""
    return Sharing({e.array: (e.first, e.last + 1) for e in every}, steps=True)


def sharing(placement: Placement) -> Sharing:
    """The pairs that have a byte in common."""
    return Sharing({s.array: (s.start, s.end) for s in placement.slots})


def shortage(placement: Placement, budget: int | None) -> Shortage | None:
    """None where the block fits a budget of bytes."""
    return None if budget is None or placement.peak <= budget else Shortage(budget, placement)


def _room(size: int) -> int:
    """Whole lines, and one more: arrays of whole pages then begin at different places of them, and of the cache."""
    return -(-size // ALIGNED) * ALIGNED + ALIGNED


def _beside(every: Sequence[Life]) -> dict[str, list[str]]:
    """The others that each lives with."""
    found: dict[str, list[str]] = {e.array: [] for e in every}
    alive: list[Life] = []
    for e in sorted(every, key=lambda e: e.first):
        alive = [a for a in alive if a.last >= e.first]
        for a in alive:
            found[e.array].append(a.array)
            found[a.array].append(e.array)
        alive.append(e)
    return found


def _least(sized: Sequence[tuple[Life, int]]) -> int:
    """The bytes that are live at the fullest step."""
    changes: dict[int, int] = {}
    for e, size in sized:
        changes[e.first] = changes.get(e.first, 0) + size
        changes[e.last + 1] = changes.get(e.last + 1, 0) - size
    return max(accumulate(changes[at] for at in sorted(changes)), default=0)


def _greedy(order: Sequence[tuple[Life, int]], beside: Mapping[str, Sequence[str]]) -> list[Slot]:
    placed: dict[str, Slot] = {}
    for life, size in order:
        near = sorted((placed[n] for n in beside[life.array] if n in placed), key=lambda s: (s.start, s.end))
        gap = min((g for g in _gaps(near) if g[1] >= size), key=lambda g: (g[1], g[0]), default=None)
        start = gap[0] if gap is not None else max((s.end for s in near), default=0)
        placed[life.array] = Slot(life.array, start, size, life.first, life.last)
    return list(placed.values())


def _gaps(beside: Sequence[Slot]) -> Iterator[tuple[int, int]]:
    """(start, bytes) of the holes between slots that are sorted by their start."""
    end = 0
    for s in beside:
        if s.start > end:
            yield end, s.start - end
        end = max(end, s.end)


def _moments(slots: Sequence[Slot]) -> Iterator[tuple[Slot, ...]]:
    """Who is live when each begins to be: the fullest step is one of these."""
    for at in sorted({s.first for s in slots}):
        yield tuple(s for s in slots if s.first <= at <= s.last)


def _held(slots: Iterable[Slot]) -> int:
    return sum(s.size for s in slots)


def _peak(slots: Iterable[Slot]) -> int:
    return max((s.end for s in slots), default=0)
