# SPDX-License-Identifier: MIT
"""A budget that ran out while a schedule was read back gave a TypeError: islpy then returns None for numbers."""

from __future__ import annotations

from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze
from polyhedral.sets.isl_schedule import isl_schedule
from polyhedral.text.reader import parse


def test_any_budget_gives_a_schedule_or_none():
    p = parse("""
    program p
      output Z: i32[i: 9, j: 9]
      output W: i32[i: 9]
      S0: for i < 9, j < 9:  Z = where([1 <= i and 1 <= j], Z(i=i - 1, j=j - 1), 1)
      S1: for i < 9:  W = Z(j=8 - i) + where([1 <= i], W(i=i - 1), 0)
    """)
    a = analyze(p)
    deps = a.dependences
    found = []
    for operations in range(200, 40_000, 331):
        tree = isl_schedule(a.frame, a.frame.families, deps.validity, deps.coincidence, None, operations=operations)
        found.append(tree is not None)
        assert tree is None or violation(p, tree) is None
    assert not found[0]
    assert found[-1]
