# SPDX-License-Identifier: MIT
"""Simplification: a program that computes the same results with less, before anything is scheduled.

    single steps -> constants -> equal temporaries -> factors -> pairwise contraction -> what is dead       (repeat)

Dims of one step and constants are folded first, because that makes statements equal; merging before the algebra, so
that nothing is taken apart twice; factors leave a product before its order is chosen; the dead go last.  Each step is a
rewrite that stands on its own in `polyhedral.rewrites`; all are judged by the interpreter.
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.errors import Remark
from polyhedral.ir.program import Program
from polyhedral.rewrites.common import merge_common
from polyhedral.rewrites.contract import contract
from polyhedral.rewrites.dead import drop_dead
from polyhedral.rewrites.factor import hoist_factors
from polyhedral.rewrites.fold_constants import fold_constants
from polyhedral.rewrites.single_steps import single_steps

STEPS = (single_steps, fold_constants, merge_common, hoist_factors, contract, drop_dead)
ROUNDS = 8
"""Each round leaves less to do: two are usual, and a program is right after any of them."""


def simplify(p: Program) -> tuple[Program, tuple[Remark, ...]]:
    """The program when no step changes it any more, and what was done to it.  The very program where nothing was."""
    remarks: list[Remark] = []
    given = p
    for _ in range(ROUNDS):
        before = p
        for step in STEPS:
            p, said = step(p)
            remarks += said
        if p is before:
            break
    return (p if p is given else _numbered(p)), tuple(remarks)


def _numbered(p: Program) -> Program:
    """Positions that count the statements, where there are no ordered loops and the text is in order."""
    places = [s.position[0] for s in p.statements if len(s.position) == 1 and not s.ordered]
    numbers = [n for n in places if isinstance(n, int)]
    if len(numbers) < len(p.statements) or numbers != sorted(numbers):
        return p
    return replace(p, statements=tuple(replace(s, position=(n,)) for n, s in enumerate(p.statements)))
