# SPDX-License-Identifier: MIT
"""A brace was moved to the end of the line before it, even where that is a pragma: `#pragma omp single {`."""

from __future__ import annotations

import numpy as np

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c


def test_it_compiles():
    p = parse("""
    program pragma
      input X: f32[]
      output Y: f32[]
      output Z: f32[i: 30000]
      S0: Y = X * X
      S1: for i < 30000: Z = 1.0
    """)
    inputs = {"X": np.array(2, np.float32)}
    want = run(p, inputs)
    got = run_c(p, inputs, {}, Options(threads=2))
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
