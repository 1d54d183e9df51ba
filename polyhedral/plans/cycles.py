# SPDX-License-Identifier: MIT
"""Predicted cycles of a register-tiled nest: arithmetic, loads, latency, and what each level of memory must deliver.

The analytical model of Low et al. (2016), generalised from matrix products to any box of loops: an operand is found
again in the smallest cache that holds everything touched since.  Which nests are compared is
`polyhedral.plans.candidates`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf, prod

from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import RegisterPlan, loop_balance
from polyhedral.plans.streams import PAGE, Pieces, Stream, fits
from polyhedral.plans.written import slid

OVERLAP = 4.0
"""The norm that combines the times of resources that work at once: 1 would add them, infinity take the longest."""
WAIT = 0.25
"""The part of the time of the third level or of memory that nothing hides: pieces begin before they can be fetched."""
STEP = 0.4
"""Cycles of loop control in each reduction step."""
ENTER = 2.0
"""Cycles to begin a loop of the reduction within another: addresses, and a branch that ends soon."""
LANE = 1.5
"""Cycles to load one lane of a vector."""
UNROLLED = 4
"""Steps of an innermost loop that are written one after the other."""
SLOWER = 1.15
"""What a line of the second cache takes between arithmetic, over what a stream of loads alone takes for it."""
CACHED = (0.8, 0.8, 0.15)
"""The part of each cache that a nest can count on; the last is shared with whatever else the machine does."""
ALIGNED, CONFLICT = 4096, 6.0
"""Bytes apart at which addresses fall into one set of the first cache; what a scattered store then costs more."""
SLIDE = 0.8
"""What a vector that is made of two costs, next to a multiply-add: shuffles share its ports."""
CHOOSE = 2.0
"""Cycles to choose between an operand that has a padding and the padding."""
ROOM, CROWD = 4, 0.25
"""Rows of a tile that one set holds without loss; cycles of a step for each one more."""
REMAINDER = 8000.0
"""Cycles to start the nest of what does not fill whole tiles: a loop over all cores, and its barrier."""
NEXT = 0.05
"""Cycles for each line that the tile before has not touched, enough to tell orders apart where memory does not."""
WEIGHT = 1 / 64
"""What a cycle of work costs that memory hides: enough to tell plans apart."""
PAGES, WALK = 48, 8.0
"""Pages of operands that are translated at once; cycles for each visit of one where there are more."""

ROUNDED = 1 - 1e-9
"""What is sure of a bound, the arithmetic being rounded."""


@dataclass(frozen=True)
class Prediction:
    """Cycles of all cores together, by cause; `imbalance` is the busiest core's time over the mean, and
    `floor` what memory takes for results that no cache holds."""

    fma: float
    loads: float
    latency: float
    l2: float
    l3: float
    memory: float
    control: float
    ends: float
    copies: float
    imbalance: float
    floor: float = 0.0

    @property
    def busy(self) -> float:
        """Arithmetic, loads, latency and deliveries, which overlap."""
        together = (self.fma, self.loads, self.latency, self.l2, self.l3, self.memory)
        return sum(c**OVERLAP for c in together) ** (1 / OVERLAP) + WAIT * max(self.l3, self.memory)

    @property
    def work(self) -> float:
        """What the busiest core takes, times the cores, without copies."""
        return (self.busy + self.control + self.ends) * self.imbalance

    @property
    def fills_memory(self) -> bool:
        """Whether storing the results is a good part of the time, so that how they are stored matters most."""
        return self.floor > self.work / 2

    @property
    def total(self) -> float:
        work = self.work
        return max(work, self.floor) + WEIGHT * min(work, self.floor) + self.copies


@dataclass(frozen=True)
class Nest:
    """The loops of a plan over a box of `extents`, and what follows from them wherever its operands lie: the trips of
    each loop, the box of one `execution` of the tile, how full tiles are along each dim, and how many there are of
    executions, of steps of the reduction in all, and of accumulators.
    """

    plan: RegisterPlan
    extents: Mapping[str, int]
    lanes: int
    target: Target

    @cached_property
    def trips(self) -> tuple[int, ...]:
        return self.plan.trips(self.extents)

    @cached_property
    def inside(self) -> Mapping[str, int]:
        plan = self.plan
        inside = {d: plan.tile(d) for d in self.extents}
        for d in plan.order:
            inside[d] = min([self.extents[d], *(loop.size for loop in plan.loops if loop.dim == d)])
        return inside

    @cached_property
    def rows(self) -> Mapping[str, int]:
        return dict(self.plan.rows)

    @cached_property
    def fill(self) -> Mapping[str, float]:
        plan, lanes = self.plan, self.lanes
        dims = (plan.vector, *self.rows)
        return {d: filled(self.extents[d], plan.tile(d), lanes if d == plan.vector else 1) for d in dims}

    @cached_property
    def executions(self) -> int:
        return prod(self.trips)

    @cached_property
    def steps(self) -> int:
        return self.executions * prod([self.inside[d] for d in self.plan.order])

    @cached_property
    def blocks(self) -> int:
        """Vectors side by side in the tile."""
        return -(-self.plan.width // self.lanes)

    @cached_property
    def accumulators(self) -> int:
        return self.blocks * prod(self.rows.values())

    @cached_property
    def balance(self) -> float:
        return loop_balance(self.plan, self.plan.loops[0], self.extents, self.target.cores)

    @cached_property
    def entered(self) -> int:
        """How often one execution begins a loop within a loop; a few innermost steps are none."""
        plan, inside = self.plan, self.inside
        loops = [d for d in plan.order if d not in plan.written and inside[d] > 1]
        if loops and inside[loops[-1]] <= UNROLLED:
            loops.pop()
        return sum(prod(inside[d] for d in loops[:n]) for n in range(1, len(loops)))


def predict(
    nest: Nest,
    operands: Sequence[Stream],
    result: Stream,
    copies: float = 0.0,
    floor: float = 0.0,
    below: float = inf,
    *,
    near: bool = False,
) -> Prediction | None:
    """The cycles of a nest; `copies` are those of operands re-laid for it, `floor` those of memory at least.  None
    where they are not `below` a number even if the caches delivered at once.  What is `near` is one block within other
    loops.
    """
    target, rows, part = nest.target, nest.rows, prod(nest.fill.values())
    vectors = sum([_vectors(nest, o) for o in operands if o.vector])
    shuffled = SLIDE * sum([_shuffled(nest, o) for o in operands if o.vector])
    scalars = sum([_seen(o, rows) * _part(o, nest.fill) for o in operands if not o.vector])
    streams = [*operands, result]
    sure = Prediction(
        fma=nest.steps * (nest.accumulators * part + shuffled) / target.fma_per_cycle,
        loads=nest.steps * (vectors + scalars) / target.loads_per_cycle,
        latency=nest.steps * float(target.latency),
        l2=0.0,
        l3=0.0,
        memory=0.0,
        control=nest.steps * (STEP + _crowded(operands, rows))
        + nest.executions
        * (ENTER * nest.entered + _translated(nest, operands) + sum([_chosen(nest, o) for o in operands])),
        ends=nest.executions * (_end(nest, result) * nest.accumulators * part + 4.0) + _remainders(nest, streams),
        copies=copies,
        imbalance=1 / nest.balance,
        floor=floor,
    )
    if sure.total * ROUNDED >= below:
        return None
    delivered = _delivered(nest, streams, len(operands) if floor else len(streams))
    memory = delivered[3] * target.line / target.bytes_per_cycle
    anew = 0.0 if near or memory > WAIT * sure.fma else NEXT * _anew(nest, streams)
    _, near_by, far_off = (target.line / rate for rate in target.near)
    l2, l3 = delivered[1] * near_by * SLOWER, delivered[2] * far_off
    return replace(sure, control=sure.control + anew, l2=l2, l3=l3, memory=memory)


def _vectors(nest: Nest, o: Stream) -> float:
    """Instructions that load an operand's vectors in one step."""
    once = {d: nest.inside[d] for d in nest.plan.written}
    many = nest.target.slides(o.itemsize)
    each = loaded(o.strides, o.itemsize, nest.plan.vector, nest.blocks, o.instructions, nest.rows, once, many)
    return o.count * each * _part(o, nest.fill)


