# SPDX-License-Identifier: MIT
"""Loops whose steps are done two at a time: maxima and minima of numbers that may be NaN.

A NaN stays in the result, which takes a comparison beside the maximum; one finds a NaN in either of two values.
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen import loops as lp
from codegen.points import trips
from codegen.scalar import STORAGE, value_type
from codegen.spelling import Spelling
from codegen.steps import whole_value
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import Family, Kind

LEAST = 4
"""Steps from which on a loop is worth it."""


def two_at_once(c: Spelling, p: Program, n: lp.For, families: Mapping[str, Family]) -> bool:
    """Whether a loop around the unrolled ones of a register tile does two steps at once."""
    fixed = isinstance(n.lo, Affine) and isinstance(n.hi, Affine) and (n.hi - n.lo).is_const
    if not fixed or n.step != 1 or trips(n) < LEAST:
        return False
    inside = list(lp.walk(n.body))
    loops = [x for x in inside if isinstance(x, lp.For)]
    unrolled = len(inside) == sum(isinstance(x, (lp.Block, lp.Exec, lp.For)) for x in inside)
    unrolled = unrolled and all(x.run in (Run.UNROLL, Run.VECTOR, Run.WRITTEN) for x in loops)
    return unrolled and all(_extreme(c, p, families[x.family]) for x in inside if isinstance(x, lp.Exec))


def _extreme(c: Spelling, p: Program, f: Family) -> bool:
    """Whether a step is a minimum or a maximum of floats, on whole vectors."""
    s = f.statement
    t = p.array(s.write.array).dtype
    plain = t.is_float and value_type(t) == STORAGE[t.name]
    return f.kind is Kind.UPDATE and s.op in ("min", "max") and plain and whole_value(c, s.value, t)
