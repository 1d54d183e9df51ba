# SPDX-License-Identifier: MIT
"""Which statements share outer loops: those between which values stay within a block, no others; and results are right.

How random chains fare is in `tests.properties.test_fused`, what the oracle refuses in `test_local_mutants`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import polyhedral as ph
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.dim import k
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Local, local_arrays, regions
from polyhedral.machine.target import Target
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze, plan
from polyhedral.scheduling import schedule as scheduling
from polyhedral.scheduling.schedule import Schedule
from polyhedral.text.reader import parse
from polyhedral.transforms.share import Nest, Shared
from polyhedral.whole import fusion
from tests.running import agree, run_c
from tests.strategies import inputs_for

TWO = Target("two", cores=2)


def scheduled(p: Program, target: Target = TWO) -> Schedule:
    found = plan(analyze(p), {a.name: row_major(a) for a in p.arrays}, target=target).schedule
    assert violation(p, found.tree) is None
    return found


def nests(p: Program) -> list[tuple[str, str]]:
    """(statements, what they share) of every nest."""
    return [(str(r.statement), r.what.removeprefix("share ")) for r in scheduled(p).remarks if "share " in r.what]


def right(p: Program, above: Sequence[int] = (0, 10**9), tolerance_of: str = "whole") -> None:
    """The kernel gives what the interpreter does, planned and not, on one core and two."""
    inputs = inputs_for(p, {}, 1, tolerance_of)
    want = run(p, inputs)
    for threads in (1, 2):
        for a in above:
            agree(p, run_c(p, inputs, {}, Options(threads=threads, plan_above=a)), want, inputs)


SOFTMAX = parse("""
program softmax
  input X: f32[i: 200, k: 333]
  temporary m: f32[i: 200]
  temporary e: f32[i: 200, k: 333]
  temporary s: f32[i: 200]
  output out: f32[i: 200, k: 333]
  S0: for i < 200:  m = max[k < 333] X
  S1: for i < 200, k < 333:  e = exp(X - m)
  S2: for i < 200:  s = sum[k < 333] e
  S3: for i < 200, k < 333:  out = e / s
""")
NORM = parse("""
program norm
  input X: f32[i: 130, k: 96]
  input g: f32[k: 96]
  temporary m: f32[i: 130]
  temporary v: f32[i: 130]
  output out: f32[i: 130, k: 96]
  S0: for i < 130:  m = sum[k < 96] X / 96.0
  S1: for i < 130:  v = sum[k < 96] (X - m) * (X - m) / 96.0
  S2: for i < 130, k < 96:  out = (X - m) / sqrt(v + 0.00001) * g
""")
SHARPEN = """
program sharpen
  input X: f32[y: 66, x: 50]
  temporary b: f32[y: 64, x: 50]
  output out: f32[y: 62, x: 50]
  S0: for y < 64, x < 50:  b = X + X(y=y + 1) + X(y=y + 2)
  S1: for y < 62, x < 50:  out = 3.0 * b(y=y + 1) - b - b(y=y + 2)
"""
ALONG_X = """
program along
  input X: f32[y: 64, x: 52]
  temporary b: f32[y: 64, x: 50]
  output out: f32[y: 64, x: 48]
  S0: for y < 64, x < 50:  b = X + X(x=x + 1) + X(x=x + 2)
  S1: for y < 64, x < 48:  out = 3.0 * b(x=x + 1) - b - b(x=x + 2)
"""
TRANSPOSED = """
program transposed
  input X: f32[i: 64, j: 64]
  temporary t: f32[i: 64, j: 64]
  output out: f32[i: 64, j: 64]
  S0: for i < 64, j < 64:  t = X * 3.0
  S1: for i < 64, j < 64:  out = t(i=j, j=i) + t
