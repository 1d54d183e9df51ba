# SPDX-License-Identifier: MIT
"""Random programs: interpreted = compiled, for the default schedule and others, any layout, one thread and two.

500 programs by default and reproducible.  The long run, with another seed:

    POLYHEDRAL_EXAMPLES=20000 POLYHEDRAL_SEED=7 pytest tests/properties/test_random_programs.py
"""

from __future__ import annotations

import os
import random
import traceback

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program
from polyhedral.text.printer import to_text
from tests.properties.batch import Batch
from tests.properties.schedules import COMPILED, interned, kernels, symbolic
from tests.strategies import inputs_for, programs

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "500"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))
PORTION = 250


@pytest.mark.parametrize("first", range(0, EXAMPLES, PORTION))
def test_compiled_is_interpreted(first: int):
    """In portions, which run at the same time, and of which a long run gives the memory back."""
    count = min(PORTION, EXAMPLES - first)
    ran, wrong = _portion(count, SEED * 1_000_003 + first)
    assert not wrong, f"{len(wrong)} failures\n" + "\n".join(wrong[:5])
    assert ran >= 2.5 * count


def _portion(count: int, start: int) -> tuple[int, list[str]]:
    batch = Batch()
    wrong: list[str] = []

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.integers(0, 1 << 30))
    def collect(p: Program, salt: int) -> None:
        try:
            for k in variants(p, salt):
                batch.add(k)
        except Exception as e:
            wrong.append(f"{traceback.format_exc(limit=-4)}\n{type(e).__name__}: {e}\n{to_text(p)}")

    collect()
    for k, problem in batch.results():
        if problem is not None:
            wrong.append(f"{k.what}, {k.threads} threads: {problem}\n{to_text(k.program)}\n{k.source.text}")
    batch.close()
    return batch.ran, wrong


def variants(p: Program, salt: int):
    """The kernels of one program: two choices of the compiler's options, a symbolic size, and a random legal tree."""
    rng = random.Random(salt)
    p = interned(p)
    values = "whole" if p.name == "whole" else rng.choice(("real", "special", "any"))
    inputs = inputs_for(p, {}, salt, values)
    expected = run(p, inputs)
    extents = sorted({e.const for a in p.arrays for _, e in a.dims if e.const > 0})
    alternative = symbolic(p, rng.choice(extents)) if extents and rng.random() < 0.3 else None
    runs = ("default", rng.choice([n for n in COMPILED if n != "default"]))
    yield from kernels(p, inputs, expected, rng, runs, alternative=alternative)
