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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyhedral import affine as aff
from polyhedral.block_plan import BlockNest
from polyhedral.instances import Family
from polyhedral.tree import Band, Filter, Leaf, Member, Promote, Run, Stage, Tree
from polyhedral.tree import Sequence as InOrder


def block_nest(fs: Sequence[Family], nest: BlockNest) -> Tree:
    """The tree of one statement's families, whose dims are the digits that the nest names."""
    main = fs[-1]
    tree = _reduction(fs, nest) if main.statement.op is not None else _points(main, nest)
    tree = _band(fs, [d for d, _ in nest.threads], Run.THREAD, tree)
    return _band(fs, nest.blocks, Run.BLOCK, tree)


def _reduction(fs: Sequence[Family], nest: BlockNest) -> Tree:
    main = fs[-1]
    update = _points(main, nest)
    update = _band([main], nest.inside, Run.SERIAL, update)
    for array, cells in reversed(nest.staged):
        update = Stage(array, cells, update)
    update = _band([main], nest.portions, Run.SERIAL, update)
    if nest.team:
        update = _band([main], [nest.team[0]], Run.TEAM, update)
    body: Tree = update
    if len(fs) > 1:
        body = InOrder((Filter((fs[0].id,), _points(fs[0], nest)), Filter((main.id,), update)))
    return Promote(main.statement.write.array, body)


def _points(f: Family, nest: BlockNest) -> Tree:
    return _band([f], [d for d, _ in nest.rows], Run.UNROLL, Leaf())


def _band(fs: Sequence[Family], dims: Sequence[str], run: Run, child: Tree) -> Tree:
    members = tuple(Member(d, tuple((f.id, aff.var(d)) for f in fs), run is not Run.SERIAL, run) for d in dims)
    return Band(members, child, True) if members else child


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
            return InOrder(tuple(Filter(c.families, spread(c.child)) for c in children))
        case Filter(families, child):
            return Filter(families, spread(child))
        case _:
            return tree


def _parallel(m: Member) -> Member:
    return replace(m, run=Run.PARALLEL) if m.coincident else m
