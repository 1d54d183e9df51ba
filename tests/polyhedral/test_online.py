# SPDX-License-Identifier: MIT
"""Sums relative to a maximum in one pass over tiles: found by their algebra, the same values, infinities and all."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polyhedral as ph
from frontend.autodiff import resolve
from frontend.environment.options import Options
from frontend.recorded import Gradient
from polyhedral.checks.check import check
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Array, Domain, Program, Range, Role
from polyhedral.machine.target import Target
from polyhedral.plans.block_loops import room
from polyhedral.rewrites.online import online, shadow
from polyhedral.rewrites.relative import family
from polyhedral.text.reader import parse
from polyhedral.whole import one_pass as choice
from polyhedral.whole.one_pass import one_pass
from tests.running import run_c
from tests.strategies import inputs_for

ATTENTION = """
program attention
  input Q: f64[s: 7, d: 3]
  input K: f64[t: 12, d: 3]
  input V: f64[t: 12, e: 4]
  output out: f64[s: 7, e: 4]
  temporary S: f64[s: 7, t: 12]
  temporary m: f64[s: 7]
  temporary z: f64[s: 7]
  temporary P: f64[s: 7, t: 12]
  S: for s < 7, t < 12: S = sum[d < 3] Q * K
  m: for s < 7: m = max[t < 12] S * 0.5
  z: for s < 7: z = sum[t < 12] exp(S * 0.5 - m)
  P: for s < 7, t < 12: P = exp(S * 0.5 - m) / z
  out: for s < 7, e < 4: out = sum[t < 12] P * V
