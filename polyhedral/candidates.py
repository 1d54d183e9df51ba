# SPDX-License-Identifier: MIT
"""Candidate plans of one reduction over a box, and the best of them by predicted cycles.

Which dim, or fused pair, runs along the vector lanes; how many results are kept in registers; which operands are
re-laid so that a vector of them is one load; in which order tiles are visited, and in which portions the reduction is
done.  Everything follows from the access relations, the layouts and the Target's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from math import inf, prod

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import TRUE
from polyhedral.cycles import WEIGHT, Prediction, Stream, filled, predict
from polyhedral.layout import Layout, row_major
from polyhedral.operands import Operand, along, box, extents_of, operands, tied, typical
from polyhedral.prices import BARRIER, TRANSPOSE, WOVEN
from polyhedral.program import Program, Statement
from polyhedral.register_plan import Loop, RegisterPlan, even
from polyhedral.rewrites.fuse_dims import fuse_dims
from polyhedral.rewrites.relay import Relaid, relay
from polyhedral.stores import instructions, lane_steps, loading, storing, vector_steps
from polyhedral.target import Target
from polyhedral.visits import orders, portions
from polyhedral.windows import STEPS, window

ROWS = 16
"""The largest register tile along one dim."""
BLOCKS = (1, 2, 3, 4, 6)
"""Vectors side by side in a register tile."""
FINALISTS = 6
"""Register tiles of each statement whose loops and copies are weighed in full."""
SPARE = 2
"""Registers for a scalar and for what compilers move about; a tile that takes all others is spilled."""
FULL = 3
"""Finalists more that hold the vectors of some operand one after the other."""
CUT = 3
"""Register tiles whose reductions are also weighed in portions."""
PRODUCT = 8
"""Combinations of operands where they lie or re-laid that are all weighed."""
WRITTEN = 128
"""Vectors of instances up to which the steps of a window are written out."""


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
    full: bool
    """Whether there are too few registers for all its vectors at once."""


@dataclass(frozen=True)
class Within:
    """What a statement that runs in blocks may not do: cut along the `whole` dims what does not fill a tile, copy the
    arrays that are `still`, or make one dim of two.
    """

    whole: frozenset[str] = frozenset()
    still: frozenset[str] = frozenset()


ALONE = Within()


@dataclass(frozen=True)
class _Setting:
    """What every candidate of a statement shares."""

    program: Program
    layouts: Mapping[str, Layout]
    target: Target
    constants: frozenset[str]
    within: Within


def best(
    p: Program,
    s: Statement,
    layouts: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str],
    within: Within = ALONE,
) -> Choice | None:
    """The plan with the least predicted cycles; `constants` are arrays whose re-laying costs nothing at a call.  What
    is masked or guarded is not done in portions where these may be empty.
    """
    found = choices(p, s, layouts, target, constants, within)
    masked = isinstance(s.value, ex.Select) and s.value.eager
    if s.domain.guard != TRUE or (masked and not _from_the_start(s)):
        found = [c for c in found if not any(loop.dim in c.plan.order for loop in c.plan.loops)]
    return min(found, key=lambda c: c.prediction.total, default=None)


def _from_the_start(s: Statement) -> bool:
    """Whether a mask leaves the first cells of every row, up to some of them: portions from the first on then have
    something to do.
    """
    match s.value:
        case ex.Select(ex.Test(condition)):
            reduced = frozenset(s.reduced)
            parts = [c for c in aff.conjuncts(condition) if isinstance(c, aff.Compare)]
            above = all(e.coefficient(aff.Var(d)) <= 0 for c in parts for e in (c.expr,) for d in reduced)
            return len(reduced) == 1 and above
        case _:
            return False


def choices(
    p: Program,
    s: Statement,
    layouts: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str],
    within: Within = ALONE,
) -> list[Choice]:
    """Every plan that is weighed: all good tiles whole, the best of them also in portions."""
    setting = _Setting(p, layouts, target, constants, within)
    tiles: list[_Tile] = []
    for fused, vector in _vectors(s, layouts, target.lanes(itemsize(s))):
        if fused and within.whole:
            continue
        t = fuse_dims(s, *fused, vector) if fused else s
        by_cycles = sorted(_tiles(setting, t, vector), key=lambda x: x.cycles)
        tiles += _first(by_cycles, FINALISTS)
    if not tiles:
        return []
    tiles.sort(key=lambda x: x.cycles)
    good = _first([t for t in tiles if t.cycles <= 1.5 * tiles[0].cycles], 2 * FINALISTS)
    forms = [_Forms(setting, t) for t in good]
    found = [list(f.choices(orders)) for f in forms]
    by_best = sorted(range(len(good)), key=lambda n: min(c.prediction.total for c in found[n]))
    return [*chain(*found), *chain(*(forms[n].choices(portions) for n in by_best[:CUT]))]


def _first(tiles: Sequence[_Tile], most: int) -> list[_Tile]:
    """The first of the tiles that hold all vectors at once, and of the larger ones that do not."""
    return [*[t for t in tiles if not t.full][:most], *[t for t in tiles if t.full][:FULL]]


def itemsize(s: Statement) -> int:
    return ex.dtype_of(s.value).bits // 8


# --- vector dims -----------------------------------------------------------------------------------------------------


def _vectors(s: Statement, layouts: Mapping[str, Layout], lanes: int) -> Iterator[tuple[tuple[str, str] | None, str]]:
    """Dims, and pairs (slow, fast) of dims that every operand sees together or not at all.

    A pair pays where one of its dims alone leaves lanes empty.  Where the pair lies everywhere as one dim would, or
    else where the result does, its order is that of memory; else the longer one is slow.
    """
    extents = extents_of(s)
    kept = [d for d in s.kept if d not in tied(s)]
    for d in kept:
        yield None, d
    every = [n for n in ex.walk(s.value) if isinstance(n, ex.Load)]
    seen = [frozenset[str]().union(*(aff.dims_of(i) for _, i in n.index if isinstance(i, aff.Affine))) for n in every]
    tests = frozenset[str]().union(*(ex.dims_of(n) for n in ex.walk(s.value) if isinstance(n, (ex.Test, ex.Index))))

    def one(a: str, b: str, *accesses: tuple[str, Sequence[tuple[str, aff.Affine | ex.Expr]]]) -> bool:
        """Whether a step along a is as far as the whole of b, in all that see them."""
        strides = [(along(i, a, layouts[n]), along(i, b, layouts[n])) for n, i in accesses]
        return all(x is not None and y is not None and x == y * extents[b] for x, y in strides)

    out = (s.write.array, s.write.index)
    loads = [(n.array, n.index) for n in every]
    for a, b in product(kept, kept):
        if a == b or {a, b} & tests or any((a in dims) != (b in dims) for dims in seen):
            continue
        whole = [one(*pair, out, *loads) for pair in ((a, b), (b, a))]
        stored = [one(*pair, out) for pair in ((a, b), (b, a))]
        longer = (extents[a], a) > (extents[b], b)
        first, other = whole if any(whole) else stored if any(stored) else (longer, not longer)
        if first and not other and (extents[b] % lanes or extents[a] % lanes):
            yield (a, b), f"{a}{b}" if f"{a}{b}" not in s.dims else f"{a}_{b}"


# --- register tiles --------------------------------------------------------------------------------------------------


def _tiles(q: _Setting, s: Statement, vector: str) -> Iterator[_Tile]:
    """Tiles whose accumulators and vector operands fit the registers, with the cycles of their steps."""
    extents = typical(s)
    lanes = q.target.lanes(itemsize(s))
    every = operands(s, q.layouts)
    rows = [d for d in s.kept if d != vector]
    free = [d for d in rows if d not in tied(s)]
    steps = prod(extents[d] for d in s.reduced)
    ranges = box(s.domain)
    panels = {o: _relaid(q, s, o, ranges, vector, lanes, ()) for o in every}
    direct = {o: _loading(q, o, vector, lanes) for o in every}
    gathers = {o: 1.0 if panels[o] else direct[o] or 2.0 * lanes for o in every}
    order = reduce_order(s, every, vector)
    forced = [(o, r) for o, r in panels.items() if r and direct[o] is None and o.load.array not in q.constants]
    copies = sum(_copying(q, o, r, vector, lanes) for o, r in forced if vector in o.dims)
    out = q.layouts[s.write.array]
    beside = frozenset[str]().union(*(o.dims for o in every if vector in o.dims))
    for blocks in BLOCKS:
        if blocks > 1 and (blocks - 1) * lanes >= extents[vector]:
            break
        steps_of = vector_steps(s, vector, blocks * lanes, out)
        if even(extents[vector], blocks * lanes, lanes)[0] < blocks * lanes:
            continue
        for tile in _row_tiles(free, extents, q.target.registers - SPARE - blocks, blocks):
            rest = q.target.registers - SPARE - blocks * prod(tile.values())
            if sum(_registers(o, tile, blocks) for o in every if vector in o.dims) > rest:
                continue
            full = (
                blocks * sum(prod(r for d, r in tile.items() if d in o.dims) for o in every if vector in o.dims) > rest
            )
            whole = RegisterPlan(vector, blocks * lanes, tuple(tile.items()), (), ())
            if any(extents[d] % min(whole.tile(d), extents[d]) for d in q.within.whole):
                continue
            fill = filled(whole, extents, lanes)
            written = _written(every, order, extents, vector, blocks, tile, q.target)
            once = {d: extents[d] for d in written}
            loads = {o: _stream(o, gathers[o]).loads(tile, once) for o in every}
            busy = _step_cycles(every, gathers, vector, tile, blocks, fill, loads, q.target)
            tiles = prod(-(-extents[d] // whole.tile(d)) for d in (vector, *rows))
            stores = instructions(s, steps_of, tile, out, lanes)
            ends = blocks * prod(tile.values()) * prod(fill.values()) * (2.0 + stores) + 4.0
            # rows of scalars outside, so that each is loaded once for all vectors
            ordered = sorted(tile.items(), key=lambda dr: (dr[0] in beside, dr[0]))
            work = tiles * (steps * busy + ends)
            floor = storing(q.program, s, whole, out, q.target)
            cycles = max(work, floor) + (WEIGHT * work if floor else 0.0) + copies
            yield _Tile(s, vector, blocks, tuple(ordered), cycles, full)


def _written(
    every: Sequence[Operand],
    order: Sequence[str],
    extents: Mapping[str, int],
    vector: str,
    blocks: int,
    rows: Mapping[str, int],
    target: Target,
) -> tuple[str, ...]:
    """The last reduced dim, where a row reads in one step what another reads in the next: few steps, and registers for
    all that is read again.
    """
    last, tile = order[-1] if order else "", blocks * prod(rows.values())
    if not last or tile * extents[last] > WRITTEN:
        return ()
    seen = [o for o in every if vector in o.dims]
    slides = [o for o in seen if last in o.dims and any(_slides(o, d, last) for d in rows)]
    live = sum(blocks * prod(r for d, r in rows.items() if d in o.dims) if o in slides else 1 for o in seen)
    return (last,) if slides and tile + live <= target.registers - SPARE else ()


def _slides(o: Operand, row: str, step: str) -> bool:
    """Whether an operand is a window along a row: a step leads to what another row has read."""
    a, b = o.stride(row), o.stride(step)
    return bool(a) and bool(b) and b % a == 0


def _registers(o: Operand, tile: Mapping[str, int], blocks: int) -> int:
    """Registers for the vectors of an operand: those that several rows use all at once, others one after the other."""
    return blocks * prod(r for d, r in tile.items() if d in o.dims) if tile.keys() - o.dims else 1


def _row_tiles(
    rows: Sequence[str], extents: Mapping[str, int], registers: int, blocks: int
) -> Iterator[dict[str, int]]:
    """Tiles over at most two row dims."""
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
    """Sizes that some number of tiles, as even as can be, has."""
    return [r for r in range(2, min(extent, ROWS) + 1) if even(extent, r)[0] == r]


def _step_cycles(
    every: Sequence[Operand],
    gathers: Mapping[Operand, float],
    vector: str,
    tile: Mapping[str, int],
    blocks: int,
    fill: Mapping[str, float],
    loads: Mapping[Operand, float],
    target: Target,
) -> float:
    """Cycles of one reduction step: multiply-adds, loads or latency, whichever binds; `loads` are those of a step."""
    fmas = blocks * prod(tile.values()) * prod(fill.values())
    vectors = scalars = 0.0
    for o in every:
        rows = loads[o] * prod(fill[d] for d in tile if d in o.dims)
        if vector in o.dims:
            vectors += rows * blocks * fill[vector] * gathers[o]
        else:
            scalars += rows
    busy = max(fmas / target.fma_per_cycle, (vectors + scalars) / target.loads_per_cycle, float(target.latency))
    return busy + 0.5 * vectors + 0.15 * scalars + 0.5


# --- loops and copies ------------------------------------------------------------------------------------------------


Form = tuple[tuple[tuple[Operand, str, int], ...], Stream, float]
"""An operand where it lies, or re-laid: what is re-laid, the stream, and the cycles of the copy."""


class _Forms:
    """A register tile with orders of its loops, each with and without copies of its operands.

    What depends on less than the order of all loops is found once.
    """

    def __init__(self, q: _Setting, t: _Tile) -> None:
        self.q, self.s = q, t.statement
        self.extents = typical(t.statement)
        self.lanes = q.target.lanes(itemsize(self.s))
        self.every = operands(self.s, q.layouts)
        order = reduce_order(self.s, self.every, t.vector)
        self.plan = RegisterPlan(t.vector, t.blocks * self.lanes, t.rows, order, ())
        self.written = _written(self.every, order, self.extents, t.vector, t.blocks, dict(t.rows), q.target)
        self.direct = {o: _loading(q, o, t.vector, self.lanes) if t.vector in o.dims else 0.0 for o in self.every}
        self.groups = _alike(self.every)
        self.forms: dict[tuple[Operand, tuple[str, ...]], list[Form]] = {}

    def choices(
        self, visits: Callable[[Statement, RegisterPlan, Layout, int], Iterable[tuple[Loop, ...]]]
    ) -> Iterator[Choice]:
        s, out = self.s, self.q.layouts[self.s.write.array]
        strides = {d: (along(s.write.index, d, out) or 1) * itemsize(s) for d in s.kept}
        steps = vector_steps(s, self.plan.vector, self.plan.width, out)
        stored = instructions(s, steps, dict(self.plan.rows), out, self.lanes)
        result = Stream(strides, stored, itemsize(s))
        every = dict.fromkeys(visits(s, self.plan, out, self.q.target.cores))
        for written, loops in product(dict.fromkeys(((), self.written)), every):
            if any(loop.dim in written for loop in loops):
                continue
            plan = replace(self.plan, loops=loops, written=written)
            floor = storing(self.q.program, s, plan, out, self.q.target)
            order = tuple(dict.fromkeys((*(loop.dim for loop in loops), *plan.order)))
            alike = [forms for group in self.groups for forms in _same([self._forms(o, order) for o in group])]
            made = partial(self._choice, plan, result, floor, alike)
            yield from _combined([len(group[0]) for group in alike], made)

    def _choice(
        self,
        plan: RegisterPlan,
        result: Stream,
        floor: float,
        alike: Sequence[Sequence[Sequence[Form]]],
        which: Sequence[int],
        below: float,
    ) -> Choice | None:
        """The plan with one form for each group of operands; None where it does not take fewer cycles than `below`."""
        chosen = [[forms[n] for forms in group] for n, group in zip(which, alike, strict=True)]
        relaid = tuple(r for group in chosen for made, _, _ in group for r in made)
        streams = [replace(group[0][1], count=len(group)) for group in chosen]
        copies = sum(group[0][2] for group in chosen)  # one copy serves all that are alike
        found = predict(plan, self.extents, self.lanes, streams, result, self.q.target, copies, floor, below)
        return None if found is None else Choice(self.s, plan, relaid, found)

    def _forms(self, o: Operand, order: Sequence[str]) -> list[Form]:
        key = o, tuple(d for d in order if d in o.dims)
        if key not in self.forms:
            self.forms[key] = list(self._made(o, key[1]))
        return self.forms[key]

    def _made(self, o: Operand, order: Sequence[str]) -> Iterator[Form]:
        """An operand where it lies, if its lanes are not too far apart, and re-laid."""
        plan, direct = self.plan, self.direct[o]
        guard = aff.condition_dims(o.guard)
        here = _stream(o, 2.0 * self.lanes if direct is None else direct, far=_far(self.q, o))
        here = replace(here, guard=frozenset() if plan.vector in guard and direct else guard)
        dims = [plan.vector] if plan.vector in o.dims else [d for d, r in plan.rows if d in o.dims and r > 2]
        made = _relaid(self.q, self.s, o, box(self.s.domain), dims[0], plan.tile(dims[0]), order) if dims else None
        if made is None or direct is not None:
            yield (), here, 0.0
        if made is not None:
            cost = 0.0 if o.load.array in self.q.constants else _copying(self.q, o, made, dims[0], plan.tile(dims[0]))
            yield ((o, dims[0], plan.tile(dims[0])),), _copied(made, dims[0], plan, o.itemsize), cost


def _stream(o: Operand, instructions: float, *, far: bool = False) -> Stream:
    """An operand where it lies."""
    strides = {d: (st if st is not None else 1 << 12) * o.itemsize for d, st in o.strides.items()}
    return Stream(strides, instructions, o.itemsize, far=far)


def _far(q: _Setting, o: Operand) -> bool:
    """Whether an operand comes from beyond the second cache."""
    return prod(e.const for _, e in q.program.array(o.load.array).dims) * o.itemsize > q.target.l2


def _alike(every: Sequence[Operand]) -> list[list[Operand]]:
    """Operands in groups that are read alike, as the terms of a sum that is written out: what suits one suits all."""
    groups: dict[object, list[Operand]] = {}
    for o in every:
        key = o.load.array, o.dims, tuple(sorted(o.strides.items(), key=str)), o.guard != TRUE
        groups.setdefault(key, []).append(o)
    return list(groups.values())


def _same(forms: Sequence[list[Form]]) -> Iterator[list[list[Form]]]:
    """Operands that are read alike, and of which the same is possible: one may have no copy that the others have."""
    kinds: dict[tuple[bool, ...], list[list[Form]]] = {}
    for every in forms:
        kinds.setdefault(tuple(bool(made) for made, _, _ in every), []).append(every)
    yield from kinds.values()


def _combined(counts: Sequence[int], made: Callable[[Sequence[int], float], Choice | None]) -> Iterator[Choice]:
    """Of all combinations of so many forms each those that are better than the ones before; of more than `PRODUCT`,
    those on the way of a descent that changes one at a time.
    """
    least = inf
    if prod(counts) <= PRODUCT:
        for which in product(*map(range, counts)):
            found = made(which, least)
            if found is not None:
                yield found
                least = min(least, found.prediction.total)
        return
    at = [0] * len(counts)
    for n, count in enumerate(counts):
        for form in range(1 if n else 0, count):
            found = made([*at[:n], form, *at[n + 1 :]], least)
            if found is not None:
                yield found
                if found.prediction.total < least:
                    at[n], least = form, found.prediction.total


def _loading(q: _Setting, o: Operand, vector: str, lanes: int) -> float | None:
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


def _relaid(
    q: _Setting,
    s: Statement,
    o: Operand,
    ranges: Mapping[str, tuple[int, int]],
    d: str,
    panel: int,
    order: Sequence[str],
) -> Relaid | None:
    return (
        None
        if o.load.array in q.within.still
        else relay(q.program.array(o.load.array), o, ranges, d, panel, order, "copy")
    )


def _copying(q: _Setting, o: Operand, made: Relaid, dim: str, panel: int) -> float:
    """Cycles to read the operand and write its copy: from memory, or twice as fast within the last cache; an operand
    that is not dense along the panels is transposed cell by cell.
    """
    size = made.cells * o.itemsize
    near = 2.0 if 4 * size <= q.target.l3 else 1.0
    moved = 2.0 * size / (q.target.bytes_per_cycle * near)
    if o.stride(dim) == 1:
        return BARRIER + moved
    lanes, layout = q.target.lanes(o.itemsize), q.layouts[o.load.array]
    a = q.program.array(o.load.array)
    square = panel >= lanes and any(layout.stride(d) == 1 and e.const >= lanes for d, e in a.dims)
    return BARRIER + max(moved, made.cells * (WOVEN if square else TRANSPOSE))


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
