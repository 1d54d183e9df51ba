# SPDX-License-Identifier: MIT
"""All rewrites together, on the zoo, on random programs and on long ones; and what is dead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from polyhedral.checks.check import check
from polyhedral.errors import BoundsError, Remark
from polyhedral.ir import expr as ex
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, Role, specialise
from polyhedral.rewrites import dead
from polyhedral.rewrites.contract import contract
from polyhedral.rewrites.dead import drop_dead
from polyhedral.rewrites.factor import hoist_factors
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from polyhedral.whole.simplify import ROUNDS, STEPS, simplify
from tests.programs import CASES
from tests.properties.batch import mismatch
from tests.strategies import inputs_for, programs

Rewrite = Callable[[Program], tuple[Program, tuple[Remark, ...]]]


def dropped_in_text(p: Program) -> Program:
    """Outputs that no statement reads but the last become temporaries, so that something is dead."""
    outputs = [a.name for a in p.with_role(Role.OUTPUT)]
    return replace(p, arrays=tuple(replace(a, role=Role.TEMPORARY) if a.name in outputs[:-1] else a for a in p.arrays))


@pytest.mark.parametrize("rewrite", [simplify, *STEPS], ids=lambda f: f.__name__)
def test_random_programs_mean_the_same(rewrite: Rewrite):
    @settings(
        max_examples=120,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.integers(0, 99))
    def each(p: Program, seed: int) -> None:
        for values in ("whole", "real"):
            if p.name == "whole" and values == "real":
                continue
            inputs = inputs_for(p, {}, seed, values)
            got = run(rewrite(p)[0], inputs)
            assert mismatch(p, inputs, {}, got, run(p, inputs)) is None, to_text(p)

    each()


def test_random_programs_with_dead_parts_mean_the_same():
    dropped = 0

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.integers(0, 99))
    def each(given_: Program, seed: int) -> None:
        nonlocal dropped
        p = dropped_in_text(given_)
        inputs = inputs_for(p, {}, seed)
        q, remarks = simplify(p)
        dropped += any(r.what == "dropped" for r in remarks)
        if p.name == "whole":
            want, got = run(p, inputs), run(q, inputs)
            for n, value in want.items():
                np.testing.assert_array_equal(got[n], value)
        check(q)

    each()
    assert dropped >= 20


@pytest.mark.parametrize("name", CASES)
def test_the_zoo_means_the_same(name: str):
    case = CASES[name]
    p = specialise(case.program, case.sizes)
    q, _ = simplify(p)
    check(q)
    inputs = inputs_for(p, {})
    want, got = case.expect(inputs), run(q, inputs)
    for n, value in want.items():
        if value.dtype.kind in "fcV":
            wide = np.float64
            np.testing.assert_allclose(got[n].astype(wide), value.astype(wide), rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got[n], value)
    assert simplify(q)[0] is q, "once is enough"


# --- dead code -------------------------------------------------------------------------------------------------------

DEAD = """
program dead
  input X: f32[i: 4]
  input K: i64[i: 4]
  inout M: f32[i: 4]
  temporary a: f32[i: 4]
  temporary b: f32[i: 4]
  temporary c: f32[i: 4]
  temporary d: f32[i: 4]
  constant T: f32[k: 2] = (1.0, 2.0)
  output out: f32[i: 4]
  a: for i < 4:  a = X + T(k=1)
  b: for i < 4:  b = 2.0 * a
  c: for i < 4:  c = X - 1.0
  M: for i < 4:  M = c
  d: for i < 4:  d = X(i := K)
  out: for i < 4:  out = X
