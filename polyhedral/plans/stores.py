# SPDX-License-Identifier: MIT
"""How a register tile's results reach memory: as whole vectors, through shuffles between registers, or lane by lane.

Also whether they should go past the caches.  `codegen.shuffles` does it; here is what it costs and when it pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2, prod

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.counts import instances
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import Operand, along, extents_of, offset, steps_along
from polyhedral.ir.program import Program, Role, Statement
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import EVEN, RegisterPlan, balance
from polyhedral.plans.streams import PAGE

APART = 1.2
"""What memory takes longer for results that a tile stores past the caches to several pages in turn."""
JOINED = 0.5
"""What it costs to join a run with others to a vector, next to loading it."""


@dataclass(frozen=True)
class Steps:
    """Where the cells of a tile lie: `count` of them `stride` elements apart, along the lanes of a vector or not."""

    stride: int
    count: int
    lanes: bool


def vector_steps(s: Statement, vector: str, width: int, layout: Layout) -> tuple[Steps, ...] | None:
    """The steps of `width` results along the vector dim, which may be two dims in one; None for another pattern."""
    return _along(s.write.index, vector, width, layout)


def lane_steps(o: Operand, vector: str, lanes: int, layout: Layout) -> tuple[Steps, ...] | None:
    """The steps of a vector's lanes in an operand, where these lie in short runs; None for another pattern."""
    steps = _read(o, vector, lanes, layout) if o.value == o.load else None
    return steps if steps is not None and len(steps) == 2 and steps[0].stride == 1 else None


def alike(o: Operand, vector: str, extent: int, lanes: int, layout: Layout) -> bool:
    """Whether an operand lies under all vectors along a dim in the same steps."""
    steps = _read(o, vector, extent, layout)
    return steps is not None and (steps[0].count % lanes == 0 or lanes % steps[0].count == 0)


def _read(o: Operand, vector: str, width: int, layout: Layout) -> tuple[Steps, ...] | None:
    return _along(tuple((d, i) for d, i in o.load.index if isinstance(i, Affine)), vector, width, layout)


