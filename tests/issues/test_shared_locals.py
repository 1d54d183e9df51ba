# SPDX-License-Identifier: MIT
"""Open, in `codegen.c`: a value in three equal but distinct nodes of a statement is declared twice."""

from __future__ import annotations

import numpy as np

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c


def test_it_compiles():
    p = parse("""
    program shared
      input X: i32[a: 2]
      output Y: i32[i: 1]
      S0: for i < 1: Y = (X(a=i) + X(a=i)) * (X(a=0) - X(a=0))
    """)
    inputs = {"X": np.array([3, 4], np.int32)}
    want = run(p, inputs)
    got = run_c(p, inputs, {}, Options(threads=1))
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
