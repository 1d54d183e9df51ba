# SPDX-License-Identifier: MIT
"""Parallel marks: run one coincident member of the outermost possible band on all cores.

Members inside a parallel one stay serial: one level of parallelism, no nested regions.
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.tree import Band, Filter, Leaf, Promote, Run, Sequence, Tree


def parallelise(tree: Tree) -> Tree:
    """Mark the first coincident member on every path from the root."""
    match tree:
        case Leaf():
            return tree
        case Filter(families, child):
            return Filter(families, parallelise(child))
        case Promote(_, child):
            return replace(tree, child=parallelise(child))
        case Sequence(children):
            return Sequence(tuple(Filter(c.families, parallelise(c.child)) for c in children))
        case Band(members, child):
            at = next((i for i, m in enumerate(members) if m.coincident), None)
            if at is None:
                return replace(tree, child=parallelise(child))
            marked = tuple(replace(m, run=Run.PARALLEL) if i == at else m for i, m in enumerate(members))
            return replace(tree, members=marked)