"""
RENAMED = """
program renamed
  input X: f32[i: 64, j: 64]
  temporary t: f32[i: 64, j: 64]
  output out: f32[p: 64, q: 64]
  S0: for i < 64, j < 64:  t = X * 3.0
  S1: for p < 64, q < 64:  out = t(i=q, j=p) + 1.0
"""
DIAGONAL = """
program diagonal
  input X: f32[i: 64, j: 64]
  temporary t: f32[i: 64, j: 64]
  output out: f32[i: 64, j: 64]
  S0: for i < 64, j < 64:  t = X * 3.0
  S1: for i < 64, j < 64:  out = t(j=i) + t(i=j)
"""
FORK = """
program fork
  input X: f32[i: 64, j: 40]
  temporary t: f32[i: 64, j: 40]
  output u: f32[i: 64, j: 40]
  output out: f32[i: 64]
  S0: for i < 64, j < 40:  t = X * 3.0
  S1: for i < 64, j < 40:  u = t + X
  S2: for i < 64:  out = sum[j < 40] t * t
"""
PRECEDED = """
program preceded
  input X: f32[i: 64, j: 40]
  temporary t: f32[i: 64, j: 40]
  temporary c: f32[j: 40]
  temporary d: f32[j: 40]
  output out: f32[i: 64, j: 40]
  output last: f32[i: 64, j: 40]
  S0: for i < 64, j < 40:  t = X * 3.0
  S1: for j < 40:  c = sum[i < 64] X
  S2: for i < 64, j < 40:  out = t + c
  S3: for j < 40:  d = sum[i < 64] out
  S4: for i < 64, j < 40:  last = out - d
"""


def test_softmax_is_one_nest():
    ((names, what),) = nests(SOFTMAX)
    assert names == "S0 and S1 and S2 and S3"
    assert what.startswith("their outer loop over i")
    assert local_arrays(scheduled(SOFTMAX).tree) == {"m", "e", "s"}
    right(SOFTMAX, tolerance_of="real")


def test_layer_norm_is_one_nest():
    ((names, _),) = nests(NORM)
    assert names == "S0 and S1 and S2"
    assert local_arrays(scheduled(NORM).tree) == {"m", "v"}
    right(NORM, tolerance_of="real")


@pytest.mark.parametrize(
    ("text", "dims", "local"),
    [
        (SHARPEN, "x", {"b"}),  # over y the second reads neighbours
        (ALONG_X, "y", {"b"}),
        (TRANSPOSED, None, set()),
        (RENAMED, "i", {"t"}),
        (DIAGONAL, None, set()),
    ],
)  # fmt: skip
def test_only_dims_along_which_values_stay_are_shared(text: str, dims: str | None, local: set[str]):
    p = parse(text)
    found = nests(p)
    assert len(found) == (dims is not None)
    for _, what in found:
        assert what.split(" over ")[1].split(" in ")[0] == dims
    assert local_arrays(scheduled(p).tree) == local
    right(p)


def test_two_consumers_share_one_nest():
    p = parse(FORK)
    assert [names for names, _ in nests(p)] == ["S0 and S1 and S2"]
    assert local_arrays(scheduled(p).tree) == {"t"}
    right(p)


def test_what_must_run_before_a_consumer_runs_before_its_nest():
    """c is summed over i, so that what reads it shares j with it and never i; t, made before, waits in memory."""
    p = parse(PRECEDED)
    (found,) = nests(p)
    assert found[0] == "S1 and S2 and S3 and S4"
    assert found[1].split(" over ")[1].split(" in ")[0] == "j"
    assert "t" not in local_arrays(scheduled(p).tree)
    right(p)


REST = """
program rest
  input X: f32[i: {n}, k: 40]
  input W: f32[k: 40, j: 50]
  input V: f32[j: 50, l: 30]
  temporary h: f32[i: {n}, j: 50]
  temporary r: f32[i: {n}, j: 50]
  output out: f32[i: {n}, l: 30]
  S0: for i < {n}, j < 50:  h = sum[k < 40] X * W
  S1: for i < {n}, j < 50:  r = max(h, 0.0) + h * 0.5
  S2: for i < {n}, l < 30:  out = sum[j < 50] r(j=j) * V