def _shuffled(nest: Nest, o: Stream) -> float:
    """Vectors of an operand that are made of two in one step."""
    once = {d: nest.inside[d] for d in nest.plan.written}
    many = nest.target.slides(o.itemsize)
    made = shuffled(o.strides, o.itemsize, nest.plan.vector, nest.blocks, nest.rows, once, many)
    return o.count * made * _part(o, nest.fill)


def _anew(nest: Nest, streams: Sequence[Stream]) -> float:
    """Lines that an execution of the tile touches and the one before did not."""
    loops, trips = nest.plan.loops, nest.trips
    lines = 0.0
    for o in streams:
        moving = (n for n, (loop, t) in enumerate(zip(loops, trips, strict=True)) if t > 1 and loop.dim in o.strides)
        lines += o.lines(nest.inside, nest.target.line) * prod(trips[: max(moving, default=-1) + 1])
    return lines


@lru_cache(maxsize=1 << 12)
def filled(extent: int, tile: int, unit: int = 1) -> float:
    """How much of its tiles a dim fills on average: the last ones are smaller, to whole units (vectors along lanes)."""
    whole = -(-extent // unit) * unit
    return whole / (-(-whole // tile) * tile)


def cells_read(strides: Mapping[str, int], rows: Mapping[str, int], written: Mapping[str, int]) -> float:
    """Cells that the rows of a tile read in one step, of an access with these strides; of steps that are `written` out,
    those that none before has read.
    """
    own = {d: r for d, r in rows.items() if d in strides}
    if not written:
        return prod(own.values())
    every = tuple((strides.get(d, 0), n) for d, n in (*own.items(), *written.items()))
    return _distinct(every) / prod(written.values())


def loaded(
    strides: Mapping[str, int],
    unit: int,
    vector: str,
    blocks: int,
    each: float,
    rows: Mapping[str, int],
    written: Mapping[str, int],
    slides: int,
) -> float:
    """Instructions that load the vectors of an operand in one step, `each` of them so many; of steps that are `written`
    out, what none before has loaded, nor can be made of others, where `slides` lanes can be shifted.
    """
    if not slid(strides, unit, vector, written, slides):
        return blocks * each * cells_read(strides, rows, written)
    return cells_read(strides, rows, {}) * (blocks + 1) * each / prod(written.values())


def shuffled(
    strides: Mapping[str, int],
    unit: int,
    vector: str,
    blocks: int,
    rows: Mapping[str, int],
    written: Mapping[str, int],
    slides: int,
) -> float:
    """Vectors of an operand that are made of two in one step, of those that are `written` out."""
    if not slid(strides, unit, vector, written, slides):
        return 0.0
    steps = prod(written.values())
    return cells_read(strides, rows, {}) * blocks * (steps - 1) / steps


@lru_cache(maxsize=1 << 12)
def _distinct(axes: tuple[tuple[int, int], ...]) -> int:
    """How many different places the steps along some axes lead to."""
    places = {0}
    for stride, n in axes:
        places = {at + stride * i for at in places for i in range(n)}
    return len(places)


def _part(o: Stream, fill: Mapping[str, float]) -> float:
    return prod(f for d, f in fill.items() if d in o.strides)


def _seen(o: Stream, rows: Mapping[str, int]) -> int:
    return o.count * prod(r for d, r in rows.items() if d in o.strides)


def _chosen(nest: Nest, o: Stream) -> float:
    """Cycles of one execution of the tile to choose between reads and padding, once for each row where it is known."""
    if not o.guard:
        return 0.0
    order = nest.plan.order
    last = max((n for n, d in enumerate(order) if d in o.guard), default=-1)
    return CHOOSE * _seen(o, nest.rows) * prod(nest.inside[d] for d in order[: last + 1])


def _crowded(operands: Sequence[Stream], rows: Mapping[str, int]) -> float:
    """Cycles of one step for rows that meet in one set of the first cache."""
    meeting = sum(
        o.count * prod(r for d, r in rows.items() if o.strides.get(d, 0) and abs(o.strides[d]) % ALIGNED == 0)
        for o in operands
    )
    return CROWD * max(0, meeting - ROOM - sum(o.count for o in operands))


def _end(nest: Nest, result: Stream) -> float:
    """Cycles to set one accumulator and store it; in portions also to load it again, lane by lane where it is no
    vector of memory.
    """
    plan, stores = nest.plan, result.instructions
    if stores > 1 and abs(result.strides.get(plan.vector, 0)) % ALIGNED == 0:
        stores *= 1 + CONFLICT
    again = any(t > 1 for loop, t in zip(plan.loops, nest.trips, strict=True) if loop.dim in plan.order)
    loads = LANE * nest.lanes if result.instructions > 1 else 1.0
    return 2.0 + stores + (loads if again else 0.0)


def _remainders(nest: Nest, streams: Sequence[Stream]) -> float:
    """Cycles of the nests for what does not fill whole tiles, beyond their arithmetic: operands are read once more,
    unless the outermost loop is theirs too.
    """
    plan, extents, target = nest.plan, nest.extents, nest.target
    cut = [d for d, n in extents.items() if d not in plan.order and n > plan.tile(d) and n % plan.tile(d)]
    if plan.loops[0].dim not in cut:
        return 0.0
    whole = sum(o.lines({**extents, d: 1}, target.line) for o in streams for d in cut)
    return len(cut) * REMAINDER + whole * target.line / target.near[2]


def _delivered(nest: Nest, streams: Sequence[Stream], counted: int) -> list[float]:
    """Lines that the first `counted` accesses take from each level of memory, over all executions of the tile.

    From the innermost step of the reduction out: lines that several iterations of a loop touch are found again in the
    cache that holds what one iteration touches.  What no loop brings again comes from wherever all of it fits.  Last of
    the accesses is the result.
    """
    plan, extents, trips, inside, target = nest.plan, nest.extents, nest.trips, nest.inside, nest.target
    delivered = [0.0, 0.0, 0.0, 0.0]
    span = {**inside, **dict.fromkeys(plan.order, 1)}
    around = [(d, inside[d]) for d in reversed(plan.order)]
    around += [(loop.dim, n) for loop, n in zip(reversed(plan.loops), reversed(trips), strict=True)]
    outside = prod(n for _, n in around)
    boxes = [o.box(span, target.line) for o in streams]
    left = [lines * outside for _, lines in boxes[:-1]]
    left.append(boxes[-1][1] * prod(trips))  # results stay in registers meanwhile
    for step, (d, n) in enumerate(around):
        if n > 1:
            together = sum([lines for _, lines in boxes])
            before = boxes
            span[d] = min(span[d] * n, extents[d])
            outside //= n
            boxes = [o.box(span, target.line) if d in o.strides else b for o, b in zip(streams, boxes, strict=True)]
            distinct = [min(lines, once * outside) for lines, (_, once) in zip(left, boxes, strict=True)]
            distinct[-1] = left[-1] if step < len(plan.order) else distinct[-1]
            for (pieces, _), lines, rest in zip(before[:counted], left, distinct, strict=False):
                if lines > rest:
                    delivered[_level(pieces, together, target)] += lines - rest
            left = distinct
    together = sum([lines for _, lines in boxes])
    for (pieces, _), lines in zip(boxes[:counted], left, strict=False):
        delivered[_level(pieces, together, target)] += lines
    return delivered


def _level(pieces: Pieces, lines: float, target: Target) -> int:
    """The first cache (0, 1, 2) that holds so many lines of a box and, in its sets, the operand's own; else 3."""
    for level, size in enumerate((target.l1, target.l2, target.l3)):
        if lines * target.line <= CACHED[level] * size and fits(pieces, size, target.line):
            return level
    return 3


def _translated(nest: Nest, operands: Sequence[Stream]) -> float:
    """Cycles of address translation in one execution of the tile, where more pages are visited than are kept."""
    span = nest.inside
    if sum([o.pages(span) for o in operands]) <= PAGES:
        return 0.0
    return WALK * sum(_visited(nest.plan, span, o) for o in operands if not o.asked(span, nest.target))


def _visited(plan: RegisterPlan, span: Mapping[str, int], o: Stream) -> float:
    """How often an operand's rows come to another page while the reduction goes on."""
    moving = [d for d in plan.order if o.strides.get(d, 0)]
    if not moving:
        return 0.0
    apart = o.count * prod(r for d, r in plan.rows if abs(o.strides.get(d, 0)) >= PAGE)
    visits, steps = 0.0, 1
    for d in moving:
        steps *= span[d]
        visits += steps * min(1.0, abs(o.strides[d]) / PAGE)
    return apart * visits
