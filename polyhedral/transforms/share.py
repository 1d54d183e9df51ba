# SPDX-License-Identifier: MIT
"""Share outer loops: trees one after the other, within common loops over blocks of a dim of each.

band i: parallel           band i_block: parallel
  A                          sequence
band i: parallel     ->      - band i: serial
  B                              A
                             - band i: serial
                                 B

Which loops, and in which blocks, is left to `polyhedral.fusion`; that the order is kept, to the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyhedral import affine as aff
from polyhedral.instances import Family
from polyhedral.tree import Band, Filter, Fold, Local, Member, Run, Tree, map_bands
from polyhedral.tree import Sequence as InOrder


@dataclass(frozen=True)
class Shared:
    """One loop that statements share: the dim of each that it steps through, `size` elements at a time."""

    name: str
    dims: tuple[tuple[str, str], ...]
    size: int


@dataclass(frozen=True)
class Nest:
    """Clusters that run one after the other within common loops; no loops where it is one cluster alone."""

    clusters: tuple[tuple[str, ...], ...]
    loops: tuple[Shared, ...] = ()
    local: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Arrays that no other statement sees, with the axis of each loop: blocks of them lie in memory of their own."""


def share(n: Nest, families: Sequence[Sequence[Family]], trees: Sequence[Tree]) -> Tree:
    """The trees of a nest's clusters within its loops, the outermost of them on all cores."""
    parts = (
        Filter(tuple(f.id for f in fs), map_bands(tree, _serial)) for fs, tree in zip(families, trees, strict=True)
    )
    every = [f for fs in families for f in fs]
    members = tuple(_member(loop, every, Run.SERIAL if k else Run.PARALLEL) for k, loop in enumerate(n.loops))
    inside: Tree = InOrder(tuple(parts))
    for array, axes in n.local:
        steps = enumerate(zip(axes, n.loops, strict=True))
        folds = tuple(Fold(axis, loop.size, len(n.loops) - k) for k, (axis, loop) in steps)
        inside = Local(array, folds, inside)
    return Band(members, inside, True)


def _member(loop: Shared, every: Sequence[Family], run: Run) -> Member:
    dims = dict(loop.dims)
    times = tuple((f.id, aff.var(dims[f.statement.name]) // loop.size) for f in every)
    return Member(loop.name if loop.size == 1 else f"{loop.name}_block", times, True, run)


def _serial(b: Band) -> Band:
    return replace(b, members=tuple(replace(m, run=Run.SERIAL) if m.run is Run.PARALLEL else m for m in b.members))
