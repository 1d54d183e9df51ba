# SPDX-License-Identifier: MIT
"""Share outer loops: trees one after the other, within common loops over blocks of a dim of each.

band i: parallel           band i_block: parallel
  A                          sequence
band i: parallel     ->      - band i: serial
  B                              A
                             - band i: serial
                                 B

Which loops, and in which blocks, is left to `polyhedral.whole.fusion`; that the order is kept, to the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import prod
from typing import assert_never

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir.program import Array, Program, reads
from polyhedral.ir.tree import Band, Filter, Fold, Leaf, Local, Member, Promote, Run, Stage, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.sets.instances import Family
from polyhedral.transforms.parallel import serialise

NEST, OWN = "nest", "own"
"""What a remark about a nest has as data: how many loops its statements share; what array lies in its own memory."""
ALIGNED = 64
"""Bytes of a cache line, on which memory of its own begins."""


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
    every = [f for fs in families for f in fs]
    soon = frozenset(load.array for f in every for load in reads(f.statement))
    parts = (
        Filter(tuple(f.id for f in fs), _near(serialise(tree), soon)) for fs, tree in zip(families, trees, strict=True)
    )
    members = tuple(_member(loop, every, Run.SERIAL if k else Run.PARALLEL) for k, loop in enumerate(n.loops))
    inside: Tree = InOrder(tuple(parts))
    for array, axes in n.local:
        steps = enumerate(zip(axes, n.loops, strict=True))
        folds = tuple(Fold(axis, loop.size, len(n.loops) - k) for k, (axis, loop) in steps)
        inside = Local(array, folds, inside)
    return Band(members, inside, True)


def taken(n: Nest, p: Program) -> Iterator[Remark]:
    """What a nest is, for who asks why: one remark for its statements, and one for each array that only it sees."""
    shown = _shown(n)
    why = "what one of them makes is still in the cache when the next reads it"
    yield Remark(f"share {_loops(n)}", why, shown, ((NEST, len(n.loops)),))
    for array, axes in n.local:
        cells = {axis: loop.size for axis, loop in zip(axes, n.loops, strict=True)}
        maker = next(s.name for s in p.statements if s.write.array == array)
        what = f"{array} lies in memory of its own, {own_bytes(p.array(array), cells)} bytes for each thread"
        yield Remark(what, "only the statements of its nest see it, a block at a time", maker, ((OWN, array),))


def refused(n: Nest, wrong: str) -> Iterator[Remark]:
    """What became of a nest that the oracle does not accept."""
    arrays = " and ".join(array for array, _ in n.local)
    what = f"{arrays} do not lie in memory of their own" if n.local else f"do not share {_loops(n)}"
    yield Remark(what, wrong, _shown(n))


def _shown(n: Nest) -> str:
    return " and ".join(name for c in n.clusters for name in c)


def _loops(n: Nest) -> str:
    every = (x.name if x.size == 1 else f"{x.name} in blocks of {x.size}" for x in n.loops)
    return f"their outer loop{'s' if len(n.loops) > 1 else ''} over " + " and ".join(every)


def own_bytes(a: Array, cells: Mapping[str, int]) -> int:
    """What the cells of one block take, in whole cache lines; `cells` says how many there are along each axis cut."""
    size = prod(cells.get(d, max(e.const, 0)) for d, e in a.dims) * a.dtype.numpy.itemsize
    return -(-size // ALIGNED) * ALIGNED


def _member(loop: Shared, every: Sequence[Family], run: Run) -> Member:
    dims = dict(loop.dims)
    times = tuple((f.id, aff.var(dims[f.statement.name]) // loop.size) for f in every)
    return Member(loop.name if loop.size == 1 else f"{loop.name}_block", times, True, run)


def _near(tree: Tree, soon: Set[str]) -> Tree:
    """The tree with no store past the caches of what is read soon after."""
    match tree:
        case Promote(array, child, streams):
            return replace(tree, child=_near(child, soon), streams=streams and array not in soon)
        case Filter(_, child) | Band(_, child) | Local(_, _, child) | Stage(_, _, child):
            return replace(tree, child=_near(child, soon))
        case InOrder(children):
            return InOrder(tuple(Filter(c.families, _near(c.child, soon)) for c in children))
        case Leaf():
            return tree
        case _:
            assert_never(tree)
