# SPDX-License-Identifier: MIT
"""Operands that lie across the lanes of a register tile: loaded along its rows, and transposed between registers.

The reverse of how a tile is stored across (`codegen.writes`); which shuffles those are is left to `codegen.shuffles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cgen

from codegen.lanes import affine_index, at_lane, steps
from codegen.shuffles import weave
from codegen.spelling import Index, Spelling
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine

LEAST = 4
"""Rows from which on a transpose beats loads lane by lane."""


@dataclass(frozen=True)
class Line:
    """Neighbours in memory that one lane of several vectors reads: the vectors, the lane, and the first cell."""

    vectors: tuple[int, ...]
    lane: int
    first: Index


def crossed(
    c: Spelling, every: Sequence[tuple[ex.Load, str]], prefix: str
) -> tuple[list[cgen.Generable], list[str]] | None:
    """The lines that load all vectors of a tile, each given as a load and the variable of its lane, and their names;
    None where they do not lie across it.
    """
    lines = _lines(c, every)
    if lines is None:
        return None
    width, load = c.vectors.lanes, every[0][0]
    vector = f"const {c.vectors.type(load.dtype)}"
    groups: dict[tuple[int, ...], dict[int, Line]] = {}
    for line in lines:
        groups.setdefault(line.vectors, {})[line.lane] = line
    made: list[cgen.Generable] = []
    names: dict[int, str] = {}
    for n, (vectors, rows) in enumerate(groups.items()):
        registers = {f"{prefix}row_{n}_{i}": tuple(j * width + i for j in range(width)) for i in range(width)}
        woven = weave(registers, f"{prefix}line_{n}_")
        if woven is None:
            return None
        for i, name in enumerate(registers):
            cell = c.cell(load.array, rows[i].first)
            whole = len(vectors) == width
            text = f"*({vector} *)&{cell}" if whole else _part(c, load, cell, len(vectors))
            made.append(cgen.Initializer(cgen.Value(vector, name), text))
        for s in woven.shuffles:
            text = f"{c.vectors.pick(load.dtype, s.lanes)}({s.first}, {s.second})"
            made.append(cgen.Initializer(cgen.Value(vector, s.made), text))
        names |= {v: name for v, (name, _) in zip(vectors, woven.lines, strict=False)}
    return made, [names[v] for v in range(len(every))]


def _part(c: Spelling, load: ex.Load, cell: str, count: int) -> str:
    return f"{c.vectors.window(load.dtype, 1)}(&{cell}, 0, {count}, 0)"


def _lines(c: Spelling, every: Sequence[tuple[ex.Load, str]]) -> list[Line] | None:
    """The runs of neighbours along the rows, a vector long at most; None where some are short, or lanes are missing."""
    width = c.vectors.lanes
    cells: dict[int, tuple[int, int]] = {}
    origin: Affine | None = None
    for v, (load, lane) in enumerate(every):
        index = affine_index(load)
        first = c.address(load.array, at_lane(index, lane, aff.const(0)))
        apart = steps(c, load.array, index, lane)
        origin = first if origin is None else origin
        if first is None or origin is None or apart is None or not (first - origin).is_const:
            return None
        cells |= {(first - origin).const + n: (v, i) for i, n in enumerate(apart)}
    if len(cells) < len(every) * width:
        return None
    lines = [_line(run, cells, every) for run in _runs(cells, width)]
    lanes: dict[tuple[int, ...], set[int]] = {}
    for line in lines:
        lanes.setdefault(line.vectors, set()).add(line.lane)
    long = all(len(vectors) >= LEAST for vectors in lanes)
    return lines if long and all(found == set(range(width)) for found in lanes.values()) else None


def _runs(cells: Mapping[int, tuple[int, int]], width: int) -> Iterator[list[int]]:
    """Neighbouring places that belong to one lane, a vector's worth at most."""
    run: list[int] = []
    for place in sorted(cells):
        if run and (place != run[-1] + 1 or cells[place][1] != cells[run[-1]][1] or len(run) == width):
            yield run
            run = []
        run.append(place)
    yield run


def _line(run: Sequence[int], cells: Mapping[int, tuple[int, int]], every: Sequence[tuple[ex.Load, str]]) -> Line:
    v, i = cells[run[0]]
    load, lane = every[v]
    return Line(tuple(cells[place][0] for place in run), i, at_lane(affine_index(load), lane, aff.const(i)))
