# SPDX-License-Identifier: MIT
"""Closed, in `polyhedral.whole.fusion`: isl moves what runs in the last block only behind the shared loop, and it then
read memory that another iteration had for itself.
"""

from __future__ import annotations

import numpy as np
import pytest

from codegen.lower import TakenApartError, lower
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir import affine as aff
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.tree import Band, Filter, Fold, Leaf, Local, Member, Run, local_arrays
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.machine.target import Target
from polyhedral.sets.isl_schedule import frame
from polyhedral.text.reader import parse
from polyhedral.whole.fusion import nests
from tests.running import run_c

TEXT = """
program tail
  input X: f32[c: 18, y: 900]
  temporary T: f32[c: 18, y: 900]
  output out: f32[c: 18]
  T: for c < 18, y < 900: T = exp(X)
  S0: for c < 16 at (1): out = sum[y < 900] T
  S1: for 16 <= c < 18 at (2): out = sum[y < 900] T
"""


def test_what_runs_in_one_block_shares_no_memory():
    p = parse(TEXT)
    layouts = {a.name: row_major(a) for a in p.arrays}
    edges = [("T", "S0"), ("T", "S1")]
    made = nests(p, [("T",), ("S0",), ("S1",)], edges, layouts, {}, Target(l1=1 << 15, l2=1 << 20))
    assert not any("S1" in {s for c in n.clusters for s in c} and n.local for n in made)
    X = np.random.default_rng(0).standard_normal((18, 900)).astype(np.float32)
    for threads in (1, 2):
        got = run_c(p, {"X": X}, {}, Options(threads=threads, plan_above=1))
        np.testing.assert_allclose(got["out"], run(p, {"X": X})["out"], rtol=1e-5)


def test_what_isl_takes_apart_runs_without(monkeypatch: pytest.MonkeyPatch):
    """Where nothing foresees it, the kernel is made again, and a remark says so."""
    monkeypatch.setattr("polyhedral.whole.fusion._in_step", lambda q, loop: True)
    monkeypatch.setattr("polyhedral.whole.fusion._again", lambda *given: -1.0)
    p = parse(TEXT)
    layouts = {a.name: row_major(a) for a in p.arrays if a.name != "T"}
    built = driver.lower(p, layouts, Options(threads=1, plan_above=1 << 40))
    assert any("apart" in r.because for r in built.scheduled.schedule.remarks)
    assert not local_arrays(built.scheduled.schedule.tree)
    X = np.random.default_rng(0).standard_normal((18, 900)).astype(np.float32)
    got = run_c(p, {"X": X}, {}, Options(threads=1, plan_above=1 << 40))
    np.testing.assert_allclose(got["out"], run(p, {"X": X})["out"], rtol=1e-5)


def test_memory_taken_apart_is_noticed():
    p = parse(TEXT)
    fr = frame(p)
    every = [f.id for f in fr.families]
    block = Member("c_block", tuple((f, aff.var("c") // 8) for f in every), True, Run.PARALLEL)
    rest = {f.id: tuple(d for d in f.dims) for f in fr.families}
    parts = tuple(Filter((f,), Band(tuple(Member(d, ((f, aff.var(d)),)) for d in rest[f]), Leaf())) for f in every)
    tree = Band((block,), Local("T", (Fold("c", 8, 1),), InOrder(parts)))
    with pytest.raises(TakenApartError):
        lower(fr, tree)
