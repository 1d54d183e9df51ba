# SPDX-License-Identifier: MIT
"""Epilogues of what is left over: a reduction in portions that has no tile loop within them was taken apart.

Leftovers of one tile, and nests that share the tile loops, left portions innermost.  isl then gave the first of them,
which begins, and the last, which has the epilogue, loops of their own, with registers of their own (IndexError).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.plans import candidates, chooser, epilogue
from polyhedral.plans.candidates import Choice
from polyhedral.plans.register_plan import Loop
from polyhedral.text.reader import parse
from tests.running import run_c
from tests.strategies import inputs_for

LEFTOVER = """
program leftover
  input A: f64[y: 3, l: 300]
  input B: f64[l: 300, z: 130]
  temporary T: f64[y: 3, z: 130]
  output E: f64[y: 3, z: 130]
  R: for y < 3, z < 130: T = sum[l < 300] A * B
  E: for y < 3, z < 130: E = max(T, 0.0)
"""
SHARED = """
program shared
  input A: i64[y: 5, l: 300]
  input B: i64[y: 5]
  output T: i64[z: 130, y: 5]
  temporary U: i64[z: 130, y: 5]
  output E: i64[y: 5, z: 130]
  output V: i64[z: 130, y: 5]
  R: for z < 130, y < 5: T = max[l < 300] A + B
  U: for z < 130, y < 5: U = T(z=-z + 129, y=y) * 2
  V: for z < 130, y < 5: V = U + 1
  E: for y < 5, z < 130: E = min(T, 3)
"""
PORTIONS = {
    LEFTOVER: (Loop("y", 1), Loop("l", 128), Loop("z", 24)),
    SHARED: (Loop("z", 48), Loop("l", 128), Loop("y", 1), Loop("z", 24)),
}


@pytest.mark.parametrize("text", PORTIONS, ids=["leftover", "shared"])
@pytest.mark.parametrize("threads", [1, 2])
def test_epilogues_have_the_registers_of_their_reduction(text: str, threads: int, monkeypatch: pytest.MonkeyPatch):
    def portions(*given: object) -> Choice:
        found = candidates.choices(*given)[0]  # type: ignore[arg-type]
        plan = replace(found.plan, vector="z", width=24, rows=(), order=("l",), loops=PORTIONS[text], written=())
        return replace(found, plan=plan)

    monkeypatch.setattr(chooser, "best", portions)
    monkeypatch.setattr(epilogue._Lanes, "pays", lambda *_: True)
    p = parse(text)
    inputs = inputs_for(p, {}, 1, "whole")
    got = run_c(p, inputs, {}, Options(threads=threads, plan_above=1))
    for name, want in run(p, inputs).items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)
