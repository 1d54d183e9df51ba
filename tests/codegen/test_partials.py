# SPDX-License-Identifier: MIT
"""Reductions along the lanes: partial results combine to what the interpreter says, at every length and for NaN."""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import Run, bands
from polyhedral.oracle.legality import violation
from polyhedral.text.reader import parse
from tests.programs import CASES
from tests.properties.mutants import LEAF, band, sequence
from tests.running import agree, run_c
from tests.strategies import inputs_for

ROWS = """
program rows
  input X: {t}[i: {n}, k: {m}]
  input w: {t}[k: {m}]
  output out: {t}[i: {n}]
  S0: for i < {n}:  out = {op}[k < {m}] {value}
"""
WHOLE = """
program whole
  input X: {t}[i: {n}, k: {m}]
  output out: {t}[]
  S0: for:  out = {op}[i < {n}, k < {m}] {value}
"""
TYPES = ("f32", "f64", "i32")
PLANS = Options(threads=2, plan_above=1)


def reduced(form: str, n: int, m: int, op: str = "sum", t: str = "f32", value: str = "X") -> Program:
    return parse(form.format(n=n, m=m, op=op, t=t, value=value))


PROGRAMS = {
    **{f"row of {m}": reduced(ROWS, 3, m) for m in (1, 7, 16, 17, 31, 64, 65, 127, 128, 200, 257)},
    **{f"{op} of {t}": reduced(ROWS, 4, 77, op, t) for op in ("sum", "max", "min", "prod") for t in TYPES},
    "long integers": reduced(ROWS, 2, 41, "sum", "i64", "X * w"),
    "unsigned": reduced(ROWS, 2, 41, "max", "u32", "X"),
    "squares": reduced(ROWS, 8, 16, value="X * X"),
    "one row": reduced(ROWS, 1, 100, value="X * w"),
    "products": reduced(ROWS, 5, 83, value="X * w"),
    "single value": reduced(WHOLE, 7, 61),
    "single greatest": reduced(WHOLE, 7, 64, "max", "f64"),
    "single, short": reduced(WHOLE, 30, 3),
    "scalar function": reduced(ROWS, 4, 50, value="exp(X) / (w * w + 1.0)"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_is_interpreted(name: str):
    p = PROGRAMS[name]
    inputs = inputs_for(p, {}, values="real")
    if name.startswith("prod"):
        inputs = {n: np.sign(v + (v == 0)).astype(v.dtype) for n, v in inputs.items()}
    for order in (None, "reversed"):
        agree(p, run_c(p, inputs, {}, PLANS, order), run(p, inputs), inputs)


@pytest.mark.parametrize("op", ["max", "min", "sum"])
@pytest.mark.parametrize("at", [0, 5, 63, 64, 70])
def test_nan_is_passed_on(op: str, at: int):
    p = reduced(ROWS, 2, 71, op)
    inputs = inputs_for(p, {}, values="real")
    inputs["X"][1, at] = np.nan
    got = run_c(p, inputs, {}, PLANS)["out"]
    assert list(np.isnan(got)) == [False, True]


def test_infinities_are_extremes():
    p = reduced(ROWS, 1, 70, "max")
    inputs = {"X": np.full((1, 70), -np.inf, np.float32), "w": np.zeros(70, np.float32)}
    assert run_c(p, inputs, {}, PLANS)["out"] == [-np.inf]


def test_the_dense_dim_runs_along_the_lanes():
    p = reduced(ROWS, 3, 200)
    built = driver.lower(p, {a.name: row_major(a) for a in p.arrays}, PLANS)
    runs = [m.run for b in bands(built.scheduled.schedule.tree) for m in b.members]
    assert Run.LANES in runs
    assert "_panels" not in built.source.text


def test_only_relaxed_reductions_run_along_lanes():
    """A sum in any order may; what the program orders may not."""
    case = CASES["dot"]
    p = specialise(case.program, case.sizes)
    assert p.statements[0].strict
    assert violation(p, _summed({0: Run.LANES})) is not None
    relaxed = reduced(WHOLE, 1, 9)
    assert violation(relaxed, _summed({1: Run.LANES}, ("i", "k"))) is None
    assert violation(relaxed, _summed({1: Run.VECTOR}, ("i", "k"))) is not None


def _summed(runs: dict[int, Run], dims: tuple[str, ...] = ("i",)):  # type: ignore[no-untyped-def]
    return sequence((("S0i",), LEAF), (("S0",), band(("S0",), dims, runs=runs)))
