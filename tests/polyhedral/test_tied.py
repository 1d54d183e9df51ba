# SPDX-License-Identifier: MIT
"""Reductions over part of a box, as the inverse of a strided window: tiles go along the dims that no guard ties."""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.operands import tied, typical
from polyhedral.ir.program import Program, Role
from polyhedral.text.reader import parse
from tests.running import agree, run_c

EVERY = Options(threads=2, plan_above=1)

TRANSPOSED = """
program transposed
  input Y: {t}[n: 3, y: 5, o: 9]
  input W: {t}[k: {k}, o: 9, c: 21]
  output X: {t}[n: 3, z: {z}, c: 21]
  X: for n < 3, z < {z}, c < 21: X = {op}[y < 5, k < {k}, o < 9 if {guard}] {value}
"""
WINDOWS = (
    "z == 2*y + k",
    "z == 2*y + k and y <= 3",
    "z == y + k",
    "z == 3*y + k",
    "z - k == 2*((z - k)//2) and y == (z - k)//2",
)


def program(guard: str, op: str = "sum", value: str = "Y * W", t: str = "f32") -> Program:
    k = 3
    z = 4 * (3 if "3*" in guard else 1 if "== y" in guard else 2) + k
    return parse(TRANSPOSED.format(guard=guard, op=op, value=value, k=k, z=z, t=t))


def inputs_of(p: Program) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(p.name))
    return {
        a.name: (10 * rng.standard_normal([e.const for _, e in a.dims])).astype(a.dtype.numpy) for a in p.arrays[:2]
    }


@pytest.mark.parametrize("guard", WINDOWS)
@pytest.mark.parametrize(("op", "value", "t"), [("sum", "Y * W", "f32"), ("max", "Y + W", "i32"), ("min", "Y", "f64")])
def test_inverse_windows(guard: str, op: str, value: str, t: str):
    p = program(guard, op, value, t)
    inputs = inputs_of(p)
    agree(p, run_c(p, inputs, {}, EVERY), run(p, inputs), inputs)


def test_tiles_go_along_free_dims():
    p = program(WINDOWS[0], "max", "Y + W")
    s = p.statements[0]
    assert tied(s) == {"z", "y", "k"}
    assert typical(s)["y"] * typical(s)["k"] <= 4
    low = driver.lower(p, {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}, EVERY)
    plan = low.choices["X"].plan
    assert {plan.vector, *(d for d, _ in plan.rows)} <= {"n", "c"}
    assert "k += 2" in low.source.text


def test_along_the_lanes():
    """The only dim that lies side by side is reduced: partial results, whatever the others are tied by."""
    p = parse("""
    program summed
      input L: f32[y: 5, k: 3, o: 40]
      output Z: f32[z: 11]
      Z: for z < 11: Z = max[y < 5, k < 3, o < 40 if z == 2*y + k] L
    """)
    low = driver.lower(p, {a.name: row_major(a) for a in p.arrays}, EVERY)
    assert "max_of_" in low.source.text
    inputs = {"L": np.random.default_rng(0).standard_normal((5, 3, 40)).astype(np.float32)}
    agree(p, run_c(p, inputs, {}, EVERY), run(p, inputs), inputs)


def test_all_dims_tied():
    """No dim is free: the plain nest, and a remark that says so."""
    p = parse("""
    program tied
      input A: f32[i: 30, j: 30]
      output B: f32[i: 30]
      B: for i < 30: B = sum[j < 30 if i == j + 2*((i - j)//2)] A
    """)
    low = driver.lower(p, {a.name: row_major(a) for a in p.arrays}, EVERY)
    assert any("ties all its dims" in str(r) for r in low.scheduled.schedule.remarks)
