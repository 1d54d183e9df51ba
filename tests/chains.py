# SPDX-License-Identifier: MIT
"""Random chains: two to five statements, each of what those before it made, over dims that they may share or not.

Values are whole numbers in narrow bounds, so that every order of every sum gives the same.  What is made of a chain is
left to `tests.properties.test_fused`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.dtypes import DType, f32, f64, i32, i64
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement

EXTENTS = (1, 2, 3, 5, 7, 8, 9, 16, 17, 24, 33)


@dataclass
class Chain:
    """What has been drawn so far."""

    rng: random.Random
    dtype: DType
    extents: tuple[int, ...]
    arrays: list[Array] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)

    def number(self, v: int) -> ex.Const:
        return ex.Const(float(v) if self.dtype.is_float else v, self.dtype)

    def bounded(self, e: ex.Expr) -> ex.Expr:
        return ex.Binary("max", ex.Binary("min", e, self.number(8)), self.number(-8))


def drawn(rng: random.Random) -> Program:
    """A chain; what it makes is a temporary where nothing else needs to see it."""
    c = Chain(rng, rng.choice((f32, f32, f64, i32, i64)), tuple(rng.choices(EXTENTS, k=2)))
    for n, rank in enumerate(rng.choices((1, 2, 2, 3), k=rng.randint(1, 3))):
        dims = tuple((d, aff.const(rng.choice(c.extents))) for d in "pqr"[:rank])
        c.arrays.append(Array(f"X{n}", dims, c.dtype, Role.INPUT))
    for n in range(rng.randint(2, 5)):
        _statement(c, n)
    seen = [c.statements[-1].write.array, *(a.name for a in c.arrays if rng.random() < 0.2)]
    read = {load.array for s in c.statements for load in ex.loads(s.value)}
    arrays = [
        Array(a.name, a.dims, a.dtype, Role.OUTPUT if a.name in seen or a.name not in read else Role.TEMPORARY)
        if a.role is not Role.INPUT
        else a
        for a in c.arrays
    ]
    return Program("whole", (), tuple(arrays), tuple(c.statements))


def _statement(c: Chain, n: int) -> None:
    """A map or a reduction; of some, the first rows are computed otherwise, or have another place in the text."""
    kept = dict(zip(c.rng.sample("ijxy", 2), c.rng.choices(c.extents, k=2), strict=True))
    if c.rng.random() < 0.25:
        kept.popitem()
    reduced: dict[str, int] = {}
    value = _value(c, kept, reduced)
    for d in [d for d in kept if c.rng.random() < 0.1 and d not in reduced]:  # longer than what it reads
        kept[d] += c.rng.randint(0, 2) if d not in ex.dims_of(value) else 0
    write = Access(f"T{n}", tuple((axis, aff.var(d)) for axis, d in zip("pq", kept, strict=False)))
    if c.rng.random() < 0.2:
        write = Access(write.array, write.index[::-1])
    op = c.rng.choice(("sum", "sum", "max", "min")) if reduced else None
    ranges = [Range(d, aff.const(0), aff.const(e)) for d, e in {**kept, **reduced}.items()]
    cut = c.rng.randint(1, 9)
    first = next(iter(kept))
    if c.rng.random() < 0.15 and cut < kept[first]:
        low, high = (
            Domain(tuple(Range(r.dim, lo, hi) if r.dim == first else r for r in ranges))
            for lo, hi in ((aff.const(0), aff.const(cut)), (aff.const(cut), aff.const(kept[first])))
        )
        c.statements.append(Statement(f"S{n}_low", low, write, value, op))
        c.statements.append(Statement(f"S{n}_high", high, write, value, op))
    else:
        c.statements.append(Statement(f"S{n}", Domain(tuple(ranges)), write, value, op))
    dims = {i.as_var(): axis for axis, i in write.index}
    c.arrays.append(Array(write.array, tuple((dims[d], aff.const(e)) for d, e in kept.items()), c.dtype, Role.OUTPUT))
    order = {axis: k for k, axis in enumerate(c.arrays[-1].dim_names)}
    index = tuple(sorted(write.index, key=lambda di: order[di[0]]))
    c.statements = [
        s if s.write.array != write.array else Statement(s.name, s.domain, Access(write.array, index), s.value, s.op)
        for s in c.statements
    ]


def _value(c: Chain, kept: Mapping[str, int], reduced: dict[str, int]) -> ex.Expr:
    """Something of the last array, and perhaps of others."""
    read = [c.arrays[-1], *c.rng.choices(c.arrays, k=c.rng.randint(0, 2))]
    value = _load(c, read[0], kept, reduced)
    for a in read[1:]:
        value = ex.Binary(c.rng.choice(("+", "-", "*", "min", "max")), value, _load(c, a, kept, reduced))
    return c.bounded(value)


def _load(c: Chain, a: Array, kept: Mapping[str, int], reduced: dict[str, int]) -> ex.Expr:
    index: list[tuple[str, Affine]] = []
    guards: list[aff.Condition] = []
    free = c.rng.sample(sorted(kept), len(kept)) if c.rng.random() < 0.4 else list(kept)
    for axis, extent in a.dims:
        mine = next((d for d in free if kept[d] <= extent.const), None) if c.rng.random() < 0.8 else None
        if mine is None:
            index.append((axis, _other(c, extent.const, kept, reduced)))
            continue
        free.remove(mine)
        i, how = aff.var(mine), c.rng.random()
        if how < 0.15:
            i = i + c.rng.choice((-1, 1, 2))
            guards.append(aff.between(0, i, extent))
        elif how < 0.2:
            i = aff.const(kept[mine] - 1) - i
        elif how < 0.25:
            i = i // 2
        index.append((axis, i))
    load = ex.Load(a.name, tuple(index), c.dtype)
    return ex.Select(ex.Test(aff.both(*guards)), load, c.number(c.rng.randint(-2, 2))) if guards else load


def _other(c: Chain, extent: int, kept: Mapping[str, int], reduced: dict[str, int]) -> Affine:
    """A reduced dim, or one cell."""
    same = [d for d, e in reduced.items() if e == extent]
    if same and c.rng.random() < 0.5:
        return aff.var(c.rng.choice(same))
    if len(reduced) == 2 or c.rng.random() < 0.3:
        return aff.const(c.rng.randrange(extent))
    name = "kl"[len(reduced)]
    reduced[name] = extent
    return aff.var(name)
