# SPDX-License-Identifier: MIT
"""Order the dims of a recurrence: those that always step forward come first.

isl breaks ties between schedules by the order of dims; with time outermost it finds `t, t+y, t+x` where it would
otherwise skew every dim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Domain, Program, Statement, reads


def order_dims(p: Program) -> Program:
    """Put forward dims first in every statement that reads what it writes."""
    return replace(p, statements=tuple(_ordered(s) for s in p.statements))


def _ordered(s: Statement) -> Statement:
    ranges = s.domain.ranges
    mine = [dict(load.index) for load in reads(s) if load.array == s.write.array]
    if not mine or s.ordered or any(aff.dims_of(r.lo) | aff.dims_of(r.hi) for r in ranges):
        return s
    forward = [r for r in ranges if _steps_forward(s, r.dim, mine)]
    return replace(s, domain=Domain((*forward, *(r for r in ranges if r not in forward)), s.domain.guard))


def _steps_forward(s: Statement, dim: str, mine: Sequence[Mapping[str, Affine | Expr]]) -> bool:
    """Whether every read of the result lies a constant distance behind the write along the axis that `dim` indexes."""
    axes = [(d, i) for d, i in s.write.index if aff.dims_of(i) == frozenset({dim})]
    if len(axes) != 1:
        return False
    axis, written = axes[0]

    def behind(read: Affine | Expr) -> bool:
        return isinstance(read, Affine) and (written - read).is_const and (written - read).const > 0

    return all(behind(r[axis]) for r in mine)
