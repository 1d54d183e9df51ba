# SPDX-License-Identifier: MIT
"""What one access of a nest touches: contiguous pieces of memory, the lines and pages they cover, and whether a cache
holds them in its sets.

From strides alone; how often each level of memory delivers them is `polyhedral.plans.cycles`'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd, prod

from polyhedral.machine.target import Target

PIECE = 1.0
"""Lines that a piece of memory takes beyond its own bytes, where the next piece lies elsewhere."""
CROWDED = 0.5
"""The part of a set's ways that rows of one operand may take."""
PAGE = 4096
"""Bytes of a page."""
RUNS = 16
"""Runs of lines that a core follows by itself, about (16 to 32 by the vendors' optimisation guides); what comes in more
of them is asked for ahead, and translated then."""

Pieces = tuple[int, tuple[tuple[int, int], ...]]
"""Bytes of a contiguous piece of memory, and how far apart and how often such pieces repeat, axis by axis."""


@dataclass(frozen=True)
class Stream:
    """An access as tiles see it: its strides in bytes along the dims that it depends on, and the load (or store)
    instructions that one vector of it takes: 0 for a scalar, more than 1 where the lanes are scattered.  `panels` are
    dims that are cut: (elements in one panel, bytes from one panel to the next); `guard` are the dims that decide
    whether a read exists.  `count` accesses are alike, and lie apart; what is `far` is larger than the second cache.
    """

    strides: Mapping[str, int]
    instructions: float
    itemsize: int = 4
    panels: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    guard: frozenset[str] = frozenset()
    count: int = 1
    far: bool = False
    known: dict[tuple[int, ...], tuple[Pieces, float]] = field(
        default_factory=dict[tuple[int, ...], tuple[Pieces, float]], init=False, compare=False, repr=False
    )
    """Boxes that were asked about: orders of the same loops have most of them in common."""

    @property
    def vector(self) -> bool:
        return self.instructions > 0

    def axes(self, span: Mapping[str, int]) -> list[tuple[int, int]]:
        """(stride in bytes, length) of a box of `span` cells along each dim, densest first."""
        return sorted(self._axes(span))

    def _axes(self, span: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        for d, stride in self.strides.items():
            n = span[d]
            if d in self.panels:
                panel, apart = self.panels[d]
                yield apart, -(-n // panel)
                n = min(n, panel)
            if n > 1 and stride:
                yield abs(stride), n

    def rows(self, span: Mapping[str, int], line: int) -> Pieces:
        """Bytes of one contiguous piece of a box, and the axes along which such pieces repeat."""
        piece = self.itemsize
        apart: list[tuple[int, int]] = []
        for stride, n in self.axes(span):
            if stride < line or stride <= piece:
                piece += (n - 1) * stride
            elif n > 1:
                apart.append((stride, n))
        return piece, tuple(apart)

    def lines(self, span: Mapping[str, int], line: int) -> float:
        """Cache lines that a box touches."""
        return self.box(span, line)[1]

    def box(self, span: Mapping[str, int], line: int) -> tuple[Pieces, float]:
        """The pieces of a box, and the cache lines that it touches; each contiguous piece of several brings one more,
        its own end or a neighbour that is fetched along.
        """
        key = (line, *(span[d] for d in self.strides))
        found = self.known.get(key)
        if found is None:
            pieces = self.rows(span, line)
            count = prod(n for _, n in pieces[1])
            lines = max(1.0, pieces[0] / line + (PIECE if count > 1 else 0.0)) * count * self.count
            found = self.known[key] = pieces, lines
        return found

    def pages(self, span: Mapping[str, int]) -> float:
        """Pages that a box touches."""
        piece, apart = self.box(span, PAGE)[0]
        return max(1.0, piece / PAGE) * prod(n for _, n in apart) * self.count

    def asked(self, span: Mapping[str, int], target: Target) -> bool:
        """Whether it is asked for ahead: vectors, or scalars that lie together along a row."""
        _, apart = self.box(span, target.line)[0]
        alone = self.far and any(n > 1 and stride == self.itemsize for stride, n in self.axes(span))
        together = self.instructions == 1.0 or (not self.vector and alone)
        return together and not self.guard and ask(prod(n for _, n in apart), target.line, target)


@lru_cache(maxsize=1 << 14)
def fits(pieces: Pieces, size: int, line: int) -> bool:
    """Whether half of the ways of a cache hold the rows of a box, however far apart they lie: those whose distances
    are multiples of many sets meet in few.
    """
    sets = 1 << (size // line // 8).bit_length() - 1
    ways = size // line / sets
    meeting = 1
    for shared, n in sorted(
        ((gcd(sets, stride // line), n) for stride, n in pieces[1] if stride % line == 0), reverse=True
    ):
        meeting *= n
        if meeting > CROWDED * ways * (sets // shared):
            return False
    return True


def ask(runs: int, each: int, target: Target) -> bool:
    """Whether so many runs are more than a core follows, and so many bytes of each in half of the first cache."""
    return runs > RUNS and runs * each <= target.l1 // 2
