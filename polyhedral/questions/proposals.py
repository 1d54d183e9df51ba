# SPDX-License-Identifier: MIT
"""Proposals: schedule trees built from what somebody asks for, such as tiles, a skew, a shared loop or a parallel one.

Nothing here knows whether a proposal is legal; `polyhedral.questions.legal` asks the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Run, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.oracle.legality import Pairs, prime
from polyhedral.sets.instances import Family, Kind
from polyhedral.sets.isl import NamedSet
from polyhedral.transforms.tile import tile


@dataclass(frozen=True)
class Shape:
    """What is asked of one statement: tile sizes by dim in the order of their loops, what is added to a dim's time,
    dims that come first, and which dim runs in parallel or in lanes."""

    tiles: tuple[tuple[str, int], ...] = ()
    skews: tuple[tuple[str, Affine], ...] = ()
    first: tuple[str, ...] = ()
    parallel: str | None = None
    vector: str | None = None


PLAIN = Shape()
"""Nothing in particular."""


@dataclass(frozen=True)
class Part:
    """One statement in a proposal: its families, the order of its dims with their directions, and its shape.

    `simple`: no instance depends on another one but for the sum it adds to, so that any order of dims will do.
    """

    families: tuple[Family, ...]
    order: tuple[tuple[str, int], ...]
    simple: bool = True
    shape: Shape = PLAIN

    @property
    def main(self) -> Family:
        return self.families[-1]

    @property
    def name(self) -> str:
        return self.main.statement.name

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f.id for f in self.families)

    @property
    def kept(self) -> tuple[str, ...]:
        """The dims that all families have."""
        return tuple(d for d in self.main.dims if all(d in f.dims for f in self.families))

    def dims(self) -> tuple[str, ...]:
        """All dims in the order of the proposal."""
        order = [d for d, _ in self.order if d != self.shape.vector]
        first = [d for d in self.shape.first if d in order]
        last = [self.shape.vector] if self.shape.vector else []
        return (*first, *(d for d in order if d not in first), *last)

    def time(self, dim: str) -> Affine:
        return aff.var(dim) * dict(self.order).get(dim, 1) + dict(self.shape.skews).get(dim, aff.const(0))


def part_of(fs: Sequence[Family], pairs: Sequence[Pairs], shape: Shape = PLAIN) -> Part:
    """A statement with a legal order of its dims, as far as a plain nest of loops can give one."""
    ids = {f.id for f in fs}
    own = [p for p in pairs if p.first.id in ids and p.then.id in ids and not p.relaxed]
    simple = not any(p.first.kind is not Kind.INIT for p in own)
    main = fs[-1]
    if simple:
        reduced = set(main.statement.reduced)
        dims = sorted(main.dims, key=lambda d: d in reduced)
        return Part(tuple(fs), tuple((d, 1) for d in dims), True, shape)
    return Part(tuple(fs), legal_order(main, own), False, shape)


def legal_order(f: Family, pairs: Sequence[Pairs]) -> tuple[tuple[str, int], ...]:
    """Greedily: next a dim along which no pair left steps back (or none forth: then it runs downwards)."""
    left = [(p, p.points) for p in pairs]
    rest, order = list(f.dims), list[tuple[str, int]]()
    while rest:
        found = next(
            ((d, sign) for sign in (1, -1) for d in rest if not any(_steps_back(p, s, d, sign) for p, s in left)), None
        )
        d, sign = found or (rest[0], 1)
        order.append((d, sign))
        rest.remove(d)
        left = [
            (p, s.where(aff.equal(step(p, d)))) if d in p.first.dims and d in p.then.dims else (p, s) for p, s in left
        ]
        left = [(p, s) for p, s in left if not s.is_empty()]
    return tuple(order)


def _steps_back(p: Pairs, points: NamedSet, d: str, sign: int) -> bool:
    if d not in p.first.dims or d not in p.then.dims:
        return False
    return not points.where(aff.at_least(step(p, d) * -sign, 1)).is_empty()


def step(p: Pairs, dim: str, along: Affine | None = None) -> Affine:
    """The distance of a pair along a dim (or along any time): then minus first."""
    e = aff.var(dim) if along is None else along
    return prime(e, p.then.dims) - e


# --- one statement ---------------------------------------------------------------------------------------------------


def nest(part: Part, gone: Sequence[str] = (), pointed: Sequence[str] = ()) -> Tree:
    """The loops of one statement, without dims that an outer band runs (`gone`) or whose tiles it runs (`pointed`).

    band y, c_tile                         untiled kept dims and tiles outside
      sequence
      - S.init  band c                     points inside
      - S       band k_tile, k, c          tiles of reduced dims, then points
    """
    tree = _nest(part, [d for d in part.dims() if d not in gone], set(pointed))
    if part.shape.vector is not None:
        tree = marked(tree, part.shape.vector, Run.VECTOR)
    return tree if part.shape.parallel is None else marked(tree, part.shape.parallel, Run.PARALLEL)


def _nest(part: Part, left: Sequence[str], pointed: set[str]) -> Tree:
    tiles = {d: n for d, n in part.shape.tiles if d in left and d not in pointed}
    tiled = [*pointed, *tiles]
    if not part.simple:
        cut = next((i for i, d in enumerate(left) if d in tiled), len(left))
        lead, points = list(left[:cut]), list(left[cut:])
        return _with_init(part, lead, tiles, points)
    kept = [d for d in left if d in part.kept]
    last = left[-1] if left and left[-1] in kept and len(part.families) > 1 else kept[-1] if kept else None
    stay = [] if not tiled else [d for d in kept if d not in tiled and d != last]
    lead = stay if tiled else [d for d in kept if d != last or len(part.families) == 1]
    reduced = [d for d in left if d not in kept]
    points = [*reduced, *(d for d in kept if d not in lead)]
    return _with_init(part, lead, tiles, points)


def _with_init(part: Part, lead: Sequence[str], tiles: Mapping[str, int], points: Sequence[str]) -> Tree:
    outer = {d: n for d, n in tiles.items() if d in part.kept}
    inner = {d: n for d, n in tiles.items() if d not in outer}
    alone = len(part.families) == 1
    early = [d for d in lead if alone or d in part.kept]
    body = _band(part, part.families[-1:], [*(d for d in lead if d not in early), *points], {}, Leaf())
    if inner:
        body = _band(part, part.families[-1:], (), inner, body)
    if not alone:
        inits = [
            Filter((f.id,), _band(part, (f,), [d for d in points if d in f.dims], {}, Leaf()))
            for f in part.families[:-1]
        ]
        body = InOrder((*inits, Filter((part.main.id,), body)))
    return _band(part, part.families, early, outer, body)


def _band(part: Part, fs: Sequence[Family], dims: Sequence[str], tiles: Mapping[str, int], child: Tree) -> Tree:
    members = [_member(part, fs, d) for d in dims]
    tiled = Band(tuple(_member(part, fs, d) for d in tiles), Leaf(), True)
    if tiles:
        members += tile(tiled, list(tiles.values())).members
    return Band(tuple(members), child, part.simple) if members else child


def _member(part: Part, fs: Sequence[Family], d: str) -> Member:
    return Member(d, tuple((f.id, part.time(d)) for f in fs), part.simple and d in part.kept)


def marked(tree: Tree, dim: str, run: Run) -> Tree:
    """The outermost loop of a dim (its tiles, where it has some) marked on every path; lanes mark the innermost."""
    match tree:
        case Leaf():
            return tree
        case Filter(families, child):
            return Filter(families, marked(child, dim, run))
        case InOrder(children):
            return InOrder(tuple(Filter(c.families, marked(c.child, dim, run)) for c in children))
        case Band(members, child):
            at = [i for i, m in enumerate(members) if m.name in ((dim,) if run is Run.VECTOR else (dim, f"{dim}_tile"))]
            if not at:
                return replace(tree, child=marked(child, dim, run))
            return replace(tree, members=tuple(replace(m, run=run) if i == at[0] else m for i, m in enumerate(members)))
        case _:
            return replace(tree, child=marked(tree.child, dim, run))


# --- several statements ----------------------------------------------------------------------------------------------


def fused(parts: Sequence[Part], at: Sequence[str]) -> Tree:
    """Statements under shared loops over `at`; a dim that one of them tiles is shared as loops over tiles.

    band y_tile, x_tile
      sequence
      - a   band y, x
      - b   band y, x
    """
    sizes = {d: n for p in parts for d, n in p.shape.tiles if d in at}
    members: list[Member] = []
    for d in at:
        times = tuple((f.id, p.time(d)) for p in parts for f in p.families)
        band = Band((Member(d, times, False),), Leaf())
        members += tile(band, [sizes[d]]).members if d in sizes else band.members
    plain = [d for d in at if d not in sizes]
    children: list[Filter] = []
    for p in parts:
        inner = nest(replace(p, shape=replace(p.shape, parallel=None)), plain, list(sizes))
        children.append(Filter(p.ids, inner))
    tree: Tree = Band(tuple(members), InOrder(tuple(children)), False) if members else InOrder(tuple(children))
    parallel = next((p.shape.parallel for p in parts if p.shape.parallel), None)
    return tree if parallel is None else marked(tree, parallel, Run.PARALLEL)


def within(tree: Tree, family: str, shape: Shape) -> Tree | None:
    """Tile and mark loops that stand in a tree already; None where other statements stand between those asked for."""
    wanted = [d for d, _ in shape.tiles]
    match tree:
        case Filter(families, child):
            inner = within(child, family, shape)
            return None if inner is None else Filter(families, inner)
        case InOrder(children):
            made: list[Filter] = []
            for c in children:
                inner = within(c.child, family, shape) if family in c.families else c.child
                if inner is None:
                    return None
                made.append(Filter(c.families, inner))
            return InOrder(tuple(made))
        case Band():
            return _within_band(tree, family, shape, wanted)
        case _:
            return None


def _within_band(band: Band, family: str, shape: Shape, wanted: Sequence[str]) -> Tree | None:
    chain, below = list(band.members), band.child
    while isinstance(below, Band):
        chain, below = chain + list(below.members), below.child
    names = [m.name for m in chain]
    parallel = shape.parallel
    if not any(d in names for d in (*wanted, *([parallel] if parallel else []))):
        inner = within(below, family, shape)
        return None if inner is None else Band(tuple(chain), inner, False)
    if not set(wanted) <= set(names):
        return None
    chain = [replace(m, run=Run.PARALLEL) if m.name == parallel and m.name not in wanted else m for m in chain]
    skews = dict(shape.skews)
    chain = [replace(m, times=tuple((f, t + skews.get(m.name, aff.const(0))) for f, t in m.times)) for m in chain]
    if not wanted:
        return Band(tuple(chain), below, False)
    cut = min(names.index(d) for d in wanted)
    by_name = dict(zip(names, chain, strict=True))
    tiles = tile(Band(tuple(by_name[d] for d in wanted), Leaf()), [n for _, n in shape.tiles]).members
    return Band((*chain[:cut], *tiles), Band(tuple(chain[cut:]), below, False), False)
