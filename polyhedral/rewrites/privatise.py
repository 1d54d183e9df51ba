# SPDX-License-Identifier: MIT
"""Privatise a reduction with too few results for all cores: each reduces a block of its own, and blocks are combined.

s = sum over k < 1000 of X(k)    ->    s_blocks(b) = sum over k < 250 of X(250*b + k)    for b < 4
                                       s = sum over b < 4 of s_blocks(b)

The order of the blocks is fixed, so that results do not depend on which core is first.  Whether it pays is the plan's
business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Access, Array, Domain, Range, Role, Statement


@dataclass(frozen=True)
class Privatised:
    """The array of the blocks' results, the statements that fill it, and the one that combines them."""

    array: Array
    parts: tuple[Statement, ...]
    combined: Statement


def privatise(s: Statement, dtype: DType, dim: str, blocks: int, fresh: Callable[[str], str]) -> Privatised:
    """The reduction in `blocks` blocks along one of its reduced dims; its domain is a box of known size from 0.  What
    does not fill a block is one more.
    """
    name, block = fresh(f"{s.name}_blocks"), _unused("block", s.dims)
    extent = next(r.hi.const for r in s.domain.ranges if r.dim == dim)
    length, rest = extent // blocks, extent % blocks
    kept = tuple(r for r in s.domain.ranges if r.dim not in s.reduced)
    count = blocks + (1 if rest else 0)
    array = Array(name, ((block, aff.const(count)), *((r.dim, r.hi) for r in kept)), dtype, Role.TEMPORARY)

    def part(label: str, first: aff.Affine, start: aff.Affine, n: int, outer: tuple[Range, ...]) -> Statement:
        ranges = (*outer, *(Range(r.dim, r.lo, aff.const(n)) if r.dim == dim else r for r in s.domain.ranges))
        value = ex.substitute(s.value, {dim: start + aff.var(dim)})
        write = Access(name, ((block, first), *((r.dim, aff.var(r.dim)) for r in kept)))
        return replace(s, name=label, domain=Domain(ranges), write=write, value=value)

    each = Range(block, aff.const(0), aff.const(blocks))
    parts = [part(name, aff.var(block), aff.var(block) * length, length, (each,))]
    if rest:
        parts.append(part(fresh(f"{name}_rest"), aff.const(blocks), aff.const(blocks * length), rest, ()))
    loaded = ex.Load(name, tuple((d, aff.var(d)) for d in array.dim_names), dtype)
    domain = Domain((*kept, Range(block, aff.const(0), aff.const(count))))
    return Privatised(array, tuple(parts), replace(s, domain=domain, value=loaded))


def _unused(name: str, taken: tuple[str, ...]) -> str:
    while name in taken:
        name += "_"
    return name
