# SPDX-License-Identifier: MIT
"""Re-lay an operand: copy it so that a vector of it is one load, and read the copy.

Where an axis is indexed by the vector dim alone, into panels in which that dim is dense:

    ... * W(ky, kx, ci, co=f//4, k, j=f%4)      ->      Wp(fo, ky, kx, ci, k, fi) = W(co=(64*fo+fi)//4, j=(64*fo+fi)%4)
                                                        ... * Wp(fo=f//64, ky, kx, ci, k, fi=f%64)

Where it slides along, into the window itself, padding included, with one plane for each phase of a stride:

    ... * where(0 <= 2*x+kx-1, X(x=2*x+kx-1), 0)        Xp(q, t) = where(0 <= 2*t+q-1 < N, X(x=2*t+q-1), 0)
                                                        ... * Xp(q=kx%2, t=x+kx//2)

The copy is a statement like any other: scheduled, parallel, priced.  What lies beyond the last result is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd, prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Compare, Condition
from polyhedral.ir.floors import within
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.operands import Interval, Operand, along, interval
from polyhedral.ir.program import Access, Array, Domain, Range, Role, Statement


@dataclass(frozen=True)
class Relaid:
    """The new array, the value that fills it, and the load that replaces the operand `of`."""

    array: Array
    value: ex.Expr
    load: ex.Load
    of: ex.Expr

    @cached_property
    def copy(self) -> Statement:
        """The statement that fills the array."""
        name, dims = self.array.name, self.array.dims
        domain = Domain(tuple(Range(d, aff.const(0), e) for d, e in dims))
        return Statement(name, domain, Access(name, tuple((d, aff.var(d)) for d, _ in dims)), self.value)

    @cached_property
    def cells(self) -> int:
        return prod(e.const for _, e in self.array.dims)

    @cached_property
    def layout(self) -> Layout:
        """The copy as it lies in memory."""
        return row_major(self.array)

    @cached_property
    def strides(self) -> Mapping[str, int | None]:
        """Of the load that replaces the operand, in elements, along each of its dims."""
        return {d: along(self.load.index, d, self.layout) for d in ex.dims_of(self.load)}


@dataclass(frozen=True)
class _Axis:
    """An axis of the copy: name, extent, the reader's index, and the reader's dims that decide how fast it moves."""

    name: str
    extent: int
    read: Affine
    dims: frozenset[str]


@dataclass(frozen=True)
class _Part:
    """What becomes of one axis of the array: axes of the copy (the last is dense), its index there, and where the
    index exists.
    """

    axes: tuple[_Axis, ...]
    source: Affine
    exists: Condition = TRUE


@dataclass(frozen=True)
class Parts:
    """What becomes of each axis of an array, the one that moves along the panels first, and the value of a cell."""

    array: Array
    of: ex.Expr
    axes: Mapping[str, tuple[_Axis, ...]]
    first: str
    value: ex.Expr


def relay(
    a: Array,
    o: Operand,
    ranges: Mapping[str, Interval],
    dim: str,
    panel: int,
    order: Sequence[str],
    name: str,
    unit: int = 1,
) -> Relaid | None:
    """A copy of an operand in whole panels of `panel` along `dim`, from where its range starts; `order` lists the
    reader's dims from slow to fast, which orders the other axes.  Panels that lie one after the other are whole units
    wide.  None where no copy of this form holds the operand.
    """
    parts = parted(a, o, ranges, dim, panel, unit)
    return None if parts is None else in_order(parts, order, name)


def parted(a: Array, o: Operand, ranges: Mapping[str, Interval], dim: str, panel: int, unit: int = 1) -> Parts | None:
    """What such copies have in common, whatever the order of their axes."""
    index: Mapping[str, Affine] = {d: i for d, i in o.load.index if isinstance(i, Affine)}
    moving = [d for d in a.dim_names if dim in aff.dims_of(index[d])]
    start, cells = ranges[dim][0], ranges[dim][1] + 1 - ranges[dim][0]
    if not moving or (o.value != o.load and o.pad is None):
        return None
    parts: dict[str, _Part] = {}
    if all(aff.dims_of(index[d]) <= {dim} for d in moving):
        panel = -(-panel // unit) * unit
        panels = -(-cells // panel)
        pair = (
            _Axis(_free(f"{dim}o", a), panels, (aff.var(dim) - start) // panel, frozenset((dim,))),
            _Axis(_free(f"{dim}i", a), panel, (aff.var(dim) - start) % panel, frozenset((dim,))),
        )
        at = aff.var(pair[0].name) * panel + aff.var(pair[1].name) + start
        tail = aff.at_least(aff.const(ranges[dim][1]), at) if cells % panel else TRUE
        inside = {pair[0].name: (0, panels - 1), pair[1].name: (0, panel - 1)}
        for n, d in enumerate(moving):
            source = within(aff.substitute(index[d], {dim: at}), inside)
            parts[d] = _Part(pair if n == 0 else (), source, tail if n == 0 else TRUE)
    else:
        window = _window(a, moving[0], index[moving[0]], ranges, dim, -(-cells // panel) * panel)
        if len(moving) > 1 or window is None:
            return None
        parts[moving[0]] = window
    tested = aff.condition_dims(o.guard)
    for d in a.dim_names:
        if d not in parts:
            parts[d] = _plain(a, d, index[d], ranges, guarded=bool(aff.dims_of(index[d]) & tested))
    where = _restated(o.guard, index, {d: p.source for d, p in parts.items()})
    if where is None:
        return None
    where = aff.both(where, *(p.exists for p in parts.values()))
    value: ex.Expr = ex.Load(a.name, tuple((d, parts[d].source) for d in a.dim_names), a.dtype)
    if where != TRUE:
        value = ex.Select(ex.Test(where), value, o.pad or _zero(a))
    return Parts(a, o.value, {d: p.axes for d, p in parts.items()}, moving[0], value)


def _window(a: Array, d: str, index: Affine, ranges: Mapping[str, Interval], dim: str, width: int) -> _Part | None:
    """An axis along which the operand slides: index = step * dim + rest."""
    step = index.coefficient(aff.Var(dim))
    start = ranges[dim][0]
    rest = index - (aff.var(dim) - start) * step
    if step < 1 or dim in aff.dims_of(rest):
        return None
    first, last = interval(rest, ranges)
    length = width + (last - first) // step
    phase = _Axis(_free(f"{d}_phase", a), min(step, last - first + 1), (rest - first) % step, aff.dims_of(rest))
    place = _Axis(d, length, aff.var(dim) - start + (rest - first) // step, frozenset((dim,)))
    phases = phase.extent > 1
    source = aff.var(d) * step + first + (aff.var(phase.name) if phases else 0)
    exists = _exists(a, d, source, first, step * (length - 1) + phase.extent - 1 + first)
    return _Part((phase, place) if phases else (place,), source, exists)


def _free(base: str, a: Array) -> str:
    """A name that no axis has."""
    while base in a.dim_names:
        base += "_"
    return base


def _plain(a: Array, d: str, index: Affine, ranges: Mapping[str, Interval], *, guarded: bool) -> _Part:
    """An axis that stays, of which only every so many cells are read; one that a guard tests is as long as what is
    asked of it, padding included.
    """
    dims = aff.dims_of(index)
    if not guarded:
        step = gcd(*(c for _, c in index.terms))
        first, last = interval(index, ranges) if step > 1 else (0, 0)
        if step < 2 or first < 0 or last >= a.extent(d).const:  # bounds of what occurs twice, as in i % 2, are wide
            return _Part((_Axis(d, a.extent(d).const, index, dims),), aff.var(d))
        cells = (last - first) // step + 1
        return _Part((_Axis(d, cells, (index - first) // step, dims),), aff.var(d) * step + first)
    first, last = interval(index, ranges)
    source = aff.var(d) + first
    return _Part((_Axis(d, last - first + 1, index - first, dims),), source, _exists(a, d, source, first, last))


def _exists(a: Array, d: str, source: Affine, first: int, last: int) -> Condition:
    extent = a.extent(d).const
    low = aff.at_least(source) if first < 0 else TRUE
    high = aff.at_least(aff.const(extent - 1), source) if last >= extent else TRUE
    return aff.both(low, high)


def _restated(guard: Condition, index: Mapping[str, Affine], source: Mapping[str, Affine]) -> Condition | None:
    """The guard in terms of the copy's axes: each comparison must be about one index of the operand."""
    unknown: list[Compare] = []

    def compare(c: Compare) -> Condition:
        for d, i in index.items():
            for k in _factors(c.expr, i):
                apart = c.expr - i * k
                if apart.is_const:
                    return aff.equal(source[d] * k + apart) if c.equal else aff.at_least(source[d] * k + apart)
        unknown.append(c)
        return c

    restated = aff.map_condition(guard, compare)
    return None if unknown else restated


