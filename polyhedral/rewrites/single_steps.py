# SPDX-License-Identifier: MIT
"""Read at constants what dims of one step read: `X[y=2*y+ky]` over ky < 1 is `X[y=2*y]`, which is no window.

The dims themselves stay, so that every instance keeps its name.
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.errors import Remark
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Program, Statement


def single_steps(p: Program) -> tuple[Program, tuple[Remark, ...]]:
    """Every value without the dims that have one step; the very program where there are none."""
    made = tuple(_read_at(s) for s in p.statements)
    same = all(a is b for a, b in zip(made, p.statements, strict=True))
    return (p if same else replace(p, statements=made)), ()


def _read_at(s: Statement) -> Statement:
    fixed: dict[str, Affine] = {
        r.dim: r.lo for r in s.domain.ranges if r.lo.is_const and r.hi == r.lo + 1 and r.dim in ex.dims_of(s.value)
    }
    return replace(s, value=ex.substitute(s.value, fixed)) if fixed else s
