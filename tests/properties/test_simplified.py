# SPDX-License-Identifier: MIT
"""Contracted programs compiled: triangles, guards and every semiring give what the original means, interpreted."""

from __future__ import annotations

import random
from unittest.mock import patch

from polyhedral import pipeline
from polyhedral.errors import Remark
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program
from polyhedral.rewrites.contract import contract
from polyhedral.rewrites.factor import hoist_factors
from polyhedral.text.printer import to_text
from tests.contractions import contraction, values_for
from tests.properties.batch import Batch
from tests.properties.schedules import compiled

PROGRAMS = 240
FREE = -(10**6)


def eager(p: Program) -> tuple[Program, tuple[Remark, ...]]:
    """Everything that may be hoisted and contracted, whatever it costs."""
    hoisted, said = hoist_factors(p, per_cell=FREE)
    contracted, more = contract(hoisted, per_cell=FREE)
    return contracted, (*said, *more)


def test_contracted_programs_compile_to_what_they_mean():
    batch, changed = Batch(), 0
    with patch.object(pipeline, "simplify", eager):
        for seed in range(PROGRAMS):
            p = contraction(seed)
            if eager(p)[0] is p:
                continue
            changed += 1
            inputs = values_for(p, seed)
            rng = random.Random(seed)
            batch.add(compiled(p, {}, inputs, run(p, inputs), rng, rng.choice(("default", "register tiles"))))
    failures = [f"{k.what}: {said}\n{to_text(k.program)}" for k, said in batch.results() if said is not None]
    batch.close()
    assert not failures, "\n".join(failures[:3])
    assert changed >= 50
