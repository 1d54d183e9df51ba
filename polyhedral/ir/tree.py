# SPDX-License-Identifier: MIT
"""The schedule tree: an owned value whose printed form is isl's own.

    tree := Band(members, child) | Sequence(filters) | Filter(families, child)
          | Promote(array, child) | Local(array, folds, child) | Stage(array, cells, child) | Leaf

A band member gives each family below it one affine time and says how it runs; a sequence orders groups of families.
Reading from and handing to isl is in `polyhedral.sets.isl_schedule`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from polyhedral.ir.affine import Affine


class Run(Enum):
    """How the iterations of one band member are executed."""

    SERIAL = "serial"
    PARALLEL = "parallel"
    VECTOR = "vector"
    UNROLL = "unroll"
    WRITTEN = "written out"
    """One after the other, as serial ones are, but each spelled out: what one has loaded is there for the next."""
    LANES = "lanes"
    """Along vector lanes, in any order and several at once: each lane with a partial result, combined at the end."""
    HOST = "host"
    """One after the other, by the host of a device, which starts kernels in each."""
    BLOCK = "block"
    """On the blocks of threads of a device, which do not wait for each other."""
    THREAD = "thread"
    """On the threads of a block."""
    TEAM = "team"
    """On the threads of a block, each with a partial result, combined at the end."""
    MATRIX = "matrix"
    """In one instruction of matrix units, with partial results, in any order."""


@dataclass(frozen=True)
class Member:
    """One schedule dimension: its time for each family below, and whether no dependence crosses it (coincident)."""

    name: str
    times: tuple[tuple[str, Affine], ...]
    coincident: bool = False
    run: Run = Run.SERIAL

    def time(self, family: str) -> Affine:
        return dict(self.times)[family]


@dataclass(frozen=True)
class Band:
    members: tuple[Member, ...]
    child: Tree
    permutable: bool = False


@dataclass(frozen=True)
class Filter:
    families: tuple[str, ...]
    child: Tree


@dataclass(frozen=True)
class Sequence:
    """One after another; where threads of a block run it, they wait for each other after the children `waits`."""

    children: tuple[Filter, ...]
    waits: tuple[int, ...] = ()


@dataclass(frozen=True)
class Promote:
    """The cells of `array` that the child updates are held in registers while it runs: set there, or loaded where the
    child does not begin by setting them, and written back after; past the caches where it `streams`.  Where they are
    not `stored`, the registers are all there is of them.  Along lanes, each cell is held in `partials` vectors of
    partial results.  Cells of the arrays `ahead` are asked for so many elements before they are loaded.
    """

    array: str
    child: Tree
    streams: bool = False
    partials: int = 1
    stored: bool = True
    ahead: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Fold:
    """Along `axis` of an array, one execution of a region touches `size` cells from `size * time` on; the time is that
    of the band member `up` levels above the region, 1 being the innermost.  With `further`, each iteration of another
    member, so many levels above, is so many cells further.
    """

    axis: str
    size: int
    up: int
    further: tuple[int, int] | None = None
    """Cells, and levels above."""


@dataclass(frozen=True)
class Local:
    """The cells of `array` that one execution of the child touches, folded, lie in memory of its own: nothing of them
    is seen before or after.
    """

    array: str
    folds: tuple[Fold, ...]
    child: Tree


@dataclass(frozen=True)
class Cells:
    """Along `axis` of an array, `size` cells from `first` on, which is affine in the names of band members above."""

    axis: str
    first: Affine
    size: int


@dataclass(frozen=True)
class Stage:
    """What the threads of a block read of `array` in one execution of the child lies in memory that they share: a box
    of cells, copied there by all of them before.
    """

    array: str
    cells: tuple[Cells, ...]
    child: Tree


@dataclass(frozen=True)
class Leaf:
    pass


Tree = Band | Filter | Sequence | Promote | Local | Stage | Leaf

Component = tuple[Affine, Run]


def times(tree: Tree, families: tuple[str, ...]) -> dict[str, tuple[Component, ...]]:
    """The time vector of each family, outermost first: band members, and the position in each sequence."""
    match tree:
        case Leaf():
            return {f: () for f in families}
        case Filter(inside, child):
            return times(child, inside)
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return times(child, families)
        case Band(members, child):
            below = times(child, families)
            return {f: (*((m.time(f), m.run) for m in members), *below[f]) for f in families}
        case Sequence(children):
            result: dict[str, tuple[Component, ...]] = {}
            for i, c in enumerate(children):
                for f, t in times(c, c.families).items():
                    result[f] = ((Affine((), i), Run.SERIAL), *t)
            return result
        case _:
            assert_never(tree)


def families_of(tree: Tree) -> tuple[str, ...]:
    """The families that a tree names (in filters, or in its first band)."""
    match tree:
        case Leaf():
            return ()
        case Filter(inside, _):
            return inside
        case Band(members, _):
            return tuple(f for f, _ in members[0].times) if members else ()
        case Sequence(children):
            return tuple(f for c in children for f in c.families)
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return families_of(child)
        case _:
            assert_never(tree)


def map_bands(tree: Tree, f: Callable[[Band], Tree]) -> Tree:
    """Rewrite every band, innermost first."""
    match tree:
        case Leaf():
            return tree
        case Filter(_, child) | Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return replace(tree, child=map_bands(child, f))
        case Band(_, child):
            return f(replace(tree, child=map_bands(child, f)))
        case Sequence(children):
            return replace(tree, children=tuple(Filter(c.families, map_bands(c.child, f)) for c in children))
        case _:
            assert_never(tree)


def renamed(tree: Tree, ids: Mapping[str, str]) -> Tree:
    """The same tree of families with other identifiers."""
    match tree:
        case Leaf():
            return tree
        case Filter(families, child):
            return Filter(tuple(ids[f] for f in families), renamed(child, ids))
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return replace(tree, child=renamed(child, ids))
        case Band(members, child):
            own = tuple(replace(m, times=tuple((ids[f], t) for f, t in m.times if f in ids)) for m in members)
            return replace(tree, members=own, child=renamed(child, ids))
        case Sequence(children):
            own_parts = (Filter(tuple(ids[f] for f in c.families), renamed(c.child, ids)) for c in children)
            return replace(tree, children=tuple(own_parts))
        case _:
            assert_never(tree)


def bands(tree: Tree) -> Iterator[Band]:
    """Every band, outermost first."""
    match tree:
        case Leaf():
            return
        case Filter(_, child) | Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            yield from bands(child)
        case Band(_, child):
            yield tree
            yield from bands(child)
        case Sequence(children):
            for c in children:
                yield from bands(c)
        case _:
            assert_never(tree)


def members_of(tree: Tree, family: str) -> tuple[Member, ...]:
    """The band members above one family's leaf, outermost first."""
    match tree:
        case Leaf():
            return ()
        case Filter(_, child) | Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return members_of(child, family)
        case Band(members, child):
            return (*members, *members_of(child, family))
        case Sequence(children):
            return next((members_of(c, family) for c in children if family in c.families), ())
        case _:
            assert_never(tree)


