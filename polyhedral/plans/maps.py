# SPDX-License-Identifier: MIT
"""Plans of statements that reduce nothing: copies, transposes and pointwise results too large for the caches.

A transpose goes through registers, a square of vectors at a time; what streams is written in whole lines.  Everything
else keeps its plain nest, which C compilers vectorise well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import along, extents_of, operands
from polyhedral.ir.program import Program, Statement
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.plans.stores import instructions, lane_steps, loading, streamed, vector_steps
from polyhedral.plans.windows import window
from polyhedral.rewrites.split import split

BLOCKS = 4
"""Vectors side by side in a tile of a pointwise statement; tiles of a transpose that are visited in one row."""


@dataclass(frozen=True)
class Tile:
    """One vector of a dim, as many rows of another, and the instructions that a vector takes to load and store."""

    vector: str
    rows: tuple[tuple[str, int], ...]
    cost: float


def map_plan(p: Program, s: Statement, layouts: Mapping[str, Layout], target: Target) -> RegisterPlan | None:
    """A plan where it beats a plain nest: no dim is dense for all accesses, or the results stream."""
    dtype = ex.dtype_of(s.value)
    same = all(
        ex.dtype_of(n) == dtype for n in ex.walk(s.value) if isinstance(n, (ex.Load, ex.Binary, ex.Unary, ex.Call))
    )
    slow = any(isinstance(n, (ex.Cast, ex.Index)) for n in ex.walk(s.value))
    if not same or slow or p.array(s.write.array).dtype != dtype:
        return None
    lanes = target.lanes(dtype.bits // 8)
    tile = min(_tiles(s, layouts, lanes, target), key=lambda t: (t.cost, t.vector), default=None)
    if tile is None:
        return None
    plan = _nest(s, tile, lanes, layouts[s.write.array], target)
    past = streamed(p, s, plan, layouts[s.write.array], target, ordered=bool(tile.rows))
    return past if past.streams or tile.rows or tile.cost > 2.0 * len(operands(s, layouts)) else None


def _tiles(s: Statement, layouts: Mapping[str, Layout], lanes: int, target: Target) -> Iterator[Tile]:
    """Vectors that load and store whole or in runs, alone or in squares."""
    extents, out = extents_of(s), layouts[s.write.array]
    fast = [d for d in s.dims if along(s.write.index, d, out) == 1 and extents[d] >= lanes]
    for d in s.dims:
        if extents[d] < lanes:
            continue
        steps = vector_steps(s, d, lanes, out)
        loads = 0.0
        for o in operands(s, layouts):
            if target.masked and d in o.dims and (seen := window(o.value, d, layouts[o.load.array])) is not None:
                loads += 1.0 if o.dense(d) else 2.0 * seen.step
            elif d in aff.condition_dims(o.guard) or (o.value != o.load and o.pad is None):
                loads += 2.0 * lanes
            elif d in o.dims and not o.dense(d):
                loads += loading(lane_steps(o, d, lanes, layouts[o.load.array]), lanes)
            else:
                loads += 1.0
        for rows in ((), *(((f, lanes),) for f in fast if f != d)):
            cost = loads + instructions(s, steps, dict(rows), out, lanes)
            if cost < lanes:
                yield Tile(d, rows, cost)


def _nest(s: Statement, tile: Tile, lanes: int, out: Layout, target: Target) -> RegisterPlan:
    """Dims as the result lies in memory; a transpose visits several tiles along each line that it reads."""
    extents = extents_of(s)
    index = dict(s.write.index)
    rank = {d: next((i for i, a in enumerate(out.order) if d in aff.dims_of(index[a])), 0) for d in s.dims}
    blocks = max(b for b in range(1, BLOCKS + 1) if extents[tile.vector] >= b * lanes)
    width = lanes if tile.rows else lanes * blocks
    plan = RegisterPlan(tile.vector, width, tile.rows, (), ())
    square = {tile.vector, *(d for d, _ in tile.rows)}
    outer = [Loop(d, plan.tile(d)) for d in sorted(s.dims, key=lambda d: rank[d]) if not tile.rows or d not in square]
    inner = [*(Loop(d, r) for d, r in tile.rows), Loop(tile.vector, lanes)]
    wide = [Loop(tile.vector, lanes * BLOCKS)] if extents[tile.vector] > lanes * BLOCKS else []
    loops = [*outer, *wide, *inner] if tile.rows else outer
    plan = replace(plan, loops=tuple(loops))
    trips = plan.trips(extents)
    seen: set[str] = set()
    free = [i for i, x in enumerate(loops) if not (x.dim in seen or seen.add(x.dim))]
    first = next((i for i in free if trips[i] >= 4 * target.cores), max(free, key=lambda i: trips[i]))
    return replace(plan, loops=(loops[first], *loops[:first], *loops[first + 1 :]))


def parts(
    s: Statement, plan: RegisterPlan, lanes: int, named: Callable[[str], str]
) -> Iterator[tuple[Statement, RegisterPlan | None]]:
    """The statement over whole tiles, and what is left over in smaller ones; without a plan where most of a vector, or
    of a square, is left out.
    """
    for d in (plan.vector, *(d for d, _ in plan.rows)):
        r = next(r for r in s.domain.ranges if r.dim == d)
        left = (r.hi.const - r.lo.const) % plan.tile(d)
        if left:
            whole, rest = split(s, d, r.hi.const - left, named(d))
            if r.hi.const - left > r.lo.const:
                yield from parts(whole, plan, lanes, named)
            if left >= (plan.tile(d) if plan.rows else lanes) // 4:
                yield from parts(rest, plan.with_tile(d, left), lanes, named)
            else:
                yield rest, None
            return
    yield s, plan
