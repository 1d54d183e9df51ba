# SPDX-License-Identifier: MIT
"""How the lanes of one vector lie in memory: as neighbours, or in runs of neighbours.

The text that loads or stores them is left to `codegen.reads` and `codegen.writes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from codegen.spelling import Index, Spelling
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Array


@dataclass(frozen=True)
class Lanes:
    """One vector of results: the first lane's index along the vector dim, how many lanes count, and the vector's place
    among those of its region."""

    start: Affine
    valid: int
    key: tuple[int, ...]


def at_lane(index: Sequence[tuple[str, Affine]], lane: str, i: Affine) -> Index:
    """The cell of one lane."""
    return [(d, aff.substitute(x, {lane: i})) for d, x in index]


def near(c: Spelling, e: ex.Load, lane: str) -> str | None:
    """The first cell, if the lanes read consecutive ones."""
    index = affine_index(e)
    if steps(c, e.array, index, lane) != list(range(c.vectors.lanes)):
        return None
    return c.cell(e.array, at_lane(index, lane, aff.const(0)))


def steps(c: Spelling, array: str, index: Sequence[tuple[str, Affine]], lane: str) -> list[int] | None:
    """How far the cell of each lane lies from that of the first, in elements; None where that is not known."""
    place = c.address(array, list(index))
    return None if place is None else aff.steps(place, lane, c.vectors.lanes)


def dense(c: Spelling, array: Array, e: ex.Load, lane: str, tile: Lanes) -> str | None:
    """The first cell, if the lanes read consecutive ones and all of them exist."""
    cell = near(c, e, lane)
    exist = cell is not None and (tile.valid == c.vectors.lanes or _padded(array, e, lane, c.vectors.lanes))
    return cell if exist else None


def runs(c: Spelling, e: ex.Load, lane: str, tile: Lanes) -> list[str] | None:
    """The first cell of each run, if the lanes read a few runs of as many consecutive cells, 2^n of them."""
    lanes = c.vectors.lanes
    if tile.valid < lanes:
        return None
    index = affine_index(e)
    places = steps(c, e.array, index, lane)
    if places is None:
        return None
    apart = [b - a for a, b in pairwise(places)]
    length = next((i for i, step in enumerate(apart, 1) if step != 1), lanes)
    count = lanes // length
    if length < 2 or lanes % length or count & (count - 1):
        return None
    if any(step != 1 for i, step in enumerate(apart, 1) if i % length):
        return None
    return [c.cell(e.array, at_lane(index, lane, aff.const(i))) for i in range(0, lanes, length)]


def affine_index(e: ex.Load) -> Index:
    """The dims of a load whose index is affine."""
    return [(d, i) for d, i in e.index if isinstance(i, Affine)]


def _padded(array: Array, e: ex.Load, lane: str, lanes: int) -> bool:
    """Whether lanes beyond the last result still lie inside the array: a panel is whole vectors wide."""
    moving = [d for d, i in affine_index(e) if lane in aff.dims_of(i)]
    extent = array.extent(moving[-1])
    return len(moving) == 2 and extent.is_const and extent.const % lanes == 0
