# SPDX-License-Identifier: MIT
"""What does not fill whole tiles, beside those that it follows: the parts of one statement within common loops.

    for y: for x_tile < 3: (whole tiles)           for y:
    for y: (what is left of x)               ->      for x_tile < 3: (whole tiles)
                                                     (what is left of x)

The parts read the same operands, which are still in a cache.  Which parts there are is left to `polyhedral.plans.plan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from polyhedral.ir.program import Range, Statement
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.transforms.share import Nest, Shared


def beside(parts: Sequence[str], plans: Mapping[str, RegisterPlan], statements: Sequence[Statement]) -> Nest | None:
    """The parts of a statement within the loops before the first that they do not have in common; None where there are
    none, or where it is not in parts.
    """
    if len(parts) < 2 or any(name not in plans for name in parts):
        return None
    own = {s.name: s for s in statements}
    ranges = [{r.dim: r for r in own[name].domain.ranges} for name in parts]
    common = list(_common([plans[name] for name in parts], ranges))
    if not common:
        return None
    members = {name: (name, *plans[name].epilogue) for name in parts}
    every = [s for inside in members.values() for s in inside]
    loops = tuple(Shared(loop.dim, tuple((s, loop.dim) for s in every), loop.size) for loop in common)
    return Nest(tuple(members[name] for name in parts), loops)


def _common(plans: Sequence[RegisterPlan], ranges: Sequence[Mapping[str, Range]]) -> Iterator[Loop]:
    """The loops from the outermost in that all parts have over the same range, each dim once."""
    seen: set[str] = set()
    for loops in zip(*(plan.loops for plan in plans), strict=False):
        loop = loops[0]
        same = all(x == loop for x in loops) and all(r[loop.dim] == ranges[0][loop.dim] for r in ranges)
        if not same or loop.dim in seen or loop.dim in plans[0].order:
            return
        seen.add(loop.dim)
        yield loop
