# SPDX-License-Identifier: MIT
"""Fuse two dims of a statement into one, so that a short dim and its neighbour make one long vector.

O(co, j) over co < 32, j < 4    ->    O(co=f//4, j=f%4) over f < 128
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Access, Domain, Range, Statement


def fuse_dims(s: Statement, outer: str, inner: str, name: str) -> Statement:
    """`name` counts the pair (outer, inner) row by row; both ranges must start at 0 with extents that are numbers."""
    extents = {r.dim: r.hi.const for r in s.domain.ranges if r.lo == aff.const(0) and r.hi.is_const}
    width = extents[inner]
    both = aff.var(name)
    new = {outer: both // width, inner: both % width}
    ranges: list[Range] = []
    for r in s.domain.ranges:
        if r.dim == outer:
            ranges.append(Range(name, aff.const(0), aff.const(extents[outer] * width)))
        elif r.dim != inner:
            ranges.append(Range(r.dim, aff.substitute(r.lo, new), aff.substitute(r.hi, new)))
    guard = aff.map_affine(s.domain.guard, lambda e: aff.substitute(e, new))
    write = Access(s.write.array, tuple((d, aff.substitute(i, new)) for d, i in s.write.index))
    return replace(s, domain=Domain(tuple(ranges), guard), write=write, value=ex.substitute(s.value, new))
