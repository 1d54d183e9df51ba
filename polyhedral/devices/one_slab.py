# SPDX-License-Identifier: MIT
"""The program of one slab of rows, and the nests planned for it put into the loop of the host.

    narrowed    S(q, k), q < 256             plans see rows from 0 on; conditions and index values know which slab
    widened     S(q_slab, q, k)              rows are 256*q_slab + q, and S has memory for 256 of them
    within      S(q, k) of 256 rows          what a kernel prints, q_slab a number that it is given

Which statements those are is `polyhedral.devices.slabs`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyhedral.devices.mapping import Divided
from polyhedral.devices.plan import BlockNest, Slab
from polyhedral.devices.prices import BlockPrice
from polyhedral.devices.slabs import Slabs
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Compare, Condition
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.operands import box, interval
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Statement
from polyhedral.ir.tree import Cells, Fold


def narrowed(p: Program, slabs: Slabs) -> Program:
    """The program with the rows of one slab in place of all: each access as in the first slab, conditions and indices
    that are values as in the one whose number is a size.
    """
    own = {n: (dim, slab) for company, slab in slabs.found for n, dim in company.dims.items()}
    return replace(p, statements=tuple(_narrow(s, *own[s.name]) if s.name in own else s for s in p.statements))


def _narrow(s: Statement, dim: str, slab: Slab) -> Statement:
    at = {dim: aff.var(dim) + aff.size(slab.loop) * slab.size}
    ranges = tuple(replace(r, hi=aff.const(slab.size)) if r.dim == dim else r for r in s.domain.ranges)
    every = box(s.domain)
    asked = (c for c in aff.conjuncts(s.domain.guard) if not _always(c, every))
    guard = aff.map_affine(aff.both(*asked), lambda e: aff.substitute(e, at))

    def elsewhere(e: ex.Expr) -> ex.Expr:
        return ex.substitute(e, at) if isinstance(e, (ex.Index, ex.Test)) else e

    return replace(s, domain=Domain(ranges, guard), value=ex.rewrite(s.value, elsewhere))


def _always(c: Condition, ranges: Mapping[str, tuple[int, int]]) -> bool:
    """Whether a condition holds all over a box, which is not to be seen of a slab without its number."""
    return isinstance(c, Compare) and not c.equal and not aff.sizes_of(c.expr) and interval(c.expr, ranges)[0] >= 0


# --- all slabs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Widened:
    """A divided program whose slabs have their loops, where its arrays lie, and the slabs, each with its statements in
    the order of their nests.
    """

    divided: Divided
    layouts: Mapping[str, Layout]
    slabs: tuple[Slab, ...]


def widened(p: Program, divided: Divided, layouts: Mapping[str, Layout], slabs: Slabs) -> Widened | None:
    """The nests of one slab in the loop over all; `p` is the program as it was narrowed.  None where something of a
    slab has no nest, or one that reaches beyond the slab.
    """
    made, nests = {s.name: s for s in divided.program.statements}, dict(divided.nests)
    arrays = {a.name: a for a in divided.program.arrays}
    lying = dict(layouts)
    prices = dict(divided.prices)
    for company, slab in slabs.found:
        leaders = {leader for leader, nest in nests.items() if nest.statements & company.dims.keys()}
        inside = {n for leader in leaders for n in nests[leader].statements}
        if inside != set(company.dims):
            return None
        hidden = frozenset[str]().union(*(nests[leader].only for leader in leaders))
        memory = replace(slab, arrays=tuple((a, d) for a, d in slab.arrays if a not in hidden))
        for leader in leaders:
            moved = {n: _steps(p.statement(n), company.dims[n]) for n in nests[leader].statements}
            nest = _around(nests[leader], moved, memory)
            if nest is None:
                return None
            nests[leader] = nest
            for n, steps in moved.items():
                made[n] = _wide(made[n], steps, slab)
            prices[leader] = _all_slabs(p, prices[leader], moved, memory)
        for name, axis in memory.arrays:
            a = arrays[name] = replace(arrays[name], planes=((axis, slab.size),))
            lying[name] = row_major(a, layouts[name].order)
    program = replace(
        divided.program,
        arrays=tuple(arrays[a.name] for a in divided.program.arrays),
        statements=tuple(made[s.name] for s in divided.program.statements),
    )
    every = tuple(slab for _, slab in slabs.found)
    return Widened(replace(divided, program=program, nests=nests, prices=tuple(prices.items())), lying, every)


_Steps = Mapping[str, Mapping[str, int]]
"""Of each array and axis, how far a statement's accesses move from one row to the next."""


def _steps(s: Statement, dim: str) -> _Steps | None:
    """None where two accesses to an array move in different steps."""
    found: dict[str, dict[str, int]] = {}
    accesses = [(s.write.array, s.write.index), *((r.array, r.index) for r in s.loads)]
    for array, index in accesses:
        steps = {d: i.coefficient(aff.Var(dim)) for d, i in index if isinstance(i, Affine)}
        if found.setdefault(array, steps) != steps:
            return None
    return found


