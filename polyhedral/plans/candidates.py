# SPDX-License-Identifier: MIT
"""Candidate plans of one reduction over a box, and the best of them by predicted cycles.

Which dim, or fused pair, runs along the vector lanes; which operands are re-laid so that a vector of them is one load;
in which order tiles are visited, and in which portions the reduction is done.  Everything follows from the access
relations, the layouts and the Target's numbers.  How many results are kept in registers is `polyhedral.plans.tiles`'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import inf, prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import Operand, along, box, extents_of, operands, tied, typical
from polyhedral.ir.program import Program, Statement
from polyhedral.machine.target import Target
from polyhedral.plans.cycles import Nest, Prediction, predict
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.plans.stores import instructions, lane_steps, storing, vector_steps
from polyhedral.plans.streams import Stream
from polyhedral.plans.tiles import (
    ALONE,
    CLOSE,
    FINALISTS,
    FULL,
    Setting,
    Tile,
    Within,
    copying,
    finalists,
    first,
    itemsize,
    load_cost,
    relaid,
)
from polyhedral.plans.visits import orders, portions
from polyhedral.plans.written import reduce_orders, written
from polyhedral.rewrites.fuse_dims import fuse_dims
from polyhedral.rewrites.relay import Relaid

CUT = 3
"""Register tiles whose reductions are also weighed in portions."""
BRIEF, FEW = 2e3, 2
"""Cycles for each statement of a program up to which only so many register tiles of one are weighed: it is a small part
of the whole, and planning takes longer than many calls.
"""
WIDE = 2
"""Vectors side by side in most register tiles."""
PRODUCT = 8
"""Combinations of operands where they lie or re-laid that are all weighed."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What a plan was asked for: a statement, and all that its candidates depend on."""

    program: Program
    statement: Statement
    layouts: Mapping[str, Layout]
    target: Target
    constants: frozenset[str]
    within: Within


@dataclass(frozen=True)
class Choice:
    """A plan, the statement that it is for (two dims may be fused), and the operands re-laid for it: dim and panel.

    `asked` says among what it was chosen; a `preferred` one was not chosen by its prediction.
    """

    statement: Statement
    plan: RegisterPlan
    relaid: tuple[tuple[Operand, str, int], ...]
    prediction: Prediction
    asked: Asked | None = field(default=None, compare=False, repr=False)
    preferred: bool = False


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
    forms = _good(Setting(p, layouts, target, constants, within), s)
    every = _weighed(forms, whole=_undivided(s), all_of_them=False)
    return min(every, key=lambda c: c.prediction.total, default=None)


def ranked(asked: Asked) -> list[Choice]:
    """Every plan that could stand in for the best, the least predicted cycles first."""
    q = Setting(asked.program, asked.layouts, asked.target, asked.constants, asked.within)
    every = _weighed(_good(q, asked.statement), whole=_undivided(asked.statement), all_of_them=True)
    return sorted(every, key=lambda c: c.prediction.total)


def magnitude(p: Program) -> int:
    """About how many statements a program has: a power of two, so that like programs are planned alike."""
    return 1 << len(p.statements).bit_length()


def _undivided(s: Statement) -> bool:
    """Whether a reduction is not done in portions, since these may be empty."""
    masked = isinstance(s.value, ex.Select) and s.value.eager
    return s.domain.guard != TRUE or (masked and not _from_the_start(s))


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
    return _weighed(_good(Setting(p, layouts, target, constants, within), s), whole=False, all_of_them=True)


def _good(q: Setting, s: Statement) -> list[_Forms]:
    """Register tiles that are about as good as the best, along any dim."""
    tiles: list[Tile] = []
    least = inf
    for fused, vector in _vectors(s, q.layouts, q.target.lanes(itemsize(s))):
        if fused and q.within.whole:
            continue
        tiles += finalists(q, fuse_dims(s, *fused, vector) if fused else s, vector, least)
        least = min((t.cycles for t in tiles), default=inf)
    tiles.sort(key=lambda x: x.cycles)
    near = [t for t in tiles if t.cycles <= CLOSE * least]
    brief = least <= BRIEF * magnitude(q.program) and q.within == ALONE  # a block is done many times
    kept = first(near, FEW, 0) if brief else first(near, 2 * FINALISTS, FULL)
    return [_Forms(q, t) for t in sorted(kept, key=lambda x: x.cycles)]


