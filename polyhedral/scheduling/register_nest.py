# SPDX-License-Identifier: MIT
"""The tree of a register plan: tile loops, then a reduction whose results stay in registers.

band n: parallel, coj_tile, y, x_tile
  in registers: O
    sequence
    - O.init   band x: unroll, coj: vector
    - O        band ky, kx, ci, k
                 band x: unroll, coj: vector
    - relu     band x: unroll, coj: vector        (an epilogue: reads O, and holds its own results in registers)

A tile loop over a reduced dim does the reduction in portions: initialisation belongs to the first, an epilogue to the
last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.operands import extents_of
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Promote, Run, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.sets.instances import Family, Kind


def register_nest(fs: Sequence[Family], plan: RegisterPlan, around: Sequence[Loop] = ()) -> Tree:
    """The nest for a reduction's initialisation, updates and epilogue, or for the one family of another statement;
    `around` are the loops that it shares with others.
    """
    if len(fs) > 2:
        plan = plan.undivided(extents_of(fs[1].statement), around)
    points = tuple(d for d, r in plan.rows if r > 1)
    point = [_points(f, points, plan.vector) for f in fs]
    if len(fs) == 1:
        held = Promote(fs[0].statement.write.array, point[0], plan.streams)
        return Band(tuple(_tile_loops(fs, plan)), held, True)
    init, main, *after = fs
    if plan.vector in main.statement.reduced:
        return _along_lanes(init, main, points, plan)
    run = {d: Run.WRITTEN if d in plan.written else Run.SERIAL for d in plan.order}
    reduced = tuple(Member(d, ((main.id, aff.var(d)),), False, run[d]) for d in plan.order)
    update = Band(reduced, point[1], True) if reduced else point[1]
    then = (Filter((f.id,), tree) for f, tree in zip(after, point[2:], strict=True))
    body: Tree = InOrder((Filter((init.id,), point[0]), Filter((main.id,), update), *then))
    for array in dict.fromkeys(f.statement.write.array for f in reversed(fs)):
        stored = array not in plan.only
        body = Promote(array, body, plan.streams and stored, stored=stored, ahead=plan.ahead)
    return Band(tuple(_tile_loops(fs, plan)), body, True)


def _along_lanes(init: Family, main: Family, rows: Sequence[str], plan: RegisterPlan) -> Tree:
    """Rows of partial results, set and updated together; the reduced dim of the lanes is outside the rows."""

    def unrolled(f: Family) -> tuple[Member, ...]:
        return tuple(Member(d, ((f.id, aff.var(d)),), True, Run.UNROLL) for d in rows)

    steps = tuple(Member(d, ((main.id, aff.var(d)),)) for d in plan.order)
    lanes = Member(plan.vector, ((main.id, aff.var(plan.vector)),), False, Run.LANES)
    start = Band(unrolled(init), Leaf(), True) if rows else Leaf()
    update = Band((*steps, lanes, *unrolled(main)), Leaf(), True)
    body = InOrder((Filter((init.id,), start), Filter((main.id,), update)))
    held = Promote(main.statement.write.array, body, plan.streams, plan.partials, ahead=plan.ahead)
    return Band(tuple(_tile_loops((init, main), plan)), held, True) if plan.loops else held


def _tile_loops(fs: Sequence[Family], plan: RegisterPlan) -> Iterator[Member]:
    main = next(f for f in fs if f.kind is not Kind.INIT)
    starts = {r.dim: r.lo.const for r in main.statement.domain.ranges}
    ends = {r.dim: r.hi.const for r in main.statement.domain.ranges}
    left = [x.dim for x in plan.loops]
    for n, loop in enumerate(plan.loops):
        left.remove(loop.dim)
        cut = loop.dim in plan.order
        at = _tile_of(loop, starts[loop.dim], aff.var(loop.dim))
        last = _tile_of(loop, starts[loop.dim], ends[loop.dim] - 1)
        away = {Kind.INIT: aff.const(0), Kind.ASSIGN: last}
        times = tuple((f.id, away.get(f.kind, at) if cut else at) for f in fs)
        name = loop.dim if loop.size == 1 else f"{loop.dim}_{'block' if cut or loop.dim in left else 'tile'}"
        yield Member(name, times, not cut, Run.PARALLEL if n == 0 else Run.SERIAL)


def _tile_of(loop: Loop, start: int, at: Affine | int) -> Affine:
    at = aff.const(at) if isinstance(at, int) else at
    return at if loop.size == 1 else (at - start) // loop.size


def _points(f: Family, rows: Sequence[str], vector: str) -> Tree:
    members = [Member(d, ((f.id, aff.var(d)),), True, Run.UNROLL) for d in rows]
    members.append(Member(vector, ((f.id, aff.var(vector)),), True, Run.VECTOR))
    return Band(tuple(members), Leaf(), True)
