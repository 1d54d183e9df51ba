# SPDX-License-Identifier: MIT
"""The tree of a block plan: blocks, threads, portions of a reduction that are staged, results in registers.

band i_block, j_block: block
  band i_thread, j_thread: thread
    in registers: out
      sequence
      - out.init   band i_row, j_row: unroll
      - out        band k_part
                     in memory of a block: A(i from 128*i_block: 128, k from 16*k_part: 16)
                       band k
                         band i_row, j_row: unroll
      - relu       band i_row, j_row: unroll      (an epilogue: reads out, and holds its own results in registers)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyhedral.devices.barriers import Step, place
from polyhedral.devices.plan import BlockNest
from polyhedral.ir import affine as aff
from polyhedral.ir.tree import Band, Filter, Leaf, Local, Member, Promote, Run, Stage, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.sets.instances import Family, Kind


def block_nest(fs: Sequence[Family], nest: BlockNest) -> Tree:
    """The tree of one statement's families, whose dims are the digits that the nest names."""
    main = next(f for f in fs if f.kind is not Kind.INIT)
    tree = _reduction(fs, nest) if main.statement.op is not None else _points(main, nest)
    tree = _band(fs, [d for d, _ in nest.threads], Run.THREAD, tree)
    return _band(fs, nest.blocks, Run.BLOCK, tree)


def _reduction(fs: Sequence[Family], nest: BlockNest) -> Tree:
    at = next(n for n, f in enumerate(fs) if f.kind is Kind.UPDATE)
    init, main, after = fs[:at], fs[at], fs[at + 1 :]
    update = _points(
        main, nest, (Member(nest.depth, ((main.id, aff.var(nest.depth)),), True, Run.MATRIX),) if nest.depth else ()
    )
    update = _band([main], nest.inside, Run.SERIAL, update)
    for array, cells in reversed(nest.staged):
        update = Stage(array, cells, update)
    update = _band([main], nest.portions, Run.SERIAL, update)
    if nest.team:
        update = _band([main], [nest.team[0]], Run.TEAM, update)
    steps = [*((f, _points(f, nest)) for f in init), (main, update), *((f, _points(f, nest)) for f in after)]
    body = InOrder(tuple(Filter((f.id,), tree) for f, tree in steps)) if len(steps) > 1 else update
    for array in dict.fromkeys(f.statement.write.array for f in reversed(fs)):
        body = Promote(array, body, stored=array not in nest.only)
    return body


def _points(f: Family, nest: BlockNest, deeper: tuple[Member, ...] = ()) -> Tree:
    inner: Tree = Band(deeper, Leaf(), True) if deeper else Leaf()
    return _band([f], [d for d, _ in nest.rows], Run.UNROLL, inner)


def _band(fs: Sequence[Family], dims: Sequence[str], run: Run, child: Tree) -> Tree:
    members = tuple(Member(d, tuple((f.id, aff.var(d)) for f in fs), run is not Run.SERIAL, run) for d in dims)
    return Band(members, child, True) if members else child


def row_nest(fs: Sequence[Family], nest: BlockNest) -> Tree:
    """The tree of statements that a block runs one after another on its rows.

    band i_block: block
      in memory of its own: m(i: 4)
        band i_thread: thread
          sequence
          - m      band k_thread: team      band k_part
          - threads wait for each other
          - out    band k_thread: thread    band k_part      (reads m of its row)
    """
    steps: list[Filter] = []
    for phase in nest.phases:
        own = [f for f in fs if f.statement.name == phase.statement]
        main = own[-1]
        reduces = main.statement.op is not None
        tree = _band([main], phase.inside, Run.SERIAL, Leaf())
        if phase.team:
            tree = _band([main], [phase.team], Run.TEAM if reduces else Run.THREAD, tree)
        if reduces:
            inner = InOrder((Filter((own[0].id,), Leaf()), Filter((main.id,), tree)))
            tree = Promote(main.statement.write.array, inner)
        steps.append(Filter(tuple(f.id for f in own), tree))
    body = _band(fs, [d for d, _ in nest.threads], Run.THREAD, InOrder(tuple(steps), waits_of(fs, nest)))
    for array, folds in nest.kept:
        body = Local(array, folds, body)
    return _band(fs, nest.blocks, Run.BLOCK, body)


def host_nest(parts: Sequence[tuple[Sequence[Family], Tree]], loop: str) -> Tree:
    """Nests that run one after another in each iteration of a loop of the host.

    band q_slab: host
      sequence
      - S      band q_block, k_block: block  ...
      - m      band q_block: block  ...
    """
    times = tuple((f.id, aff.var(loop)) for fs, _ in parts for f in fs)
    inner = [Filter(tuple(f.id for f in fs), tree) for fs, tree in parts]
    child = InOrder(tuple(inner)) if len(inner) > 1 else inner[0].child
    return Band((Member(loop, times, False, Run.HOST),), child)


def waits_of(fs: Sequence[Family], nest: BlockNest) -> tuple[int, ...]:
    """After which phases the threads of a block wait: where one needs what others wrote, as few as can be."""
    statements = {f.statement.name: f.statement for f in fs}
    run = [statements[phase.statement] for phase in nest.phases]
    made = {s.write.array for s in run}
    steps = [Step(tuple((a, 0) for a in s.touched[1:] if a in made), ((s.write.array, 0),)) for s in run]
    return tuple(w for w in place(steps) if w < len(steps) - 1)


def spread(tree: Tree) -> Tree:
    """Every coincident member next to a parallel one is parallel too: a device has threads for all of them.  A
    proposal, as every mark is.
    """
    match tree:
        case Band(members, child):
            if not any(m.run is Run.PARALLEL for m in members):
                return replace(tree, child=spread(child))
            return replace(tree, members=tuple(_parallel(m) for m in members))
        case InOrder(children):
            return replace(tree, children=tuple(Filter(c.families, spread(c.child)) for c in children))
        case Filter(families, child):
            return Filter(families, spread(child))
        case _:
            return tree


def _parallel(m: Member) -> Member:
    return replace(m, run=Run.PARALLEL) if m.coincident else m
