# SPDX-License-Identifier: MIT
"""Loop distribution: a band around a sequence becomes a sequence of bands, each of which may run in parallel whole.

Only proposals: whoever applies one asks the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from polyhedral.ir.tree import Band, Filter, Leaf, Sequence, Tree


def distributions(tree: Tree) -> Iterator[Tree]:
    """Every tree in which one band is distributed over the sequence directly inside it, the innermost first.

    band i                        sequence
      sequence                    - S0   band i
      - S0                  ->             S0[i]
      - S1   band j               - S1   band i
               S1[i, j]                    band j
                                             S1[i, j]
    """
    match tree:
        case Leaf():
            return
        case Sequence(children):
            for i, c in enumerate(children):
                for made in distributions(c.child):
                    yield Sequence((*children[:i], Filter(c.families, made), *children[i + 1 :]))
        case Band(_, child):
            for made in distributions(child):
                yield replace(tree, child=made)
            if isinstance(child, Sequence):
                yield Sequence(tuple(Filter(c.families, _only(tree, c)) for c in child.children))
        case _:
            for made in distributions(tree.child):
                yield replace(tree, child=made)


def _only(band: Band, part: Filter) -> Band:
    """The band for some of its families."""
    members = tuple(replace(m, times=tuple((f, t) for f, t in m.times if f in part.families)) for m in band.members)
    return replace(band, members=members, child=part.child)
