# SPDX-License-Identifier: MIT
"""Values made once mean what they meant made twice, and are made once only where they stay in a cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.checks.check import check
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import local_arrays
from polyhedral.machine import target as machines
from polyhedral.machine.target import Target
from polyhedral.rewrites.extract import extract, shared_values
from polyhedral.text.reader import parse
from polyhedral.whole import once
from polyhedral.whole.fusion import nests
from polyhedral.whole.once import made_once
from tests.running import agree, run_c
from tests.strategies import inputs_for, programs

SOFTMAX = """
program softmax
  input X: f32[y: {n}, x: {m}]
  temporary top: f32[y: {n}]
  temporary total: f32[y: {n}]
  output out: f32[y: {n}, x: {m}]
  top: for y < {n}: top = max[x < {m}] X
  total: for y < {n} at (1): total = sum[x < {m}] exp(X - top)
  out: for y < {n}, x < {m} at (2): out = exp(X - top) / total
"""
"""A row of a softmax."""


def softmax(n: int, m: int) -> Program:
    return parse(SOFTMAX.format(n=n, m=m))


def own(p: Program) -> frozenset[str]:
    """The arrays that lie in memory of their own."""
    options = Options(threads=2, plan_above=1)
    built = driver.lower(p, {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}, options)
    return local_arrays(built.scheduled.schedule.tree)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 7), (40, 1000), (9, 64), (64, 80), (5, 129)])
def test_a_softmax_is_interpreted(n: int, m: int):
    p = softmax(n, m)
    inputs = inputs_for(p, {}, values="real")
    expected = run(p, inputs)
    for order in (None, "reversed"):
        agree(p, run_c(p, inputs, {}, Options(threads=2, plan_above=1), order), expected, inputs)


@pytest.mark.parametrize("m", [64, 80, 1000])
def test_a_row_is_made_once_and_streams(m: int, monkeypatch: pytest.MonkeyPatch):
    """Infinities, NaN and rows of both included."""
    monkeypatch.setattr(session, "_target", lambda root, cores: replace(machines.host(cores), l3=1 << 16))
    p = softmax(300, m)
    assert "once0" in own(p)
    inputs = inputs_for(p, {}, values="real")
    inputs["X"][0, :3] = np.inf, -np.inf, np.nan
    inputs["X"][1] = -np.inf
    inputs["X"][2, 1] = np.inf
    expected = run(p, inputs)
    agree(p, run_c(p, inputs, {}, Options(threads=2, plan_above=1)), expected, inputs)


def test_what_is_not_made_once():
    """Cheap values, values in a branch, values over other ranges, and those that no nest could keep."""
    assert not list(shared_values(parse(SOFTMAX.format(n=9, m=9).replace("exp(X - top)", "(X - top)"))))
    branch = SOFTMAX.format(n=9, m=9).replace("= exp(X - top) / total", "= where(x < 5, exp(X - top), 0.0)")
    assert not list(shared_values(parse(branch)))
    shorter = SOFTMAX.format(n=9, m=9).replace("sum[x < 9]", "sum[x < 8]")
    assert not list(shared_values(parse(shorter)))
    columns = parse("""
    program columns
      input X: f32[y: 512, x: 512]
      temporary total: f32[]
      output out: f32[y: 512, x: 512]
      total: total = sum[y < 512, x < 512] exp(X)
      out: for y < 512, x < 512 at (1): out = exp(X) / total
    """)
    assert len(list(shared_values(columns))) == 1
    assert not made_once(columns, {a.name: row_major(a) for a in columns.arrays}, Target(), worth=1).values


def test_random_programs_mean_the_same():
    """Every value that several statements compute, one after the other, however cheap."""
    made = 0

    @seed(5)
    @settings(max_examples=60, deadline=None, database=None)
    @given(programs(), st.integers(0, 1 << 30))
    def each(p: Program, salt: int) -> None:
        nonlocal made
        inputs = inputs_for(p, {}, salt, "real")
        expected = run(p, inputs)
        for n in range(4):
            v = next(shared_values(p, 0.0), None)
            if v is None:
                break
            made += 1
            p = extract(p, v, f"once{n}")
            check(p)
            agree(p, run(p, inputs), expected, inputs)

    each()
    assert made > 4


def far_apart(steps: int) -> Program:
    """An exponential for the first and for the last of a chain of statements, each of which reads the one before."""
    lines = ["  input X: f32[y: 90, x: 80]", *(f"  temporary t{n}: f32[y: 90, x: 80]" for n in range(steps))]
    lines += ["  output out: f32[y: 90, x: 80]", "  s0: for y < 90, x < 80 at (0): t0 = exp(X) + 1.0"]
    lines += [f"  s{n}: for y < 90, x < 80 at ({n}): t{n} = t{n - 1} * X" for n in range(1, steps)]
    lines += [f"  last: for y < 90, x < 80 at ({steps}): out = exp(X) * t{steps - 1}"]
    return parse("\n".join(["program far", *lines]))


@pytest.mark.parametrize(("steps", "asked"), [(5, True), (60, False)])
def test_what_no_nest_could_hold_is_not_asked_about(steps: int, asked: bool, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []

    def counted(p, clusters, *rest):
        calls.append(len(clusters))
        return nests(p, clusters, *rest)

    monkeypatch.setattr(once, "nests", counted)
    p = far_apart(steps)
    made_once(p, {a.name: row_major(a) for a in p.arrays}, Target(), worth=1)
    assert any(calls) == asked
