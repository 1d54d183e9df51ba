# SPDX-License-Identifier: MIT
"""The exponential function as it is written out: near the true value everywhere, and one function in every lane."""

from __future__ import annotations

import numpy as np
import pytest

from frontend.options import Options
from polyhedral.ir.program import Program
from polyhedral.text.reader import parse
from tests.running import run_c

VALUE = """
program grown
  input X: f32[i: {n}, j: {m}]
  input s: f32[i: {n}]
  output out: f32[i: {n}, j: {m}]
  S0: for i < {n}, j < {m}:  out = {value}
"""
EDGES = (
    *(0.0, -0.0, 1.0, -1.0, 88.72, 88.73, 88.9, 89.0, 128.0, 3e38, -87.33, -87.4, -103.9, -103.98, -104.0, -105.0),
    *(-3e38, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 5e-8, -5e-8),
)


def grown(n: int, m: int, value: str = "exp(X)") -> Program:
    return parse(VALUE.format(n=n, m=m, value=value))


def every(n: int, m: int) -> np.ndarray:
    """Floats from all over the line where the result is neither 0 nor infinite, the edges first."""
    x = np.linspace(-104.5, 89.5, n * m).astype(np.float32)
    x[: len(EDGES)] = EDGES
    return x.reshape(n, m)


def run_one(p: Program, **inputs: np.ndarray) -> np.ndarray:
    given = {"s": np.zeros(p.array("s").extent("i").const, np.float32), **inputs}
    return run_c(p, given, {}, Options(threads=2))["out"]


@pytest.mark.parametrize(("n", "m"), [(300, 333), (1, 99_999)])
def test_it_is_within_two_units_in_the_last_place(n: int, m: int):
    x = every(n, m)
    with np.errstate(over="ignore", under="ignore"):
        want = np.exp(x.astype(np.float64))
        near = np.abs(want).astype(np.float32)
    got = run_one(grown(n, m), X=x)
    finite = np.isfinite(near)
    assert np.array_equal(got[~finite], near[~finite], equal_nan=True)
    unit = np.spacing(np.maximum(near[finite], np.float32(1e-45))).astype(np.float64)
    assert np.max(np.abs(got[finite] - want[finite]) / unit) < 1.5
    assert np.all(got[near == 0] == 0)


@pytest.mark.parametrize("m", [1, 15, 16, 17, 31, 48, 50])
def test_a_value_does_not_depend_on_its_lane(m: int):
    """Whole vectors and the elements after them, wherever rows begin."""
    row = every(1, 50)[:, :m]
    x = np.repeat(row, 40, axis=0)
    got = run_one(grown(40, m, "exp(X) / (exp(-X) + s)"), X=x)
    assert np.array_equal(got, np.repeat(got[:1], 40, axis=0), equal_nan=True)
    rotated = run_one(grown(40, m, "exp(X) / (exp(-X) + s)"), X=np.ascontiguousarray(x[:, ::-1]))
    assert np.array_equal(got, rotated[:, ::-1], equal_nan=True)


def test_sums_of_it_and_maps_of_it_agree():
    """A register tile, a loop along the lanes and a plain loop compute one function."""
    x = np.random.default_rng(0).uniform(-30, 10, (300, 200)).astype(np.float32)
    total = parse("""
program total
  input X: f32[i: 300, j: 200]
  output out: f32[i: 300]
  S0: for i < 300:  out = sum[j < 200] exp(X)
""")
    want = run_one(grown(300, 200), X=x).sum(1, dtype=np.float64)
    np.testing.assert_allclose(run_c(total, {"X": x}, {}, Options(threads=2))["out"], want, rtol=1e-5)
