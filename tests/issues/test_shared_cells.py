# SPDX-License-Identifier: MIT
"""Several rows of a reduction share a cell (`O(i=i//2) = sum A`): each unrolled row had a register of its own for it,
and the last one stored won.  The oracle had come to accept that; parts of a split statement may overwrite each other.
"""

from __future__ import annotations

import pytest

from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program
from polyhedral.oracle.legality import violation
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.scheduling.register_nest import register_nest
from polyhedral.sets.instances import families
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

TEXT = """
program shared
  input A: f32[i: {n}, j: {m}, k: 40]
  output O: f32[{dims}]
  S0: for i < {n}, j < {m}:  O({at}) = {op}[k < 40] A
"""


def shared(n: int, m: int, dims: str, at: str, op: str = "sum") -> Program:
    return parse(TEXT.format(n=n, m=m, dims=dims, at=at, op=op))


PAIRS = shared(64, 1, "a: 32, b: 1", "a=i//2, b=j")
PROGRAMS = {
    "pairs": PAIRS,
    "odd pairs": shared(63, 17, "a: 32, b: 17", "a=i//2, b=j"),
    "largest of pairs": shared(64, 16, "a: 32, b: 16", "a=i//2, b=j", "max"),
    "diagonals": shared(20, 18, "a: 37", "a=i + j"),
    "remainders": shared(33, 16, "a: 3, b: 16", "a=i - 3*(i//3), b=j"),
    "mixed radix": shared(9, 16, "a: 144", "a=16*i + j"),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_row_counts(name: str, threads: int):
    p = PROGRAMS[name]
    inputs = inputs_for(p, {}, values="real")
    for order in (None, "reversed"):
        got = run_c(p, inputs, {}, Options(threads=threads, plan_above=1), order)
        agree(p, got, run(p, inputs), inputs)


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_rows_with_cells_of_their_own_take_tiles(name: str):
    p = PROGRAMS[name]
    built = driver.lower(p, {a.name: row_major(a) for a in p.arrays}, Options(threads=1, plan_above=1))
    reasons = [r.because for r in built.scheduled.schedule.remarks]
    assert reasons[:1] == ([] if name == "mixed radix" else ["several of its rows share a cell"])


def test_the_oracle_wants_one_register_for_a_cell():
    plan = RegisterPlan("k", 32, (("i", 2),), (), (Loop("i", 2), Loop("j", 1)), partials=2)
    wrong = violation(PAIRS, register_nest(families(PAIRS), plan))
    assert wrong is not None
    assert "held in a register for each" in wrong.why
    own = shared(64, 1, "a: 64, b: 1", "a=i, b=j")
    assert violation(own, register_nest(families(own), plan)) is None
