# SPDX-License-Identifier: MIT
"""Re-lay an operand: copy it into panels in which the vector dim of its reader is dense, and read the copy.

    ... * W(ky, kx, ci, co=f//4, k, j=f%4)      ->      Wp(fo, ky, kx, ci, k, fi) = W(co=(64*fo+fi)//4, j=(64*fo+fi)%4)
                                                        ... * Wp(fo=f//64, ky, kx, ci, k, fi=f%64)

The copy is a statement like any other: scheduled, parallel, priced.  Panels are padded with zeros to full width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import Affine
from polyhedral.program import Access, Array, Domain, Range, Role, Statement


@dataclass(frozen=True)
class Relaid:
    """The new array, the statement that fills it, and the load that replaces the old one."""

    array: Array
    copy: Statement
    load: ex.Load


def relay(a: Array, load: ex.Load, dim: str, extent: int, panel: int, order: tuple[str, ...], name: str) -> Relaid:
    """Panels of `panel` along `dim` (of a statement, with range [0, extent)); `order` lists the statement's dims from
    slow to fast, which orders the other axes of the copy.
    """
    index: Mapping[str, Affine] = {d: i for d, i in load.index if isinstance(i, Affine)}
    plain = [d for d in a.dim_names if dim not in aff.dims_of(index[d])]
    plain.sort(key=lambda d: max((order.index(v) for v in aff.dims_of(index[d]) if v in order), default=-1))
    outer, inner = f"{dim}o", f"{dim}i"
    panels = -(-extent // panel)
    dims = (
        (outer, aff.const(panels)),
        *((d, a.extent(d)) for d in plain),
        (inner, aff.const(panel)),
    )
    made = Array(name, dims, a.dtype, Role.TEMPORARY)
    at = aff.var(outer) * panel + aff.var(inner)
    source = tuple((d, aff.var(d) if d in plain else aff.substitute(index[d], {dim: at})) for d in a.dim_names)
    value: ex.Expr = ex.Load(a.name, source, a.dtype)
    if extent % panel:
        inside = ex.Test(aff.at_least(aff.const(extent - 1), at))
        value = ex.Select(inside, value, _zero(a))
    domain = Domain(tuple(Range(d, aff.const(0), e) for d, e in dims))
    copy = Statement(name, domain, Access(name, tuple((d, aff.var(d)) for d, _ in dims)), value)
    read = ex.Load(
        name,
        ((outer, aff.var(dim) // panel), *((d, index[d]) for d in plain), (inner, aff.var(dim) % panel)),
        a.dtype,
    )
    return Relaid(made, copy, read)


def _zero(a: Array) -> ex.Const:
    return ex.Const(0.0 if a.dtype.is_float else False if a.dtype.kind == "b" else 0, a.dtype)


def use(s: Statement, old: ex.Load, new: ex.Load) -> Statement:
    """The statement reading `new` wherever it read `old`."""
    return replace(s, value=ex.rewrite(s.value, lambda e: new if e == old else e))