"""
CAUSAL = ATTENTION.replace("t < 12:", "t < 12 if t <= s:").replace("[t < 12]", "[t < 12 if t <= s]")
SPECIAL = (-np.inf, np.inf, np.nan, 0.0, 1.0, -2.0, 800.0, -800.0)


def tiled(p: Program, size: int, top: str = "m", dim: str = "t") -> Program:
    f = family(p, top)
    assert f is not None
    made = online(f, dim, size)
    assert made is not None
    check(made.program)
    return made.program


def same(p: Program, q: Program, inputs: dict[str, np.ndarray], *, infinite: bool = True) -> None:
    got = run(q, inputs)
    for name, want in run(p, inputs).items():
        close = np.isclose(got[name], want, rtol=1e-9, atol=1e-9, equal_nan=True)
        assert (close if infinite else close | np.isnan(want)).all(), (got[name], want)


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 5, 12])
@pytest.mark.parametrize("text", [ATTENTION, CAUSAL])
def test_attention_in_tiles(text: str, size: int):
    p = parse(text)
    q = tiled(p, size)
    assert "P" not in {a.name for a in q.arrays}
    assert dict(q.array("S").dims)["t"] == aff.const(size)
    for kind in ("real", "special"):
        same(p, q, inputs_for(p, {}, 1, kind))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("exp(", "exp2("),
        ("P * V", "P * V * -2"),
        ("P * V", "-(V * P)"),
        ("out = sum[t < 12] P * V", "out = max[t < 12] exp(S * 0.5 - m) * V"),
        ("out = sum[t < 12] P * V", "out = min[t < 12] exp(S * 0.5 - m) * V"),
        ("out = sum[t < 12] P * V", "out = sum[t < 12] P * V / (V * V + 1)"),
        ("out = sum[t < 12] P * V", "out = sum[t < 12, d < 3] P * V * K(d=d)"),
        ("z = sum[t < 12] exp(S * 0.5 - m)", "z = sum[t < 12 if t <= s] exp(S * 0.5 - m)"),
        ("z: for s < 7: z = sum[t < 12] exp(S * 0.5 - m)", "z: for s < 7: z = sum[d < 12] exp(S(t=d) * 0.5 - m)"),
        ("m: for s < 7: m = max[t < 12] S * 0.5", "m: for e < 7: m(s=e) = max[t < 12] S(s=e) * 0.5"),
    ],
)
def test_whatever_has_the_algebra(old: str, new: str):
    p = parse(ATTENTION.replace(old, new))
    for size in (3, 5):
        q = tiled(p, size)
        same(p, q, inputs_for(p, {}, 2, "real"))


def test_below_a_minimum():
    text = ATTENTION.replace("max[", "min[").replace("S * 0.5 - m", "m - S * 0.5")
    p = parse(text)
    q = tiled(p, 5)
    for kind in ("real", "special"):
        same(p, q, inputs_for(p, {}, 3, kind), infinite=kind == "real")
    assert family(parse(ATTENTION.replace("max[", "min[")), "m") is None
    assert family(parse(ATTENTION.replace("S * 0.5 - m", "m - S * 0.5")), "m") is None


def test_several_dims_are_reduced():
    p = parse("""
    program two
      input X: f64[r: 3, y: 4, x: 6]
      output z: f64[r: 3]
      temporary m: f64[r: 3]
      m: for r < 3: m = max[y < 4, x < 6] X
      z: for r < 3: z = sum[x < 6, y < 4 if x <= y + 2] exp(X - m)
    """)
    for dim, size in (("x", 2), ("x", 4), ("y", 3)):
        q = tiled(p, size, dim=dim)
        same(p, q, inputs_for(p, {}, 4, "special"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("z: for s < 7: z", "z: for s < 7 strict: z"),
        ("m: for s < 7: m", "m: for s < 7 strict: m"),
        ("out: for s < 7, e < 4: out", "out: for s < 7, e < 4 strict: out"),
        ("z = sum[t < 12] exp(S * 0.5 - m)", "z = sum[t < 12] exp(S * 0.25 - m)"),  # relative to something else
        ("z = sum[t < 12] exp(S * 0.5 - m)", "z = sum[t < 12] S * 0.5 - m"),  # no exponential
        ("z = sum[t < 12] exp(S * 0.5 - m)", "z = sum[t < 12] exp(S * 0.5 - m) * m"),  # more of the maximum
        ("z = sum[t < 12] exp(S * 0.5 - m)", "z = sum[t < 12] exp(S * 0.5 - m) + 1"),
        ("z = sum[t < 12] exp(S * 0.5 - m)", "z = prod[t < 12] exp(S * 0.5 - m)"),
        ("m = max[t < 12] S * 0.5", "m = max[t < 12 if t <= s] S * 0.5"),  # not of all that is summed
        ("m = max[t < 12] S * 0.5", "m = max[t < 12] where(K(d=0) > 0, S * 0.5, -inf)"),
        ("P = exp(S * 0.5 - m) / z", "P = V(e=0) / exp(S * 0.5 - m)"),
    ],
)
def test_other_sums_are_left(old: str, new: str):
    assert old in ATTENTION
    assert family(parse(ATTENTION.replace(old, new)), "m") is None


def test_narrow_floats_are_left():
    assert family(parse(ATTENTION.replace("f64", "f16")), "m") is None
    assert family(parse(ATTENTION.replace("f64", "f32")), "m") is not None


# --- masks, infinities -----------------------------------------------------------------------------------------------

MASKED = (
    ATTENTION.replace("input V", "input B: f64[s: 7, t: 12]\n  input V")
    .replace("max[t < 12] S * 0.5", "max[t < 12] where(B > 0, S * 0.5, -inf)")
    .replace("sum[t < 12] exp(S * 0.5 - m)", "sum[t < 12] where(B > 0, exp(S * 0.5 - m), 0)")
    .replace("P = exp(S * 0.5 - m) / z", "P = where(B > 0, exp(S * 0.5 - m) / z, 0)")
)
BIASED = ATTENTION.replace("input V", "input B: f64[s: 7, t: 12]\n  input V").replace("S * 0.5", "(S * 0.5 + B)")


def test_rows_without_terms_and_rows_of_infinities():
    """Rows of which nothing counts give 0, rows of -inf NaN, whatever the tiles."""
    p = parse(MASKED)
    inputs = inputs_for(p, {}, 5, "real")
    inputs["B"][:] = -1
    inputs["B"][1, 4:] = 1
    inputs["B"][2, 2] = 1
    inputs["Q"][3] = -np.inf
    inputs["K"] = np.abs(inputs["K"]) + 1
    inputs["B"][3, 5] = 1
    want = run(p, inputs)["out"]
    assert (want[0] == 0).all()
    assert np.isnan(want[3]).all()
    assert np.isfinite(want[1:3]).all()
    for size in (1, 2, 4, 5):
        same(p, tiled(p, size), inputs)


def test_tiles_of_infinities_beside_others():
    p = parse(BIASED)
    inputs = inputs_for(p, {}, 6, "real")
    inputs["B"][:, 4:8] = -np.inf
    inputs["B"][2] = -np.inf
    inputs["B"][3, 9] = np.inf
    inputs["V"][5] = np.nan  # 0 * NaN is NaN, before and after
    want = run(p, inputs)["out"]
    assert np.isnan(want).all()
    same(p, tiled(p, 4), inputs)
    inputs["V"][5] = 1
    want = run(p, inputs)["out"]
    assert np.isnan(want[2:4]).all()
    assert np.isfinite(want[4:]).all()
    same(p, tiled(p, 4), inputs)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Program, int, dict[str, np.ndarray]]:
    """Attention under a guard, a mask or a bias, and inputs with all that is not finite in scores and bias; values are
    finite, or as odd as these.
    """
    text = draw(st.sampled_from([ATTENTION, MASKED, BIASED]))
    guard = draw(st.sampled_from(["", "t <= s", "s <= t", "t <= s and s <= t + 2", "t + 3 <= s", "s + t <= 9"]))
    if guard:
        text = text.replace("t < 12:", f"t < 12 if {guard}:").replace("[t < 12]", f"[t < 12 if {guard}]")
    p = parse(text)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    inputs = inputs_for(p, {}, int(rng.integers(1 << 30)), "real")
    for name in ("Q", "B"):
        if name in inputs:
            odd = rng.random(inputs[name].shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9]))
            inputs[name] = np.where(odd, rng.choice(SPECIAL, inputs[name].shape), inputs[name])
    return p, draw(st.integers(1, 12)), inputs


@settings(max_examples=150, deadline=None)
@given(cases())
def test_random_masks_and_infinities(case: tuple[Program, int, dict[str, np.ndarray]]):
    p, size, inputs = case
    same(p, tiled(p, size), inputs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-2, 2)] * 2, st.sampled_from([-1, 0, 1]), st.integers(-4, 4)), max_size=3))
def test_shadows_are_exact(conditions: list[tuple[int, int, int, int]]):
    ranges = tuple(Range(d, aff.const(0), aff.const(4)) for d in "abk")
    over = [Affine() + aff.var("a") * i + aff.var("b") * j + aff.var("k") * n + c for i, j, n, c in conditions]
    domain = Domain(ranges, aff.both(*map(aff.at_least, over)))
    found = shadow(domain, ("a", "b"))
    assert found is not None
    for a, b in product(range(4), range(4)):
        any_k = any(aff.holds(domain.guard, {"a": a, "b": b, "k": k}, {}) for k in range(4))
        assert bool(aff.holds(found, {"a": a, "b": b}, {})) == any_k


def test_other_coefficients_hide_it():
    ranges = tuple(Range(d, aff.const(0), aff.const(4)) for d in "ak")
    assert shadow(Domain(ranges, aff.at_least(aff.var("k") * 2 - aff.var("a"))), ("a",)) is None


# --- derivatives -----------------------------------------------------------------------------------------------------


def with_gradient(p: Program, wrt: tuple[str, ...], held: frozenset[str] = frozenset()) -> Program:
    """The program with the derivatives of its result, weighted by c, those by what is `held` left out."""
    out = p.array("out")
    c = Array("c", out.dims, out.dtype, Role.INPUT)
    made = tuple(Array(f"d{n}", p.array(n).dims, out.dtype, Role.OUTPUT) for n in wrt)
    promise = Gradient((("out", "c"),), wrt, tuple(a.name for a in made))
    return resolve(Program(p.name, (), (*p.arrays, c, *made), p.statements), [promise], held).program


@pytest.mark.parametrize("text", [ATTENTION, CAUSAL, MASKED])
def test_derivatives_of_what_is_rewritten(text: str):
    """By finite differences, and those of the program as it was."""
    p = parse(text)
    inputs = inputs_for(p, {}, 7, "real")
    wrt = ("Q", "K", "V")
    weight = np.random.default_rng(8).standard_normal((7, 4))

    def derived(q: Program) -> dict[str, np.ndarray]:
        r = with_gradient(q, wrt)
        check(r)
        return run(r, {**inputs, "c": weight})

    got, before = derived(tiled(p, 5)), derived(p)
    for n in wrt:
        np.testing.assert_allclose(got[f"d{n}"], before[f"d{n}"], rtol=1e-8, atol=1e-10)
        step = np.random.default_rng(9).standard_normal(inputs[n].shape)
        high, low = (run(p, {**inputs, n: inputs[n] + h * step})["out"] for h in (1e-6, -1e-6))
        np.testing.assert_allclose((got[f"d{n}"] * step).sum(), ((high - low) * weight).sum() / 2e-6, rtol=1e-6)


# --- the choice ------------------------------------------------------------------------------------------------------

LONG = """
program long
  input Q: f32[s: {rows}, d: 8]
  input K: f32[t: {keys}, d: 8]
  input V: f32[t: {keys}, e: 8]
  output out: f32[s: {rows}, e: 8]
  temporary S: f32[s: {rows}, t: {keys}]
  temporary m: f32[s: {rows}]
  temporary z: f32[s: {rows}]
  temporary P: f32[s: {rows}, t: {keys}]
  S: for s < {rows}, t < {keys}{guard}: S = sum[d < 8] Q * K
  m: for s < {rows}: m = max[t < {keys}{guard}] S
  z: for s < {rows}: z = sum[t < {keys}{guard}] exp(S - m)
  P: for s < {rows}, t < {keys}{guard}: P = exp(S - m) / z
  out: for s < {rows}, e < 8: out = sum[t < {keys}{guard}] P * V
