# SPDX-License-Identifier: MIT
"""Make a temporary once for each group of its readers, so that each group has one of its own.

V; A reads V; B reads V    ->    V; A reads V; V_2; B reads V_2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyhedral.ir import expr as ex
from polyhedral.ir.program import Program, Statement, fresh, names


def clone(p: Program, name: str, groups: Sequence[frozenset[str]]) -> tuple[Program, tuple[str, ...]]:
    """The program, and the names of the temporary in each group of statements; the first keeps its own.  One statement
    makes it.
    """
    taken = names(p)
    made = [name, *(fresh(f"{name}_{k}", taken) for k in range(2, len(groups) + 1))]
    owner = {member: own for own, group in zip(made, groups, strict=True) for member in group}
    statements: list[Statement] = []
    for s in p.statements:
        statements.append(_reading(s, name, owner[s.name]) if s.name in owner else s)
        if s.write.array == name:
            statements += [replace(s, name=own, write=replace(s.write, array=own)) for own in made[1:]]
    array = p.array(name)
    arrays = (*p.arrays, *(replace(array, name=own) for own in made[1:]))
    return replace(p, arrays=arrays, statements=tuple(statements)), tuple(made)


def _reading(s: Statement, name: str, own: str) -> Statement:
    if own == name:
        return s

    def one(e: ex.Expr) -> ex.Expr:
        return replace(e, array=own) if isinstance(e, ex.Load) and e.array == name else e

    return replace(s, value=ex.rewrite(s.value, one))
