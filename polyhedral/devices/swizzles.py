# SPDX-License-Identifier: MIT
"""How a box lies in shared memory: dense, with padded rows, or swizzled, whichever asks the banks the fewest times.

    padded     address = row * (width + pad) + column
    swizzled   address = a ^ (a / every % ways * grain), a = row * width + column

A swizzle permutes the grains of each aligned block of `grain * ways` cells by XOR with a number that is the same for
all of the block (as in CUTLASS, Thakkar et al. 2023).  It takes no memory and leaves vectors of a grain whole, where
padding takes rows of memory and must be a multiple of the widest vector; it costs an instruction where a cell is read
or written.  It is no affine map, so that it stands below the integer sets: what a box holds is theirs, where each of
its cells lies is an addressing's, a bijection of the box's own memory that nothing outside of a kernel sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from polyhedral.devices.banks import BANKS, WIDEST, WORD, Access, asked, ideal, strides_of

INSTRUCTION = 1.0
"""Wavefronts that an access is worth by itself, so that wide ones are preferred."""
XOR = 0.5
"""Wavefronts that the arithmetic of a swizzled address is worth: a unit starts two such instructions of a warp while
its banks are asked once."""
WORTH = 0.9
"""What a swizzled box may take of what a padded one does: compilers find neighbours less surely through XOR."""


@dataclass(frozen=True)
class Swizzle:
    """All but `every` powers of two, which is a multiple of `grain * ways`: blocks of so many cells stay where they
    are, and the grains within one change places.
    """

    grain: int
    ways: int
    every: int

    def place(self, cell: int) -> int:
        """Where a cell of a dense box lies."""
        return cell ^ (cell // self.every % self.ways * self.grain)


@dataclass(frozen=True)
class Addressing:
    """Cells after each row, or a swizzle of rows without any."""

    pad: int = 0
    swizzle: Swizzle | None = None


DENSE = Addressing()


def price(access: Access, axes: Sequence[tuple[str, int]], lying: Addressing, item: int) -> float:
    """Wavefronts and instructions of an access to a box: as wide as its alignment allows."""
    strides = strides_of(axes, lying.pad)
    if lying.swizzle is None:
        instructions, rounds = asked(access, strides, item)
        return access.times * (instructions * INSTRUCTION + rounds)
    instructions, rounds = asked(access, strides, item, lying.swizzle.place, lying.swizzle.grain)
    return access.times * (instructions * (INSTRUCTION + XOR) + rounds)


@lru_cache(maxsize=1024)
def addressing(
    accesses: tuple[Access, ...], axes: tuple[tuple[str, int], ...], item: int, pads: tuple[int, ...], width: int
) -> Addressing:
    """How a box lies best that is accessed so: with one of the `pads`, or swizzled in grains that keep vectors of
    `width` cells whole, where that is clearly better.  Of equals the one that takes the least memory.
    """

    def takes(lying: Addressing) -> float:
        return sum(price(a, axes, lying, item) for a in accesses)

    best = min(map(Addressing, pads), key=lambda lying: (takes(lying), lying.pad))
    free = sum(a.times * ideal(a, strides_of(axes, 0), item, INSTRUCTION) for a in accesses)
    if WORTH * takes(best) < free:
        return best
    turned = min((Addressing(0, s) for s in swizzles(axes, item, width)), key=takes, default=best)
    return turned if takes(turned) <= WORTH * takes(best) else best


def swizzles(axes: Sequence[tuple[str, int]], item: int, width: int) -> Iterator[Swizzle]:
    """Those of a box, in grains of at least so many cells, that spread over no more than all banks."""
    cells = prod(n for _, n in axes)
    grain = width
    while grain * item <= WIDEST:
        ways = 2
        while grain * ways * item <= BANKS * WORD and cells % (grain * ways) == 0:
            block = grain * ways
            rows = {s for s in strides_of(axes, 0).values() if s % block == 0}
            powers = {block << k for k in range((cells // block).bit_length()) if block << k < cells}
            yield from (Swizzle(grain, ways, every) for every in sorted(rows | powers))
            ways *= 2
        grain *= 2
