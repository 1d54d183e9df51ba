# SPDX-License-Identifier: MIT
"""The loop order of a copy whose sides lie crosswise in memory, where their dims are too short for square tiles.

    out(k, i, x) = X(x, i, k)        over 17 x, 4 i, 4 k; and many more around these

One side is read or written in the order of the other, a piece of a line at a time.  That costs little as long as what
the innermost loops touch stays in the second cache until its lines are whole: memory sees only the pieces that lie
together, as much as the caches hold at once.  Of all ways to take some dims as the innermost loops, the one with the
fewest such pieces is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import prod

MOST_DIMS = 10
"""Dims up to which all ways are looked at."""
Strides = Mapping[str, int]
"""How many elements from one cell to the next along each dim, of one side."""


def crossing(dims: Sequence[str], extents: Mapping[str, int], sides: Sequence[Strides], cells: int) -> tuple[str, ...]:
    """The dims from the outermost loop in: loops that touch no more than so many `cells` of a side in the order in
    which the first side lies in memory, around them those of the others in that of the last, which is written.
    """
    inner = min(_within(dims, extents, cells), key=lambda ds: _pieces(ds, dims, extents, sides), default=())

    def along(side: Strides, some: Sequence[str]) -> list[str]:
        return sorted(some, key=lambda d: -abs(side.get(d, 0)))

    return (*along(sides[-1], [d for d in dims if d not in inner]), *along(sides[0], inner))


def _within(dims: Sequence[str], extents: Mapping[str, int], cells: int) -> Iterator[tuple[str, ...]]:
    """The ways to choose innermost loops, none of them if there are too many."""
    for count in range(len(dims) + 1 if len(dims) <= MOST_DIMS else 0):
        for inner in combinations(dims, count):
            if prod(extents[d] for d in inner) <= cells:
                yield inner


def _pieces(
    inner: Sequence[str], dims: Sequence[str], extents: Mapping[str, int], sides: Sequence[Strides]
) -> tuple[float, int]:
    """In how many pieces memory is touched, all sides together; of equals, the one with more loops outside."""
    times = prod(extents[d] for d in dims if d not in inner)
    return times * sum(_apart(inner, extents, side) for side in sides), len(inner)


def _apart(inner: Sequence[str], extents: Mapping[str, int], side: Strides) -> int:
    """The pieces of one side that the innermost loops touch."""
    together, pieces = 1, 1
    for step, n in sorted((abs(side.get(d, 0)), extents[d]) for d in inner):
        if 0 < step <= together:
            together += step * (n - 1)
        elif step:
            pieces *= n
    return pieces
