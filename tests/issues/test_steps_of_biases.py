# SPDX-License-Identifier: MIT
"""A long sum to one vector, and what is computed from it: the sum is done in portions within no other loop, of which
isl takes the first and the last out, so that no epilogue finds the sums in registers (an IndexError while emitting).
"""

from __future__ import annotations

import numpy as np

from frontend.options import Options
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


def test_a_bias_moves_against_its_derivative():
    p = parse(STEP)
    inputs = inputs_for(p, {}, 2, "real")
    got = run_c(p, inputs, {}, Options(threads=2, plan_above=1))
    np.testing.assert_allclose(got["out"], run(p, inputs)["out"], rtol=1e-5, atol=1e-5)
