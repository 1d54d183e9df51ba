# SPDX-License-Identifier: MIT
"""Loop order for one statement that does not depend on itself: a plain tiled nest, chosen from strides and extents.

Legal by construction (kept dims are parallel, reduced ones relaxed), judged by the oracle all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Statement
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Run, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.scheduling.crossing import crossing
from polyhedral.sets.instances import Family
from polyhedral.transforms.tile import tile

UNKNOWN = 1024
"""What an extent that is only known at run time is taken for."""
_LEAF = Leaf()


@dataclass(frozen=True)
class Shape:
    """How to cut a nest: elements of the result kept close while a reduction runs, reduced extents sunk to registers,
    the tile of a transpose, elements that the second cache holds of each side of one, the work below which threads do
    not pay, and the iterations that keep all of them busy."""

    block: int = 4096
    short: int = 8
    transpose: int = 32
    window: int = 1 << 14
    serial_below: int = 20_000
    threads: int = 16


def nest(fs: Sequence[Family], layouts: Mapping[str, Layout], shape: Shape = Shape()) -> Tree:
    """The tree of one statement's families (its initialisation, if any, and its updates)."""
    main = fs[-1]
    s = main.statement
    extents = {r.dim: _extent(r.lo, r.hi) for r in s.domain.ranges}
    reduced = s.reduced
    kept = tuple(d for d in s.dims if d not in reduced)
    inner = _innermost(s, kept, reduced, layouts, extents)
    kept = _by_layout(s, kept, layouts, inner)
    parallel = _work(extents.values()) >= shape.serial_below
    if parallel:
        kept = _outermost_long(kept, extents, shape.threads)
    if s.op is None:
        return _elementwise(main, kept, layouts, extents, shape, parallel)
    return _reduction(fs, kept, reduced, inner, extents, shape, parallel)


def _outermost_long(kept: Sequence[str], extents: Mapping[str, int], wanted: int) -> tuple[str, ...]:
    """The dims with one in front that has work for all threads; the innermost stays."""
    outer = kept[:-1]
    first = next((d for d in outer if extents[d] >= wanted), max(outer, key=lambda d: extents[d], default=None))
    return tuple(kept) if first is None else (first, *(d for d in kept if d != first))


def _extent(lo: Affine, hi: Affine) -> int:
    span = hi - lo
    return max(span.const, 0) if span.is_const else UNKNOWN


def _work(extents: Iterable[int]) -> int:
    return math.prod(extents)


def _strides(s: Statement, dim: str, layouts: Mapping[str, Layout]) -> tuple[tuple[int, bool], ...]:
    """(stride in elements along a dim, is the write) for every access; run-time strides count as large."""
    found: list[tuple[int, bool]] = []
    for access, writes in [*((r, False) for r in ex.loads(s.value)), (s.write, True)]:
        total = 0
        for d, i in access.index:
            c = i.coefficient(aff.Var(dim)) if isinstance(i, Affine) else (1 << 20 if dim in ex.dims_of(i) else 0)
            stride = layouts[access.array].stride(d)
            total += c * (stride if isinstance(stride, int) else 1 << 20)
        found.append((total, writes))
    return tuple(found)


def _innermost(
    s: Statement, kept: Sequence[str], reduced: Sequence[str], layouts: Mapping[str, Layout], extents: Mapping[str, int]
) -> str | None:
    """The dim that most accesses run along densely; writes count double, jumps count against."""

    def score(d: str) -> tuple[float, int]:
        points = 0.0
        for stride, writes in _strides(s, d, layouts):
            value = 1.0 if abs(stride) == 1 else 0.3 if stride == 0 else -1.0
            points += value * (2 if writes and d in kept else 1)
        return points - (2.0 if extents[d] <= 1 else 0.0), min(extents[d], 16)

    candidates = [*kept, *(() if s.strict else reduced)]
    return max(candidates, key=score, default=None)


def _by_layout(s: Statement, kept: Sequence[str], layouts: Mapping[str, Layout], inner: str | None) -> tuple[str, ...]:
    """Kept dims in the order in which the result lies in memory, the innermost last."""
    order = layouts[s.write.array].order
    index = dict(s.write.index)

    def rank(d: str) -> int:
        return next((i for i, a in enumerate(order) if d in aff.dims_of(index[a])), -1)

    ordered = sorted(kept, key=rank)
    return tuple([d for d in ordered if d != inner] + ([inner] if inner in ordered else []))


def _band(fs: Sequence[Family], dims: Sequence[str], coincident: bool, child: Tree = _LEAF) -> Tree:
    members = tuple(Member(d, tuple((f.id, aff.var(d)) for f in fs), coincident) for d in dims)
    return Band(members, child, permutable=True) if members else child