def _weighed(forms: Sequence[_Forms], *, whole: bool, all_of_them: bool) -> list[Choice]:
    """The plans of some tiles, and unless they must stay `whole`, of the best of these in portions.

    Unless `all_of_them` are wanted, those are left out that are neither the best nor decide which tiles are: they are
    given up as soon as that is sure.
    """
    found: list[Choice] = []
    least: list[float] = []
    for f in forms:
        below = sorted(least)[CUT - 1] if len(least) >= CUT else inf
        mine = list(f.choices(orders, None if all_of_them else below))
        least.append(min((c.prediction.total for c in mine), default=inf))
        found += mine
    for n in sorted(range(len(forms)), key=lambda n: least[n])[:CUT] if not whole else ():
        below = min((c.prediction.total for c in found), default=inf)
        found += forms[n].choices(portions, None if all_of_them else below)
    return found


# --- vector dims -----------------------------------------------------------------------------------------------------


def _vectors(s: Statement, layouts: Mapping[str, Layout], lanes: int) -> Iterator[tuple[tuple[str, str] | None, str]]:
    """Dims, and pairs (slow, fast) of dims that every operand sees together or not at all.

    A pair pays where one of its dims alone leaves lanes empty or, where it lies everywhere as one dim would, vectors of
    a tile.  Its order is then that of memory, as it is where the result lies so; else the longer one is slow.
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
        unit = WIDE * lanes if any(whole) else lanes
        if first and not other and (extents[b] % unit or extents[a] % unit):
            yield (a, b), f"{a}{b}" if f"{a}{b}" not in s.dims else f"{a}_{b}"


# --- loops and copies ------------------------------------------------------------------------------------------------


Form = tuple[tuple[tuple[Operand, str, int], ...], Stream, float]
"""An operand where it lies, or re-laid: what is re-laid, the stream, and the cycles of the copy."""


class _Forms:
    """A register tile with orders of its loops, each with and without copies of its operands.

    What depends on less than the order of all loops is found once.
    """

    def __init__(self, q: Setting, t: Tile) -> None:
        self.q, self.s = q, t.statement
        self.extents = typical(t.statement)
        self.lanes = q.target.lanes(itemsize(self.s))
        self.every = operands(self.s, q.layouts)
        self.plan = RegisterPlan(t.vector, t.blocks * self.lanes, t.rows, (), ())
        self.orders = [
            (o, written(self.every, o, self.extents, t.vector, t.blocks, dict(t.rows), q.target))
            for o in reduce_orders(self.s, self.every, t.vector)
        ]
        self.direct = {o: load_cost(q, o, t.vector, self.lanes) if t.vector in o.dims else 0.0 for o in self.every}
        self.here = {o: self._where_it_lies(o) for o in self.every}
        self.groups = _alike(self.every)
        self.box = box(t.statement.domain)
        self.forms: dict[tuple[int, tuple[str, ...]], list[Form]] = {}

    def choices(
        self, visits: Callable[[Statement, RegisterPlan, Layout, int], Iterable[tuple[Loop, ...]]], below: float | None
    ) -> Iterator[Choice]:
        """The tile's plans for each order of its loops; of those that do not take fewer cycles than `below`, and than
        plans before them, most are left out.
        """
        s, out = self.s, self.q.layouts[self.s.write.array]
        strides = {d: (along(s.write.index, d, out) or 1) * itemsize(s) for d in s.kept}
        steps = vector_steps(s, self.plan.vector, self.plan.width, out)
        stored = instructions(s, steps, dict(self.plan.rows), out, self.lanes)
        result = Stream(strides, stored, itemsize(s))
        every = [
            replace(self.plan, order=order, loops=loops, written=steps)
            for order, written_out in self.orders
            for steps in dict.fromkeys(((), written_out))
            for loops in dict.fromkeys(visits(s, replace(self.plan, order=order), out, self.q.target.cores))
            if not any(loop.dim in steps for loop in loops)
        ]
        for plan in every:
            nest = Nest(plan, self.extents, self.lanes, self.q.target)
            floor = storing(self.q.program, s, plan, out, self.q.target)
            order = tuple(dict.fromkeys((*(loop.dim for loop in plan.loops), *plan.order)))
            alike = [forms for group in self.groups for forms in _same([self._forms(o, order) for o in group])]
            made = partial(self._choice, nest, result, floor, alike)
            counts = [len(group[0]) for group in alike]
            for choice in _combined(counts, made, inf if below is None or prod(counts) > PRODUCT else below):
                yield choice
                below = None if below is None else min(below, choice.prediction.total)

    def _choice(
        self,
        nest: Nest,
        result: Stream,
        floor: float,
        alike: Sequence[Sequence[Sequence[Form]]],
        which: Sequence[int],
        below: float,
    ) -> Choice | None:
        """The plan with one form for each group of operands; None where it does not take fewer cycles than `below`."""
        chosen = [[forms[n] for forms in group] for n, group in zip(which, alike, strict=True)]
        relaid = tuple(r for group in chosen for made, _, _ in group for r in made)
        streams = [group[0][1] if len(group) == 1 else replace(group[0][1], count=len(group)) for group in chosen]
        copies = sum(group[0][2] for group in chosen)  # one copy serves all that are alike
        near = self.q.within != ALONE
        found = predict(nest, streams, result, copies, floor, below, near=near)
        return None if found is None else Choice(self.s, nest.plan, relaid, found)

    def _forms(self, o: Operand, order: Sequence[str]) -> list[Form]:
        key = id(o), tuple(d for d in order if d in o.dims)  # operands live as long as this
        if key not in self.forms:
            self.forms[key] = list(self._made(o, key[1]))
        return self.forms[key]

    def _where_it_lies(self, o: Operand) -> Stream:
        direct, guard = self.direct[o], aff.condition_dims(o.guard)
        there = self.q.layouts[o.load.array]
        here = _stream(o, 2.0 * self.lanes if direct is None else direct, self.extents, there, far=_far(self.q, o))
        return replace(here, guard=frozenset() if self.plan.vector in guard and direct else guard)

    def _made(self, o: Operand, order: Sequence[str]) -> Iterator[Form]:
        """An operand where it lies, if its lanes are not too far apart, and re-laid."""
        plan = self.plan
        dims = [plan.vector] if plan.vector in o.dims else [d for d, r in plan.rows if d in o.dims and r > 2]
        made = relaid(self.q, self.s, o, self.box, dims[0], plan.tile(dims[0]), order) if dims else None
        if made is None or self.direct[o] is not None:
            yield (), self.here[o], 0.0
        if made is not None:
            free = o.load.array in self.q.constants
            cost = 0.0 if free else copying(self.q, o, made, dims[0], self.extents[dims[0]], plan.tile(dims[0]))
            yield ((o, dims[0], plan.tile(dims[0])),), _copied(made, dims[0], plan, o.itemsize), cost


def _stream(o: Operand, instructions: float, extents: Mapping[str, int], layout: Layout, *, far: bool) -> Stream:
    """An operand where it lies; along two dims in one it lies in runs, or nothing is known of it."""
    strides = {d: (st if st is not None else 1 << 12) * o.itemsize for d, st in o.strides.items()}
    panels: dict[str, tuple[int, int]] = {}
    for d in (d for d, st in o.strides.items() if st is None):
        steps = lane_steps(o, d, extents[d], layout)
        if steps is not None:
            run, apart = steps
            strides[d], panels[d] = o.itemsize, (run.count, apart.stride * o.itemsize)
    return Stream(strides, instructions, o.itemsize, panels, far=far)


def _far(q: Setting, o: Operand) -> bool:
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


def _combined(
    counts: Sequence[int], made: Callable[[Sequence[int], float], Choice | None], least: float
) -> Iterator[Choice]:
    """Of all combinations of so many forms each those that are better than the ones before, and than `least`; of more
    than `PRODUCT`, those on the way of a descent that changes one at a time.
    """
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


def _copied(made: Relaid, d: str, plan: RegisterPlan, itemsize: int) -> Stream:
    """The stream of a copy whose panels along `d` are dense."""
    strides = {v: itemsize if v == d else (st if st is not None else 1) * itemsize for v, st in made.strides.items()}
    panels: dict[str, tuple[int, int]] = {}
    if made.strides[d] is None:
        panels[d] = plan.tile(d), itemsize * max(st for _, st in made.layout.strides if isinstance(st, int))
    return Stream(strides, 1.0 if d == plan.vector else 0.0, itemsize, panels)
