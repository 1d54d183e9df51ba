# SPDX-License-Identifier: MIT
"""What is recomputed means what it meant stored; what cannot be is left alone; the price decides by bytes and work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from frontend.environment.options import Options
from polyhedral.checks.check import check
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, Role, reads
from polyhedral.machine.target import Target
from polyhedral.plans.blocks import companies
from polyhedral.rewrites.clone import clone
from polyhedral.rewrites.inline import inlinable, inline
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from polyhedral.whole.recompute import price, recompute
from tests.running import agree, run_c
from tests.strategies import inputs_for, programs

VOTES = """
program votes
  input P: f32[k: 6, r: 3]
  input W: f32[k: 6, o: 40, r: 3]
  input R: f32[k: 6, o: 40]
  temporary V: f32[k: 6, o: 40]
  output M: f32[o: 40]
  output E: f32[o: 40]
  V: for k < 6, o < 40: V = sum[r < 3] P * W
  M: for o < 40 at (1): M = sum[k < 6] R * V
  E: for o < 40 at (2): E = sum[k < 6] (V - M) * (V - M)
"""


def temporaries(p: Program) -> set[str]:
    return {a.name for a in p.with_role(Role.TEMPORARY)}


def test_a_short_sum_is_written_out_in_multiply_adds():
    p = inline(parse(VOTES), "V")
    assert temporaries(p) == set()
    assert "muladd(P(r=2), W(r=2), muladd(P(r=1), W(r=1), P(r=0) * W(r=0)))" in to_text(p)
    assert parse(to_text(p)) == p
    check(p)


@pytest.mark.parametrize("above", [1, 1 << 40])
def test_compiled_agrees_with_stored(above: int):
    p, inputs = parse(VOTES), inputs_for(parse(VOTES), {}, 5, "real")
    got = run_c(inline(p, "V"), inputs, {}, Options(threads=1, plan_above=above))
    for name, want in run(p, inputs).items():
        np.testing.assert_allclose(got[name], want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("statement", "because"),
    [
        ("T: for i < 9: T = sum[k < 9] X(i=k)", "long"),
        ("T: for i < 9: T(i=8 - i) = X", "cells"),
        ("T: for i < 9: T = sum[k < 3 if k <= i] X(i=k)", "long"),
        ("T: for i < 9 strict: T = sum[k < 3] X(i=k)", "order"),
    ],
)
def test_what_is_left_alone(statement: str, because: str):
    head = "program left\n  input X: f32[i: 9]\n  temporary T: f32[i: 9]\n  output Y: f32[i: 9]\n"
    p = parse(f"{head}  {statement}\n  Y: for i < 9 at (1): Y = T * 2.0\n")
    assert because in str(inlinable(p, "T"))


def test_a_reader_in_a_branch_keeps_the_array():
    p = parse("""
    program branch
      input X: f32[i: 9]
      temporary T: f32[i: 9]
      output Y: f32[i: 9]
      T: for i < 9: T = exp(X)
      Y: for i < 9 at (1): Y = where(i < 5, T(i=i + 1), 0.0)
    """)
    assert "branch" in str(inlinable(p, "T"))


def test_inout_memory_is_read_when_it_says():
    p = parse("""
    program memory
      inout A: f32[i: 9]
      temporary T: f32[i: 9]
      S0: for i < 9 at (0): T = A * 2.0
      S1: for i < 9 at (1): A = A + 1.0
      S2: for i < 9 at (2): A = T
    """)
    assert "other statements update" in str(inlinable(p, "T"))


def test_the_price_follows_memory_and_work():
    """Votes go, a convolution's activations stay, and more bandwidth makes storing cheaper."""
    big = VOTES.replace("k: 6", "k: 60000").replace("k < 6", "k < 60000")
    slow, fast = Target(bytes_per_cycle=2.0), Target(bytes_per_cycle=2e6, l3=1 << 20)
    found = recompute(parse(big), slow)
    made, remarks = found.program, found.remarks
    assert temporaries(made) == set()
    assert [r.statement for r in remarks] == ["V"]
    assert temporaries(recompute(parse(big), fast).program) == {"V"}
    dense = """
    program dense
      input X: f32[i: 1000, k: 100]
      input W: f32[k: 100, j: 500]
      temporary T: f32[i: 1000, k: 100]
      output Y: f32[i: 1000, j: 500]
      T: for i < 1000, k < 100: T = exp(X)
      Y: for i < 1000, j < 500 at (1): Y = sum[k < 100] T * W
    """
    cost = price(parse(dense), "T", slow)
    assert cost.recomputed > 10 * cost.stored
    assert temporaries(recompute(parse(dense), slow).program) == {"T"}


