# SPDX-License-Identifier: MIT
"""Simplify affine tests: drop what a statement's domain already says, and Selects that are decided by it.

where(0 <= 2*y + ky - 1 and 2*y + ky - 1 < 16, ...) over y < 8, ky < 3    ->    where(1 <= 2*y + ky, ...)
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Condition
from polyhedral.ir.program import Program, Statement
from polyhedral.sets.isl import NamedSet, named


def simplify_tests(p: Program) -> Program:
    """Every statement with its tests made as short as its domain allows."""
    return replace(p, statements=tuple(_simplified(p, s) for s in p.statements))


def _simplified(p: Program, s: Statement) -> Statement:
    if not any(isinstance(e, ex.Test) for e in ex.walk(s.value)):
        return s
    domain = named(s.dims, p.sizes, aff.both(s.domain.condition, *p.assumptions))

    def shorter(e: ex.Expr) -> ex.Expr:
        match e:
            case ex.Test(c):
                return replace(e, condition=_under(domain, c))
            case ex.Select(ex.Test(c), then, other) if c in (aff.TRUE, aff.FALSE):
                return then if c == aff.TRUE else other
            case _:
                return e

    return replace(s, value=ex.rewrite(s.value, shorter))


def _under(domain: NamedSet, c: Condition) -> Condition:
    """The condition without what the domain implies; as it was, where that is not shorter."""
    held = domain.where(c)
    if held.is_empty():
        return aff.FALSE
    if (domain - held).is_empty():
        return aff.TRUE
    made = held.gist(domain).condition()
    return made if len(list(aff.comparisons(made))) < len(list(aff.comparisons(c))) else c
