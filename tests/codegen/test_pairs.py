# SPDX-License-Identifier: MIT
"""Maxima and minima of register tiles, two steps at once: what the interpreter says, for odd lengths and for NaN."""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

PLANS = Options(threads=1, plan_above=1)


def product(op: str = "max", t: str = "f32", k: int = 40, value: str = "A + B", n: int = 11, m: int = 37) -> Program:
    return parse(f"""
program tropical
  input A: {t}[i: {n}, k: {k}]
  input B: {t}[k: {k}, j: {m}]
  output out: {t}[i: {n}, j: {m}]
  S0: for i < {n}, j < {m}:  out = {op}[k < {k}] {value}
""")


def text(p: Program) -> str:
    return driver.lower(p, {a.name: row_major(a) for a in p.arrays}, PLANS).source.text


PAIRED = {
    **{f"{op} of {t}, {k} steps": product(op, t, k) for op in ("max", "min") for t in ("f32", "f64") for k in (40, 41)},
    "product": product(value="A * B", k=9),
    "least within": product("min", value="max(A, B) - A", k=5),
    "elementary": product(value="exp(A) * B", k=8),
}


@pytest.mark.parametrize("name", PAIRED)
def test_compiled_is_interpreted(name: str):
    p = PAIRED[name]
    assert "out_steps" in text(p)
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, PLANS), run(p, inputs), inputs)


@pytest.mark.parametrize("p", [product("sum"), product(t="i32"), product(k=3)], ids=["sum", "integers", "short"])
def test_where_it_does_not_pay(p: Program):
    assert "out_steps" not in text(p)
    inputs = inputs_for(p, {}, values="whole")
    agree(p, run_c(p, inputs, {}, PLANS), run(p, inputs), inputs)


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("t", ["f32", "f64"])
@pytest.mark.parametrize("at", [0, 1, 2, 7, 39, 40])
def test_nan_is_passed_on(op: str, t: str, at: int):
    p = product(op, t, 41)
    inputs = inputs_for(p, {}, values="real")
    inputs["A"][3, at] = np.nan
    inputs["B"][at, 20] = -np.nan
    got = run_c(p, inputs, {}, PLANS)["out"]
    want = np.zeros((11, 37), bool)
    want[3], want[:, 20] = True, True
    np.testing.assert_array_equal(np.isnan(got), want)
    np.testing.assert_array_equal(got[~want], run(p, inputs)["out"][~want])


def test_opposite_infinities_make_a_nan():
    p = product(k=6)
    inputs = {"A": np.full((11, 6), -np.inf, np.float32), "B": np.zeros((6, 37), np.float32)}
    inputs["B"][3, 5] = np.inf
    got = run_c(p, inputs, {}, PLANS)["out"]
    assert np.isnan(got[:, 5]).all()
    assert np.isneginf(np.delete(got, 5, axis=1)).all()