def loading(steps: tuple[Steps, ...] | None, lanes: int) -> float:
    """Instructions that load one vector run by run, or lane by lane."""
    return 2.0 * lanes if steps is None else (1 + JOINED) * (lanes // steps[0].count) - JOINED


@lru_cache(maxsize=1 << 11)
def _along(index: tuple[tuple[str, Affine], ...], vector: str, width: int, layout: Layout) -> tuple[Steps, ...] | None:
    apart = steps_along(index, vector, width, layout)
    return None if apart is None else _steps_of(apart)


def _steps_of(at: list[int]) -> tuple[Steps, ...] | None:
    """The offsets of a vector's lanes as one or two nested steps."""
    width = len(at)
    inner = at[1] if width > 1 else 1
    fast = next((i for i in range(width) if at[i] != i * inner), width)
    slow = at[fast] if fast < width else 0
    if width % fast or any(at[i] != (i // fast) * slow + (i % fast) * inner for i in range(width)):
        return None
    found = (Steps(inner, fast, True), Steps(slow, width // fast, True))
    return found if fast < width else found[:1]


def instructions(
    s: Statement, steps: tuple[Steps, ...] | None, rows: Mapping[str, int], layout: Layout, lanes: int
) -> float:
    """Instructions that store one vector of results of a tile; `steps` are those of its vector dim."""
    if steps is None:
        return float(lanes)
    if steps[0].stride == 1 and steps[0].count % lanes == 0:
        return 1.0
    run = contiguous(s, steps, rows, layout)
    if prod(x.count for x in run) % lanes:
        short = run[0].count if len(run) == 1 and not run[0].lanes else 1
        return min(float(lanes), (1.0 + log2(lanes)) * lanes / short if short < lanes else float(lanes))
    inside, sources = 1, 1
    for x in run:
        taken = min(x.count, max(lanes // inside, 1))
        sources *= 1 if x.lanes else taken
        inside *= x.count
    return 1.0 + log2(max(sources, 2))


def contiguous(s: Statement, steps: tuple[Steps, ...], rows: Mapping[str, int], layout: Layout) -> tuple[Steps, ...]:
    """The steps that follow each other without a gap, from the first cell of a tile."""
    found: list[Steps] = []
    for x in sorted(_every(s, steps, rows, layout), key=lambda x: x.stride):
        if x.stride != prod(y.count for y in found):
            break
        found.append(x)
    return tuple(found)


def _every(s: Statement, steps: tuple[Steps, ...], rows: Mapping[str, int], layout: Layout) -> list[Steps]:
    """The steps of a whole tile, those of its vector first."""
    found = list(steps)
    for d, r in rows.items():
        stride = along(s.write.index, d, layout)
        if stride is not None and r > 1:
            found.append(Steps(stride, r, False))
    return found


def storing(p: Program, s: Statement, plan: RegisterPlan, layout: Layout, target: Target) -> float:
    """Cycles that memory takes for a statement's results at least: 0 where the last cache keeps them, twice as many
    where lines are read before they are written.
    """
    once = past_cache(p, s, target)
    if not once or not _streams(p, s, plan, layout, target):
        return 2.0 * once
    page = PAGE // p.array(s.write.array).dtype.numpy.itemsize
    far = any(abs(along(s.write.index, d, layout) or 0) >= page for d, r in plan.rows if r > 1)
    return once * APART if far else once


def past_cache(p: Program, s: Statement, target: Target) -> float:
    """Cycles that memory takes to write a statement's results, which may be a block of all of them: 0 where the last
    cache keeps these.
    """
    a = p.array(s.write.array)
    size = prod(e.const for _, e in a.dims) * a.dtype.numpy.itemsize
    own = min(float(size), instances(s, s.kept) * a.dtype.numpy.itemsize)
    again = a.role is Role.TEMPORARY or a.name in p.read
    return own / target.bytes_per_cycle if size >= (target.l3 if again else target.l3 // 2) else 0.0


def streamed(
    p: Program, s: Statement, plan: RegisterPlan, layout: Layout, target: Target, *, ordered: bool = False
) -> RegisterPlan:
    """The plan with its results stored past the caches where that pays: page by page, unless the loops are `ordered`
    already.
    """
    if not _streams(p, s, plan, layout, target):
        return plan
    if ordered:
        return replace(plan, streams=True)
    jumps = _jumps(s, plan, layout)
    loops = sorted(plan.loops, key=lambda x: -abs(jumps[x.dim].const))
    trips = dict(zip(loops, replace(plan, loops=tuple(loops)).trips(extents_of(s)), strict=True))
    even = [x for x in loops if balance(trips[x], target.cores) >= EVEN]
    first = even[0] if even else max(loops, key=lambda x: trips[x])
    return replace(plan, loops=(first, *(x for x in loops if x != first)), streams=True)


def _streams(p: Program, s: Statement, plan: RegisterPlan, layout: Layout, target: Target) -> bool:
    """Whether a plan's results are stored past the caches: each is stored once, in whole lines, and there are more of
    them than the last cache keeps for whoever reads them next.
    """
    a = p.array(s.write.array)
    if not past_cache(p, s, target) or a.role is Role.INOUT or a.planes:
        return False
    if any(loop.dim in plan.order for loop in plan.loops) or any(not isinstance(st, int) for _, st in layout.strides):
        return False
    return _whole_lines(s, plan, layout, target.line // a.dtype.numpy.itemsize)


def _whole_lines(s: Statement, plan: RegisterPlan, layout: Layout, line: int) -> bool:
    """Whether every tile covers whole lines (of so many elements) and none but these."""
    steps = vector_steps(s, plan.vector, plan.width, layout)
    if steps is None or line == 0:
        return False
    run = contiguous(s, steps, dict(plan.rows), layout)
    apart = [aff.const(x.stride) for x in _every(s, steps, dict(plan.rows), layout) if x not in run]
    first = aff.substitute(offset(s.write.index, layout), {r.dim: r.lo for r in s.domain.ranges})
    jumps = _jumps(s, plan, layout).values()
    whole = prod(x.count for x in run) % line == 0
    return whole and all(x.is_const and x.const % line == 0 for x in (first, *apart, *jumps))


def _jumps(s: Statement, plan: RegisterPlan, layout: Layout) -> dict[str, Affine]:
    """How far apart neighbouring tiles lie along each dim of the result, in elements."""
    begin = {r.dim: r.lo for r in s.domain.ranges}
    kept = [d for d in begin if d not in plan.order]
    place = offset(s.write.index, layout)
    first = aff.substitute(place, begin)

    def jump(d: str) -> Affine:
        steady = along(s.write.index, d, layout)
        if steady is not None:
            return aff.const(steady * plan.tile(d))
        return aff.substitute(place, {**begin, d: begin[d] + plan.tile(d)}) - first

    return {d: jump(d) for d in kept}
