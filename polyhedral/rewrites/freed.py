# SPDX-License-Identifier: MIT
"""Free the layout of a small operand: a statement that reduces nothing reads a copy, which may lie as its lanes want.

    D(n, o) = G(n, o) * W(o, r=0) + H(n, o) * W(o, r=1)    ->    C(o, r) = W(o, r);   D(n, o) = G * C(r=0) + H * C(r=1)

Reductions have operands re-laid for their own tiles; elsewhere the layout that a caller gave would decide along which
dim the lanes run.  A copy that lies as the original does is taken back (`settled`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.counts import cells, instances
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement, fresh, names, reads

REUSED = 64.0
"""How often each cell of an operand must be read, at least, for its copy to be nothing next to that."""


def freed(p: Program, given: Container[str], worth: float) -> tuple[Program, dict[str, str]]:
    """The program with such copies, and what each is a copy of."""
    copies: dict[str, str] = {}
    taken = names(p)
    statements: list[Statement] = []
    for s in p.statements:
        for a in _wanted(p, s, given, worth):
            if a.name not in copies.values():
                name = fresh(f"{a.name}_free", taken)
                copies[name] = a.name
                statements.append(_copy(a, name, s))
            name = next(n for n, of in copies.items() if of == a.name)
            s = replace(s, value=_reading(s.value, a.name, name))
        statements.append(s)
    if not copies:
        return p, {}
    arrays = (replace(p.array(of), name=name, role=Role.TEMPORARY) for name, of in copies.items())
    return replace(p, arrays=(*p.arrays, *arrays), statements=tuple(statements)), copies


def settled(p: Program, copies: Mapping[str, str], layouts: Mapping[str, Layout]) -> tuple[Program, tuple[Remark, ...]]:
    """The program without the copies that lie as what they were copied from, and why the others are there."""
    kept: list[Remark] = []
    for name, of in copies.items():
        order = layouts[name].order
        if order == layouts[of].order:
            p = _without(p, name, of)
        else:
            why = f"the lanes of what reads it want the order {' '.join(order)}"
            kept.append(Remark(f"a copy of {of}", why, name))
    return p, tuple(kept)


def _without(p: Program, name: str, of: str) -> Program:
    """The program in which the original is read instead."""
    statements = tuple(replace(s, value=_reading(s.value, name, of)) for s in p.statements if s.write.array != name)
    return replace(p, arrays=tuple(a for a in p.arrays if a.name != name), statements=statements)


def _wanted(p: Program, s: Statement, given: Container[str], worth: float) -> Iterator[Array]:
    """The operands of a statement that are small next to its work."""
    fixed = s.ordered or s.accumulate or s.strict or s.op is not None or isinstance(s.value, ex.Load)
    work = instances(s)
    if fixed or work < worth:
        return
    for name in dict.fromkeys(load.array for load in reads(s)):
        a = p.array(name)
        small = a.role in (Role.INPUT, Role.CONSTANT) and len(a.dims) > 1 and all(e.is_const for _, e in a.dims)
        if small and name in given and 1 < cells(a) * REUSED <= work:
            yield a


def _copy(a: Array, name: str, s: Statement) -> Statement:
    domain = Domain(tuple(Range(d, aff.const(0), e) for d, e in a.dims))
    index = tuple((d, aff.var(d)) for d in a.dim_names)
    value = ex.Load(a.name, index, a.dtype)
    return Statement(name, domain, Access(name, index), value, position=s.position, location=s.location)


def _reading(e: ex.Expr, old: str, new: str) -> ex.Expr:
    return ex.rewrite(e, lambda n: replace(n, array=new) if isinstance(n, ex.Load) and n.array == old else n)
