# SPDX-License-Identifier: MIT
"""Closed, in `codegen.registers`: the ninth operand of a lane function had the name of its loop over the lanes."""

from __future__ import annotations

import numpy as np

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c


def test_nine_operands_and_a_loop_over_lanes():
    terms = " + ".join(f"X(k={n})" for n in range(8))
    p = parse(f"""
    program nine
      input X: f32[k: 8, i: 40]
      input Y: f32[i: 40, j: 6]
      output out: f32[i: 40]
      S0: for i < 40: out = max[j < 6] where(Y > 0.5, {terms}, -2.0)
    """)
    rng = np.random.default_rng(1)
    inputs = {"X": rng.random((8, 40)).astype(np.float32), "Y": rng.random((40, 6)).astype(np.float32)}
    got = run_c(p, inputs, {}, Options(threads=1, plan_above=1))
    np.testing.assert_allclose(got["out"], run(p, inputs)["out"], rtol=1e-6)
