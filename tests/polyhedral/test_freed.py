# SPDX-License-Identifier: MIT
"""Copies of small operands, whose layout is free: the same values, and only where lanes want another order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import polyhedral as ph
from polyhedral.checks.check import check
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program
from polyhedral.rewrites import freed as module
from polyhedral.rewrites.freed import freed, settled
from tests.running import agree
from tests.strategies import inputs_for, programs

TAKEN = """
program taken
  input G: f32[n: 2048, q: 4, o: 48]
  input W: f32[o: 48, q: 4]
  output D: f32[n: 2048, q: 4, o: 48]
  D: for n < 2048, q < 4, o < 48: D = G * W + G * G
"""


@given(programs())
def test_random_programs_compute_the_same(p: Program):
    old, module.REUSED = module.REUSED, 0.01
    try:
        q, copies = freed(p, {a.name for a in p.arrays}, 0)
    finally:
        module.REUSED = old
    check(q)
    back, said = settled(q, copies, {n: row_major(q.array(n)) for n in {*copies, *copies.values()}})
    assert (back.arrays, back.statements, said) == (p.arrays, p.statements, ())
    inputs = inputs_for(p, {})
    agree(p, run(q, inputs, {}), run(p, inputs, {}), inputs)
    assert all(q.array(n).dims == p.array(of).dims for n, of in copies.items())


def test_lanes_decide(monkeypatch: pytest.MonkeyPatch):
    """`o` is long and innermost in all but W, which is copied; where W lies so too, it is read where it is."""
    monkeypatch.setattr("polyhedral.rewrites.freed.REUSED", 16.0)
    rng = np.random.default_rng(0)
    p = ph.parse(TAKEN)
    low = ph.lower(p)
    assert [r.statement for r in low.remarks if "a copy of W" in r.what] == ["W_free"]
    G, W = rng.random((2048, 4, 48), np.float32), rng.random((48, 4), np.float32)
    np.testing.assert_allclose(np.asarray(low.compile()(G=G, W=W).order("n q o")), G * W.T + G * G, rtol=1e-5)
    turned = ph.lower(ph.parse(TAKEN.replace("W: f32[o: 48, q: 4]", "W: f32[q: 4, o: 48]")))
    assert not any("a copy of" in r.what for r in turned.remarks)
