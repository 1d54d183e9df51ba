# SPDX-License-Identifier: MIT
"""A long sum to few results, and what is computed from them: the sum is done in portions with no tile loop within, of
which isl takes the first and the last out, so that no epilogue finds the sums in registers (an IndexError while
emitting).
"""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c
from tests.strategies import inputs_for

STEP = """
program step
  input X: f32[n: 8, y: 14, x: 14, i: 32]
  input b: f32[i: 32]
  temporary d: f32[i: 32]
  output out: f32[i: 32]
  d: for i < 32: d = sum[n < 8, y < 14, x < 14] X
  out: for i < 32: out = b - 0.01 * d
"""
TAPS = """
program taps
  input D: f32[n: 8, y: 14, x: 14, a: 32]
  input X: f32[n: 8, y: 31, x: 31]
  input K: f32[ky: 5, kx: 5, a: 32]
  temporary d: f32[ky: 5, kx: 5, a: 32]
  output out: f32[ky: 5, kx: 5, a: 32]
  d: for ky < 5, kx < 5, a < 32: d = sum[n < 8, y < 14, x < 14] D * X(y=2*y + ky, x=2*x + kx)
  out: for ky < 5, kx < 5, a < 32: out = K - 0.01 * d
"""


@pytest.mark.parametrize("text", [STEP, TAPS])
def test_weights_move_against_their_derivative(text: str):
    p = parse(text)
    inputs = inputs_for(p, {}, 2, "real")
    got = run_c(p, inputs, {}, Options(threads=2, plan_above=1))
    np.testing.assert_allclose(got["out"], run(p, inputs)["out"], rtol=1e-5, atol=1e-5)
