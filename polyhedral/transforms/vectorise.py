# SPDX-License-Identifier: MIT
"""Vector marks: propose to run the innermost loop of every nest in lanes.

Only a proposal: whoever applies it asks the oracle whether any dependence crosses the lanes.
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.ir.tree import Band, Leaf, Promote, Run, Sequence, Tree, map_bands


def vectorise(tree: Tree) -> Tree:
    """Mark the last member of every innermost band that is still serial; bands inside register tiles stay."""

    def mark(band: Band) -> Tree:
        last = band.members[-1]
        unrolled = any(m.run is Run.UNROLL for m in band.members)
        if not isinstance(band.child, Leaf) or last.run is not Run.SERIAL or unrolled:
            return band
        return replace(band, members=(*band.members[:-1], replace(last, run=Run.VECTOR)))

    return tree if _promotes(tree) else map_bands(tree, mark)


def _promotes(tree: Tree) -> bool:
    match tree:
        case Promote():
            return True
        case Leaf():
            return False
        case Sequence(children):
            return any(_promotes(c.child) for c in children)
        case _:
            return _promotes(tree.child)
