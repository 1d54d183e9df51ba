# SPDX-License-Identifier: MIT
"""The exponential function as it is written out: near the true value everywhere, and one function in every lane."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role
from polyhedral.machine import target
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


@pytest.mark.parametrize("m", [1, 15, 16, 17, 31, 48, 50, 64, 115])
def test_a_value_does_not_depend_on_its_lane(m: int):
    """Whole vectors and the elements after them, wherever rows begin."""
    row = every(1, max(m, 50))[:, :m]
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


def text_for(p: Program, vector: int) -> str:
    """C for a machine with vectors of so many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        found = replace(target.host(1), vector=vector)
        patch.setattr(session, "_target", lambda root, cores: found)
        given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
        return driver.lower(p, given, Options(threads=1)).source.text


@pytest.mark.parametrize(("m", "many", "one", "rest"), [(96, 4, 0, 0), (100, 4, 0, 1), (44, 4, 1, 1), (24, 2, 1, 0)])
def test_several_vectors_are_made_at_once(m: int, many: int, one: int, rest: int):
    """Loops that a row's length does not ask for are not there."""
    text = text_for(grown(40, m, "1.0 / (1.0 + exp(s - exp(X)))"), 32)
    assert re.findall(r"(\w+)\(e\d\);", text) == [f"exp{many}_f32x8"] * 2
    assert len(re.findall(r"= out_value\w*\(", text)) == one
    assert len(re.findall(r"^ +out\[.*exp_f32", text, re.M)) == rest


@pytest.mark.parametrize("vector", [16, 64])
def test_other_vectors_are_made_one_by_one(vector: int):
    text = text_for(grown(40, 96), vector)
    assert "= out_value(" in text
    assert "out_values(" not in text
