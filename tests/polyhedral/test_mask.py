# SPDX-License-Identifier: MIT
"""Reductions over triangles, bands and other parts of a box get register tiles, and mean what they meant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Role
from polyhedral.rewrites.mask import mask
from polyhedral.text.reader import parse
from tests.running import agree, run_c

EVERY = Options(threads=2, plan_above=1)


def triangle(guard: str, op: str = "sum", value: str = "P * V", n: int = 37, dtype: str = "f32") -> str:
    return f"""
    program triangle
      input P: {dtype}[s: {n}, t: {n}]
      input V: {dtype}[t: {n}, d: 20]
      output out: {dtype}[s: {n}, d: 20]
      out: for s < {n}, d < 20: out = {op}[t < {n} if {guard}] {value}
    """


def planned(text: str) -> bool:
    p = parse(text)
    layouts = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    return bool(driver.lower(p, layouts, EVERY).choices)


GUARDS = (
    "t <= s",
    "s <= t",
    "t <= s and s <= t + 5",
    "t + 20 <= s",
    "s + t <= 40",
    "2*t <= s + 3",
    "t <= s and t + 2*d <= 30",
    "d <= t",
)


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize(("op", "value"), [("sum", "P * V"), ("max", "P + V"), ("min", "exp(P) - V")])
def test_guarded_reductions(guard: str, op: str, value: str):
    text = triangle(guard, op, value)
    assert planned(text)
    p, rng = parse(text), np.random.default_rng(len(guard))
    inputs = {a.name: rng.standard_normal([e.const for _, e in a.dims]).astype(np.float32) for a in p.arrays[:2]}
    agree(p, run_c(p, inputs, {}, EVERY), run(p, inputs), inputs)


@pytest.mark.parametrize("guard", ["t <= s", "s <= t", "t <= s and s <= t + 5"])
def test_what_lies_outside_does_not_count(guard: str):
    """Not even NaN and infinity."""
    p = parse(triangle(guard))
    rng = np.random.default_rng(0)
    P, V = rng.standard_normal((37, 37)).astype(np.float32), rng.standard_normal((37, 20)).astype(np.float32)
    s, t = np.indices(P.shape)
    inside = {"t <= s": t <= s, "s <= t": s <= t}.get(guard, (t <= s) & (s <= t + 5))
    clean = run_c(p, {"P": P, "V": V}, {}, EVERY)["out"]
    P[~inside] = np.where((s + t)[~inside] % 2, np.nan, np.inf)
    np.testing.assert_array_equal(run_c(p, {"P": P, "V": V}, {}, EVERY)["out"], clean)


def test_rows_without_points_are_the_identity():
    p = parse(triangle("t + 30 <= s", "max", "P + V"))
    inputs = {"P": np.ones((37, 37), np.float32), "V": np.ones((37, 20), np.float32)}
    out = run_c(p, inputs, {}, EVERY)["out"]
    assert (out[:30] == -np.inf).all()
    assert (out[30:] == 2).all()


def test_integers_and_doubles():
    for dtype, kind in (("i32", np.int32), ("f64", np.float64)):
        p, rng = parse(triangle("t <= s", dtype=dtype)), np.random.default_rng(2)
        inputs = {"P": rng.integers(-9, 9, (37, 37)).astype(kind), "V": rng.integers(-9, 9, (37, 20)).astype(kind)}
        np.testing.assert_array_equal(run_c(p, inputs, {}, EVERY)["out"], run(p, inputs)["out"])


CHAIN = """
program chain
  input Q: f32[s: 45, d: 8]
  input K: f32[t: 45, d: 8]
  temporary S: f32[s: 45, t: 45]
  output out: f32[s: 45]
  S: for s < 45, t < 45 if t <= s: S = sum[d < 8] Q * K
  out: for s < 45 at (1): out = max[t < 45 if t <= s] S
"""


def test_rows_outside_may_be_written_where_nobody_reads_them():
    p, rng = parse(CHAIN), np.random.default_rng(4)
    inputs = {n: rng.standard_normal((45, 8)).astype(np.float32) for n in "QK"}
    assert mask(p, p.statements[0]) is not None
    agree(p, run_c(p, inputs, {}, EVERY), run(p, inputs), inputs)


def test_rows_of_a_result_may_not():
    """Another statement defines the rest."""
    p = parse("""
    program parts
      input X: f32[s: 45, t: 45, d: 8]
      output S: f32[s: 45, t: 45]
      S0: for s < 45, t < 45 if t <= s: S = sum[d < 8] X
      S1: for s < 45, t < 45 if t > s at (1): S = 1.0
    """)
    assert mask(p, p.statements[0]) is None
    X = np.random.default_rng(3).standard_normal((45, 45, 8)).astype(np.float32)
    agree(p, run_c(p, {"X": X}, {}, EVERY), run(p, {"X": X}), {"X": X})


def test_what_would_be_read_out_of_bounds_keeps_its_guard():
    p = parse("""
    program near
      input X: f32[i: 40]
      output out: f32[s: 40]
      out: for s < 40: out = sum[t < 40 if t <= s] X(i=s - t)
    """)
    assert mask(p, p.statements[0]) is None


@seed(11)
@settings(max_examples=40, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(st.integers(-2, 2), st.sampled_from([-2, -1, 1, 2]), st.integers(-1, 1), st.integers(-9, 40)),
        min_size=1,
        max_size=2,
    ),
    st.sampled_from(["sum", "max"]),
    st.integers(9, 41),
)
def test_random_guards(parts: list[tuple[int, int, int, int]], op: str, n: int):
    guard = " and ".join(f"{a}*s + {b}*t + {c}*d + {k} >= 0" for a, b, c, k in parts)
    p = parse(triangle(guard.replace("+ -", "- "), op, "P * V", n))
    rng = np.random.default_rng(n)
    inputs = {a.name: rng.standard_normal([e.const for _, e in a.dims]).astype(np.float32) for a in p.arrays[:2]}
    agree(p, run_c(p, inputs, {}, EVERY), run(p, inputs), inputs)