"""


def test_only_what_is_observed_stays():
    q, remarks = drop_dead(parse(DEAD))
    assert [s.name for s in q.statements] == ["c", "M", "d", "out"]
    assert {a.name for a in q.arrays} == {"X", "K", "M", "c", "d", "out"}
    assert [r.statement for r in remarks] == ["a", "b"]
    assert drop_dead(q)[0] is q


def test_a_gather_out_of_bounds_is_still_a_fault():
    p = parse(DEAD)
    inputs = {"X": np.ones(4, np.float32), "M": np.zeros(4, np.float32), "K": np.full(4, 9)}
    for q in (p, simplify(p)[0]):
        with pytest.raises(BoundsError):
            run(q, inputs)


def test_dropping_memory_is_caught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dead, "_OBSERVED", (Role.OUTPUT,))
    p = parse(DEAD)
    inputs = {"X": np.ones(4, np.float32), "M": np.ones(4, np.float32), "K": np.zeros(4, np.int64)}
    want, got = run(p, inputs)["M"], run(drop_dead(p)[0], inputs).get("M")
    assert got is None or not np.array_equal(got, want)


# --- together --------------------------------------------------------------------------------------------------------


def test_steps_enable_each_other():
    """Folding makes the two sums equal, merging makes them one, whose factor then leaves, and the rest dies."""
    p = parse("""
    program together
      input X: f32[i: 30, k: 30]
      input s: f32[i: 30]
      temporary A: f32[i: 30]
      temporary B: f32[y: 30]
      output out: f32[i: 30]
      A: for i < 30:  A = sum[k < 30] 6.0 * s * X * X
      B: for y < 30:  B = sum[z < 30] X(i=y, k=z) * X(i=y, k=z) * 1.0 * s(i=y) * (2.0 * 3.0)
      out: for i < 30:  out = A - B(y=i)
    """)
    q, remarks = simplify(p)
    assert {r.what for r in remarks} >= {"constants folded", "factors hoisted"}
    check(q)
    inputs = inputs_for(p, {})
    np.testing.assert_array_equal(run(p, inputs)["out"], run(q, inputs)["out"])
    assert simplify(q)[0] is q


def test_new_statements_stand_before_their_readers():
    p = parse("""
    program places
      input x: f32[n: 64, i: 32]
      input W: f32[o: 48, i: 32, j: 40]
      input y: f32[n: 64, j: 40]
      temporary Z: f32[n: 64, o: 48]
      output Y: f32[n: 64, o: 48]
      Z: for n < 64, o < 48:  Z = sum[i < 32, j < 40] x * W * y
      Y: for n < 64, o < 48:  Y = max(Z, 0.0)
    """)
    q, _ = simplify(p)
    assert [s.position for s in q.statements] == [(0,), (1,), (2,)]
    defined: set[str] = set()
    for s in q.statements:
        for load in ex.loads(s.value):
            assert q.array(load.array).role is Role.INPUT or load.array in defined
        defined.add(s.write.array)
    assert parse(to_text(q)) == replace(q, statements=tuple(replace(s, location=None) for s in q.statements))


def layers(n: int) -> Program:
    """Layers of a network with a gate each: 4 * n statements that have nothing to do with each other's sums."""
    arrays, text = ["input X0: f32[b: 8, c: 16]"], []
    for k in range(1, n + 1):
        arrays += [f"input W{k}: f32[o: 16, c: 16]", f"input g{k}: f32[b: 8]"]
        arrays += [f"temporary {x}{k}: f32[b: 8, c: 16]" for x in "ABCX"]
        text += [
            f"A{k}: for b < 8, c < 16:  A{k} = sum[d < 16] X{k - 1}(c=d) * W{k}(o=c, c=d) * g{k}",
            f"B{k}: for b < 8, c < 16:  B{k} = exp(A{k})",
            f"C{k}: for b < 8, c < 16:  C{k} = B{k} + A{k} * {k}.0",
            f"X{k}: for b < 8, c < 16:  X{k} = C{k} - max(B{k}, 0.0)",
        ]
    last = f"out: for b < 8, c < 16:  out = X{n}"
    return parse("\n  ".join(["program layers", *arrays, "output out: f32[b: 8, c: 16]", *text, last]))


def test_work_grows_with_the_program(monkeypatch: pytest.MonkeyPatch):
    """Nodes looked at, for 200, 400 and 800 statements."""
    seen = 0
    walk = ex.walk

    def counted(e: ex.Expr):
        nonlocal seen
        for node in walk(e):
            seen += 1
            yield node

    monkeypatch.setattr(ex, "walk", counted)
    work: list[int] = []
    for n in (50, 100, 200):
        p, seen = layers(n), 0
        q, remarks = simplify(p)
        assert len(q.statements) >= len(p.statements)
        assert len(remarks) <= 4 * n
        work.append(seen)
    assert work[2] - work[1] <= 2.1 * (work[1] - work[0])
    assert work[2] <= 800 * 120


def test_rounds_are_enough():
    """The limit is for safety: no program of the zoo or of these tests comes near it."""
    for p in (layers(5), *(specialise(c.program, c.sizes) for c in CASES.values())):
        rounds = 0
        while rounds < ROUNDS:
            before = p
            for step in STEPS:
                p, _ = step(p)
            if p is before:
                break
            rounds += 1
        assert rounds <= 3


@pytest.mark.parametrize("rewrite", [hoist_factors, contract])
def test_what_does_not_change_is_the_same_object(rewrite: Rewrite):
    p = parse("program plain\n  input X: f32[i: 4]\n  output out: f32[i: 4]\n  out: for i < 4:  out = X\n")
    assert rewrite(p) == (p, ())
    assert rewrite(p)[0] is p
