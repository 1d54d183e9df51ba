# SPDX-License-Identifier: MIT
"""Register tiles of one reduction along a vector dim, and the best of them by the cycles of their arithmetic and loads.

Tiles are looked at in the order of what they take at least, so that few of the hundreds there are are priced in full.
Their loops, and copies of operands in detail, are left to `polyhedral.plans.candidates`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, prod

from polyhedral.ir import expr as ex
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import Interval, Operand, along, box, operands, tied, typical
from polyhedral.ir.program import Program, Statement
from polyhedral.machine.prices import BARRIER, KEPT, TRANSPOSE, UNEVEN, WOVEN
from polyhedral.machine.target import Target
from polyhedral.plans.cycles import SLIDE, WEIGHT, cells_read, filled, loaded, shuffled
from polyhedral.plans.register_plan import RegisterPlan, even
from polyhedral.plans.stores import alike, instructions, lane_steps, loading, past_cache, storing, vector_steps
from polyhedral.plans.windows import window
from polyhedral.plans.written import SPARE, reduce_orders, written
from polyhedral.rewrites.relay import Parts, Relaid, in_order, parted

ROWS = 16
"""The largest register tile along one dim."""
BLOCKS = (1, 2, 3, 4, 6)
"""Vectors side by side in a register tile."""
FINALISTS = 6
"""Register tiles of each statement whose loops and copies are weighed in full."""
FULL = 3
"""Finalists more that hold the vectors of some operand one after the other."""
CLOSE = 1.5
"""Tiles that take so many times the cycles of the best are not weighed."""


@dataclass(frozen=True)
class Within:
    """What a statement that runs in blocks may not do: cut along the `whole` dims what does not fill a tile, copy the
    arrays that are `still`, or make one dim of two.
    """

    whole: frozenset[str] = frozenset()
    still: frozenset[str] = frozenset()


ALONE = Within()


@dataclass(frozen=True)
class Setting:
    """What every candidate of a statement shares."""

    program: Program
    layouts: Mapping[str, Layout]
    target: Target
    constants: frozenset[str]
    within: Within
    copies: dict[object, Relaid | None] = field(default_factory=dict[object, "Relaid | None"], compare=False)
    """Of operands, for each dim, panel and order of dims that was asked about."""
    parts: dict[object, Parts | None] = field(default_factory=dict[object, "Parts | None"], compare=False)
    """The same for each dim and panel."""


@dataclass(frozen=True)
class Tile:
    """A register tile and the cycles of its arithmetic and loads alone."""

    statement: Statement
    vector: str
    blocks: int
    rows: tuple[tuple[str, int], ...]
    cycles: float
    full: bool
    """Whether there are too few registers for all its vectors at once."""


@dataclass(frozen=True, slots=True)
class _Sketch:
    """A tile before it is priced: its `number` among all; how full it is along each dim; how many of it there are; and
    the cycles that it takes at `least`, whatever it loads.
    """

    number: int
    blocks: int
    rows: Mapping[str, int]
    full: bool
    fill: Mapping[str, float]
    tiles: int
    least: float


@dataclass(frozen=True)
class _Along:
    """What all tiles of a statement along one vector dim share; `steps` are those of one row of the reduction, and
    `loads` the instructions for a vector of each operand, None for one that is a scalar.
    """

    q: Setting
    s: Statement
    vector: str
    lanes: int
    extents: Mapping[str, int]
    loads: Sequence[tuple[Operand, float | None]]
    order: tuple[str, ...]
    steps: int
    copies: float
    floor: float
    """What memory takes for the results at least."""

    def work(self, blocks: int, rows: Mapping[str, int], tiles: int, busy: float, fill: float, stores: float) -> float:
        """Cycles of steps, and of storing at the ends of tiles."""
        results = blocks * prod(rows.values()) * fill
        return tiles * (self.steps * busy + (results * (2.0 + stores) + 4.0))

    def least(self, blocks: int, rows: Mapping[str, int], tiles: int, fill: float) -> float:
        """Cycles of a tile without what loads take."""
        target = self.q.target
        busy = max(blocks * prod(rows.values()) * fill / target.fma_per_cycle, float(target.latency)) + 0.5
        return self.all(self.work(blocks, rows, tiles, busy, fill, 1.0), self.floor)

    def sure(self, x: _Sketch) -> float:
        """Cycles of a tile with what loads take, its results stored as fast as can be."""
        return self.all(self.work(x.blocks, x.rows, x.tiles, self.busy(x), prod(x.fill.values()), 1.0), self.floor)

    def busy(self, x: _Sketch) -> float:
        """Cycles of one step of a tile."""
        every = [o for o, _ in self.loads]
        out = written(every, self.order, self.extents, self.vector, x.blocks, x.rows, self.q.target)
        steps = {d: self.extents[d] for d in out}
        each = [(o.dims, g, _cells(self.q, o, g, self.vector, x.blocks, x.rows, steps)) for o, g in self.loads]
        made = sum(
            shuffled({d: o.stride(d) or 0 for d in o.dims}, 1, self.vector, x.blocks, x.rows, steps, many)
            for o, g in self.loads
            if g is not None and (many := self.q.target.slides(o.itemsize))
        )
        return _step_cycles(each, made, self.vector, x.rows, x.blocks, x.fill, self.q.target)

    def cycles(self, x: _Sketch) -> float:
        s, out = self.s, self.q.layouts[self.s.write.array]
        steps = vector_steps(s, self.vector, x.blocks * self.lanes, out)
        stores = instructions(s, steps, x.rows, out, self.lanes)
        work = self.work(x.blocks, x.rows, x.tiles, self.busy(x), prod(x.fill.values()), stores)
        plan = RegisterPlan(self.vector, x.blocks * self.lanes, tuple(x.rows.items()), (), ())
        return self.all(work, storing(self.q.program, s, plan, out, self.q.target) if self.floor else 0.0)

    def all(self, work: float, floor: float) -> float:
        return max(work, floor) + (WEIGHT * work if floor else 0.0) + self.copies


def finalists(q: Setting, s: Statement, vector: str, best: float = inf) -> list[Tile]:
    """The first tiles along a vector dim by their cycles, of those that hold all vectors at once and of the larger ones
    that do not; none that takes much more than the `best` of another dim.
    """
    every = operands(s, q.layouts)
    along = _shared(q, s, vector, every)
    kept: dict[bool, list[tuple[float, int, _Sketch]]] = {False: [], True: []}
    for x in sorted(_sketches(along), key=lambda x: x.least):
        mine, most = kept[x.full], FULL if x.full else FINALISTS
        if x.least > CLOSE * best:
            break
        if len(mine) < most or (x.least <= mine[-1][0] and along.sure(x) <= mine[-1][0]):
            cycles = along.cycles(x)
            best = min(best, cycles)
            insort(mine, (cycles, x.number, x), key=lambda found: found[:2])
            del mine[most:]
    beside = frozenset[str]().union(*(o.dims for o in every if vector in o.dims))

    def ordered(rows: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        """Rows of scalars outside, so that each is loaded once for all vectors."""
        return tuple(sorted(rows.items(), key=lambda dr: (dr[0] in beside, dr[0])))

    return [Tile(s, vector, x.blocks, ordered(x.rows), c, x.full) for c, _, x in (*kept[False], *kept[True])]


def first(tiles: Sequence[Tile], most: int, full: int) -> list[Tile]:
    """The first of the tiles that hold all vectors at once, and of the larger ones that do not."""
    return [*[t for t in tiles if not t.full][:most], *[t for t in tiles if t.full][:full]]


def itemsize(s: Statement) -> int:
    return ex.dtype_of(s.value).bits // 8


def _shared(q: Setting, s: Statement, vector: str, every: Sequence[Operand]) -> _Along:
    """What tiles along a dim share: operands that are neither loaded nor constant there are copied."""
    lanes, extents, ranges = q.target.lanes(itemsize(s)), typical(s), box(s.domain)
    made = [(o, relaid(q, s, o, ranges, vector, lanes, ())) for o in every if vector in o.dims]
    forced = [
        (o, r) for o, r in made if r and o.load.array not in q.constants and load_cost(q, o, vector, lanes) is None
    ]
    copies = sum(copying(q, o, r, vector, extents[vector], lanes) for o, r in forced)
    floor = past_cache(q.program, s, q.target)
    loads = [(o, _gathers(q, s, o, vector, lanes, ranges)) for o in every]
    steps = prod(extents[d] for d in s.reduced)
    return _Along(q, s, vector, lanes, extents, loads, next(reduce_orders(s, every, vector)), steps, copies, floor)


def _sketches(along: _Along) -> Iterator[_Sketch]:
    """Tiles whose accumulators and vector operands fit the registers."""
    q, s, vector, lanes, extents = along.q, along.s, along.vector, along.lanes, along.extents
    free = [d for d in s.kept if d != vector and d not in tied(s)]
    vectors = [o.dims for o, _ in along.loads if vector in o.dims]
    whole = prod(extents[d] for d in s.kept)
    number = 0
    for blocks in BLOCKS:
        if blocks > 1 and (blocks - 1) * lanes >= extents[vector]:
            break
        if even(extents[vector], blocks * lanes, lanes)[0] < blocks * lanes:
            continue
        for tile in _row_tiles(free, extents, q.target.registers - SPARE - blocks, blocks):
            accumulators = blocks * prod(tile.values())
            rest = q.target.registers - SPARE - accumulators
            seen = [prod(r for d, r in tile.items() if d in dims) for dims in vectors]
            if sum(blocks * n if tile.keys() - dims else 1 for dims, n in zip(vectors, seen, strict=True)) > rest:
                continue
            sizes = {vector: blocks * lanes, **tile}
            if any(extents[d] % min(sizes.get(d, 1), extents[d]) for d in q.within.whole):
                continue
            full = blocks * sum(seen) > rest
            fill = {d: filled(extents[d], n, lanes if d == vector else 1) for d, n in sizes.items()}
            tiles = whole // prod(extents[d] for d in sizes) * prod(-(-extents[d] // n) for d, n in sizes.items())
            least = along.least(blocks, tile, tiles, prod(fill.values()))
            yield _Sketch(number, blocks, tile, full, fill, tiles, least)
            number += 1


def _cells(
    q: Setting,
    o: Operand,
    gathers: float | None,
    vector: str,
    blocks: int,
    tile: Mapping[str, int],
    steps: Mapping[str, int],
) -> float:
    """Scalars, or vectors for each block of lanes, that the rows of a tile load in one step."""
    strides = {d: o.stride(d) or 0 for d in o.dims}
    if gathers is None:
        return cells_read(strides, tile, steps)
    return loaded(strides, 1, vector, blocks, gathers, tile, steps, q.target.slides(o.itemsize)) / (blocks * gathers)


def _gathers(
    q: Setting, s: Statement, o: Operand, vector: str, lanes: int, ranges: Mapping[str, Interval]
) -> float | None:
    """Instructions that load a vector of an operand, which may be copied for it; None for one that is a scalar."""
    if vector not in o.dims:
        return None
    return 1.0 if relaid(q, s, o, ranges, vector, lanes, ()) else load_cost(q, o, vector, lanes) or 2.0 * lanes


def _row_tiles(
    rows: Sequence[str], extents: Mapping[str, int], registers: int, blocks: int
) -> Iterator[dict[str, int]]:
    """Tiles over at most two row dims."""
    sizes = {d: _row_sizes(extents[d]) for d in rows}
    yield {}
    for i, a in enumerate(rows):
        for ra in sizes[a]:
            if ra * blocks > registers:
                break
            yield {a: ra}
            for b in rows[i + 1 :]:
                for rb in sizes[b]:
                    if ra * rb * blocks > registers:
                        break
                    yield {a: ra, b: rb}


@lru_cache(maxsize=1 << 10)
def _row_sizes(extent: int) -> tuple[int, ...]:
    """Sizes that some number of tiles, as even as can be, has."""
    return tuple(r for r in range(2, min(extent, ROWS) + 1) if even(extent, r)[0] == r)


def _step_cycles(
    loads: Sequence[tuple[frozenset[str], float | None, float]],
    shuffles: float,
    vector: str,
    tile: Mapping[str, int],
    blocks: int,
    fill: Mapping[str, float],
    target: Target,
) -> float:
    """Cycles of one reduction step: multiply-adds, loads or latency, whichever binds."""
    fmas = (blocks * prod(tile.values()) + SLIDE * shuffles) * prod(fill.values())
    vectors = scalars = 0.0
    for dims, gathers, cells in loads:
        rows = cells * prod(fill[d] for d in tile if d in dims)
        if gathers is None:
            scalars += rows
        else:
            vectors += rows * blocks * fill[vector] * gathers
    busy = max(fmas / target.fma_per_cycle, (vectors + scalars) / target.loads_per_cycle, float(target.latency))
    return busy + 0.5 * vectors + 0.15 * scalars + 0.5


# --- operands where they lie, and copies -----------------------------------------------------------------------------


def load_cost(q: Setting, o: Operand, vector: str, lanes: int) -> float | None:
    """Instructions that load a vector of an operand where it lies: whole, masked or in runs; None if lane by lane."""
    if o.dense(vector):
        return 1.0
    layout = q.layouts[o.load.array]
    seen = window(o.value, vector, layout) if q.target.masked else None
    if seen is not None:
        crossing = 1.0 + q.target.vector / q.target.line  # a vector that begins anywhere lies in two lines as often
        return crossing if seen.step == 1 else 2 * crossing + 1.0
    steps = lane_steps(o, vector, lanes, layout)
    return None if steps is None else loading(steps, lanes)


def relaid(
    q: Setting,
    s: Statement,
    o: Operand,
    ranges: Mapping[str, Interval],
    d: str,
    panel: int,
    order: Sequence[str],
) -> Relaid | None:
    """The copy of an operand for a panel along a dim, if there can be one."""
    key = o, d, panel, tuple(order)
    if key not in q.copies:
        of = o, d, panel
        if of not in q.parts:
            still = o.load.array in q.within.still
            q.parts[of] = None if still else parted(q.program.array(o.load.array), o, ranges, d, panel)
        parts = q.parts[of]
        q.copies[key] = None if parts is None else in_order(parts, order, "copy")
    return q.copies[key]


def copying(q: Setting, o: Operand, made: Relaid, dim: str, extent: int, panel: int) -> float:
    """Cycles to read an operand along a dim, and to fetch and write the lines of its copy: from memory, or twice as
    fast within the last cache.  One that is not dense along the panels is transposed, through registers where both
    sides have whole vectors, else cell by cell, which does not overlap with waiting for memory.
    """
    lanes, layout, target = q.target.lanes(o.itemsize), q.layouts[o.load.array], q.target
    size = made.cells * o.itemsize
    read = size * min(_apart(made, layout), target.line // o.itemsize)
    a = q.program.array(o.load.array)
    far = max(array_bytes(a), size) > KEPT[1] * target.l3
    moved = (read + 2.0 * size) / (target.bytes_per_cycle * (1.0 if far else 2.0))
    if o.stride(dim) == 1:
        return BARRIER + moved
    even = o.stride(dim) is not None or alike(o, dim, extent, lanes, layout)
    if even and panel >= lanes and any(layout.stride(d) == 1 and e.const >= lanes for d, e in a.dims):
        return BARRIER + max(moved, made.cells * WOVEN)
    work = made.cells * (TRANSPOSE if even else UNEVEN)
    return BARRIER + (moved + work if far else max(moved, work))


def _apart(made: Relaid, layout: Layout) -> int:
    """How far apart the cells of an operand that its copy reads lie at least, in elements; 1 where nothing tells."""
    (load,) = ex.loads(made.value)
    steps = [along(load.index, d, layout) for d in made.array.dim_names]
    return 1 if None in steps else min((abs(st) for st in steps if st), default=1)
