# SPDX-License-Identifier: MIT
"""A reduction in memory that starts anew at each step: every initialisation had to precede the updates of all steps,
those before it among them, so that isl found no schedule.
"""

from __future__ import annotations

from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze
from polyhedral.sets.isl_schedule import isl_schedule
from polyhedral.text.reader import parse

TEXT = """
program restarted
  inout A: i32[i: 5]
  input X: i32[k: 3]
  S0: for t < 2, i < 3 at (0, t, 0):  A(i=i + t) = sum[k < 3] X * i32(t)
"""


def test_isl_finds_a_schedule():
    p = parse(TEXT)
    a = analyze(p)
    deps = a.dependences
    tree = isl_schedule(a.frame, a.frame.families, deps.validity, deps.coincidence, deps.proximity)
    assert tree is not None
    assert violation(p, tree) is None
