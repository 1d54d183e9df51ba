# SPDX-License-Identifier: MIT
"""Backward functions of users inside a differentiation: a copy of their statements for each time they are used.

A rule was recorded for one example, with arrays in place of its cotangents.  A copy reads adjoints there, and has one
more dim for each of the examples that these are taken at.  What no derivative uses is taken out again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from frontend.autodiff.naming import apart, fresh
from frontend.recorded import Rule
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement


@dataclass(frozen=True)
class Copy:
    """The arrays and statements of one use, and what each array that depends on a cotangent is called in it.

    `over` are the dims that stand for examples, by the names of these.
    """

    arrays: tuple[Array, ...]
    statements: tuple[Statement, ...]
    names: Mapping[str, str]
    over: Mapping[str, str]


def dependent(p: Program, arrays: Collection[str]) -> frozenset[str]:
    """These arrays, and all that are computed from them."""
    found, before = set(arrays), -1
    while len(found) > before:
        before = len(found)
        found |= {s.write.array for s in p.statements if not found.isdisjoint(s.touched)}
    return frozenset(found)


def without(p: Program, arrays: Collection[str]) -> Program:
    """The program without these arrays, and without what is computed from them."""
    gone = dependent(p, arrays)
    kept = tuple(s for s in p.statements if s.write.array not in gone)
    return replace(p, arrays=tuple(a for a in p.arrays if a.name not in gone), statements=kept)


def copied(p: Program, rule: Rule, examples: Sequence[tuple[str, Affine]], taken: set[str]) -> Copy:
    """The statements of a rule at each of the examples; those of its cotangents are left to the caller."""
    inner = sorted(dependent(p, rule.cotangents) & {a.name for a in p.arrays})
    names = {n: fresh(n, taken) for n in inner}
    used = {d for a in p.arrays for d in a.dim_names}
    over = {d: fresh(f"{d}_each", used) for d, _ in examples}
    dims = tuple((over[d], e) for d, e in examples)
    arrays = tuple(
        replace(p.array(n), name=names[n], dims=(*dims, *p.array(n).dims), role=Role.TEMPORARY) for n in inner
    )
    extra = tuple((d, aff.var(d)) for d, _ in dims)
    ranges = tuple(Range(d, aff.const(0), e) for d, e in dims)

    def one(node: Expr) -> Expr:
        if not isinstance(node, ex.Load) or node.array not in names:
            return node
        return replace(node, array=names[node.array], index=(*extra, *node.index))

    statements: list[Statement] = []
    for s in p.statements:
        if s.write.array in names:
            s = apart(s, over.values())
            domain = Domain((*ranges, *s.domain.ranges), s.domain.guard)
            write = Access(names[s.write.array], (*extra, *s.write.index))
            value, name = ex.rewrite(s.value, one), fresh(f"{s.name}_each", taken)
            statements.append(replace(s, name=name, domain=domain, write=write, value=value, position=(0,)))
    return Copy(arrays, tuple(statements), names, over)
