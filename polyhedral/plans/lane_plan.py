# SPDX-License-Identifier: MIT
"""Plans of reductions whose dense dim is a reduced one: it runs along the lanes, with partial results.

Sums of rows, norms, products with a vector: what has no other dim along which operands are dense, or would have to be
re-laid for one.  Compared by cycles with the plans of `polyhedral.plans.candidates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from polyhedral.ir import expr as ex
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import operands, tied, typical
from polyhedral.ir.program import Statement
from polyhedral.machine.prices import FOLD
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import EVEN, Loop, RegisterPlan, loop_balance
from polyhedral.plans.visits import balanced

PARTIALS = 4
"""Vectors of partial results: enough to hide the latency of what combines them."""


def lane_plan(s: Statement, layouts: Mapping[str, Layout], target: Target) -> tuple[RegisterPlan, float] | None:
    """The plan with the longest reduced dim along which every operand is dense or does not move, and its cycles."""
    lanes = target.lanes(ex.dtype_of(s.value).bits // 8)
    extents, bound = typical(s), tied(s)
    every = operands(s, layouts)
    free = [d for d in s.reduced if d not in bound and extents[d] >= lanes and any(o.dense(d) for o in every)]
    free = [d for d in free if all(d not in o.dims or o.dense(d) for o in every)]
    tests = frozenset[str]().union(*(ex.dims_of(n) for n in ex.walk(s.value) if isinstance(n, (ex.Test, ex.Index))))
    free = [d for d in free if d not in tests]
    if not free:
        return None
    vector = max(free, key=lambda d: (extents[d], d))
    kept = [d for d in s.dims if d not in s.reduced]
    partials = min(PARTIALS, extents[vector] // lanes)
    rows = _rows([d for d in kept if d not in bound], extents, PARTIALS // partials)
    order = tuple(d for d in s.reduced if d != vector)
    plan = RegisterPlan(vector, partials * lanes, rows, order, (), partials=partials)
    read = {o: prod(extents[d] for d in o.dims) * o.itemsize for o in every}
    most = max(every, key=lambda o: read[o])
    far = {d: abs(most.stride(d) or 0) if d in most.dims else 0 for d in kept}
    loops = tuple(Loop(d, plan.tile(d)) for d in sorted(kept, key=lambda d: -far[d]))  # what is read most, in its order
    front = next((x for x in loops if loop_balance(plan, x, extents, target.cores) > EVEN), None)
    plan = replace(plan, loops=loops if front is None else (front, *(x for x in loops if x is not front)))
    if loops and front is None:
        plan = replace(plan, loops=balanced(plan, extents, target.cores))
    vectors = prod(extents.values()) / lanes
    loads = sum(o.itemsize for o in every) / ex.dtype_of(s.value).numpy.itemsize
    brought = sum(read.values())
    fetch = brought / target.bytes_per_cycle if brought > target.l3 // 2 else brought / target.near[2]
    cells = prod(extents[d] for d in kept)
    return plan, vectors * (loads / target.loads_per_cycle + 0.5) + cells * FOLD + fetch


def _rows(kept: list[str], extents: Mapping[str, int], most: int) -> tuple[tuple[str, int], ...]:
    """A few results at once where there are too few partial ones of each."""
    found = [(d, r) for d in kept for r in range(2, most + 1) if extents[d] % r == 0]
    return (max(found, key=lambda x: x[1]),) if found else ()
