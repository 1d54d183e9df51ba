# SPDX-License-Identifier: MIT
"""Which operands of a register tile are asked for one tile ahead: those in more pieces than a core follows by itself.

Hardware fetches ahead along a few runs of lines.  A reduction that takes a vector from each of fifty planes begins all
of them anew for each tile, and waits for memory each time.  What is stored past the caches is
`polyhedral.plans.stores`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from polyhedral.ir.affine import TRUE
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import Operand, extents_of, operands
from polyhedral.ir.program import Array, Role, Statement
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import RegisterPlan
from polyhedral.plans.streams import PAGE, ask

ENOUGH = 2000.0
"""Steps of vectors, about a cycle each, after which memory has answered."""


def ahead(
    s: Statement, plan: RegisterPlan, arrays: Mapping[str, Array], layouts: Mapping[str, Layout], target: Target
) -> tuple[tuple[str, int], ...]:
    """Arrays, of these, and how many elements before they are loaded they are asked for."""
    extents = extents_of(s)
    found: dict[str, int] = {}
    for o in (o for o in operands(s, layouts) if o.load.array in arrays):
        a = arrays[o.load.array]
        size = prod(e.const for _, e in a.dims) * o.itemsize
        if o.guard != TRUE or not _in_runs(o, plan) or size <= target.l2:
            continue
        apart = [*((d, extents[d]) for d in plan.order), *plan.rows]
        runs = prod(n for d, n in apart if abs(o.stride(d) or 0) * o.itemsize > target.line)
        step = _step(o, plan, extents, target, runs)
        if step and (ask(runs, target.line, target) or (a.role is not Role.TEMPORARY and _short(o, plan, extents))):
            found[a.name] = step
    return tuple(found.items())


def _short(o: Operand, plan: RegisterPlan, extents: Mapping[str, int]) -> bool:
    """Whether a row that is reduced along the lanes is over before the hardware has fetched far ahead: it follows a run
    of lines within its page.
    """
    return plan.partials > 1 and extents[plan.vector] * o.itemsize <= 2 * PAGE


def _in_runs(o: Operand, plan: RegisterPlan) -> bool:
    """Whether what one step reads lies together: along the lanes, or along the rows of a tile."""
    if plan.vector in o.dims:
        return o.dense(plan.vector)
    return any(r > 1 and o.dense(d) for d, r in plan.rows)


def _step(o: Operand, plan: RegisterPlan, extents: Mapping[str, int], target: Target, runs: int) -> int:
    """The elements from one iteration to the next of the innermost loop that takes long enough, if half of the first
    cache holds what is asked for until then; else of the innermost that moves.
    """
    steps = prod(extents[d] for d in plan.order) * prod(r for _, r in plan.rows)
    steps *= plan.width * o.itemsize / target.vector
    first = 0
    for loop, trips in zip(reversed(plan.loops), reversed(plan.trips(extents)), strict=True):
        step = (o.stride(loop.dim) or 0) * loop.size
        if trips > 1 and step:
            first = first or step
            if steps >= ENOUGH:
                return step if ask(runs, abs(step) * o.itemsize, target) else first
        steps *= trips
    return first
