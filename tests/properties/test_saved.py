# SPDX-License-Identifier: MIT
"""Schedules as data: random trees read back as they were written; legal ones are taken and run, others refused.

POLYHEDRAL_EXAMPLES=5000 POLYHEDRAL_SEED=7 pytest tests/properties/test_saved.py
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from frontend.environment.options import Options
from frontend.lowering import driver, saved
from frontend.lowering.hints import NO_HINTS
from polyhedral.errors import ArgumentError, LegalityError
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import Run, bands
from polyhedral.pipeline import Scheduled
from polyhedral.questions.proposed import RUNS
from polyhedral.scheduling.schedule import Schedule
from tests.properties.schedules import Proposals, interned, transformed
from tests.running import agree, run_c
from tests.strategies import inputs_for, programs

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "120"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))
DRAWN = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


def plain(tree) -> bool:
    """Whether all loops run in ways that a schedule from outside may ask for."""
    return all(m.run in RUNS for b in bands(tree) for m in b.members)


def test_trees_are_read_back_and_judged():
    counts = {"taken": 0, "refused": 0}

    @seed(SEED)
    @settings(max_examples=EXAMPLES, **DRAWN)
    @given(programs(), st.integers(0, 1 << 30))
    def judged(p: Program, salt: int) -> None:
        p = interned(p)
        proposals = Proposals(p, random.Random(salt))
        found = proposals.legal()
        trees = [(t, True) for t in ([found[1]] if found else [])] + [(t, False) for _, t, _ in proposals.refused]
        for tree, legal in trees:
            scheduled = Scheduled(proposals.analyzed, {}, Schedule(tree, ()))
            text = json.dumps(saved.to_data(p, {}, scheduled, tree))
            if not plain(tree):
                with pytest.raises(ArgumentError, match="runs as"):
                    saved.taken(saved.read(text), scheduled)
            elif legal:
                assert saved.taken(saved.read(text), scheduled) == tree
                counts["taken"] += 1
            else:
                with pytest.raises((LegalityError, ArgumentError)):
                    saved.taken(saved.read(text), scheduled)
                counts["refused"] += 1

    judged()
    assert counts["taken"] > EXAMPLES // 4
    assert counts["refused"] > EXAMPLES // 4


def test_what_is_taken_computes_what_is_meant():
    """Changes of the tree that the compiler chose, register tiles among it: whatever is accepted gives the result."""
    counts = {"changed": 0}

    @seed(SEED)
    @settings(max_examples=max(EXAMPLES // 6, 10), **DRAWN)
    @given(programs(), st.integers(0, 1 << 30))
    def computed(p: Program, salt: int) -> None:
        p, rng = interned(p), random.Random(salt)
        options = Options(threads=2, plan_above=rng.choice((1, 50_000)))
        layouts = {a.name: row_major(a, a.dim_names) for a in p.arrays if a.role not in (Role.CONSTANT, Role.TEMPORARY)}
        built = driver.lower(p, layouts, options)
        tree = built.scheduled.schedule.tree
        for _ in range(3):
            try:
                _, changed = transformed(tree, rng)
                text = json.dumps(saved.to_data(built.program, {}, built.scheduled, changed))
                saved.taken(saved.read(text), built.scheduled)
            except (LegalityError, ArgumentError, AttributeError, TypeError):
                continue  # what the oracle refuses, and nodes that these changes do not know
            tree = changed
        text = json.dumps(saved.to_data(built.program, {}, built.scheduled, tree))
        inputs = inputs_for(p, {}, salt, "whole")
        got = run_c(p, inputs, {}, options, hints=replace(NO_HINTS, scheduled=text))
        counts["changed"] += tree != built.scheduled.schedule.tree
        agree(p, got, run(p, inputs), inputs)

    computed()
    assert counts["changed"] >= 4


def test_marks_of_devices_are_refused():
    assert not {Run.BLOCK, Run.THREAD, Run.HOST, Run.TEAM, Run.MATRIX, Run.UNROLL} & set(RUNS)
