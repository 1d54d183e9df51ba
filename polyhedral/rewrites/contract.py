# SPDX-License-Identifier: MIT
"""Contraction order: a sum of products of several factors becomes pairwise contractions, in the cheapest order.

    Y(n, o) = sum[i, j] x(n, i) * W(o, i, j) * y(n, j)             Y_part(n, o, j) = sum[i] x(n, i) * W(o, i, j)
                                                          ->       Y(n, o) = sum[j] Y_part(n, o, j) * y(n, j)
    2 n*o*i*j multiply-adds                                        n*o*i*j + n*o*j

The same for the other reductions that distribute over a product.  What it does to rounding, overflow and NaN is what
`factor` does and says; maxima of float sums keep the grouping of the text and are exact.  A temporary runs over the
loop dims that its factors depend on, so that one read through `2*y + ky` has both y and ky.  Every part of the domain
must be closed, so that nothing is read that was not read before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.operands import Interval
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement, fresh, names
from polyhedral.rewrites.algebra import (
    PER_CELL,
    Product,
    circular,
    closed,
    links,
    operations,
    order_is_fixed,
    product,
    reach,
    restricted,
)
from polyhedral.rewrites.contraction_order import Network, Order, best_order, direct

MOST_BYTES = 1 << 28
"""No temporary is larger than this by default."""


def contract(p: Program, most_bytes: int = MOST_BYTES, per_cell: int = PER_CELL) -> tuple[Program, tuple[Remark, ...]]:
    """Every reduction over a product in its cheapest order.  A cell of a temporary is priced as `per_cell`
    multiply-adds, so that work that is not worth its traffic stays in one nest.
    """
    arrays, taken, fixed = {a.name: a for a in p.arrays}, names(p), circular(p)
    made: list[Array] = []
    statements: list[Statement] = []
    remarks: list[Remark] = []
    for s in p.statements:
        found = None if order_is_fixed(s, arrays, fixed) else _contraction(s, most_bytes)
        if found is None or found.order.multiply_adds + per_cell * found.order.cells >= found.plain:
            statements.append(s)
            continue
        build = _Build(s, found.value, found.extents, taken)
        last = build.last(found.order)
        made += build.arrays
        statements += [*build.statements, last]
        because = f"{found.order.multiply_adds} multiply-adds do what took {found.plain}"
        remarks.append(Remark("contracted pairwise", because, s.name))
    if not made:
        return p, ()
    return replace(p, arrays=(*p.arrays, *made), statements=tuple(statements)), tuple(remarks)


@dataclass(frozen=True)
class _Contraction:
    """The best order of a statement's product, and what the plain nest costs."""

    value: Product
    extents: Mapping[str, Interval]
    order: Order
    plain: int


def _contraction(s: Statement, most_bytes: int) -> _Contraction | None:
    value, extents = product(s), reach(s.domain)
    if value is None or extents is None or len(value.factors) < 2:
        return None
    dims = tuple(ex.dims_of(f) for f in value.factors)
    summed = frozenset(s.reduced)
    if not summed <= frozenset[str]().union(*dims):
        return None  # a sum of equal terms
    dtype = ex.dtype_of(s.value)
    network = Network(
        dims,
        {d: hi - lo + 1 for d, (lo, hi) in extents.items()},
        summed,
        frozenset(s.kept),
        links(s.domain),
        tuple(operations(f) for f in value.factors),
        s.op == "sum" and dtype.is_float,
        None if value.regrouped else value.tree,
        dtype.numpy.itemsize,
        most_bytes,
    )
    order = best_order(network)
    if order is None or not _closed(s.domain, order):
        return None
    return _Contraction(value, extents, order, direct(network))


def _closed(domain: Domain, order: Order) -> bool:
    """Whether the loops of each step are closed."""
    if order.number is not None and not order.reduced:
        return True
    return closed(domain, order.loops) and all(_closed(domain, o) for o in order.parts)


@dataclass
class _Build:
    """The statements of an order, operands before their readers."""

    statement: Statement
    value: Product
    extents: Mapping[str, Interval]
    taken: set[str]
    arrays: list[Array] = field(default_factory=list[Array])
    statements: list[Statement] = field(default_factory=list[Statement])

    def last(self, order: Order) -> Statement:
        """The step that defines the statement's own result."""
        s = self.statement
        value = self.value.value(self.operand(o) for o in _in_order(order))
        op = s.op if order.loops > frozenset(s.kept) else None
        domain = self._settled(restricted(s.domain, order.loops), order.loops - frozenset(s.kept))
        return replace(s, domain=domain, value=value, op=op)

    def operand(self, order: Order) -> ex.Expr:
        """A factor, or a temporary with what the order says."""
        if order.number is not None and not order.reduced:
            return self.value.factors[order.number]
        s = self.statement
        if order.number is not None:
            value = self.value.factors[order.number]
        else:
            value = self.value.value(self.operand(o) for o in _in_order(order))
        name = fresh(f"{s.name}_part", self.taken)
        domain = self._settled(restricted(s.domain, order.loops), order.loops - order.dims)
        kept = [d for d in domain.dims if d in order.dims]
        least = {d: self.extents[d][0] for d in kept}
        extents = tuple((d, aff.const(self.extents[d][1] + 1 - least[d])) for d in kept)
        cell = tuple((d, aff.var(d) - least[d]) for d in kept)
        array = Array(name, extents, ex.dtype_of(value), Role.TEMPORARY)
        self.arrays.append(array)
        op = s.op if order.loops != order.dims else None
        self.statements.append(replace(s, name=name, domain=domain, write=Access(name, cell), value=value, op=op))
        return ex.Load(name, cell, array.dtype)

    def _settled(self, domain: Domain, reduced: frozenset[str]) -> Domain:
        """What is kept first, its ranges in terms of what is kept: others become a box and a condition."""
        ranges: list[Range] = []
        guard = domain.guard
        for r in domain.ranges:
            if r.dim in reduced or not (aff.dims_of(r.lo) | aff.dims_of(r.hi)) & reduced:
                ranges.append(r)
                continue
            lo, hi = self.extents[r.dim]
            ranges.append(Range(r.dim, aff.const(lo), aff.const(hi + 1)))
            guard = aff.both(guard, aff.between(r.lo, aff.var(r.dim), r.hi))
        return Domain(tuple(sorted(ranges, key=lambda r: r.dim in reduced)), guard)


def _in_order(order: Order) -> tuple[Order, ...]:
    """The two parts, that with the first factor of the text first."""
    return tuple(sorted(order.parts, key=lambda o: min(o.factors)))
