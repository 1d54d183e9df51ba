# SPDX-License-Identifier: MIT
"""A guard on sizes around several statements flattens isl's blocks: a register tile fell apart into two regions, the
initialisation in one and the updates in the other.
"""

from __future__ import annotations

import numpy as np

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c


def test_a_register_tile_stays_together():
    p = parse("""
    program flattened
      sizes n
      input X: u32[]
      temporary Y: u32[i: 5]
      temporary Z: u32[]
      output W: u32[i: n, j: n]
      S0: for i < 5:  Y = sum[k < 2, l < 2] X
      S1:  Z = X
      S2: for i < n, j < n:  W = X
    """)
    X = np.array(3, np.uint32)
    got = run_c(p, {"X": X}, {"n": 3}, Options(threads=1, plan_above=1), symbolic=True)
    for name, want in run(p, {"X": X}, {"n": 3}).items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)
