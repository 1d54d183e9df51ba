# SPDX-License-Identifier: MIT
"""Predicted cycles of a register-tiled nest: arithmetic, loads, latency, and what each level of memory must deliver.

The analytical model of Low et al. (2016), generalised from matrix products to any box of loops: an operand is found
again in the smallest cache that holds everything touched since.  Which nests are compared is `polyhedral.candidates`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod

from polyhedral.register_plan import RegisterPlan
from polyhedral.target import Target

PRESSURE = 0.15
"""Cycles that a scalar operand costs even where multiply-adds bind."""
STEP = 0.5
"""Cycles of loop control in each reduction step."""
FETCH = (0.0, 0.8, 5.0, 14.0)
"""Cycles lost for each line that comes from the first, second or third level, or from memory."""
PAGE, PAGES, WALK = 4096, 64, 4.0
"""Bytes of a page; pages that are translated at once; cycles for each visit of one where there are more."""
FAR, APART = 16, 0.06
"""Rows more than so many lines apart are streams of their own, at so many cycles each."""
WEIGHT = 1 / 64
"""What a cycle of work costs that memory hides: enough to tell plans apart."""
WAYS = 8
"""Lines of one address modulo a cache's sets that it holds."""


@dataclass(frozen=True)
class Stream:
    """An access as tiles see it: its strides in bytes along the dims that it depends on, and the load (or store)
    instructions that one vector of it takes: 0 for a scalar, more than 1 where the lanes are scattered.
    """

    strides: Mapping[str, int]
    instructions: float

    @property
    def vector(self) -> bool:
        return self.instructions > 0

    def lines(self, span: Mapping[str, int], line: int) -> float:
        """Cache lines that a box of `span` cells along each dim touches."""
        seen = {d: abs(st) for d, st in self.strides.items() if span[d] > 1}
        if not seen:
            return 1.0
        dense = min(seen, key=lambda d: seen[d])
        together = min(span[dense], max(1, line // max(seen[dense], 1)))
        return max(1.0, prod(span[d] for d in seen) / together)


@dataclass(frozen=True)
class Prediction:
    """Cycles of all cores together, by cause; `imbalance` is the busiest core's time over the mean, and
    `floor` what memory takes for results that no cache holds."""

    fma: float
    loads: float
    latency: float
    control: float
    memory: float
    ends: float
    copies: float
    imbalance: float
    floor: float = 0.0

    @property
    def total(self) -> float:
        busy = max(self.fma, self.loads, self.latency)
        work = (busy + self.control + self.memory + self.ends) * self.imbalance
        return max(work, self.floor) + WEIGHT * work + self.copies


def predict(
    plan: RegisterPlan,
    extents: Mapping[str, int],
    lanes: int,
    operands: Sequence[Stream],
    result: Stream,
    target: Target,
    copies: float = 0.0,
    floor: float = 0.0,
) -> Prediction:
    """The cycles of a plan's nest; `copies` are those of operands re-laid for it, `floor` those of memory at least."""
    trips = plan.trips(extents)
    blocks = -(-plan.width // lanes)
    rows = dict(plan.rows)
    accumulators = blocks * prod(rows.values())
    executions = prod(trips)
    steps = executions * prod(_inner(plan, extents)[d] for d in plan.order)
    vectors = sum(o.instructions * blocks * _seen(o, rows) for o in operands if o.vector)
    scalars = sum(_seen(o, rows) for o in operands if not o.vector)
    again = prod(t for loop, t in zip(plan.loops, trips, strict=True) if loop.dim in plan.order)
    ends = accumulators * (2.0 + result.instructions + (2.0 if again > 1 else 0.0)) + 4.0
    streams = [*operands, result]
    return Prediction(
        fma=steps * accumulators / target.fma_per_cycle,
        loads=steps * (vectors + scalars) / target.loads_per_cycle,
        latency=steps * float(target.latency),
        control=steps * (STEP + PRESSURE * scalars),
        memory=sum(_fetched(plan, extents, trips, streams, o, target) for o in (operands if floor else streams))
        + steps * sum(_evicted(o, rows, target) for o in operands),
        ends=executions * ends,
        copies=copies,
        imbalance=_imbalance(prod(trips[: plan.parallel]), target.cores),
        floor=floor,
    )


def _seen(o: Stream, rows: Mapping[str, int]) -> int:
    return prod(r for d, r in rows.items() if d in o.strides)


def _imbalance(trips: int, cores: int) -> float:
    return -(-trips // cores) * cores / trips


def _inner(plan: RegisterPlan, extents: Mapping[str, int]) -> dict[str, int]:
    """The box of one execution of the innermost tile: its elements along every dim."""
    inside = {d: plan.tile(d) for d in extents}
    for d in plan.order:
        inside[d] = min([extents[d], *(loop.size for loop in plan.loops if loop.dim == d)])
    return inside


def _fetched(
    plan: RegisterPlan,
    extents: Mapping[str, int],
    trips: Sequence[int],
    streams: Sequence[Stream],
    o: Stream,
    target: Target,
) -> float:
    """Cycles lost to bring an operand's lines near, over all executions of the tile.

    From the innermost loop out: a loop that an operand does not depend on brings it again, from the cache that holds
    what one iteration touches.  What no loop brings again comes from wherever the whole computation fits.
    """
    span = _inner(plan, extents)
    lines = o.lines(span, target.line) * prod(trips)
    lost = _translations(plan, span, o, target) * prod(trips)
    for loop, n in zip(reversed(plan.loops), reversed(trips), strict=True):
        if loop.dim not in o.strides and n > 1:
            found = lines * (1 - 1 / n)
            lost += found * FETCH[_level(plan, span, streams, o, target)]
            lines -= found
        span[loop.dim] = min(span[loop.dim] * n, extents[loop.dim])
    return lost + lines * FETCH[_level(plan, span, streams, o, target)]


def _level(plan: RegisterPlan, span: Mapping[str, int], streams: Sequence[Stream], o: Stream, target: Target) -> int:
    """The first cache (0, 1, 2) that holds a box of all streams and, in its sets, the operand's own part; else 3."""
    touched = sum(s.lines(span, target.line) for s in streams)
    own = o.lines(span, target.line)
    fastest = next((d for d in reversed(plan.order) if d in o.strides), None)
    aliased = fastest is not None and span[fastest] > WAYS
    apart = max(1, abs(o.strides[fastest]) // target.line) if fastest is not None else 1
    for level, size in enumerate((target.l1, target.l2, target.l3 // max(target.cores, 1))):
        lines = size // target.line
        sets = max(1, lines // WAYS)
        held = lines // gcd(sets, apart) if aliased else lines
        if touched <= lines and own <= held:
            return level
    return 3


def _evicted(o: Stream, rows: Mapping[str, int], target: Target) -> float:
    """Cycles of one step for rows of a tile that meet in so few sets of the first cache that they evict each other."""
    lost = 0.0
    for d, r in rows.items():
        apart = abs(o.strides.get(d, 0)) // target.line
        if apart and r > 1:
            lines = target.l1 // target.line
            held = lines // gcd(lines // WAYS, apart)
            lost += r * FETCH[1] if 2 * r > held else APART * r if apart > FAR else 0.0
    return lost


def _translations(plan: RegisterPlan, span: Mapping[str, int], o: Stream, target: Target) -> float:
    """Cycles of address translation in one execution of the tile, where more pages are visited than are kept."""
    fastest = next((d for d in reversed(plan.order) if d in o.strides), None)
    if fastest is None or abs(o.strides[fastest]) < PAGE // 4:
        return 0.0
    pages = span[fastest] * min(1.0, abs(o.strides[fastest]) / PAGE)
    visits = prod(span[d] for d in plan.order if d in o.strides) * min(1.0, abs(o.strides[fastest]) / PAGE)
    return visits * WALK if pages > PAGES else 0.0
