# SPDX-License-Identifier: MIT
"""What a plan says of one statement: which results are kept in registers, and the loops around them.

Made by `polyhedral.plans.candidates`, turned into a schedule tree by `polyhedral.scheduling.register_nest`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod


@dataclass(frozen=True)
class Loop:
    """One loop over tiles: it advances a dim by `size` elements at a time."""

    dim: str
    size: int


@dataclass(frozen=True)
class RegisterPlan:
    """The nest of one reduction: `width` elements of `vector` times a tile of `rows`, unrolled in this order, are
    accumulated in registers over the reduced dims of `order`; `loops` are those around it from the outermost in, the
    first of them on all cores.  A loop over a reduced dim cuts the reduction: results are stored, and
    loaded for its next part.  Where it `streams`, results are stored past the caches.  A reduced `vector` runs along
    the lanes of `partials` vectors of partial results.  Vectors of the arrays `ahead` are asked for so many elements
    before they are loaded.  The last dims of `order` may be `written` out: what several steps and rows read of an
    operand, as those of a window do, is then loaded once.

    The statements of the `epilogue` are computed on the tile, in this order, once its reduction is complete; arrays
    that are `only` in its registers are not stored.
    """

    vector: str
    width: int
    rows: tuple[tuple[str, int], ...]
    order: tuple[str, ...]
    loops: tuple[Loop, ...]
    streams: bool = False
    partials: int = 1
    epilogue: tuple[str, ...] = ()
    only: frozenset[str] = frozenset()
    ahead: tuple[tuple[str, int], ...] = ()
    written: tuple[str, ...] = ()

    def tile(self, dim: str) -> int:
        return self.width if dim == self.vector else dict(self.rows).get(dim, 1)

    def with_tile(self, dim: str, size: int) -> RegisterPlan:
        """The plan with tiles of another size along a dim of the results."""
        loops = tuple(replace(x, size=x.size // self.tile(dim) * size) if x.dim == dim else x for x in self.loops)
        if dim == self.vector:
            return replace(self, width=size, loops=loops)
        return replace(self, rows=tuple((d, size if d == dim else r) for d, r in self.rows), loops=loops)

    @property
    def count(self) -> int:
        """Elements of the result in one tile."""
        return self.width * prod(r for _, r in self.rows)

    def trips(self, extents: Mapping[str, int]) -> tuple[int, ...]:
        """Iterations of each loop, inside those before it that advance the same dim by more."""
        inside = dict(extents)
        found: list[int] = []
        for loop in self.loops:
            found.append(-(-inside[loop.dim] // loop.size))
            inside[loop.dim] = min(loop.size, inside[loop.dim])
        return tuple(found)

    def undivided(self, extents: Mapping[str, int], around: Sequence[Loop] = ()) -> RegisterPlan:
        """The plan, within other loops, without portions of its reduction that have no tile loop within them: nothing
        comes between those, so that they are one, and isl would take the first and the last, with what is done in these
        only, out of their loop.
        """
        every = (*around, *self.loops)
        trips = replace(self, loops=every).trips(extents)[len(around) :]
        tiles = (n for n, x in enumerate(self.loops) if trips[n] > 1 and x.dim not in self.order)
        last = max(tiles, default=-1)
        return replace(self, loops=tuple(x for n, x in enumerate(self.loops) if n < last or x.dim not in self.order))


def even(extent: int, tile: int, unit: int = 1) -> tuple[int, int]:
    """(size, count): as many tiles as `tile` needs, all of `size` or one `unit` less, `count` of them of `size`; the
    last may lack a part of a unit.

    16 in tiles of at most 6 are 6, 5, 5 rather than 6, 6, 4: no part falls below what hides the latency.
    """
    units = -(-extent // unit)
    tiles = -(-units // (tile // unit))
    size = -(-units // tiles)
    return size * unit, units - tiles * (size - 1)


EVEN = 0.9
"""The balance from which a loop is good enough to run on all cores."""


def balance(trips: int, cores: int) -> float:
    """The mean load of all cores over that of the busiest, when each takes as many iterations as any other."""
    return trips / (-(-trips // cores) * cores)


def loop_balance(plan: RegisterPlan, loop: Loop, extents: Mapping[str, int], cores: int) -> float:
    """The balance of a loop on all cores.  What does not fill whole tiles is a nest of its own, which finds a loop that
    suits it: 7 rows in tiles of 2 are 3 tiles, and one row that all cores share.
    """
    n, tile = extents[loop.dim], plan.tile(loop.dim)
    if loop.dim == plan.vector or loop.dim in plan.order or n % tile == 0:
        return balance(-(-n // loop.size), cores)
    size, count = even(n, tile)
    whole = size * count
    return n / (whole / balance(-(-whole // (loop.size // tile * size)), cores) + n - whole)
