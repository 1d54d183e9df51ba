# SPDX-License-Identifier: MIT
"""Parallel marks: run one coincident member of the outermost possible band on all cores.

Members inside a parallel one stay serial: one level of parallelism, no nested regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from polyhedral.ir.tree import Band, Filter, Leaf, Local, Member, Promote, Run, Sequence, Stage, Tree, map_bands


def parallelise(tree: Tree) -> Tree:
    """Mark the first coincident member on every path from the root."""
    match tree:
        case Leaf():
            return tree
        case Filter(families, child):
            return Filter(families, parallelise(child))
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return replace(tree, child=parallelise(child))
        case Sequence(children):
            return Sequence(tuple(Filter(c.families, parallelise(c.child)) for c in children))
        case Band(members, child):
            at = next((i for i, m in enumerate(members) if m.coincident), None)
            if at is None:
                return replace(tree, child=parallelise(child))
            marked = tuple(replace(m, run=Run.PARALLEL) if i == at else m for i, m in enumerate(members))
            return replace(tree, members=marked)


def outermost_parallel(tree: Tree) -> Iterator[Tree]:
    """Every tree in which one member of the outermost band runs on all cores; of several bands in sequence, all that
    have such a member.  Proposals: nothing is known of what may run in parallel.
    """
    match tree:
        case Band(members):
            for at, m in enumerate(members):
                marked = (*members[:at], replace(m, run=Run.PARALLEL), *members[at + 1 :])
                yield replace(tree, members=marked)
        case Sequence(children):
            firsts = [next(outermost_parallel(c.child), c.child) for c in children]
            yield Sequence(tuple(Filter(c.families, t) for c, t in zip(children, firsts, strict=True)))
        case Filter(families, child):
            yield from (Filter(families, t) for t in outermost_parallel(child))
        case Leaf() | Promote() | Local() | Stage():
            return


def nth_parallel(tree: Tree, n: int) -> Tree:
    """The tree with its member number `n` in parallel, counted from the outermost on."""
    count = 0

    def walk(node: Tree) -> Tree:
        nonlocal count
        match node:
            case Band(members, child):
                first, count = count, count + len(members)
                marked = (replace(m, run=Run.PARALLEL) if first + i == n else m for i, m in enumerate(members))
                return replace(node, members=tuple(marked), child=walk(child))
            case Sequence(children):
                return replace(node, children=tuple(Filter(c.families, walk(c.child)) for c in children))
            case Leaf():
                return node
            case _:
                return replace(node, child=walk(node.child))

    return walk(tree)


def serialise(tree: Tree) -> Tree:
    """The tree on one core."""

    def serial(m: Member) -> Member:
        return replace(m, run=Run.SERIAL) if m.run is Run.PARALLEL else m

    return map_bands(tree, lambda b: replace(b, members=tuple(map(serial, b.members))))
