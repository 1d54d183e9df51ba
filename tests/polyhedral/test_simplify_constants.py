# SPDX-License-Identifier: MIT
"""Folded constants are what the interpreter computes, to the sign of a zero, in every element type."""

from __future__ import annotations

import random
from math import inf, nan

import numpy as np
import pytest

from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType, bool_, f32, f64, i8, i32, i64
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.rewrites import fold_constants as module
from polyhedral.rewrites.fold_constants import fold_constants
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse

CALLS = ("exp", "log", "sqrt", "tanh", "floor", "ceil", "round", "trunc", "erf", "sin")


def program(value: ex.Expr, inputs: tuple[Array, ...]) -> Program:
    """`value` at 21 points, more than a vector of any machine."""
    dtype = ex.dtype_of(value)
    ranges = (Range("i", aff.const(0), aff.const(21)),)
    out = Array("out", (("i", aff.const(21)),), dtype, Role.OUTPUT)
    s = Statement("out", Domain(ranges), Access("out", (("i", aff.var("i")),)), value)
    return Program("folding", (), (*inputs, out), (s,))


def special(dtype: DType) -> list[complex]:
    """Values at which arithmetic is special."""
    if dtype.kind == "b":
        return [True, False]
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return [0, 1, 2, int(info.min), int(info.max), 7, -1 if info.min else 3]
    some = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, inf, -inf, nan, 1e-3]
    return [complex(a, b) for a in some[:8] for b in (0.0, -0.0, 1.0)] if dtype.kind == "c" else list(some)


def value(rng: random.Random, dtype: DType, depth: int) -> ex.Expr:
    """A random expression, of constants more often than of loads."""
    if depth == 0:
        if rng.random() < 0.3:
            return ex.Load(f"X_{dtype.name}", (("i", aff.var("i")),), dtype)
        return ex.Const(rng.choice(special(dtype)), dtype)
    one, other = value(rng, dtype, depth - 1), value(rng, dtype, depth - 1)
    kind = rng.choice(("binary", "binary", "binary", "unary", "call", "cast", "select", "index"))
    match kind:
        case "unary":
            op = "not" if dtype == bool_ else rng.choice(("-", "abs", "~") if dtype.is_integer else ("-",))
            return ex.Unary(op, one)
        case "call" if dtype.kind == "f":
            return ex.Call(rng.choice(CALLS), (one,))
        case "cast":
            return ex.Cast(dtype, value(rng, rng.choice([t for t in dtypes.ALL if t.kind != "c"]), depth - 1))
        case "select":
            test = ex.Binary(rng.choice(("==", "!=")), one, other)
            return ex.Select(rng.choice((test, ex.Test(aff.TRUE), ex.Test(aff.FALSE))), one, other)
        case "index" if dtype == i64:
            return ex.Index(aff.const(rng.randint(-9, 9)), i64)
        case _:
            return ex.Binary(rng.choice(_operators(dtype)), one, other)


def _operators(dtype: DType) -> tuple[str, ...]:
    if dtype == bool_:
        return ("and", "or", "&", "|", "^")
    if dtype.is_integer:
        return ("+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>", "min", "max")
    return ("+", "-", "*", "/") if dtype.kind == "c" else ("+", "-", "*", "/", "//", "%", "min", "max", "**")


def bits(a: np.ndarray) -> bytes:
    """All that can be seen of values: a NaN is a NaN."""
    if a.dtype.kind in "biu":
        return a.tobytes()
    wide = a if a.dtype.kind in "fc" and a.dtype.itemsize >= 4 else a.astype(np.float32)
    parts = [wide.real, wide.imag] if wide.dtype.kind == "c" else [wide]
    return b"".join(np.where(np.isnan(x), np.float64(nan), x).tobytes() for x in parts)


