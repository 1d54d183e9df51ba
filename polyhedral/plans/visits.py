# SPDX-License-Identifier: MIT
"""In which order the tiles of a reduction are visited, which loop runs on all cores, and what is done in portions.

Orders worth a look; which of them is best is left to `polyhedral.plans.cycles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import extents_of
from polyhedral.ir.program import Statement
from polyhedral.plans.register_plan import EVEN, Loop, RegisterPlan, loop_balance

PORTIONS = (128, 256, 512)
"""Steps of a long reduction that are done at once."""
PANELS = (2, 4, 8)
"""Panels of the vector dim that are visited in turn for the same other operands."""


def orders(s: Statement, plan: RegisterPlan, layout: Layout, cores: int) -> Iterator[tuple[Loop, ...]]:
    """Tile loops: one with enough trips for all cores first, then the vector's, or any of them last, or those inside
    that an operand does not see, so that it is found again; several panels of the vector dim in turn; the rest as the
    result lies in memory.
    """
    extents = extents_of(s)
    rest = _as_stored(s, plan, layout)
    plain = (Loop(plan.vector, plan.width), *rest)
    trips = dict(zip(plain, replace(plan, loops=plain).trips(extents), strict=True))
    if loop_balance(plan, plain[0], extents, cores) > EVEN:
        yield plain
    for inner in (None, *(x for x in plain if trips[x] > 1)):
        order = (*(x for x in plain if x != inner), *((inner,) if inner else ()))
        yield balanced(replace(plan, loops=order), extents, cores)
    for dims in dict.fromkeys(frozenset(ex.dims_of(load)) for load in ex.loads(s.value)):
        order = (*(x for x in plain if x.dim in dims), *(x for x in plain if x.dim not in dims))
        even = next(
            (x for x in order if x.dim != plan.vector and loop_balance(plan, x, extents, cores) > EVEN), order[0]
        )
        yield (even, *(x for x in order if x != even))
    yield from _grouped(s, plan, layout, ())


def portions(s: Statement, plan: RegisterPlan, layout: Layout, cores: int) -> Iterator[tuple[Loop, ...]]:
    """Tile loops that do a long reduction in portions."""
    for cut in _cuts(plan.order, extents_of(s)):
        yield (Loop(plan.vector, plan.width), *cut, *_as_stored(s, plan, layout))
        yield from _grouped(s, plan, layout, cut)
        yield from _shared(s, plan, layout, cut, cores)


def _grouped(s: Statement, plan: RegisterPlan, layout: Layout, cut: tuple[Loop, ...]) -> Iterator[tuple[Loop, ...]]:
    """Panels of the vector dim that are visited in turn for the same other operands."""
    for panels in PANELS:
        if panels * plan.width < extents_of(s)[plan.vector]:
            group, one = Loop(plan.vector, panels * plan.width), Loop(plan.vector, plan.width)
            yield (group, *cut, *_as_stored(s, plan, layout), one)


def _shared(
    s: Statement, plan: RegisterPlan, layout: Layout, cut: tuple[Loop, ...], cores: int
) -> Iterator[tuple[Loop, ...]]:
    """One share of the vector dim for each core, all of it for a portion before the next: what the other operands have
    in a portion stays in the last cache meanwhile.
    """
    share = -(-extents_of(s)[plan.vector] // (cores * plan.width)) * plan.width
    if cores > 1 and share // plan.width > 1:
        for loops in _grouped(s, plan, layout, cut):
            if loops[0].size < share:
                yield (Loop(plan.vector, share), *cut, loops[0], *loops[1 + len(cut) :])


def _as_stored(s: Statement, plan: RegisterPlan, layout: Layout) -> tuple[Loop, ...]:
    """The loops of the other dims as the result lies in memory."""
    index = dict(s.write.index)
    place = {d: next((i for i, a in enumerate(layout.order) if d in aff.dims_of(index[a])), 0) for d in s.kept}
    return tuple(Loop(d, plan.tile(d)) for d in sorted(place, key=lambda d: place[d]) if d != plan.vector)


def _cuts(order: Sequence[str], extents: Mapping[str, int]) -> list[tuple[Loop, ...]]:
    """Loops that do a long reduction in portions of about so many steps: its outer dims, the last in parts."""
    found: list[tuple[Loop, ...]] = []
    for portion in PORTIONS:
        cut: list[Loop] = []
        left = prod(extents[d] for d in order)
        for d in order:
            if left < 2 * portion:
                break
            left //= extents[d]
            cut.append(Loop(d, max(1, portion // left)))
        if cut and tuple(cut) not in found:
            found.append(tuple(cut))
    return found


def balanced(plan: RegisterPlan, extents: Mapping[str, int], cores: int) -> tuple[Loop, ...]:
    """The loops with one that keeps all cores busy in front."""
    trips = dict(zip(plan.loops, plan.trips(extents), strict=True))
    free = [loop for loop in plan.loops if loop.dim not in plan.order]
    candidates = [x for x in free if x.dim != plan.vector and loop_balance(plan, x, extents, cores) > EVEN]
    candidates = candidates or [max(free, key=lambda x: loop_balance(plan, x, extents, cores))]
    first = max(candidates, key=lambda x: min(trips[x], 8 * cores))
    return (first, *(x for x in plan.loops if x != first))
