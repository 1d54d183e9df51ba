# SPDX-License-Identifier: MIT
"""Places: a sum over the inverse of an access, and over more, is first summed where it is read, then into the cells.

dX(c) = sum[y, k, o if 2*y + k == c] V(y, k, o) * W(k, o)    ->    S(y, k) = sum[o] V(y, k, o) * W(k, o)
                                                                   dX(c)   = sum[y, k if 2*y + k == c] S(y, k)

What is read is then read once and in its own order, so that it need not be stored at all; the sums at the places are.
That pays where they are few beside what they are made of: products of windows, whose results are few beside their
places, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Compare, Floor, Var
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.dtypes import DType
from polyhedral.ir.operands import box, interval
from polyhedral.ir.program import Access, Array, Domain, Program, Role, Statement, fresh, names

SHARE = 8
"""The sums at the places take at most one part in so many of the memory of what is read."""


@dataclass(frozen=True)
class _Cells:
    """Dims of the result that equations determine, by dims that are summed over, and these."""

    at: Mapping[str, Affine]
    tied: frozenset[str]


def places(p: Program) -> tuple[Program, tuple[Remark, ...]]:
    """Every sum over an inverse in two steps, where the first leaves little of a large temporary."""
    taken = names(p)
    statements: list[Statement] = []
    made: list[Array] = []
    remarks: list[Remark] = []
    for s in p.statements:
        found = _split(p, s, taken)
        if found is None:
            statements.append(s)
            continue
        array, inner, outer = found
        made.append(array)
        statements += [inner, outer]
        because = f"what it reads has {SHARE} times as many cells or more"
        remarks.append(Remark("summed at places, then into cells", because, s.name))
    if not made:
        return p, ()
    return replace(p, arrays=(*p.arrays, *made), statements=tuple(statements)), tuple(remarks)


def _split(p: Program, s: Statement, taken: set[str]) -> tuple[Array, Statement, Statement] | None:
    dtype = p.array(s.write.array).dtype
    if s.op != "sum" or s.strict or s.accumulate or s.ordered or s.domain.guard == TRUE or not _wide(dtype):
        return None
    if any(r.lo != aff.const(0) or not r.hi.is_const or r.hi.const < 1 for r in s.domain.ranges):
        return None
    if any(p.array(n).role is Role.INOUT for n in s.touched):
        return None
    cells = _cells(s)
    free = set(s.reduced) - cells.tied if cells else set[str]()
    if cells is None or not free:
        return None
    rows = tuple(r for r in s.domain.ranges if r.dim not in free and r.dim not in cells.at)
    write = Access("", tuple((r.dim, aff.var(r.dim)) for r in rows))
    array = Array("", tuple((r.dim, r.hi) for r in rows), dtype, Role.TEMPORARY)
    read = (array_bytes(p.array(n)) for n in s.touched[1:] if p.array(n).role is Role.TEMPORARY)
    if SHARE * array_bytes(array) > max(read, default=0.0):
        return None
    name = fresh(f"{s.name}_places", taken)
    array, write = replace(array, name=name), replace(write, array=name)
    inside = Domain((*rows, *(r for r in s.domain.ranges if r.dim in free)))
    inner = replace(s, name=name, domain=inside, write=write, value=ex.substitute(s.value, cells.at))
    outside = Domain(tuple(r for r in s.domain.ranges if r.dim not in free), s.domain.guard)
    outer = replace(s, domain=outside, value=ex.Load(name, write.index, dtype))
    return array, inner, outer


def _wide(dtype: DType) -> bool:
    """Whether sums may be stored in between: others would be rounded once more."""
    return dtype.is_integer or (dtype.kind == "f" and dtype.bits >= 32)


def _cells(s: Statement) -> _Cells | None:
    """The cells that the guard ties, where it says nothing else and every place has one."""
    extents = {r.dim: r.hi.const for r in s.domain.ranges}
    reduced = set(s.reduced)
    at: dict[str, Affine] = {}
    for c in aff.conjuncts(s.domain.guard):
        if not isinstance(c, Compare) or not c.equal or any(isinstance(t, Floor) for t, _ in c.expr.terms):
            return None
        own = [t.name for t, n in c.expr.terms if isinstance(t, Var) and t.name in s.kept and abs(n) == 1]
        if len(own) != 1 or own[0] in at or not aff.dims_of(c.expr) <= reduced | {own[0]}:
            return None
        e = aff.var(own[0]) - c.expr * c.expr.coefficient(Var(own[0]))
        lo, hi = interval(e, box(Domain(tuple(r for r in s.domain.ranges if r.dim in reduced))))
        if lo < 0 or hi >= extents[own[0]]:
            return None
        at[own[0]] = e
    return _Cells(at, frozenset[str]().union(*(aff.dims_of(e) for e in at.values())))