"""
MACHINE = Target("small", cores=2, l1=1 << 12, l2=1 << 15, l3=1 << 17, bytes_per_cycle=2.0)


def test_long_rows_alone_are_cut():
    found = one_pass(parse(LONG.format(rows=64, keys=2048, guard="")), MACHINE, 1)
    long, (said,) = found.program, found.remarks
    assert found.near == {"S"}
    assert said.what.startswith("in one pass over tiles of")
    assert said.statement == "m and z and out"
    tile = dict(long.array("S").dims)["t"].const
    assert choice.ROWS * tile * 8 <= room(MACHINE)
    short = parse(LONG.format(rows=64, keys=128, guard=""))
    same_program = one_pass(short, MACHINE, 1)
    (why,) = same_program.remarks
    assert same_program.program is short
    assert "second cache" in why.because
    prime = parse(LONG.format(rows=64, keys=2053, guard=""))
    assert "no divisor" in one_pass(prime, MACHINE, 1).remarks[0].because


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 256 leave the second cache, and blocks pay however little they save."""
    monkeypatch.setattr("polyhedral.whole.one_pass.room", lambda _: 1 << 12)
    monkeypatch.setattr("polyhedral.whole.one_pass.GAIN", 1e9)
    monkeypatch.setattr("polyhedral.whole.one_pass.SHORTEST", 4)
    monkeypatch.setattr("polyhedral.plans.blocked._pays", lambda *_: True)
    monkeypatch.setattr("polyhedral.plans.blocks.LARGE", 0.0)


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("guard", ["", " if t <= s", " if t <= s and s <= t + 70", " if t + 100 <= s"])
def test_compiled_in_tiles(guard: str):
    """Rows without terms give 0, others what the interpreter gives, in blocks of rows and tiles."""
    p = parse(LONG.format(rows=256, keys=256, guard=guard))
    inputs = inputs_for(p, {}, 10, "real")
    want = run(p, inputs)["out"]
    for threads in (1, 2):
        got = run_c(p, inputs, {}, Options(threads=threads, plan_above=1))
        np.testing.assert_allclose(got["out"], want, rtol=2e-5, atol=2e-6)
    low = ph.lower(p, options=Options(plan_above=1))
    assert any("in one pass over tiles" in r.what for r in low.remarks)
    own = {str(a) for r in low.remarks for key, a in r.data if key == "own"}
    assert "S" in own


@pytest.mark.usefixtures("small_machine")
def test_rows_whose_tiles_share_no_loops_stay_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polyhedral.plans.blocked._pays", lambda *_: False)
    p = parse(LONG.format(rows=256, keys=256, guard=""))
    low = ph.lower(p, options=Options(plan_above=1))
    assert len(low.program.array("S").dims) == 2
    assert any("its tiles would not run in common blocks" in r.because for r in low.remarks)


@pytest.mark.usefixtures("small_machine")
@pytest.mark.parametrize("guard", ["", " if t <= s"])
def test_compiled_gradients(guard: str):
    """With the program that they are of: its scores are read again, and stored."""
    p = with_gradient(parse(LONG.format(rows=256, keys=256, guard=guard)), ("Q", "K", "V"), frozenset({"m"}))
    inputs = inputs_for(p, {}, 11, "real")
    got, want = run_c(p, inputs, {}, Options(threads=2, plan_above=1)), run(p, inputs)
    for name in ("out", "dQ", "dK", "dV"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-4)
