# SPDX-License-Identifier: MIT
"""Barriers: where the threads of a block must wait for each other, and nowhere else.

The steps of a loop body touch memory that the threads share; two steps of which one writes what another reads or
writes need a barrier between them, also across iterations.  Fewest barriers: points that meet all arcs of a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step of all threads: the places in shared memory that it reads and writes, each a name and by how many
    iterations its content is ahead (copies for the next iteration are 1 ahead of those that are used in this one).
    """

    reads: tuple[tuple[str, int], ...] = ()
    writes: tuple[tuple[str, int], ...] = ()


Arc = frozenset[int]
"""The places, one after each step, of which one must have a barrier."""


def arcs(steps: Sequence[Step], copies: int = 1) -> frozenset[Arc]:
    """What must be told apart: pairs of steps that touch one of the `copies` of a place and do not only read it."""
    n = len(steps)
    found: set[Arc] = set()
    for i, a in enumerate(steps):
        for j, b in enumerate(steps):
            apart = _iterations(a, b, copies, together=i < j)
            if apart is not None:
                places = range(i, j + n * apart)
                found.add(frozenset(k % n for k in places))
    return frozenset(found)


def _iterations(a: Step, b: Step, copies: int, *, together: bool) -> int | None:
    """After how many iterations, at least, b meets what a touched; in the same one only where it comes later in it."""
    found: list[int] = []
    for mine, others in ((a.writes, (*b.reads, *b.writes)), (a.reads, b.writes)):
        for place, ahead in mine:
            for other, behind in others:
                if place == other:
                    apart = (ahead - behind) % copies
                    found.append(apart if apart or together else copies)
    return min(found, default=None)


def place(steps: Sequence[Step], copies: int = 1) -> tuple[int, ...]:
    """The steps of a loop body after which all threads wait, as few as can be, the earliest such choice."""
    wanted = arcs(steps, copies)
    n = len(steps)
    best: tuple[int, ...] | None = None if wanted else ()
    for start in range(n):
        chosen = _from(start, wanted, n)
        if chosen is not None and (best is None or (len(chosen), chosen) < (len(best), best)):
            best = chosen
    assert best is not None
    return best


def _from(start: int, wanted: frozenset[Arc], n: int) -> tuple[int, ...] | None:
    """A barrier at `start`, then each as late as the arcs that are left allow."""
    left = [a for a in wanted if start not in a]
    chosen = {start}
    while left:
        ends = {a: max((k - start) % n for k in a) for a in left}
        last = (min(ends.values()) + start) % n
        chosen.add(last)
        left = [a for a in left if last not in a]
    return tuple(sorted(chosen))
