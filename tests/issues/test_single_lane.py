# SPDX-License-Identifier: MIT
"""Open, in `codegen.registers`: a register tile whose vector dim has one point loses its loop."""

from __future__ import annotations

import numpy as np

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c


def test_it_compiles():
    p = parse("""
    program lane
      input X: f64[]
      output Y: f64[i: 1]
      S0: for i < 1: Y = max[k < 1] X
    """)
    inputs = {"X": np.array(2.0)}
    want = run(p, inputs)
    got = run_c(p, inputs, {}, Options(threads=1, plan_above=1))
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
