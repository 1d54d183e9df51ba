# SPDX-License-Identifier: MIT
"""Closed, in `codegen.vectors`: lanes of signed integers were added as signed, and gcc 12 took `INT_MIN > 0 - x` for
true, since it may assume that nothing overflows.
"""

from __future__ import annotations

import numpy as np

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c


def test_a_maximum_of_negated_integers():
    p = parse("""
    program negated
      input X: i32[k: 40]
      output out: i32[k: 40]
      S: for k < 40: out = max[i < 1] 0 - X
    """)
    X = np.random.default_rng(0).integers(-9, 9, 40).astype(np.int32)
    got = run_c(p, {"X": X}, {}, Options(threads=1, plan_above=1))
    np.testing.assert_array_equal(got["out"], run(p, {"X": X})["out"])
