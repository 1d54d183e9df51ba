# SPDX-License-Identifier: MIT
"""The sharing oracle: may the temporaries that lie in one place do so under a tree.

It trusts neither the lives nor the steps that `polyhedral.whole.storage` found: from the program, the tree and the
bytes alone it asks of every two that share some whether all that touches the one is over before anything touches the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import inf, prod

from polyhedral.ir import affine as aff
from polyhedral.ir.program import Array, Program, Role, touched
from polyhedral.ir.tree import Component, Run, Tree, elsewhere, times
from polyhedral.sets.instances import families
from polyhedral.whole.storage import ALIGNED, Placement

_Steps = tuple[float, ...]
"""The numbers that a time vector begins with: which child of which sequence, from the root down to the first loop.  One
is before another, whatever the instances, where it is smaller at the first place where they differ.
"""


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

    def share(a: str, b: str) -> bool:
        if a not in slots or b not in slots:
            return False
        return max(slots[a].start, slots[b].start) < min(slots[a].start + slots[a].size, slots[b].start + slots[b].size)

    return _first_at_once(p, tree, share)


def together(p: Program, tree: Tree, pairs: Container[frozenset[str]]) -> Conflict | None:
    """The first of these pairs of arrays that a tree needs at the same time."""
    return _first_at_once(p, tree, lambda a, b: frozenset((a, b)) in pairs)


def _first_at_once(p: Program, tree: Tree, share: Callable[[str, str], bool]) -> Conflict | None:
    """The first two arrays that share memory and are needed at the same time: in the order in which they are first
    needed, each is held against those that are not done with.
    """
    fs = families(p)
    at = times(tree, tuple(f.id for f in fs))
    begin: dict[str, _Steps] = {}
    end: dict[str, _Steps] = {}
    for f in fs:
        first = _steps(at[f.id])
        last = (*first, inf)  # whatever is inside the loops that follow
        for name in touched(f.statement):
            begin[name] = min(begin.get(name, first), first)
            end[name] = max(end.get(name, last), last)
    needed: list[str] = []
    for name in sorted(begin, key=lambda n: begin[n]):
        needed = [n for n in needed if not end[n] < begin[name]]
        for other in needed:
            if share(name, other):
                one, two = sorted((name, other))
                return Conflict(one, two, "they share memory, but neither is done with before the other is needed")
        needed.append(name)
    return None


def _steps(time: Sequence[Component]) -> _Steps:
    return tuple(t.const for t, _ in takewhile(lambda c: c[0].is_const and c[1] is Run.SERIAL, time))


def _bytes(a: Array, sizes: Mapping[str, int]) -> int:
    known = {n: sizes.get(n, 1) for _, e in a.stored for n in aff.sizes_of(e)}
    return a.dtype.numpy.itemsize * prod(max(aff.evaluate(e, {}, known), 0) for _, e in a.stored)
