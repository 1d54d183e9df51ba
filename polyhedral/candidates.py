# SPDX-License-Identifier: MIT
"""Candidate plans of one reduction over a box, and the best of them by predicted cycles.

Which dim, or fused pair, runs along the vector lanes; how many results are kept in registers; which operands are
re-laid so that a vector of them is one load; in which order tiles are visited, and in which portions the reduction is
done.  Everything follows from the access relations, the layouts and the Target's numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import TRUE
from polyhedral.cycles import Prediction, Stream, predict
from polyhedral.layout import Layout, row_major
from polyhedral.operands import Operand, along, box, extents_of, operands
from polyhedral.program import Program, Statement
from polyhedral.register_plan import EVEN, Loop, RegisterPlan, balance
from polyhedral.rewrites.fuse_dims import fuse_dims
from polyhedral.rewrites.relay import Relaid, relay
from polyhedral.stores import instructions, lane_steps, loading, storing, vector_steps
from polyhedral.target import Target
from polyhedral.windows import STEPS, window

ROWS = 16
"""The largest register tile along one dim."""
BLOCKS = (1, 2, 3, 4, 6)
"""Vectors side by side in a register tile."""
FINALISTS = 6
"""Register tiles of each statement whose loops and copies are weighed in full."""
MASKED = 1.5
"""What a load that leaves lanes out, or crosses a line, costs next to a plain one."""
TRANSPOSE = 2.5
"""Cycles to move one cell of an operand to another order."""
BARRIER = 4000.0
"""Cycles that every core waits at the end of a copy."""
PORTIONS = (128, 256, 512)
"""Steps of a long reduction that are done at once."""
PANELS = (2, 4, 8)
"""Panels of the vector dim that are visited in turn for the same other operands."""


@dataclass(frozen=True)
class Choice:
    """A plan, the statement that it is for (two dims may be fused), and the operands re-laid for it: dim and panel."""

    statement: Statement
    plan: RegisterPlan
    relaid: tuple[tuple[Operand, str, int], ...]
    prediction: Prediction


@dataclass(frozen=True)
class _Tile:
    """A register tile and the cycles of its arithmetic and loads alone."""

    statement: Statement
    vector: str
    blocks: int
    rows: tuple[tuple[str, int], ...]
    cycles: float


@dataclass(frozen=True)
class _Setting:
    """What every candidate of a statement shares."""

    program: Program
    layouts: Mapping[str, Layout]
    target: Target
    constants: frozenset[str]


def best(
    p: Program, s: Statement, layouts: Mapping[str, Layout], target: Target, constants: frozenset[str]
) -> Choice | None:
    """The plan with the least predicted cycles; `constants` are arrays whose re-laying costs nothing at a call."""
    return min(choices(p, s, layouts, target, constants), key=lambda c: c.prediction.total, default=None)


def choices(
    p: Program, s: Statement, layouts: Mapping[str, Layout], target: Target, constants: frozenset[str]
) -> list[Choice]:
    """Every plan that is weighed."""
    setting = _Setting(p, layouts, target, constants)
    tiles: list[_Tile] = []
    for fused, vector in _vectors(s, layouts, target.lanes(_itemsize(s))):
        t = fuse_dims(s, *fused, vector) if fused else s
        tiles += sorted(_tiles(setting, t, vector), key=lambda x: x.cycles)[:FINALISTS]
    tiles.sort(key=lambda x: x.cycles)
    good = [t for t in tiles if t.cycles <= 1.5 * tiles[0].cycles][: 2 * FINALISTS]
    return [c for t in good for c in _choices(setting, t)]


def _itemsize(s: Statement) -> int:
    return ex.dtype_of(s.value).bits // 8


def kept(s: Statement) -> tuple[str, ...]:
    return tuple(d for d in s.dims if d not in s.reduced)


# --- vector dims -----------------------------------------------------------------------------------------------------


def _vectors(s: Statement, layouts: Mapping[str, Layout], lanes: int) -> Iterator[tuple[tuple[str, str] | None, str]]:
    """Dims, and pairs (slow, fast) of dims that every operand sees together or not at all.

    A pair pays where its fast dim alone leaves lanes empty.  Where the pair lies in memory as one dim would, its order
    is that of memory; else the longer one is slow.
    """
    extents = extents_of(s)
    for d in kept(s):
        yield None, d
    every = [n for n in ex.walk(s.value) if isinstance(n, ex.Load)]
    seen = [frozenset[str]().union(*(aff.dims_of(i) for _, i in n.index if isinstance(i, aff.Affine))) for n in every]
    tests = frozenset[str]().union(*(ex.dims_of(n) for n in ex.walk(s.value) if isinstance(n, (ex.Test, ex.Index))))

    def one(a: str, b: str) -> bool:
        """Whether a step along a is as far as the whole of b, in all that see them."""
        accesses = [(s.write.array, s.write.index), *((n.array, n.index) for n in every)]
        strides = [(along(i, a, layouts[n]), along(i, b, layouts[n])) for n, i in accesses]
        return all(x is not None and y is not None and x == y * extents[b] for x, y in strides)

    for a, b in product(kept(s), kept(s)):
        together = a != b and not {a, b} & tests and all((a in dims) == (b in dims) for dims in seen)
        if together and extents[b] % lanes and (one(a, b) or ((extents[a], a) > (extents[b], b) and not one(b, a))):
            yield (a, b), f"{a}{b}" if f"{a}{b}" not in s.dims else f"{a}_{b}"


# --- register tiles --------------------------------------------------------------------------------------------------


def _tiles(q: _Setting, s: Statement, vector: str) -> Iterator[_Tile]:
    """Tiles whose accumulators and vector operands fit the registers, with the cycles of their steps."""
    extents = extents_of(s)
    lanes = q.target.lanes(_itemsize(s))
    every = operands(s, q.layouts)
    rows = [d for d in kept(s) if d != vector]
    steps = prod(extents[d] for d in s.reduced)
    ranges = box(s.domain)
    gathers = {
        o: 1.0 if _relaid(q, s, o, ranges, vector, lanes, ()) else _loading(q, o, vector, lanes) or 2.0 * lanes
        for o in every
    }
    out = q.layouts[s.write.array]
    beside = frozenset[str]().union(*(o.dims for o in every if vector in o.dims))
    for blocks in BLOCKS:
        if blocks > 1 and (blocks - 1) * lanes >= extents[vector]:
            break
        shared = sum(blocks for o in every if vector in o.dims)
        panels = -(-extents[vector] // (blocks * lanes))
        steps_of = vector_steps(s, vector, blocks * lanes, out)
        for tile in _row_tiles(rows, extents, q.target.registers - 2 - shared, blocks):
            busy = _step_cycles(every, gathers, vector, tile, blocks, q.target)
            tiles = panels * prod(-(-extents[d] // tile.get(d, 1)) for d in rows)
            ends = blocks * prod(tile.values()) * (2.0 + instructions(s, steps_of, tile, out, lanes)) + 4.0
            # rows of scalars outside, so that each is loaded once for all vectors
            ordered = sorted(tile.items(), key=lambda dr: (dr[0] in beside, dr[0]))
            yield _Tile(s, vector, blocks, tuple(ordered), tiles * (steps * busy + ends))


def _row_tiles(
    rows: Sequence[str], extents: Mapping[str, int], registers: int, blocks: int
) -> Iterator[dict[str, int]]:
    """Tiles over at most two row dims: divisors of their extents, or what leaves little over."""
    yield {}
    for i, a in enumerate(rows):
        for ra in _row_sizes(extents[a]):
            if ra * blocks > registers:
                break
            yield {a: ra}
            for b in rows[i + 1 :]:
                for rb in _row_sizes(extents[b]):
                    if ra * rb * blocks > registers:
                        break
                    yield {a: ra, b: rb}


def _row_sizes(extent: int) -> list[int]:
    divisors = [r for r in range(2, min(extent, ROWS) + 1) if extent % r == 0]
    rest = [r for r in range(4, min(extent, ROWS) + 1) if extent % r and extent >= 8 * r]
    several = [] if any(r >= 4 for r in divisors) else list(range(4, min(extent, ROWS) + 1))
    return sorted({*divisors, *rest, *several})


def _step_cycles(
    every: Sequence[Operand],
    gathers: Mapping[Operand, float],
    vector: str,
    tile: Mapping[str, int],
    blocks: int,
    target: Target,
) -> float:
    """Cycles of one reduction step: multiply-adds, loads or latency, whichever binds."""
    fmas = blocks * prod(tile.values())
    vectors = scalars = 0.0
    for o in every:
        rows = prod(r for d, r in tile.items() if d in o.dims)
        if vector in o.dims:
            vectors += rows * blocks * gathers[o]
        else:
            scalars += rows
    busy = max(fmas / target.fma_per_cycle, (vectors + scalars) / target.loads_per_cycle, float(target.latency))
    return busy + 0.5 * vectors + 0.15 * scalars + 0.5


# --- loops and copies ------------------------------------------------------------------------------------------------


def _choices(q: _Setting, t: _Tile) -> Iterator[Choice]:
    """A register tile with every order of its loops that is worth a look, with and without copies of its operands."""
    s, extents = t.statement, extents_of(t.statement)
    lanes = q.target.lanes(_itemsize(s))
    every = operands(s, q.layouts)
    plan = RegisterPlan(t.vector, t.blocks * lanes, t.rows, reduce_order(s, every, t.vector), ())
    out = q.layouts[s.write.array]
    strides = {d: (along(s.write.index, d, out) or 1) * _itemsize(s) for d in kept(s)}
    stored = instructions(s, vector_steps(s, t.vector, plan.width, out), dict(t.rows), out, lanes)
    result = Stream(strides, stored, _itemsize(s))
    floor = storing(q.program, s, q.target)
    for loops in _orders(q, s, plan, extents):
        ordered = replace(plan, loops=loops)
        for relaid, streams, copies in _operand_forms(q, s, ordered, every):
            found = predict(ordered, extents, lanes, streams, result, q.target, copies, floor)
            yield Choice(s, ordered, relaid, found)


def _operand_forms(
    q: _Setting, s: Statement, plan: RegisterPlan, every: Sequence[Operand]
) -> Iterator[tuple[tuple[tuple[Operand, str, int], ...], tuple[Stream, ...], float]]:
    """Each operand where it lies or re-laid: (what is re-laid, streams, cycles of the copies)."""
    forms: list[list[tuple[tuple[tuple[Operand, str, int], ...], Stream, float]]] = []
    lanes = q.target.lanes(_itemsize(s))
    order = (*(loop.dim for loop in plan.loops), *plan.order)
    ranges = box(s.domain)
    for o in every:
        direct = _loading(q, o, plan.vector, lanes) if plan.vector in o.dims else 0.0
        here = Stream(
            {d: (st if st is not None else 1 << 12) * o.itemsize for d, st in o.strides.items()},
            2.0 * lanes if direct is None else direct,
            o.itemsize,
            guard=frozenset() if plan.vector in aff.condition_dims(o.guard) and direct else aff.condition_dims(o.guard),
        )
        mine: list[tuple[tuple[tuple[Operand, str, int], ...], Stream, float]] = [((), here, 0.0)]
        dims = [plan.vector] if plan.vector in o.dims else [d for d, r in plan.rows if d in o.dims and r > 2]
        for d in dims[:1]:
            made = _relaid(q, s, o, ranges, d, plan.tile(d), order)
            if made is not None:
                cost = 0.0 if o.load.array in q.constants else _copying(q, o, made, d)
                copied = _copied(made, d, plan, o.itemsize)
                mine.append((((o, d, plan.tile(d)),), copied, cost))
                if direct is None:
                    mine.pop(0)
        forms.append(mine)
    for chosen in product(*forms):
        yield (
            tuple(r for made, _, _ in chosen for r in made),
            tuple(stream for _, stream, _ in chosen),
            sum(cost for _, _, cost in chosen),
        )


def _loading(q: _Setting, o: Operand, vector: str, lanes: int) -> float | None:
    """Instructions that load a vector of an operand where it lies: whole, masked or in runs; None if lane by lane."""
    if o.dense(vector):
        return 1.0
    layout = q.layouts[o.load.array]
    seen = window(o.value, vector, layout) if q.target.masked else None
    if seen is not None:
        return MASKED if seen.step == 1 else 2 * MASKED + 1.0
    steps = lane_steps(o, vector, lanes, layout)
    return None if steps is None else loading(steps, lanes)


def _relaid(
    q: _Setting,
    s: Statement,
    o: Operand,
    ranges: Mapping[str, tuple[int, int]],
    d: str,
    panel: int,
    order: Sequence[str],
) -> Relaid | None:
    return relay(q.program.array(o.load.array), o, ranges, d, panel, order, "copy")


def _copying(q: _Setting, o: Operand, made: Relaid, dim: str) -> float:
    """Cycles to read the operand and write its copy: from memory, or twice as fast within the last cache; an operand
    that is not dense along the panels is transposed cell by cell.
    """
    size = made.cells * o.itemsize
    near = 2.0 if 4 * size <= q.target.l3 else 1.0
    moved = 2.0 * size / (q.target.bytes_per_cycle * near)
    return BARRIER + max(moved, 0.0 if o.stride(dim) == 1 else made.cells * TRANSPOSE)


def _copied(made: Relaid, d: str, plan: RegisterPlan, itemsize: int) -> Stream:
    """The stream of a copy whose panels along `d` are dense."""
    layout = row_major(made.array)
    found = {v: along(made.load.index, v, layout) for v in ex.dims_of(made.load)}
    strides = {v: itemsize if v == d else (st if st is not None else 1) * itemsize for v, st in found.items()}
    panels: dict[str, tuple[int, int]] = {}
    if found[d] is None:
        panels[d] = plan.tile(d), itemsize * max(st for _, st in layout.strides if isinstance(st, int))
    return Stream(strides, 1.0 if d == plan.vector else 0.0, itemsize, panels)


def reduce_order(s: Statement, every: Sequence[Operand], vector: str) -> tuple[str, ...]:
    """Reduced dims from slow to fast in the operands that stay where they are; those that decide whether a padded read
    is inside come first, so that it is decided rarely.
    """
    still = [o for o in every if vector not in o.dims or o.stride(vector) in STEPS] or list(every)
    tested = frozenset[str]().union(*(aff.condition_dims(o.guard) for o in still if o.guard != TRUE))

    def stride(d: str) -> int:
        found = (o.stride(d) for o in still if d in o.dims)
        return min((abs(st) if st is not None else 1 for st in found), default=1 << 40)

    return tuple(sorted(s.reduced, key=lambda d: (d not in tested, -stride(d))))


def _orders(q: _Setting, s: Statement, plan: RegisterPlan, extents: Mapping[str, int]) -> Iterator[tuple[Loop, ...]]:
    """Tile loops: one with enough trips for all cores first, then the vector's first or last, long reductions in
    portions, several panels of the vector dim in turn; the rest as the result lies in memory.
    """
    out = q.layouts[s.write.array].order
    index = dict(s.write.index)
    rest = sorted(
        (d for d in kept(s) if d != plan.vector),
        key=lambda d: next((i for i, a in enumerate(out) if d in aff.dims_of(index[a])), 0),
    )
    loops = {d: Loop(d, plan.tile(d)) for d in kept(s)}
    plain = [loops[d] for d in (plan.vector, *rest)]
    trips = dict(zip(plain, replace(plan, loops=tuple(plain)).trips(extents), strict=True))
    if balance(trips[plain[0]], q.target.cores) > EVEN:
        yield tuple(plain)
    for order in (plain, [*plain[1:], plain[0]]):
        yield balanced(replace(plan, loops=tuple(order)), extents, q.target.cores)
    guarded = any(o.guard != TRUE for o in operands(s, q.layouts))
    longest = max(s.reduced, key=lambda d: extents[d], default=None)
    if longest is None or guarded or extents[longest] < 2 * PORTIONS[0]:
        return
    for portion, panels in product((0, *PORTIONS), PANELS):
        if panels * plan.width < extents[plan.vector] and portion < extents[longest]:
            cut = [Loop(longest, portion)] if portion else []
            group = Loop(plan.vector, panels * plan.width)
            yield (group, *cut, *(loops[d] for d in rest), loops[plan.vector])


def balanced(plan: RegisterPlan, extents: Mapping[str, int], cores: int) -> tuple[Loop, ...]:
    """The loops with one that keeps all cores busy in front."""
    trips = dict(zip(plan.loops, plan.trips(extents), strict=True))
    free = [loop for loop in plan.loops if loop.dim not in plan.order]
    candidates = [x for x in free if x.dim != plan.vector and balance(trips[x], cores) > EVEN]
    candidates = candidates or [max(free, key=lambda x: balance(trips[x], cores))]
    first = max(candidates, key=lambda x: min(trips[x], 8 * cores))
    return (first, *(x for x in plan.loops if x != first))
