# SPDX-License-Identifier: MIT
"""Time in segments: the same values from fewer planes, as far as a budget asks; what cannot be cut stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import polyhedral as ph
from polyhedral.checks.check import check
from polyhedral.dim import i, j, k, t, x
from polyhedral.ir.dtypes import f64
from polyhedral.ir.program import Role, specialise
from polyhedral.rewrites import times
from polyhedral.rewrites.segments import in_segments
from polyhedral.rewrites.simplify_tests import simplify_tests
from polyhedral.whole.simplify import simplify
from tests.adjoints import promised
from tests.strategies import inputs_for, programs
from tests.zoo_language import gauss_seidel

RNG = np.random.default_rng(4)


@ph.function(u0="x", k="i")
def growth(u0, k, steps: ph.Size):
    """Nonlinear, so that every step is read again."""
    u = ph.var("u", like=u0, t=steps + 1)
    u(t=0)[...] = u0
    u[t + 1] = ph.orelse(u + k(i=0) * u * (u[x - 1] + u[x + 1]), u)
    return (u(t=steps) ** 2).sum(x)


@ph.function(X="t i", W="i j", U="j k", h0="j")
def recurrent(X, W, U, h0):
    """Two arrays in turn, and a result for each step."""
    h = ph.var("h", like=h0, t=X.size(t) + 1)
    h(t=0)[...] = h0
    h[t + 1] = ph.tanh((X * W).sum(i) + (h(j=k) * U).sum(k))
    return (h(t=X.size(t)) ** 2).sum(j)


@ph.function(u="y x", inout="u")
def in_place(u, steps: ph.Size):
    with ph.loop(t, steps):
        u[...] = ph.sin(u)
    gauss_seidel(u, 2)
    return (u * u).sum("y", "x")


@ph.function(X="t")
def logistic(X):
    """A scan: the step before is read where there is one."""
    s = ph.var("s", like=X)
    s[...] = ph.where(t > 0, 3 * s[t - 1] * (1 - s[t - 1]), 0.3) * X
    return (s * s).sum(t)


CASES = {
    "growth": (growth, "u0 k", {"u0": RNG.random(7), "k": np.array([-0.1])}, {"steps": 13}),
    "recurrent": (recurrent, "X W U h0", {n: RNG.random(s) - 0.5 for n, s in
                  {"X": (12, 2), "W": (2, 3), "U": (3, 3), "h0": (3,)}.items()}, {}),
    "in_place": (in_place, "u", {"u": RNG.random((4, 4))}, {"steps": 11}),
    "logistic": (logistic, "X", {"X": 0.9 + 0.1 * RNG.random(14)}, {}),
}  # fmt: skip


def gradient_of(name):
    f, wrt, values, sizes = CASES[name]
    g = ph.value_and_grad(f, wrt=wrt)
    given = {n: f"f64[{', '.join(g.axes[n])}]" for n in values}
    program = g.trace(**given).program
    known = {f"{n}.{d}": s for n, v in values.items() for d, s in zip(g.axes[n], v.shape, strict=True)}
    p, _ = simplify(simplify_tests(specialise(program, {**known, **sizes})))
    return p, {n: v.copy() for n, v in values.items()}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_segments_compute_the_same(name, count):
    p, values = gradient_of(name)
    cut, (said,) = in_segments(p, count)
    assert f"in {count} segments of time" in said.what
    assert len(cut.statements) > len(p.statements)
    check(simplify_tests(cut))
    for q in (cut, simplify_tests(cut)):
        want, got = ph.interpret(p, values), ph.interpret(q, values)
        for n in want:
            np.testing.assert_allclose(got[n], want[n], rtol=1e-12)


def test_a_budget_is_met_by_segments():
    g = ph.value_and_grad(growth, wrt="u0 k")
    u, k = RNG.random(100), np.array([-0.05])
    sizes = {"steps": 60}
    whole = g.lower(u0=u, k=k, sizes=sizes)
    most = whole.built.placement({}).peak
    value, (du, dk) = g(u, k, 60)
    with ph.options(memory=most // 2):
        less = g.lower(u0=u, k=k, sizes=sizes)
        assert less.built.placement({}).peak <= most // 2
        assert any("u are computed again in 4 segments" in str(r) for r in less.remarks)
        again, (du2, dk2) = g(u, k, 60)
    assert whole.built.program != less.built.program
    np.testing.assert_allclose([float(again), *np.asarray(du2), *np.asarray(dk2)],
                               [float(value), *np.asarray(du), *np.asarray(dk)], rtol=1e-12)  # fmt: skip


def test_a_budget_that_nothing_meets_says_the_least_found():
    g = ph.grad(growth, wrt="u0")
    with ph.options(memory=100), pytest.raises(ph.ArgumentError) as caught:
        g(RNG.random(10), np.array([0.1]), 8)
    assert caught.value.code == "PH320"
    least = int(caught.value.hints[0].split("=")[1].split()[0])
    with ph.options(memory=least):
        g(RNG.random(10), np.array([0.1]), 8)


def test_what_is_not_read_again_is_not_cut():
    f = ph.function(u0="x")(lambda u0: ph.scan("sum", u0, along=x)(x=19))
    p = specialise(f.trace(u0="f64[x]").program, {"u0.x": 20})
    same, (said,) = in_segments(p, 4)
    assert same is p
    assert "no recurrence has steps that are read again later" in said.because


@pytest.mark.parametrize("far", ["u(t=20 - t)", "strided"])
def test_times_that_cannot_be_cut(far):
    @ph.function(u0="x")
    def jumps(u0):
        u = ph.var("u", like=u0, t=21)
        u(t=0)[...] = u0
        u[t + 1] = ph.sin(u)
        v = u(t=20 - t) if far != "strided" else u(t=2 * t)
        return (v.over(t=10) ** 2).sum(t)

    p = specialise(jumps.trace(u0="f64[x]").program, {"u0.x": 3})
    same, (said,) = in_segments(p, 4)
    assert same is p
    assert said.what == "no time is cut into segments"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(programs(updates=False, dtypes=(f64,)), st.integers(0, 99), st.integers(2, 3))
def test_random_derivatives_in_segments(p, seed, count):
    outputs = [a.name for a in p.with_role(Role.OUTPUT) if a.dtype.is_float]
    wrt = [a.name for a in p.with_role(Role.INPUT)]
    p = replace(p, arrays=tuple(replace(a, role=Role.OUTPUT) if a.role is Role.TEMPORARY else a for a in p.arrays))
    try:
        p = promised(p, outputs, wrt, forward=False)
    except ph.PolyhedralError:  # floor and its like have no derivative
        return
    hidden = {a.name for a in p.arrays if a.role is Role.OUTPUT and not a.name.startswith("d_")}
    p = replace(p, arrays=tuple(replace(a, role=Role.TEMPORARY) if a.name in hidden else a for a in p.arrays))
    values = inputs_for(p, {}, seed, "real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(times, "SHORT", 2)
        cut, _ = in_segments(p, count)
    event(f"cut: {cut is not p}")
    want, got = ph.interpret(p, values), ph.interpret(cut, values)
    for n in want:
        np.testing.assert_allclose(got[n], want[n], rtol=1e-9)