def _marked(tree: Tree, at: int, run: Run) -> Tree:
    if not isinstance(tree, Band):
        return tree
    members = list(tree.members)
    m = members[at]
    members[at] = Member(m.name, m.times, m.coincident, run)
    return Band(tuple(members), tree.child, tree.permutable)


def _elementwise(
    f: Family,
    kept: Sequence[str],
    layouts: Mapping[str, Layout],
    extents: Mapping[str, int],
    shape: Shape,
    parallel: bool,
) -> Tree:
    band = _band([f], kept, True)
    if not isinstance(band, Band):
        return band
    inner = kept[-1]
    dense = {d for d in kept[:-1] if any(abs(st) == 1 for st, _ in _strides(f.statement, d, layouts))}
    against = [st for st, _ in _strides(f.statement, inner, layouts) if abs(st) > 1]
    if dense and against and all(extents[d] < shape.transpose for d in (*dense, inner)):
        sides = [{d: _strides(f.statement, d, layouts)[n][0] for d in kept} for n in range(_accesses(f.statement))]
        order = crossing(kept, extents, sides, shape.window)
        if parallel:
            order = _outermost_long(order, extents, shape.threads)
        band = _band([f], order, True)
        return _marked(band, 0, Run.PARALLEL) if parallel else band
    if dense and against:
        sizes = [shape.transpose if d in dense or d == inner else 0 for d in kept]
        tiled = tile(band, sizes)
        assert isinstance(tiled.child, Band)
        outer = [m for m, size in zip(band.members, sizes, strict=True) if not size]
        points = Band(tuple(m for m, size in zip(band.members, sizes, strict=True) if size), Leaf(), True)
        band = Band((*outer, *tiled.members), points, True)
        return _marked(band, 0, Run.PARALLEL) if parallel else band
    if len(kept) > 1 or not parallel:
        band = _marked(band, len(kept) - 1, Run.VECTOR)
    return _marked(band, 0, Run.PARALLEL) if parallel else band


def _accesses(s: Statement) -> int:
    return 1 + sum(1 for _ in ex.loads(s.value))


def _reduction(
    fs: Sequence[Family],
    kept: Sequence[str],
    reduced: Sequence[str],
    inner: str | None,
    extents: Mapping[str, int],
    shape: Shape,
    parallel: bool,
) -> Tree:
    main = fs[-1]
    cut = 0 if inner in reduced else _block_start(kept, extents, shape.block)
    if inner in reduced:
        cut = len(kept)
    outer, block = kept[:cut], kept[cut:]
    order = _update_order(main.statement, reduced, block, inner, extents, shape)
    update = _mark_vector(_update_band(main, order, reduced), inner if inner in block else None)
    branches: list[Filter] = []
    for f in fs[:-1]:
        init = _band([f], block, True)
        branches.append(Filter((f.id,), _mark_vector(init, inner if inner in block else None)))
    branches.append(Filter((main.id,), update))
    below: Tree = InOrder(tuple(branches)) if len(branches) > 1 else update
    tree = _band(fs, outer, True, below)
    return _marked(tree, 0, Run.PARALLEL) if parallel and outer else tree


def _block_start(kept: Sequence[str], extents: Mapping[str, int], limit: int) -> int:
    """Where the inner block of kept dims begins: as many as stay within `limit` cells, never all of several."""
    cells, at = 1, len(kept)
    while at > (1 if len(kept) > 1 else 0) and cells * extents[kept[at - 1]] <= limit:
        at -= 1
        cells *= max(extents[kept[at]], 1)
    return min(at, len(kept) - 1) if kept else 0


def _update_order(
    s: Statement,
    reduced: Sequence[str],
    block: Sequence[str],
    inner: str | None,
    extents: Mapping[str, int],
    shape: Shape,
) -> tuple[str, ...]:
    """Reduced dims outside the block, except that short ones sink to just outside the innermost dim, where the
    accumulators live in registers."""
    if s.strict or inner in reduced:
        rest = [d for d in reduced if d != inner or s.strict]
        return (*block, *rest, *([inner] if inner in reduced and not s.strict and inner else []))
    short = [d for d in reduced if extents[d] <= shape.short] if block else []
    short = short[-1:]
    long = [d for d in reduced if d not in short]
    return (*long, *block[:-1], *short, *block[-1:])


def _update_band(f: Family, order: Sequence[str], reduced: Sequence[str]) -> Tree:
    members = tuple(Member(d, ((f.id, aff.var(d)),), d not in reduced) for d in order)
    return Band(members, Leaf(), permutable=not f.statement.strict) if members else Leaf()


def _mark_vector(tree: Tree, inner: str | None) -> Tree:
    if isinstance(tree, Band) and inner is not None and tree.members[-1].name == inner:
        return _marked(tree, len(tree.members) - 1, Run.VECTOR)
    return tree
