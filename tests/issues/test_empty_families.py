# SPDX-License-Identifier: MIT
"""isl's schedules leave out families without instances; reading one back lost them (KeyError in the oracle)."""

from __future__ import annotations

import numpy as np

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze
from polyhedral.sets.isl_schedule import frame, isl_schedule
from polyhedral.text.reader import parse
from tests.running import run_c

TEXT = """
program empty
  input X: i32[a: 3]
  temporary Y: i32[i: 2]
  output Z: i32[i: 3]
  S0: for i < 2:  Y = sum[k < 0] X(a=i + k)
  S1: for i < 3:  Z = where([1 <= i], Z(i=i - 1) + Y(i=i - 1), X(a=i))
"""


def test_they_keep_a_place_in_the_tree():
    p = parse(TEXT)
    fr, deps = frame(p), analyze(p).dependences
    tree = isl_schedule(fr, fr.families, deps.validity, deps.coincidence, deps.proximity)
    assert tree is not None
    assert violation(p, tree) is None
    X = np.array([5, 1, 2], np.int32)
    np.testing.assert_array_equal(run_c(p, {"X": X}, {}, Options(threads=1))["Z"], run(p, {"X": X})["Z"])
