# SPDX-License-Identifier: MIT
"""Random programs with any plan preferred for each of their statements: compiled is interpreted.

Values are whole numbers in narrow bounds, so that every order of every sum gives the same.  A longer run:
POLYHEDRAL_EXAMPLES=2000 pytest tests/properties/test_preferences.py
"""

from __future__ import annotations

import os
import random
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.lowering.hints import NO_HINTS
from frontend.tuning.search import queues
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role
from polyhedral.plans.preferences import NO_PREFERENCES, Lying, Together, unused
from tests import chains
from tests.properties import test_blocks
from tests.running import run_c
from tests.strategies import inputs_for

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "16"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))


def preferred(p: Program, rng: random.Random, options: Options) -> tuple[int, int]:
    """How many plans were preferred, and how many of them were taken; the result is the interpreter's."""
    inputs = inputs_for(p, {}, rng.randrange(1 << 30), "whole")
    want = run(p, inputs)
    layouts = {a.name: row_major(a) for a in p.with_role(Role.INPUT, Role.OUTPUT)}
    plans = NO_PREFERENCES
    predicted = driver.lower(p, layouts, options)
    for members, blocked in predicted.blocks.items():
        plans = plans.changed(Together(members, blocked if rng.random() < 0.5 else not blocked))
    if rng.random() < 0.3:
        plans = plans.changed(Lying("greedy"))
    if plans:
        predicted = driver.lower(p, layouts, options, hints=replace(NO_HINTS, plans=plans))
    for q in queues(predicted.choices):
        plans = plans.changed(rng.choice(q.candidates).change)
    hints = replace(NO_HINTS, plans=plans)
    built = driver.lower(p, layouts, options, hints=hints)
    missed = unused(plans, built.choices, built.blocks)
    got = run_c(p, inputs, {}, options, hints=hints)
    for name in got:
        np.testing.assert_array_equal(got[name], want[name], err_msg=f"{name} of {plans}")
    return len(plans.changes), len(plans.changes) - len(missed)


def test_any_plan_computes_what_is_interpreted():
    rng = random.Random(SEED)
    wanted = taken = 0
    for n in range(EXAMPLES):
        blocks = n % 3 == 2
        p = test_blocks.drawn(rng) if blocks else chains.drawn(rng)
        options = Options(plan_above=1, tuned="off", threads=rng.choice((1, 2)))
        with test_blocks.everywhere(rng) if blocks else nullcontext():
            found = preferred(p, rng, options)
        wanted, taken = wanted + found[0], taken + found[1]
    assert wanted >= EXAMPLES // 2
    assert taken >= 0.8 * wanted, "most plans that are weighed can be had"
