# SPDX-License-Identifier: MIT
"""The tree of a register plan: tile loops, then a reduction whose results stay in registers.

band n: parallel, coj_tile, y, x_tile
  in registers: O
    sequence
    - O.init   band x: unroll, coj: vector
    - O        band ky, kx, ci, k
                 band x: unroll, coj: vector
"""

from __future__ import annotations

from collections.abc import Sequence

from polyhedral import affine as aff
from polyhedral.instances import Family
from polyhedral.plan import RegisterPlan
from polyhedral.tree import Band, Filter, Leaf, Member, Promote, Run, Tree
from polyhedral.tree import Sequence as InOrder


def register_nest(fs: Sequence[Family], plan: RegisterPlan) -> Tree:
    """The nest for a reduction's initialisation and updates."""
    init, main = fs
    starts = {r.dim: r.lo.const for r in main.statement.domain.ranges}
    points = tuple(d for d in plan.outer if plan.tile(d) > 1 and d != plan.vector)
    members: list[Member] = []
    for n, d in enumerate(plan.outer):
        at = aff.var(d)
        if plan.tile(d) > 1:
            at = (at - starts[d]) // plan.tile(d)
        run = Run.PARALLEL if n == 0 else Run.SERIAL
        name = f"{d}_tile" if plan.tile(d) > 1 else d
        members.append(Member(name, tuple((f.id, at) for f in fs), True, run))
    point = [_points(f, points, plan.vector) for f in fs]
    reduced = tuple(Member(d, ((main.id, aff.var(d)),)) for d in plan.order)
    update = Band(reduced, point[1], True) if reduced else point[1]
    body = InOrder((Filter((init.id,), point[0]), Filter((main.id,), update)))
    return Band(tuple(members), Promote(main.statement.write.array, body), True)


def _points(f: Family, rows: Sequence[str], vector: str) -> Tree:
    members = [Member(d, ((f.id, aff.var(d)),), True, Run.UNROLL) for d in rows]
    members.append(Member(vector, ((f.id, aff.var(vector)),), True, Run.VECTOR))
    return Band(tuple(members), Leaf(), True)