def _factors(e: Affine, i: Affine) -> Iterator[int]:
    for term, c in i.terms[:1]:
        if e.coefficient(term) and e.coefficient(term) % c == 0:
            yield e.coefficient(term) // c


def in_order(p: Parts, order: Sequence[str], name: str) -> Relaid:
    """Axes in the order in which the reader moves along them; panels outermost, the vector innermost."""
    first = p.axes[p.first]
    others = [x for d, axes in p.axes.items() if d != p.first for x in axes] + list(first[:-1])
    outermost = [x for x in others if x in first and x.read.as_var() is None and x.dims == first[-1].dims]

    def pace(x: _Axis) -> int:
        return max((order.index(v) for v in x.dims if v in order), default=-1)

    axes = [*outermost, *sorted((x for x in others if x not in outermost), key=pace), first[-1]]
    array = Array(name, tuple((x.name, aff.const(x.extent)) for x in axes), p.array.dtype, Role.TEMPORARY)
    return Relaid(array, p.value, ex.Load(name, tuple((x.name, x.read) for x in axes), p.array.dtype), p.of)


def _zero(a: Array) -> ex.Const:
    return ex.Const(0.0 if a.dtype.is_float else False if a.dtype.kind == "b" else 0, a.dtype)


def named(r: Relaid, name: str) -> Relaid:
    """The same copy in an array of another name."""
    return Relaid(replace(r.array, name=name), r.value, replace(r.load, array=name), r.of)


def use(s: Statement, r: Relaid) -> Statement:
    """The statement reading the copy wherever it read the operand."""
    return replace(s, value=ex.rewrite(s.value, lambda e: r.load if e == r.of else e))