def held(tree: Tree, family: str, depth: int = 0) -> tuple[tuple[int, Promote | Local | Stage], ...]:
    """(number of enclosing band members, node) of every Promote, Local and Stage above one family's leaf."""
    match tree:
        case Leaf():
            return ()
        case Filter(_, child):
            return held(child, family, depth)
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return ((depth, tree), *held(child, family, depth))
        case Band(members, child):
            return held(child, family, depth + len(members))
        case Sequence(children):
            return next((held(c.child, family, depth) for c in children if family in c.families), ())
        case _:
            assert_never(tree)


def regions(
    tree: Tree, depth: int = 0, inside: tuple[str, ...] = ()
) -> Iterator[tuple[Promote | Local | Stage, tuple[str, ...], int]]:
    """(node, families, number of enclosing time components) of every Promote, Local and Stage."""
    match tree:
        case Leaf():
            return
        case Filter(families, child):
            yield from regions(child, depth, families)
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            yield tree, families_of(child) or inside, depth
            yield from regions(child, depth, inside)
        case Band(members, child):
            yield from regions(child, depth + len(members), inside)
        case Sequence(children):
            for c in children:
                yield from regions(c.child, depth + 1, c.families)
        case _:
            assert_never(tree)


def local_arrays(tree: Tree) -> frozenset[str]:
    """The arrays that lie in memory of their own, wherever in the tree."""
    return frozenset(node.array for node, _, _ in regions(tree) if isinstance(node, Local))


def elsewhere(tree: Tree) -> frozenset[str]:
    """The arrays that have no place among the temporaries: in memory of their own, or in registers and nowhere else."""
    only = (node for node, _, _ in regions(tree) if isinstance(node, Promote) and not node.stored)
    return local_arrays(tree) | frozenset(node.array for node in only)


def render(tree: Tree, shown: Mapping[str, str], indent: str = "") -> str:
    """The tree for people: one line a node, the user's dimension names, families by their statements' names.

    >>> render(Band((Member("y", (("S0", Affine()),), True, Run.PARALLEL),), Leaf()), {"S0": "out"})
    'band y: parallel\\n  out[0]'
    """
    return "\n".join(_lines(tree, shown, families_of(tree), {}, indent))


def _lines(
    tree: Tree, shown: Mapping[str, str], inside: tuple[str, ...], so_far: dict[str, list[str]], indent: str
) -> Iterator[str]:
    match tree:
        case Leaf():
            for f in inside:
                yield f"{indent}{shown.get(f, f)}[{', '.join(so_far.get(f, []))}]"
        case Filter(families, child):
            yield from _lines(child, shown, families, so_far, indent)
        case Promote(array, child, past, _, stored):
            note = ", stored past the caches" if past else "" if stored else ", not stored"
            yield f"{indent}in registers: {array}{note}"
            yield from _lines(child, shown, inside, so_far, indent + "  ")
        case Local(array, folds, child):
            cells = ", ".join(f"{x.axis}: {x.size}" for x in folds)
            yield f"{indent}in memory of its own: {array}({cells})"
            yield from _lines(child, shown, inside, so_far, indent + "  ")
        case Stage(array, box, child):
            cells = ", ".join(f"{c.axis} from {c.first}: {c.size}" for c in box)
            yield f"{indent}in memory of a block: {array}({cells})"
            yield from _lines(child, shown, inside, so_far, indent + "  ")
        case Band(members, child):
            words = ", ".join(
                f"{m.name}: {m.run.value}" + (", coincident" if m.coincident and m.run is Run.SERIAL else "")
                for m in members
            )
            yield f"{indent}band {words}" + (" (permutable)" if tree.permutable and len(members) > 1 else "")
            below = {f: so_far.get(f, []) + [str(m.time(f)) for m in members] for f in inside}
            yield from _lines(child, shown, inside, below, indent + "  ")
        case Sequence(children, waits):
            yield f"{indent}sequence"
            for i, c in enumerate(children):
                yield f"{indent}- {i}: " + ", ".join(shown.get(f, f) for f in c.families)
                yield from _lines(c.child, shown, c.families, so_far, indent + "    ")
                yield from [f"{indent}- threads wait for each other"] * (i in waits)
        case _:
            assert_never(tree)