def wrong(seeds: range) -> list[str]:
    found: list[str] = []
    inputs = tuple(Array(f"X_{t.name}", (("i", aff.const(21)),), t, Role.INPUT) for t in dtypes.ALL)
    for seed in seeds:
        rng = random.Random(seed)
        dtype = rng.choice(dtypes.ALL)
        p = program(value(rng, dtype, rng.choice((1, 2, 3))), inputs)
        q, _ = fold_constants(p)
        given = {a.name: np.array((special(a.dtype) * 21)[:21]).astype(a.dtype.numpy) for a in inputs}
        want, got = run(p, given)["out"], run(q, given)["out"]
        if bits(want) != bits(got):
            found.append(f"seed {seed}\n{to_text(p)}\n{to_text(q)}\n{want}\n{got}")
    return found


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.filterwarnings("ignore:overflow")
def test_folding_changes_no_bit():
    assert not wrong(range(3000))


def constants(p: Program) -> int:
    return sum(1 for s in p.statements for e in ex.walk(s.value) if isinstance(e, ex.Const))


def test_much_is_folded():
    inputs = tuple(Array(f"X_{t.name}", (("i", aff.const(21)),), t, Role.INPUT) for t in dtypes.ALL)
    shorter = 0
    for seed in range(500):
        rng = random.Random(seed)
        p = program(value(rng, rng.choice((f32, f64, i32, i8)), 3), inputs)
        shorter += constants(fold_constants(p)[0]) < constants(p)
    assert shorter >= 350


X32 = ex.Load("X_f32", (("i", aff.var("i")),), f32)
ONE, ZERO, MINUS = (ex.Const(v, f32) for v in (1.0, 0.0, -0.0))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ex.Binary("*", X32, ONE), X32),
        (ex.Binary("/", X32, ONE), X32),
        (ex.Binary("-", X32, ZERO), X32),
        (ex.Binary("+", X32, MINUS), X32),
        (ex.Binary("+", X32, ZERO), None),
        (ex.Binary("-", X32, MINUS), None),
        (ex.Binary("*", X32, ZERO), None),
        (ex.Binary("-", ZERO, X32), None),
        (ex.Binary("/", ONE, X32), None),
        (ex.Binary("max", X32, X32), None),
    ],
)
def test_neutral_operands_of_floats(before: ex.Expr, after: ex.Expr | None):
    p = program(before, (Array("X_f32", (("i", aff.const(21)),), f32, Role.INPUT),))
    assert fold_constants(p)[0].statements[0].value == (before if after is None else after)
    if after is None:
        assert fold_constants(p)[0] is p


def _zero_is_a_unit(op: str, c: ex.Const, *, right: bool) -> bool:
    return op in ("+", "-") and right and c.value == 0


def _as_python_does(e: ex.Expr, given: list[ex.Const]) -> ex.Expr:
    """Integers that do not wrap, floats that are not rounded."""
    match e:
        case ex.Binary("*" | "+" as op, ex.Const(a), ex.Const(b)) if ex.dtype_of(e).kind in "iuf":
            return ex.Const(a * b if op == "*" else a + b, ex.dtype_of(e))
        case _:
            return e


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("_is_unit", _zero_is_a_unit),
        ("_computed", _as_python_does),
        ("_absorbs", lambda op, c: op == "*" and c.value == 0),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_careless_fold_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, mutant: object):
    monkeypatch.setattr(module, name, mutant)
    assert _goes_wrong()


def _goes_wrong() -> bool:
    try:
        return bool(wrong(range(3000)))
    except OverflowError:  # a constant that its type does not hold
        return True


def test_cells_of_constant_arrays():
    p = parse("""
    program table
      input X: f32[i: 3]
      constant C: f32[k: 3] = (1.0, -2.5, 4.0)
      output out: f32[i: 3]
      out: for i < 3:  out = X * C(k=1) + C(k=i)
    """)
    q, _ = fold_constants(p)
    assert "-2.5" in to_text(q)
    inputs = {"X": np.arange(3, dtype=np.float32)}
    np.testing.assert_array_equal(run(p, inputs)["out"], run(q, inputs)["out"])


def test_a_gather_is_not_folded_away():
    """Its bounds are tested when it runs."""
    p = parse("""
    program faulty
      input X: i32[i: 3]
      input K: i64[i: 3]
      output out: i32[i: 3]
      out: for i < 3:  out = X(i := K) * 0
    """)
    assert fold_constants(p)[0] is p
