# SPDX-License-Identifier: MIT
"""How many there are: instances of a statement, cells and bytes of an array."""

from __future__ import annotations

from math import prod

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Compare
from polyhedral.ir.program import Array, Statement

SIZE = 128
"""What a size that is only known at a call is taken for."""


def instances(s: Statement, dims: tuple[str, ...] | None = None) -> float:
    """About how many instances a statement has, or how many values its `dims` take; each equation of the guard fixes
    one dim.
    """
    extents = {r.dim: extent(r.hi - r.lo) for r in s.domain.ranges if dims is None or r.dim in dims}
    parts = aff.conjuncts(s.domain.guard)
    for e in (c.expr for c in parts if isinstance(c, Compare) and c.equal):
        fixed = [d for d in aff.dims_of(e) if extents.get(d, 1) > 1]
        if fixed and aff.dims_of(e) <= extents.keys():
            extents[max(fixed, key=lambda d: extents[d])] = 1
    return float(prod(extents.values()))


def extent(span: Affine) -> int:
    """How far a range goes; a guess where it is only known at a call."""
    return max(span.const, 0) if span.is_const else SIZE


def cells(a: Array) -> int:
    """How many cells an array has."""
    return prod(extent(e) for _, e in a.dims)


def array_bytes(a: Array) -> float:
    """What the cells of an array take."""
    return float(cells(a) * a.dtype.numpy.itemsize)
