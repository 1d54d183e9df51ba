# SPDX-License-Identifier: MIT
"""Plans: how a reduction over a box becomes a register-tiled, vectorised nest, chosen by predicted cycles.

Everything follows from the access relations, the layouts and the Target's numbers (the analytical model of Low et al.
2016, generalised from matrix products to any reduction): which dim, or fused pair, runs along the vector lanes; how
many results are kept in registers; which operands are re-laid so that a vector of them is one load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import TRUE, Affine
from polyhedral.errors import Remark
from polyhedral.layout import Layout, row_major
from polyhedral.program import Array, Program, Role, Statement, reads
from polyhedral.rewrites.fuse_dims import fuse_dims
from polyhedral.rewrites.relay import Relaid, relay, use
from polyhedral.rewrites.split import split
from polyhedral.target import Target

SMALL = 50_000
"""Fewer instances than this are not worth a plan."""
JUMP = 4.0
"""Cycles lost at each step to an operand whose next vector lies on another page or line set."""
STREAMED, PRESSURE = 0.8, 0.15
"""Cycles that a load costs even where multiply-adds bind: a vector streams from the second-level cache, a scalar mostly
hits the first.
"""
ROWS = 16
"""The largest register tile along one dim."""


@dataclass(frozen=True)
class RegisterPlan:
    """The nest of one statement: `width` elements of `vector` times a tile of `rows` are accumulated in registers over
    the loops of `order`; `outer` lists the kept dims' tile loops, the first of them parallel.
    """

    vector: str
    width: int
    rows: tuple[tuple[str, int], ...]
    order: tuple[str, ...]
    outer: tuple[str, ...]
    cycles: float = 0.0

    def tile(self, dim: str) -> int:
        return self.width if dim == self.vector else dict(self.rows).get(dim, 1)


@dataclass(frozen=True)
class Planned:
    """A program rewritten for its plans, the plan of each statement that has one, and layouts of the arrays it made."""

    program: Program
    plans: Mapping[str, RegisterPlan]
    layouts: Mapping[str, Layout]
    remarks: tuple[Remark, ...] = ()


def plan_program(
    p: Program,
    layouts: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str] = frozenset(),
    small: int = SMALL,
) -> Planned:
    """Plan every reduction of at least `small` instances that allows it; `constants` are arrays whose re-laying costs
    nothing at a call.
    """
    statements: list[Statement] = []
    arrays = list(p.arrays)
    plans: dict[str, RegisterPlan] = {}
    every = dict(layouts)
    remarks: list[Remark] = []
    taken = {a.name for a in p.arrays} | {s.name for s in p.statements}
    for s in p.statements:
        reason = _unplannable(p, s, every, small)
        best = None if reason else _best(p, s, every, target, constants)
        if best is None:
            if reason and s.op is not None:
                remarks.append(Remark("no register tile", reason, s.name))
            statements.append(s)
            continue
        made, parts = _rewritten(p, s, best, taken)
        for r in made:
            arrays.append(r.array)
            statements.append(replace(r.copy, position=s.position, location=s.location))
            every[r.array.name] = row_major(r.array)
        for part, plan in parts:
            statements.append(part)
            plans[part.name] = plan
    program = replace(p, arrays=tuple(arrays), statements=tuple(statements))
    return Planned(program, plans, {n: lay for n, lay in every.items() if n not in layouts}, tuple(remarks))


# --- which statements ------------------------------------------------------------------------------------------------


def _unplannable(p: Program, s: Statement, layouts: Mapping[str, Layout], small: int) -> str | None:
    """Why a statement keeps its plain nest, or None."""
    if s.op not in ("sum", "prod", "max", "min"):
        return "it is no sum, product, maximum or minimum"
    if s.strict or s.accumulate or s.ordered:
        return "its order is fixed"
    if s.domain.guard != TRUE or any(r.lo != aff.const(0) or not r.hi.is_const for r in s.domain.ranges):
        return "its domain is not a box of known size"
    if prod(r.hi.const for r in s.domain.ranges) < max(small, 1):
        return "it is small"
    touched = [s.write.array, *(load.array for load in reads(s))]
    if any(p.array(n).role is Role.INOUT for n in touched) or s.write.array in touched[1:]:
        return "it reads or writes memory that other statements update"
    if any(not isinstance(i, Affine) for load in reads(s) for _, i in load.index):
        return "it gathers"
    if any(not isinstance(st, int) for n in touched for _, st in layouts[n].strides):
        return "its strides are only known at run time"
    if ex.dtype_of(s.value).name not in ("f32", "f64", "i32", "i64", "u32", "u64"):
        return f"its accumulator is {ex.dtype_of(s.value)}"
    return None if _kept(s) else "its result is a single value"


def _kept(s: Statement) -> tuple[str, ...]:
    return tuple(d for d in s.dims if d not in s.reduced)


# --- candidates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    fused: tuple[str, str] | None
    plan: RegisterPlan
    relaid: tuple[tuple[ex.Load, str, int], ...]
    statement: Statement


def _best(
    p: Program, s: Statement, layouts: Mapping[str, Layout], target: Target, constants: frozenset[str]
) -> _Choice | None:
    found: list[_Choice] = []
    for fused, vector in _vectors(s, target.lanes(ex.dtype_of(s.value).bits // 8)):
        t = fuse_dims(s, *fused, vector) if fused else s
        choice = _tiled(p, t, fused, vector, layouts, target, constants)
        if choice is not None:
            found.append(choice)
    return min(found, key=lambda c: c.plan.cycles, default=None)


def _vectors(s: Statement, lanes: int) -> Iterator[tuple[tuple[str, str] | None, str]]:
    """Dims, and pairs (slow, fast) of dims that every operand sees together or not at all.

    A pair pays where its fast dim alone leaves lanes empty; of two such dims the longer one is slow.
    """
    kept = _kept(s)
    extents = {r.dim: r.hi.const for r in s.domain.ranges}
    for d in kept:
        yield None, d
    seen = [
        frozenset[str]().union(*(aff.dims_of(i) for _, i in load.index if isinstance(i, Affine))) for load in reads(s)
    ]
    tests = frozenset[str]().union(*(ex.dims_of(n) for n in ex.walk(s.value) if isinstance(n, (ex.Test, ex.Index))))
    for a, b in product(kept, kept):
        together = a != b and not {a, b} & tests and all((a in dims) == (b in dims) for dims in seen)
        if together and extents[b] % lanes and (extents[a], a) > (extents[b], b):
            yield (a, b), f"{a}{b}" if f"{a}{b}" not in s.dims else f"{a}_{b}"


def _tiled(
    p: Program,
    s: Statement,
    fused: tuple[str, str] | None,
    vector: str,
    layouts: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str],
) -> _Choice | None:
    """The best register tile for one vector dim."""
    extents = {r.dim: r.hi.const for r in s.domain.ranges}
    element = ex.dtype_of(s.value).bits // 8
    lanes = target.lanes(element)
    loads = [_Operand.of(load, vector, layouts) for load in reads(s)]
    steps = prod(extents[d] for d in s.reduced)
    scattered = _along(s.write.index, vector, layouts[s.write.array]) != 1
    must = tuple(o for o in loads if o.vector and not o.dense and _relayable(o, vector))
    may = tuple(o for o in loads if o.dense and _relayable(o, vector) and _jumps(o, s.reduced, layouts, target))
    gathered = frozenset(o for o in loads if o.vector and not o.dense and o not in must)
    rows = [d for d in _kept(s) if d != vector]
    best: tuple[float, RegisterPlan, tuple[tuple[ex.Load, str, int], ...]] | None = None

    def copying(o: _Operand) -> float:
        return 0.0 if o.load.array in constants else 2.0 * _bytes(p.array(o.load.array)) / target.bytes_per_cycle

    for blocks in (1, 2, 3, 4, 6):
        width = blocks * lanes
        if blocks > 1 and width - lanes >= extents[vector]:
            break
        for tile in _row_tiles(rows, extents, loads, target.registers - 2, blocks):
            cycles = _step_cycles(loads, gathered, tile, blocks, lanes, target)
            tiles = prod(-(-extents[d] // tile.get(d, 1)) for d in rows) * -(-extents[vector] // width)
            accumulators = blocks * prod(tile.values())
            ends = accumulators * (3.0 + (lanes if scattered else 1.0)) + 4.0
            total = tiles * (steps * (cycles + 0.5) + ends) + sum(map(copying, must))
            moved = tuple((o.load, vector, width) for o in must)
            for o, dim, lost in (*((o, vector, JUMP) for o in may), *_conflicts(loads, tile, layouts)):
                total += min(copying(o), tiles * steps * lost)
                moved += (
                    ((o.load, dim, width if dim == vector else tile[dim]),) if copying(o) < tiles * steps * lost else ()
                )
            if best is None or total < best[0]:
                best = total, RegisterPlan(vector, width, tuple(sorted(tile.items())), (), (), total), moved
    if best is None:
        return None
    plan = replace(
        best[1], order=_reduce_order(s, loads, layouts), outer=_outer_order(s, best[1], extents, layouts, target)
    )
    return _Choice(fused, plan, best[2], s)


@dataclass(frozen=True)
class _Operand:
    """A load as the register tile sees it: whether it varies along the lanes, densely, and the dims it depends on."""

    load: ex.Load
    vector: bool
    dense: bool
    dims: frozenset[str]

    @staticmethod
    def of(load: ex.Load, vector: str, layouts: Mapping[str, Layout]) -> _Operand:
        dims = frozenset[str]().union(*(aff.dims_of(i) for _, i in load.index if isinstance(i, Affine)))
        return _Operand(load, vector in dims, _along(load.index, vector, layouts[load.array]) == 1, dims)


def _along(index: Sequence[tuple[str, Affine | ex.Expr]], dim: str, layout: Layout) -> int | None:
    """The stride in elements along a dim, None where it is not constant (a floor is on the way)."""
    total = 0
    for d, i in index:
        assert isinstance(i, Affine)
        c, stride = i.coefficient(aff.Var(dim)), layout.stride(d)
        if dim in aff.dims_of(i - aff.var(dim) * c):
            return None
        total += c * stride if isinstance(stride, int) else 0
    return total


def _relayable(o: _Operand, dim: str) -> bool:
    """Whether panels along `dim` are a plain copy: no index mixes it with another dim, as a window does."""
    return all(aff.dims_of(i) <= {dim} for _, i in o.load.index if isinstance(i, Affine) and dim in aff.dims_of(i))


def _jumps(o: _Operand, reduced: Sequence[str], layouts: Mapping[str, Layout], target: Target) -> bool:
    """Whether each reduction step reads a new line far from the last one."""
    layout = layouts[o.load.array]
    strides = [_along(o.load.index, d, layout) for d in reduced if d in o.dims]
    return min((abs(st) for st in strides if st is not None), default=0) * o.load.dtype.numpy.itemsize > 8 * target.line


def _conflicts(
    loads: Sequence[_Operand], tile: Mapping[str, int], layouts: Mapping[str, Layout]
) -> Iterator[tuple[_Operand, str, float]]:
    """Broadcast operands whose rows lie far apart: (operand, the row dim, cycles lost a step).  Rows that are a
    multiple of 4096 bytes apart fall into one cache set.
    """
    for o in loads:
        rows = [d for d in tile if d in o.dims and not o.vector and _relayable(o, d)]
        if len(rows) != 1 or tile[rows[0]] < 3:
            continue
        stride = _along(o.load.index, rows[0], layouts[o.load.array])
        bytes_apart = (stride or 0) * o.load.dtype.numpy.itemsize
        if bytes_apart and bytes_apart % 4096 == 0 and tile[rows[0]] > 4:
            yield o, rows[0], JUMP
        elif bytes_apart > 1024:
            yield o, rows[0], 0.5


def _bytes(a: Array) -> int:
    return prod(e.const for _, e in a.dims) * a.dtype.numpy.itemsize


def _row_tiles(
    rows: Sequence[str], extents: Mapping[str, int], loads: Sequence[_Operand], registers: int, blocks: int
) -> Iterator[dict[str, int]]:
    """Tiles over at most two row dims whose accumulators and vector operands fit the registers."""
    sizes = {
        d: [r for r in range(1, min(extents[d], ROWS) + 1) if r == 1 or extents[d] % r == 0 or r >= 4] for d in rows
    }
    shared = sum(blocks for o in loads if o.vector)

    def fits(n: int) -> bool:
        return n * blocks + shared <= registers

    yield {}
    for i, a in enumerate(rows):
        for ra in sizes[a][1:]:
            if not fits(ra):
                break
            yield {a: ra}
            for b in rows[i + 1 :]:
                for rb in sizes[b][1:]:
                    if not fits(ra * rb):
                        break
                    yield {a: ra, b: rb}


def _step_cycles(
    loads: Sequence[_Operand],
    gathered: frozenset[_Operand],
    tile: Mapping[str, int],
    blocks: int,
    lanes: int,
    target: Target,
) -> float:
    """Cycles of one reduction step of a register tile: multiply-adds, loads or latency, whichever binds."""
    fmas = blocks * prod(tile.values())
    vectors = scalars = 0
    for o in loads:
        rows = prod(r for d, r in tile.items() if d in o.dims)
        if o.vector:
            vectors += rows * blocks * (2 * lanes if o in gathered else 1)
        else:
            scalars += rows
    busy = max(fmas / target.fma_per_cycle, (vectors + scalars) / target.loads_per_cycle, float(target.latency))
    return busy + STREAMED * vectors + PRESSURE * scalars


def _reduce_order(s: Statement, loads: Sequence[_Operand], layouts: Mapping[str, Layout]) -> tuple[str, ...]:
    """Reduced dims from slow to fast in the operands that stay where they are; those that decide whether a padded read
    is inside come first, so that it is decided rarely.
    """
    still = [o for o in loads if not (o.vector and not o.dense)] or list(loads)
    tested = frozenset[str]().union(*(ex.dims_of(n) for n in ex.walk(s.value) if isinstance(n, ex.Test)))

    def stride(d: str) -> int:
        along = (_along(o.load.index, d, layouts[o.load.array]) for o in still if d in o.dims)
        return min((abs(a) if a is not None else 1 for a in along), default=1 << 40)

    return tuple(sorted(s.reduced, key=lambda d: (d not in tested, -stride(d))))


def _outer_order(
    s: Statement, plan: RegisterPlan, extents: Mapping[str, int], layouts: Mapping[str, Layout], target: Target
) -> tuple[str, ...]:
    """Tile loops: one with enough trips for all cores first, then the vector's (its panel stays in cache), then the
    rest as the result lies in memory.
    """
    trips = {d: -(-extents[d] // plan.tile(d)) for d in _kept(s)}
    order = layouts[s.write.array].order
    index = dict(s.write.index)
    rest = sorted(
        (d for d in trips if d != plan.vector),
        key=lambda d: next((i for i, a in enumerate(order) if d in aff.dims_of(index[a])), 0),
    )

    def balance(d: str) -> float:
        rounds = -(-trips[d] // target.cores)
        return trips[d] / (rounds * target.cores)

    candidates = [d for d in rest if balance(d) > 0.9] or [max(trips, key=balance)]
    first = max(candidates, key=lambda d: min(trips[d], 8 * target.cores)) if rest else plan.vector
    return tuple(dict.fromkeys((first, plan.vector, *rest)))


# --- rewriting -------------------------------------------------------------------------------------------------------


def _rewritten(
    p: Program, s: Statement, choice: _Choice, taken: set[str]
) -> tuple[list[Relaid], list[tuple[Statement, RegisterPlan]]]:
    """Re-lay operands, then split off what does not fill a tile; each part with its own plan."""
    t, plan = choice.statement, choice.plan
    extents = {r.dim: r.hi.const for r in t.domain.ranges}
    made: list[Relaid] = []
    for load, dim, panel in choice.relaid:
        name = _fresh(f"{load.array}_panels", taken)
        r = relay(p.array(load.array), load, dim, extents[dim], panel, (*plan.outer, *plan.order), name)
        made.append(r)
        t = use(t, load, r.load)
    parts = [(t, plan)]
    for d in (plan.vector, *(d for d, _ in plan.rows)):
        parts = [q for part, own in parts for q in _split(part, own, d, taken)]
    return made, parts


def _split(s: Statement, plan: RegisterPlan, dim: str, taken: set[str]) -> list[tuple[Statement, RegisterPlan]]:
    r = next(r for r in s.domain.ranges if r.dim == dim)
    size, n = plan.tile(dim), r.hi.const
    whole = n - n % size
    if whole == n:
        return [(s, plan)]
    smaller = _with_tile(plan, dim, n - whole)
    if whole == 0:
        return [(s, smaller)]
    full, rest = split(s, dim, whole, _fresh(f"{s.name}_{dim}", taken))
    return [(full, plan), (rest, smaller)]


def _with_tile(plan: RegisterPlan, dim: str, size: int) -> RegisterPlan:
    if dim == plan.vector:
        return replace(plan, width=size)
    return replace(plan, rows=tuple((d, size if d == dim else r) for d, r in plan.rows))


def _fresh(base: str, taken: set[str]) -> str:
    """A name that nothing else has; `taken` grows by it."""
    name = base
    while name in taken:
        name += "_"
    taken.add(name)
    return name