def test_random_programs_mean_the_same():
    """Every temporary that may be inlined, one after the other."""
    inlined = 0

    @seed(3)
    @settings(max_examples=150, deadline=None, database=None)
    @given(programs(), st.integers(0, 1 << 30))
    def each(p: Program, salt: int) -> None:
        nonlocal inlined
        inputs = inputs_for(p, {}, salt, "real")
        expected = run(p, inputs)
        for name in sorted(temporaries(p)):
            if inlinable(p, name) is None:
                p = inline(p, name)
                inlined += 1
        check(p)
        agree(p, run(p, inputs), expected, inputs)

    each()
    assert inlined > 30


ROUTED = """
program routed
  input P: f32[n: 600, k: 96, r: 8]
  input W: f32[k: 96, o: 32, q: 8, r: 8]
  input R: f32[n: 600, k: 96]
  output Z: f32[n: 600, o: 32, q: 8]
  temporary V: f32[n: 600, k: 96, o: 32, q: 8]
  temporary M: f32[n: 600, o: 32, q: 8]
  V: for n < 600, k < 96, o < 32, q < 8: V = sum[r < 8] P * W
  M: for n < 600, o < 32, q < 8: M = sum[k < 96] R * V
  Z: for n < 600, o < 32, q < 8: Z = sum[k < 96] R * (V - M) * (V - M)
"""


@pytest.mark.parametrize("terms", [4, 8])
def test_made_block_by_block(terms: int):
    """Votes that no cache holds are made once for the two sums that read them, in the memory of a core; of four terms
    too, which take about as much at each use as to be kept there, but leave those sums fewer registers.
    """
    p = parse(ROUTED.replace("r: 8", f"r: {terms}").replace("r < 8", f"r < {terms}"))
    target = replace(Target(cores=2), l3=1 << 22)
    assert companies(p, "V", target) == (frozenset({"M", "Z"}),)
    found = recompute(p, target)
    assert found.apart == {"V"}
    lost = recompute(p, target, never=frozenset({"V"}))
    assert not lost.apart
    assert temporaries(lost.program) == {"M"}


def test_what_lies_in_no_cache_after_all_is_stored_where_that_is_cheaper():
    """Exponentials of which each is wanted 64 times are not computed again at each use."""
    p = parse("""
    program weights
      input S: f32[n: 600, k: 4096]
      input V: f32[k: 4096, e: 64]
      output z: f32[n: 600]
      output out: f32[n: 600, e: 64]
      temporary E: f32[n: 600, k: 4096]
      E: for n < 600, k < 4096: E = exp(S)
      z: for n < 600: z = sum[k < 4096] E
      out: for n < 600, e < 64: out = sum[k < 4096] E * V
    """)
    target = replace(Target(cores=2), l3=1 << 22)
    assert recompute(p, target).apart == {"E"}
    lost = recompute(p, target, never=frozenset({"E"}))
    assert not lost.apart
    assert temporaries(lost.program) == {"E"}


def test_clones_mean_the_same():
    p = parse(ROUTED.replace("600", "3").replace("96", "5").replace(" 32", " 4"))
    made, names = clone(p, "V", (frozenset({"M"}), frozenset({"Z"})))
    assert names == ("V", "V_2")
    assert {s.name: {x.array for x in reads(s)} for s in made.statements}["Z"] == {"R", "V_2", "M"}
    rng = np.random.default_rng(0)
    inputs = {a.name: rng.random([e.const for _, e in a.dims]).astype(np.float32) for a in p.arrays[:3]}
    np.testing.assert_array_equal(run(p, inputs)["Z"], run(made, inputs)["Z"])
