# SPDX-License-Identifier: MIT
"""The sharing oracle: may the temporaries that lie in one place do so under a tree.

It trusts neither the lives nor the steps that `polyhedral.storage` found: from the program, the tree and the bytes
alone it asks of every two that share some whether all that touches the one is over before anything touches the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations, takewhile
from math import prod

from polyhedral import affine as aff
from polyhedral.instances import families
from polyhedral.program import Array, Program, Role, touched
from polyhedral.storage import ALIGNED, Placement
from polyhedral.tree import Component, Run, Tree, elsewhere, times

_Steps = tuple[int, ...]
"""The numbers that a time vector begins with: which child of which sequence, from the root down to the first loop."""


@dataclass(frozen=True)
class Conflict:
    """Why temporaries cannot lie as they were placed: `second` is the one in the way, or "" where `first` is alone."""

    first: str
    second: str
    why: str

    def __str__(self) -> str:
        return f"{self.first} and {self.second}: {self.why}" if self.second else f"{self.first}: {self.why}"


def conflict(p: Program, tree: Tree, placement: Placement, sizes: Mapping[str, int]) -> Conflict | None:
    """The first temporary that does not lie in the block, or two that share bytes and are needed at the same time."""
    slots = {s.array: s for s in placement.slots}
    apart = elsewhere(tree)
    placed = [a for a in p.with_role(Role.TEMPORARY) if a.name not in apart]
    for a in placed:
        if a.name not in slots:
            return Conflict(a.name, "", "it has no place")
        s = slots[a.name]
        if s.start % ALIGNED or s.start < 0 or s.size < _bytes(a, sizes) or s.start + s.size > placement.peak:
            return Conflict(a.name, "", f"{_bytes(a, sizes)} bytes do not fit at {s.start} of {placement.peak}")
    names = [a.name for a in placed]
    pairs = (
        (a, b)
        for a, b in combinations(names, 2)
        if max(slots[a].start, slots[b].start) < min(slots[a].start + slots[a].size, slots[b].start + slots[b].size)
    )
    return together(p, tree, pairs)


def together(p: Program, tree: Tree, pairs: Iterable[Iterable[str]]) -> Conflict | None:
    """The first of these pairs of arrays that a tree needs at the same time."""
    at = times(tree, tuple(f.id for f in families(p)))
    touching: dict[str, set[_Steps]] = {}
    for f in families(p):
        s = f.statement
        for name in touched(s):
            touching.setdefault(name, set()).add(_steps(at[f.id]))
    for pair in pairs:
        a, b = sorted(pair)
        mine, others = touching.get(a, set()), touching.get(b, set())
        if not (_over(mine, others) or _over(others, mine)):
            return Conflict(a, b, "they share memory, but neither is done with before the other is needed")
    return None


def _steps(time: Sequence[Component]) -> _Steps:
    return tuple(t.const for t, _ in takewhile(lambda c: c[0].is_const and c[1] is Run.SERIAL, time))


def _over(mine: Set[_Steps], others: Set[_Steps]) -> bool:
    """Whether each family of the one is finished before any of the other starts."""
    return all(_before(a, b) for a in mine for b in others)


def _before(a: _Steps, b: _Steps) -> bool:
    """Whether two are told apart by the first place where they differ, whatever the instances."""
    return next((x < y for x, y in zip(a, b, strict=False) if x != y), False)


def _bytes(a: Array, sizes: Mapping[str, int]) -> int:
    known = {n: sizes.get(n, 1) for _, e in a.stored for n in aff.sizes_of(e)}
    return a.dtype.numpy.itemsize * prod(max(aff.evaluate(e, {}, known), 0) for _, e in a.stored)