def _wide(s: Statement, steps: _Steps | None, slab: Slab) -> Statement:
    """A statement in digits, in all slabs."""
    assert steps is not None
    loop = aff.var(slab.loop)

    def one(e: Affine) -> Affine:
        return aff.substitute(e, {}, {slab.loop: loop})

    def at(array: str, index: Sequence[tuple[str, Affine]]) -> tuple[tuple[str, Affine], ...]:
        return tuple((d, i + loop * (steps[array][d] * slab.size)) for d, i in index)

    def f(e: ex.Expr) -> ex.Expr:
        if isinstance(e, ex.Load):
            return replace(e, index=at(e.array, [(d, i) for d, i in e.index if isinstance(i, Affine)]))
        return ex.substitute(e, {}, {slab.loop: loop}) if isinstance(e, (ex.Index, ex.Test)) else e

    ranges = (Range(slab.loop, aff.const(0), aff.const(slab.count)), *s.domain.ranges)
    return replace(
        s,
        domain=Domain(ranges, aff.map_affine(s.domain.guard, one)),
        write=Access(s.write.array, at(s.write.array, s.write.index)),
        value=ex.rewrite(s.value, f),
    )


def _around(nest: BlockNest, moved: Mapping[str, _Steps | None], slab: Slab) -> BlockNest | None:
    """A nest whose boxes and rows begin where those of a slab do; None where that is at different places."""
    if any(steps is None for steps in moved.values()):
        return None
    loop = aff.var(slab.loop)
    steps = moved[nest.statement]
    assert steps is not None

    def begun(array: str, c: Cells) -> Cells:
        return replace(c, first=c.first + loop * (steps[array][c.axis] * slab.size))

    staged = tuple((array, tuple(begun(array, c) for c in cells)) for array, cells in nest.staged)
    own = {n: d for s in moved.values() if s is not None for n in s for d, k in s[n].items() if k == 1}
    kept: list[tuple[str, tuple[Fold, ...]]] = []
    for array, folds in nest.kept:
        axis = own.get(array)
        others = [f for f in folds if f.axis != axis]
        mine = next((f for f in folds if f.axis == axis), None)
        if axis is not None:
            up = len(nest.blocks) + 1
            rows = Fold(axis, slab.size, up) if mine is None else replace(mine, further=(slab.size, up))
            others.append(rows)
        kept.append((array, tuple(others)))
    return replace(nest, staged=staged, kept=tuple(kept), slab=slab)


CACHED = 1 / 3
"""What bytes take that are still in the cache of a device, of what they take from memory."""


def _all_slabs(
    p: Program, price: BlockPrice | None, moved: Mapping[str, _Steps | None], slab: Slab
) -> BlockPrice | None:
    """What a nest takes in all slabs: what lies between nests, and what every slab reads, is in the cache."""
    if price is None:
        return None
    between = {array for array, _ in slab.arrays}
    every = far = 0.0
    for steps in moved.values():
        for array, own in (steps or {}).items():
            by_rows = any(own.values())
            share = 0.0 if array in between else 1.0 if by_rows else 1 / slab.count
            size = array_bytes(p.array(array)) / (slab.count if by_rows else 1)
            every += size
            far += size * (share + (1 - share) * CACHED)
    memory = price.memory * slab.count * (far / every if every else 1.0)
    return BlockPrice(
        price.arithmetic * slab.count, price.shared * slab.count, memory, price.waiting * slab.count,
        price.start * slab.count,
    )  # fmt: skip


# --- what a kernel prints --------------------------------------------------------------------------------------------


def within(p: Program, slab: Slab) -> Program:
    """The program in which arrays that have memory for the rows of a slab have no others: what is read and written at
    rows from the slab's first on is so from 0 on.
    """
    axes = dict(slab.arrays)
    first = aff.var(slab.loop) * slab.size

    def at(array: str, index: Sequence[tuple[str, Affine | ex.Expr]]) -> tuple[tuple[str, Affine | ex.Expr], ...]:
        own = axes.get(array)
        return tuple((d, i - first if d == own and isinstance(i, Affine) else i) for d, i in index)

    def f(e: ex.Expr) -> ex.Expr:
        return replace(e, index=at(e.array, e.index)) if isinstance(e, ex.Load) and e.array in axes else e

    def narrow(s: Statement) -> Statement:
        if s.name not in slab.statements:
            return s
        index = tuple((d, i) for d, i in at(s.write.array, s.write.index) if isinstance(i, Affine))
        return replace(s, write=Access(s.write.array, index), value=ex.rewrite(s.value, f))

    return replace(p, arrays=tuple(_cut(a, axes, slab) for a in p.arrays), statements=tuple(map(narrow, p.statements)))


def _cut(a: Array, axes: Mapping[str, str], slab: Slab) -> Array:
    if a.name not in axes:
        return a
    return replace(a, dims=tuple((d, aff.const(slab.size) if d == axes[a.name] else e) for d, e in a.dims), planes=())
