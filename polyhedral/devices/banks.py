# SPDX-License-Identifier: MIT
"""Banks of shared memory: how often a warp has to ask for what its lanes read or write at once, counted lane by lane.

    wavefronts([0, 128, 256, 384], 4)    four words of one bank: 4
    wavefronts([0, 132, 264, 396], 4)    padded, of four banks: 1

32 banks of 4 bytes, which give one word each at a time to all who ask for it; accesses of 8 or 16 bytes take the words
of a half or a quarter of a warp at a time, and as many times where no two of these ask for the same.  How a box should
lie in them is `polyhedral.devices.swizzles`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

BANKS = 32
WORD = 4
WIDEST = 16
"""Bytes of one lane's access at most."""


def wavefronts(offsets: Sequence[int], width: int) -> int:
    """How many times banks are asked until every lane has its `width` bytes from its offset on, in bytes."""
    words: dict[int, set[int]] = {}
    for o in offsets:
        for word in range(o // WORD, (o + width - 1) // WORD + 1):
            words.setdefault(word % BANKS, set()).add(word)
    return max((len(w) for w in words.values()), default=0)


@dataclass(frozen=True)
class Access:
    """One load or store of a warp: how far each lane is from the first along each axis, and how many cells it takes
    next to each other along the last one, of which there are so many rows; `times` as often in all, from these
    `bases` on.
    """

    lanes: tuple[tuple[tuple[str, int], ...], ...]
    run: int = 1
    times: int = 1
    bases: tuple[tuple[tuple[str, int], ...], ...] = ((),)


def _plain(cell: int) -> int:
    return cell


def asked(
    access: Access,
    strides: Mapping[str, int],
    item: int,
    place: Callable[[int], int] = _plain,
    grain: int = WIDEST,
) -> tuple[int, float]:
    """Instructions and wavefronts of one access to a box of such strides, whose cells lie where `place` says, those of
    a grain next to each other; the mean of its bases.
    """
    offsets = [sum(n * strides[d] for d, n in lane) for lane in access.lanes]
    run = access.run
    while run > 1 and (run > grain or run * item > WIDEST or any(o % run for o in offsets) or _odd(strides, run)):
        run //= 2
    count = access.run // run
    starts = [sum(n * strides[d] for d, n in base) // run * run for base in access.bases]
    if place is _plain:
        starts = starts[:1]  # the banks turn with it
    rounds = [wavefronts([place(start + o) * item for o in offsets], run * item) for start in starts]
    return count, count * sum(rounds) / len(rounds)


def ideal(access: Access, strides: Mapping[str, int], item: int, instruction: float) -> float:
    """Wavefronts of an access whose lanes meet in no bank, and what its instructions are worth."""
    offsets = {sum(n * strides[d] for d, n in lane) for lane in access.lanes}
    words = {(o + k) * item // WORD for o in offsets for k in range(access.run)}
    count = max(access.run * item // WIDEST, 1)
    return count * instruction + max(-(-len(words) // BANKS), count)


def least(access: Access, axes: Sequence[tuple[str, int]], item: int) -> int:
    """Wavefronts of one access under the padding of rows that is best for it."""
    return min(round(asked(access, strides_of(axes, pad), item)[1]) for pad in range(0, BANKS + 1, access.run))


def _odd(strides: Mapping[str, int], run: int) -> bool:
    """Whether vectors of so many cells would not begin at multiples of their size in every row."""
    return any(s % run for s in strides.values() if s != 1)


def strides_of(axes: Sequence[tuple[str, int]], pad: int) -> dict[str, int]:
    """Cells from one place to the next along each axis of a box, the last padded."""
    strides, step = dict[str, int](), 1
    for place, (d, n) in enumerate(reversed(axes)):
        strides[d] = step
        step *= n + (pad if place == 0 else 0)
    return strides


def digits_of(lane: int, threads: Sequence[tuple[str, int]], below: int = 1) -> dict[str, int]:
    """The digits of a thread, the last fastest; `below` threads have the same."""
    found: dict[str, int] = {}
    left = lane // below
    for name, n in reversed(threads):
        found[name] = left % n
        left //= n
    return found


def row_wavefronts(stride: int) -> int:
    """Of eight rows of 16 bytes, `stride` bytes apart, which is what matrix units take at once: 1 is the best."""
    return wavefronts([r * stride for r in range(8)], WIDEST)
