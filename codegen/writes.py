# SPDX-License-Identifier: MIT
"""Register tiles to memory and back: whole vectors, shuffled into the order of memory where need be, or lane by lane.

Which shuffles those are is left to `codegen.shuffles`, and when a tile is stored to `codegen.registers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cgen

from codegen.blocks import loop
from codegen.lanes import Lanes, at_lane, near, runs, steps
from codegen.scalar import STORAGE, value_type
from codegen.shuffles import Shuffle, filled, weave
from codegen.spelling import LANE, Index, Spelling
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Array


@dataclass(frozen=True)
class Accumulator:
    """A register of a tile: its variable, the cells it holds in terms of its lane, its lanes, and their variable."""

    name: str
    target: Index
    lanes: Lanes
    lane: str


@dataclass(frozen=True)
class _Lines:
    """How a tile reaches memory: shuffles, then registers with the cell each is stored at, `count` cells of each."""

    shuffles: tuple[Shuffle, ...]
    lines: tuple[tuple[str, str], ...]
    count: int


def fetch(c: Spelling, array: Array, acc: Accumulator) -> Iterator[cgen.Generable]:
    """An accumulator as the last portion of its reduction left it."""
    whole = acc.lanes.valid == c.vectors.lanes and _as_stored(array)
    first = near(c, _cells(array, acc), acc.lane) if whole else None
    if first is not None:
        yield cgen.Statement(f"{acc.name} = *(const {c.vectors.type(array.dtype)} *)&{first}")
        return
    firsts = runs(c, _cells(array, acc), acc.lane, acc.lanes) if whole else None
    if firsts is not None:
        places = ", ".join(f"&{cell}" for cell in firsts)
        yield cgen.Statement(f"{acc.name} = {c.vectors.join(array.dtype, len(firsts))}({places})")
        return
    yield cgen.Statement(f"{acc.name} = {c.vectors.splat(array.dtype)}(0)")
    cell = c.cell(array.name, at_lane(acc.target, acc.lane, aff.var(LANE)))
    yield _over_lanes(acc, f"{acc.name}[lane] = {c.scalar.from_storage(array.dtype, cell)}")


def store(c: Spelling, array: Array, tile: Sequence[Accumulator], *, streams: bool) -> list[cgen.Generable]:
    """The tile to memory; `streams` past the caches, where whole vectors are stored."""
    woven = _woven(c, array, tile)
    if woven is None:
        return [line for acc in tile for line in _store_one(c, array, acc)]
    vector = c.vectors.type(array.dtype)
    made: list[cgen.Generable] = []
    for s in woven.shuffles:
        text = f"{c.vectors.pick(array.dtype, s.lanes)}({s.first}, {s.second})"
        made.append(cgen.Initializer(cgen.Value(f"const {vector}", s.made), text))
    for name, cell in woven.lines:
        if woven.count < c.vectors.lanes:
            place = f"{c.vectors.part(array.dtype, woven.count)}(&{cell}, {name})"
        elif streams:
            place = f"{c.vectors.stream(array.dtype)}(&{cell}, {name})"
        else:
            place = f"*({vector} *)&{cell} = {name}"
        made.append(cgen.Statement(place))
    return made


def _woven(c: Spelling, array: Array, tile: Sequence[Accumulator]) -> _Lines | None:
    """The shuffles, and each register with its first cell; None where a tile has no such form.  Lanes that do not count
    are woven as if they did, and what becomes of them is not stored.
    """
    width, valid = c.vectors.lanes, tile[0].lanes.valid
    if any(acc.lanes.valid != valid for acc in tile) or valid < 2 or array.planes or not _as_stored(array):
        return None
    origin: Affine | None = None
    cells: dict[str, tuple[int, ...]] = {}
    index: dict[int, tuple[Accumulator, int]] = {}
    for acc in tile:
        first = c.address(array.name, at_lane(acc.target, acc.lane, aff.const(0)))
        apart = steps(c, array.name, acc.target, acc.lane)
        origin = first if origin is None else origin
        if first is None or origin is None or apart is None or not (first - origin).is_const:
            return None
        cells[acc.name] = tuple((first - origin).const + n for n in apart)
        index |= {place: (acc, i) for i, place in enumerate(cells[acc.name])}
    prefix = f"{c.spell(array.name)}_line_"
    copies: dict[str, str] = {}
    count = width
    woven = weave(cells, prefix)
    if woven is None and (more := filled(cells)) is not None:
        registers, copies, count = more
        woven = weave(registers, prefix)
    if woven is None:
        return None
    shuffles = tuple(
        replace(x, first=copies.get(x.first, x.first), second=copies.get(x.second, x.second)) for x in woven.shuffles
    )

    def cell(first: int) -> str:
        acc, i = index[first]
        return c.cell(array.name, at_lane(acc.target, acc.lane, aff.const(i)))

    def real(first: int) -> set[bool]:
        return {index[first + k][1] < valid for k in range(count)}

    if any(len(real(first)) > 1 for _, first in woven.lines):
        return None
    return _Lines(shuffles, tuple((n, cell(first)) for n, first in woven.lines if real(first) == {True}), count)


def _store_one(c: Spelling, array: Array, acc: Accumulator) -> Iterator[cgen.Generable]:
    """One register: a whole vector, the first lanes of one, or lane by lane."""
    valid, whole = acc.lanes.valid, acc.lanes.valid == c.vectors.lanes
    first = near(c, _cells(array, acc), acc.lane) if whole or valid > 1 else None
    if first is not None and _as_stored(array):
        if whole:
            yield cgen.Statement(f"*({c.vectors.type(array.dtype)} *)&{first} = {acc.name}")
        else:
            yield cgen.Statement(f"{c.vectors.part(array.dtype, valid)}(&{first}, {acc.name})")
        return
    cell = c.cell(array.name, at_lane(acc.target, acc.lane, aff.var(LANE)))
    yield _over_lanes(acc, f"{cell} = {c.scalar.to_storage(array.dtype, f'{acc.name}[lane]')}")


def _over_lanes(acc: Accumulator, text: str) -> cgen.Generable:
    """A statement for each lane that counts."""
    return loop("int lane = 0", f"lane < {acc.lanes.valid}", "++lane", cgen.Statement(text))


def _cells(array: Array, acc: Accumulator) -> ex.Load:
    """The cells of an accumulator, as if they were read."""
    return ex.Load(array.name, tuple(acc.target), array.dtype)


def _as_stored(array: Array) -> bool:
    """Whether values are computed in the type they are stored in."""
    return value_type(array.dtype) == STORAGE[array.dtype.name]