"""


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 97])
def test_remainders(n: int, monkeypatch: pytest.MonkeyPatch):
    """Blocks that do not divide the rows, over register tiles that are cut in parts; prices put aside."""
    monkeypatch.setattr(fusion, "_again", lambda *_: 0.0)
    monkeypatch.setattr(fusion, "BUSY", 1)
    right(parse(REST.replace("{n}", str(n))))


def test_tiles_that_begin_apart(monkeypatch: pytest.MonkeyPatch):
    """A statement in two parts, the second from a row on that no block begins with."""
    monkeypatch.setattr(fusion, "_again", lambda *_: 0.0)
    p = parse("""
    program apart
      input X: f32[i: 67, j: 40]
      temporary t: f32[i: 67, j: 40]
      output out: f32[i: 67, j: 40]
      S0: for i < 5, j < 40:  t = X * 3.0
      S1: for 5 <= i < 67, j < 40:  t = X * 2.0
      S2: for i < 67, j < 40:  out = t + 1.0
    """)
    assert local_arrays(scheduled(p).tree) == set()
    right(p)


def test_symbolic_sizes_share_nothing_yet():
    p = parse("""
    program sized
      input X: f32[i, j]
      temporary t: f32[i: X.i, j: X.j]
      output out: f32[i: X.i, j: X.j]
      S0: for i < X.i, j < X.j:  t = X * 3.0
      S1: for i < X.i, j < X.j:  out = t + 1.0
    """)
    assert nests(p) == []
    sizes = {"X.i": 9, "X.j": 7}
    inputs = inputs_for(p, sizes, 1, "whole")
    agree(p, run_c(p, inputs, sizes, Options(threads=2), symbolic=True), run(p, inputs, sizes), inputs)


def test_one_symbolic_size_beside_a_shared_one():
    """Shared loops have numbers for bounds; what has a symbolic size lies outside of memory of its own."""
    p = parse("""
    program beside
      input X: f32[i: 64, j]
      temporary t: f32[i: 64, j: X.j]
      output out: f32[i: 64, j: X.j]
      S0: for i < 64, j < X.j:  t = X * 3.0
      S1: for i < 64, j < X.j:  out = t + 1.0
    """)
    assert local_arrays(scheduled(p).tree) == set()
    sizes = {"X.j": 7}
    inputs = inputs_for(p, sizes, 1, "whole")
    agree(p, run_c(p, inputs, sizes, Options(threads=2), symbolic=True), run(p, inputs, sizes), inputs)


def test_updates_keep_their_order():
    p = parse("""
    program updates
      inout A: f64[i: 64, j: 8]
      temporary t: f64[i: 64, j: 8]
      S0: for i < 64, j < 8 at (0):  t = A * 2.0
      S1: for i < 64, j < 8 at (1):  A = t + 1.0
      S2: for i < 63, j < 8 at (2, i, 0, j, 0):  A(i=i + 1) = A(i=i + 1) + A
    """)
    assert nests(p) == []
    right(p)


def test_memory_of_a_nest_stays_within_its_limit(monkeypatch: pytest.MonkeyPatch):
    """The sum of what a nest holds, in whole blocks, also where the last one is partial."""
    monkeypatch.setattr(fusion, "BUSY", 0)
    monkeypatch.setattr(fusion, "FULL", 64.0)
    chain = ["input X: f32[i: 33, j: 900]"]
    chain += [f"temporary t{k}: f32[i: 33, j: 900]" for k in range(8)]
    chain += ["output out: f32[i: 33, j: 900]", "S0: for i < 33, j < 900:  t0 = X * 2.0"]
    chain += [f"S{k}: for i < 33, j < 900:  t{k} = t{k - 1} + X" for k in range(1, 8)]
    p = parse("program many\n  " + "\n  ".join([*chain, "S8: for i < 33, j < 900:  out = t7 + X"]))
    tree = scheduled(p).tree
    found = [n for n, _, _ in regions(tree) if isinstance(n, Local)]
    assert found
    assert sum(4 * 900 * f.size for n in found for f in n.folds) <= fusion.LOCAL
    right(p, above=(10**9,))


def test_what_is_small_enough_for_one_block_is_left_alone():
    p = parse(SHARPEN.replace("50", "3"))
    assert local_arrays(scheduled(p, Target("one", cores=1)).tree) <= {"b"}
    right(p)


def test_checked_kernels_test_the_index_and_not_the_place():
    inputs = inputs_for(SOFTMAX, {}, 1, "real")
    got = run_c(SOFTMAX, inputs, {}, Options(threads=2, checked=True))
    agree(SOFTMAX, got, run(SOFTMAX, inputs), inputs)
    source = driver.lower(SOFTMAX, {a.name: row_major(a) for a in SOFTMAX.arrays}, Options(checked=True)).source.text
    assert "__attribute__((aligned(64)))" in source
    assert "gather(" in source
    assert np.isfinite(got["out"]).all()


# --- what is said of it ----------------------------------------------------------------------------------------------


def test_remarks_say_who_shares_what_and_what_became_of_its_arrays():
    found = [str(r) for r in scheduled(NORM).remarks]
    assert found[0].startswith("S0 and S1 and S2: share their outer loop over i in blocks of ")
    assert found[0].endswith("because what one of them makes is still in the cache when the next reads it")
    assert [r.split(", ")[0] for r in found[1:]] == [
        "S0: m lies in memory of its own",
        "S1: v lies in memory of its own",
    ]


def test_a_nest_that_the_oracle_refuses_is_a_remark(monkeypatch: pytest.MonkeyPatch):
    """Whatever is proposed: first its memory is given up, then its loops, and each time it is said why."""
    p = parse(TRANSPOSED)
    loops = (Shared("i", (("S0", "i"), ("S1", "i")), 8),)
    wrong = Nest((("S0",), ("S1",)), loops, (("t", ("i",)),))
    monkeypatch.setattr(scheduling, "nests", lambda *_: (wrong,))
    memory, shared = scheduled(p).remarks
    assert str(memory).startswith("S0 and S1: t do not lie in memory of their own, because S0(")
    assert str(shared).startswith("S0 and S1: do not share their outer loop over i in blocks of 8, because S0(")
    kept = Nest((("S0",), ("S1",)), (Shared("i", (("S0", "i"), ("S1", "p")), 8),), (("t", ("j",)),))
    monkeypatch.setattr(scheduling, "nests", lambda *_: (kept,))
    p = parse(RENAMED.replace("t(i=q, j=p)", "t(i=p, j=q)"))
    memory, shared = scheduled(p).remarks
    assert "its memory has 8 cells along j there" in str(memory)
    assert "share their outer loop" in str(shared)


def test_why_of_a_nest():
    @ph.function(X="i k")
    def centred(X):
        m = ph.let(X.mean(k), "m")
        return ph.let(ph.exp(X - m), "out")

    low = centred.lower(np.ones((256, 300), np.float32))
    why = low.explain.why()
    assert any("m and out: share their outer loop" in line for line in why.chosen)
    assert not any("share" in line for line in why.change)
    (out,) = [w for w in why.predicted if w["statement"] == "out"]
    moved = [n["share"] for cause, n in out["causes"].items() if "bandwidth" in cause]
    assert len(moved) == 1
    assert "each has its own loops" not in str(low.explain.fuse("m", "out"))
    np.testing.assert_allclose(low.compile()(np.ones((256, 300), np.float32)).order("i k"), 1.0, rtol=1e-5)
