# SPDX-License-Identifier: MIT
"""Operands: what a statement reads, as a register tile sees it.

A load, or a load that a test guards (`where(inside, X[...], 0)`), with its stride along every dim.  What to do about
one that does not suit the tile is the plan's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Condition, Floor, Var
from polyhedral.ir.counts import instances
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Domain, Statement

Interval = tuple[int, int]


@dataclass(frozen=True)
class Operand:
    """`load` where `guard` holds, `pad` elsewhere; `strides` are in elements, None where one is not constant."""

    value: ex.Expr
    load: ex.Load
    guard: Condition
    pad: ex.Const | None
    dims: frozenset[str]
    strides: Mapping[str, int | None] = field(compare=False)

    def stride(self, dim: str) -> int | None:
        return self.strides.get(dim, 0)

    @property
    def itemsize(self) -> int:
        return self.load.dtype.numpy.itemsize

    def dense(self, dim: str) -> bool:
        """Whether neighbours along a dim are neighbours in memory, whatever the guard says of the rest."""
        return self.stride(dim) == 1 and dim not in aff.condition_dims(self.guard)


def operands(s: Statement, layouts: Mapping[str, Layout]) -> tuple[Operand, ...]:
    """Each distinct one, in the order of the value."""
    return tuple(dict.fromkeys(_operand(e, s.dims, layouts) for e in fetched(s.value) if _loaded(e) is not None))


def fetched(e: ex.Expr) -> Iterator[ex.Expr]:
    """The parts of a value that are fetched before anything is computed: loads, indices, and guarded loads whole."""
    lazy = isinstance(e, ex.Select) and isinstance(e.cond, ex.Test) and not e.eager
    if lazy or isinstance(e, (ex.Load, ex.Index, ex.Test)):
        yield e
    else:
        for c in ex.children(e):
            yield from fetched(c)


def _loaded(e: ex.Expr) -> ex.Load | None:
    return next((n for n in ex.walk(e) if isinstance(n, ex.Load)), None)


def _operand(e: ex.Expr, dims: Sequence[str], layouts: Mapping[str, Layout]) -> Operand:
    load = _loaded(e)
    assert load is not None
    match e:
        case ex.Select(ex.Test(condition), ex.Load(), ex.Const() as pad):
            guard: Condition = condition
        case _:
            guard, pad = TRUE, None
    seen = ex.dims_of(e)
    strides = {d: along(load.index, d, layouts[load.array]) for d in dims if d in seen}
    if not isinstance(e, ex.Load) and pad is None:  # a branch of another form: nothing is known of its addresses
        strides = dict.fromkeys(strides)
    return Operand(e, load, guard, pad, seen, strides)


def along(index: Sequence[tuple[str, Affine | ex.Expr]], dim: str, layout: Layout) -> int | None:
    """The stride in elements along a dim, None where it is not constant (a floor is on the way)."""
    return _along(tuple(index), dim, layout.strides)


@lru_cache(maxsize=1 << 13)
def _along(
    index: tuple[tuple[str, Affine | ex.Expr], ...], dim: str, strides: tuple[tuple[str, int | str], ...]
) -> int | None:
    place = _offset(index, strides)
    floors = (t.arg for t, _ in place.terms if isinstance(t, Floor))
    return None if any(dim in aff.dims_of(arg) for arg in floors) else place.coefficient(Var(dim))


def steps_along(
    index: Sequence[tuple[str, Affine | ex.Expr]], dim: str, count: int, layout: Layout
) -> list[int] | None:
    """How far `count` neighbours along a dim, from its start at 0, lie from the first of them, in elements; None where
    that depends on other dims, or on strides that are only known at run time.
    """
    if any(not isinstance(stride, int) for _, stride in layout.strides):
        return None
    return aff.steps(offset(index, layout), dim, count)


def offset(index: Sequence[tuple[str, Affine | ex.Expr]], layout: Layout) -> Affine:
    """The address of a cell in elements; strides that are only known at run time do not count."""
    return _offset(tuple(index), layout.strides)


@lru_cache(maxsize=1 << 12)
def _offset(index: tuple[tuple[str, Affine | ex.Expr], ...], steps: tuple[tuple[str, int | str], ...]) -> Affine:
    strides = dict(steps)
    total = aff.const(0)
    for d, i in index:
        assert isinstance(i, Affine)
        stride = strides[d]
        total = total + i * (stride if isinstance(stride, int) else 0)
    return total


def extents_of(s: Statement) -> dict[str, int]:
    """How far each dim of a statement goes; its bounds are numbers."""
    return {r.dim: r.hi.const - r.lo.const for r in s.domain.ranges}


def tied(s: Statement) -> frozenset[str]:
    """Dims that the domain's guard ties together: tiles go along the others only, of which the domain is a box."""
    return aff.condition_dims(s.domain.guard)


def typical(s: Statement) -> dict[str, int]:
    """How far each dim goes in one row of results: tied ones that are reduced go as far, on the whole, as the domain
    leaves them.
    """
    extents, bound = extents_of(s), tied(s)
    whole = prod(n for d, n in extents.items() if d in s.kept or d not in bound)
    left = max(1.0, instances(s) / max(whole, 1))
    for d in s.reduced:
        if d in bound:
            extents[d] = min(extents[d], ceil(left))
            left = max(1.0, left / extents[d])
    return extents


def box(domain: Domain) -> dict[str, Interval]:
    """The least and greatest value of each dim of a domain whose bounds are numbers."""
    return {r.dim: (r.lo.const, r.hi.const - 1) for r in domain.ranges}


def interval(e: Affine, ranges: Mapping[str, Interval]) -> Interval:
    """Bounds of an index over a box of dims, exact where each dim occurs once (Moore 1966)."""
    lo = hi = e.const
    for term, c in e.terms:
        match term:
            case Var(name):
                a, b = ranges[name]
            case Floor(arg, divisor):
                a, b = (x // divisor for x in interval(arg, ranges))
            case _:
                raise ValueError(f"{term} is not a number")
        lo, hi = lo + min(c * a, c * b), hi + max(c * a, c * b)
    return lo, hi
