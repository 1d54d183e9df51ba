# SPDX-License-Identifier: MIT
"""Partial sums: a reduction leaves one of its dims for a second step, so that others that have the dim can run with it.

W(k) = sum[n, y] D(n, y, k) * P(n, y)    ->    W_each(n, k) = sum[y] D(n, y, k) * P(n, y)
                                               W(k) = sum[n] W_each(n, k)

The order of the second step is fixed.  Whether it pays is left to `polyhedral.whole.opened`.
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE
from polyhedral.ir.program import Access, Array, Domain, Program, Role, Statement, fresh, names


def openable(p: Program, s: Statement) -> bool:
    """Whether a reduction may be taken apart: over a box of known size, in any order, without rounding once more."""
    dtype = p.array(s.write.array).dtype
    wide = dtype.is_integer or (dtype.kind == "f" and dtype.bits >= 32)
    free = s.op in ("sum", "prod", "max", "min") and not (s.strict or s.accumulate or s.ordered)
    boxed = s.domain.guard == TRUE and all(r.lo == aff.const(0) and r.hi.is_const for r in s.domain.ranges)
    return free and boxed and wide and ex.dtype_of(s.value) == dtype


def partial(p: Program, name: str, dim: str) -> tuple[Program, str]:
    """The program with the reduction `name` in two steps, and the first of them, which keeps `dim`."""
    s = p.statement(name)
    own = fresh(f"{name}_each", names(p))
    rows = tuple(r for r in s.domain.ranges if r.dim == dim or r.dim in s.kept)
    dtype = p.array(s.write.array).dtype
    index = tuple((r.dim, aff.var(r.dim)) for r in rows)
    array = Array(own, tuple((r.dim, r.hi) for r in rows), dtype, Role.TEMPORARY)
    others = tuple(r for r in s.domain.ranges if r not in rows)
    first = replace(s, name=own, domain=Domain((*rows, *others)), write=Access(own, index), op=s.op if others else None)
    second = replace(s, domain=Domain(rows), value=ex.Load(own, index, dtype))
    statements = tuple(x for t in p.statements for x in ((first, second) if t is s else (t,)))
    return replace(p, arrays=(*p.arrays, array), statements=statements), own
