# SPDX-License-Identifier: MIT
"""Dependences against enumeration: exactly the pairs of instances that meet in a cell and must keep an order."""

from __future__ import annotations

import islpy as isl
import pytest
from hypothesis import HealthCheck, given, settings

from polyhedral.ir.program import Program, specialise
from polyhedral.sets.dependences import Why, analyse
from polyhedral.sets.isl_schedule import frame
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from tests.programs import CASES
from tests.properties.enumerated import Pair, ordered_pairs
from tests.strategies import programs


def found_pairs(p: Program) -> dict[str, set[Pair]]:
    """The pairs of `analyse`, by whether they are relaxed; without instances paired with themselves."""
    found: dict[str, set[Pair]] = {"ordered": set(), "relaxed": set()}
    for d in analyse(frame(p)).all:
        points: list[isl.Point] = []
        d.relation.wrap().foreach_point(points.append)
        n = len(d.source.dims)
        for point in points:
            at = [point.get_coordinate_val(isl.dim_type.set, i).to_python() for i in range(n + len(d.sink.dims))]
            pair = (d.source.id, tuple(at[:n])), (d.sink.id, tuple(at[n:]))
            if pair[0] != pair[1]:
                found["relaxed" if d.why is Why.RELAXED else "ordered"].add(pair)
    return found


def agree(p: Program, sizes: dict[str, int]) -> None:
    want, got = ordered_pairs(p, sizes), found_pairs(p)
    for why in ("ordered", "relaxed"):
        assert got[why] == {(a, b) for a, b in want[why] if a != b}, f"{why} pairs of {to_text(p)}"


@given(programs())
@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_random_programs(p: Program):
    agree(p, {})


@pytest.mark.parametrize("name", CASES)
def test_zoo(name: str):
    case = CASES[name]
    agree(specialise(case.program, case.sizes), dict(case.sizes))


HARD = {
    "a reduction in memory, restarted at each step over the cells of the last": """
program p
  inout A: i32[i: 5]
  input X: i32[k: 3]
  S0: for t < 2, i < 3 at (0, t, 0):  A(i=i + t) = sum[k < 3] X
  S1: for t < 2, i < 3 at (0, t, 1):  A(i=i + 2*t) = A(i=i) + 1
""",
    "one position for two statements": """
program p
  inout A: i32[i: 3]
  S0: for i < 3 at (0):  A = 1
  S1: for i < 3 at (0):  A = A * 5
""",
    "a position that others continue": """
program p
  inout A: i32[i: 3]
  S1: for t < 2, i < 3 at (0, t, 0):  A = A * 5
  S0: for i < 3 at (0):  A = 1
""",
    "an equation that reads memory between updates": """
program p
  inout A: i32[i: 4]
  output T: i32[t: 3]
  S0: for t < 3 at (0, t, 0):  T = A(i=t)
  S1: for t < 3 at (0, t, 1):  A(i=t + 1) = A(i=0) + T
""",
    "a gather may read any cell": """
program p
  inout A: i32[i: 4]
  input K: i32[i: 4]
  S0: for i < 4 at (0, i, 0):  A = A(i := max(0, min(K, 3)))
""",
    "branches read where they are taken": """
program p
  output Z: i32[i: 6]
  S0: for i < 6:  Z = where([2 <= i] and not [i == 4], Z(i=i - 2), 1)
""",
    "a strict reduction in memory, whose rows share cells": """
program p
  inout A: f32[i: 3]
  input X: f32[k: 3, i: 4]
  S0: for k < 2, t < 2, i < 4 at (0, t, 0) strict accumulate:  A(i=i//2) = sum[] X(k=k + t)
""",
    "a strict reduction over two dims": """
program p
  input X: f32[k: 3, l: 2]
  output Y: f32[i: 2]
  S0: for i < 2 strict:  Y = sum[k < 3, l < 2] X
""",
}


@pytest.mark.parametrize("what", HARD)
def test_hard_cases(what: str):
    agree(parse(HARD[what]), {})


def test_shown_with_distances():
    p = specialise(CASES["scan2d"].program, CASES["scan2d"].sizes)
    shown = [str(d) for d in analyse(frame(p)).all]
    assert shown == [
        "flow S0 -> S0 through out (i: 1, j: 0)",
        "flow S0 -> S0 through out (i: 0, j: 1)",
    ]


def test_each_class_occurs_somewhere():
    every = {d.why for c in CASES.values() for d in analyse(frame(c.program)).all}
    every |= {d.why for text in HARD.values() for d in analyse(frame(parse(text))).all}
    assert every == set(Why)
