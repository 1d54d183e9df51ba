# SPDX-License-Identifier: MIT
"""Printing and parsing: the round trip is exact, and text that does not parse is shown with its place."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyhedral.errors import DimError, SyntaxProblem
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Floor, Var
from polyhedral.ir.dtypes import ALL, bool_, f32, i8, i32, i64
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.text.definitions import program, statement
from polyhedral.text.printer import to_text
from polyhedral.text.reader import DEPTH, parse
from polyhedral.text.tokens import NESTING
from tests.programs import CASES, ZOO
from tests.strategies import programs


@pytest.mark.parametrize("name", ZOO)
def test_zoo_round_trip(name):
    text = to_text(ZOO[name])
    assert parse(text) == ZOO[name]
    assert to_text(parse(text)) == text


@given(programs())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_round_trip(p):
    assert parse(to_text(p)) == p


def test_conv_is_short():
    assert to_text(ZOO["conv_strided"]) == (
        "program conv_strided\n"
        "  input X: f32[c, y, x]\n"
        "  input W: f32[o, c: X.c, ky, kx]\n"
        "  output out: f32[o: W.o, y: (X.y - W.ky)//2 + 1, x: (X.x - W.kx)//2 + 1]\n"
        "  assume W.ky <= X.y and W.kx <= X.x\n"
        "  S0: for o < W.o, y < (X.y - W.ky)//2 + 1, x < (X.x - W.kx)//2 + 1:\n"
        "    out = sum[c < X.c, ky < W.ky, kx < W.kx] X(y=2*y + ky, x=2*x + kx) * W\n"
    )


def one(value, dtype, dims=("x", "y"), **more):
    """A program that stores one value."""
    n = aff.const(4)
    arrays = (
        Array("A", (("x", n), ("y", n)), f32, Role.INPUT),
        Array("x", (), i64, Role.INPUT),
        Array("out", tuple((d, n) for d in dims), dtype, Role.OUTPUT),
    )
    domain = Domain(tuple(Range(d, aff.const(0), n) for d in dims))
    s = Statement("S", domain, Access("out", tuple((d, aff.var(d)) for d in dims)), value, **more)
    return Program("p", ("N",), arrays, (s,))


A = ex.Load("A", (("x", aff.var("x")), ("y", aff.var("y"))), f32)
B = ex.Load("A", (("x", aff.var("y")), ("y", ex.Index(aff.var("x") + 1, i64))), f32)
HALF = ex.Const(0.5, f32)


@pytest.mark.parametrize(
    "value",
    [
        ex.Binary("-", A, ex.Binary("-", B, A)),
        ex.Binary("-", ex.Binary("-", B, A), A),
        ex.Binary("*", ex.Binary("+", A, B), ex.Unary("-", HALF)),
        ex.Unary("-", ex.Const(-0.5, f32)),
        ex.Binary("**", ex.Const(-2.0, f32), ex.Binary("**", A, B)),
        ex.Unary("-", ex.Binary("**", A, HALF)),
        ex.Binary("+", HALF, HALF),
        ex.Binary("+", ex.Const(math.inf, f32), ex.Const(-math.inf, f32)),
        ex.Const(math.nan, f32),
        ex.Const(1e-45, f32),
        ex.Select(ex.Binary("<", ex.Const(1, i32), ex.Const(2, i32)), HALF, A),
        ex.Select(ex.Unary("not", ex.Binary("==", A, HALF)), A, B),
        ex.Select(ex.Binary("and", ex.Binary("<", A, B), ex.Unary("not", ex.Const(True, bool_))), A, B),
        ex.Cast(f32, ex.Const(3, i8)),
        ex.Cast(f32, ex.Index(Affine(((Floor(aff.var("x") + 1, 3), 2),), 1), i32)),
        ex.Cast(f32, ex.Index(aff.var("x"), i64)),
        ex.Cast(f32, ex.Index(aff.size("N"), i64)),
        ex.Cast(f32, ex.Load("x", (), i64)),
        ex.Cast(f32, ex.Binary("<<", ex.Unary("~", ex.Index(aff.var("y"), i64)), ex.Const(1, i64))),
        ex.Cast(f32, ex.Test(aff.both(aff.at_least(aff.var("x")), aff.at_least(aff.var("y"), 2)))),
        ex.Cast(f32, ex.Test(aff.negate(aff.both(aff.at_least(aff.var("x")), aff.equal(aff.var("y"), 2))))),
        ex.Call("atan2", (ex.Call("exp", (A,)), ex.Unary("abs", HALF))),
        ex.Binary("max", ex.Binary("min", A, B), HALF),
    ],
    ids=str,
)  # fmt: skip
def test_values_round_trip(value):
    p = one(value, f32)
    assert parse(to_text(p)) == p


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_types_and_constants(dtype):
    data = {"b": (True, False), "c": (1.5 - 2j, 0j), "f": (0.1, math.inf)}.get(dtype.kind, (7, 0))
    arrays = (Array("K", (("i", aff.const(2)),), dtype, Role.CONSTANT, data), Array("E", (), dtype, Role.CONSTANT, ()))
    p = Program("p", (), (*arrays, Array("out", (), dtype, Role.OUTPUT)), ())
    assert parse(to_text(p)) == p


def test_awkward_names():
    n = aff.size("x")
    names = ("for", "t'", "a`b", "größe", "x")
    a = Array("sum", tuple((d, n) for d in names), f32, Role.INOUT)
    index = tuple((d, aff.var(d) - aff.size("x") + n) for d in names)
    domain = Domain(tuple(Range(d, aff.const(0), n) for d in names), aff.at_least(aff.var("x") + aff.size("x")))
    s = Statement("max", domain, Access("sum", index), HALF, position=(3, "t'", 0))
    p = Program("program", ("x",), (a,), (s,))
    assert parse(to_text(p)) == p


def test_flags_round_trip():
    p = one(A, f32, ("x",), op="sum", strict=True, accumulate=True, position=(1, "x", 2))
    s = p.statements[0]
    box = (Range("y", aff.const(0), aff.const(3)), *s.domain.ranges)
    for domain in (Domain(box), Domain((*box[::-1],), aff.at_least(aff.var("x") - aff.var("y")))):
        q = Program(p.name, p.sizes, p.arrays, (Statement(s.name, domain, s.write, A, "sum", True, True, (1, "x", 2)),))
        assert parse(to_text(q)) == q


def test_domain_from_constraints():
    p = parse("""
    program p
      sizes N
      output out: f32[i: N, j: N]
      S: for {i, j : 0 <= i < N and i <= j and j < N and j % 2 == 0}:  out = 1.0
    """)
    assert [str(r) for r in p.statements[0].domain.ranges] == ["i < N", "i <= j < N"]
    q = parse("program p\n sizes N\n output out: f32[i: N]\n S: for {i : 2*i <= N and 0 <= i}: out = 1.0")
    assert str(q.statements[0].domain.ranges[0]) == "i < N//2 + 1"


def test_build():
    p = program(
        "conv", "input X: f32[c, x]", "input W: f32[c: X.c, k]", "output O: f32[x: (X.x - W.k)//2 + 1]",
        statement("S0", domain="x < (X.x - W.k)//2 + 1, c < X.c, k < W.k",
                  write="O", value="X(x=2*x + k) * W", reduce="sum"),
    )  # fmt: skip
    assert p.statements[0].reduced == ("c", "k")
    got = run(p, {"X": np.ones((2, 7), np.float32), "W": np.ones((2, 3), np.float32)})
    assert got["O"].tolist() == [6.0, 6.0, 6.0]


@pytest.mark.parametrize(
    ("text", "words", "line", "columns"),
    [
        ("program p\n input X f32[x]", "expected ':', found 'f32'", 2, (9, 12)),
        ("program p\n input X: f31[x]", "expected an element type such as f32, found 'f31'", 2, (10, 13)),
        ("program p\n output X: f32[x]\n S: for x < X.x: X = ", "expected a value, found the end", 3, (21, 22)),
        ("program p\n output X: f32[x]\n S: for x < X.x: X = 1.0 ? 2.0", "unexpected character '?'", 3, (25, 26)),
        ("program p\n output X: f32[x]\n S: for x < X.x: X(x=x*x) = 1.0", "literal only", 3, (23, 24)),
        ("program p\n output X: f32[x]\n S: for x < X.x if x: X = 1.0", "a comparison, found ':'", 3, (20, 21)),
        ("program p\n output X: f32[x]\n S: for x < X.x: X = f32(1)", "typed literal", 3, (26, 27)),
    ],
)
def test_syntax_problems(text, words, line, columns):
    with pytest.raises(SyntaxProblem) as error:
        parse(text)
    assert words in str(error.value)
    assert (error.value.code, error.value.location.line) == ("PH060", line)
    assert error.value.location.columns == columns


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("S: for x < X.y: Y = X", "no dim or size is named 'X.y'"),
        ("S: for x < X.x: Y = X(xx=x)", "no dim of X is named 'xx'"),
        ("S: for x < X.x: Y = Z", "no dim or size is named 'Z'"),
        ("S: for i < X.x: Y(x=i) = X", "no dim of this statement (left out of an access) is named 'x'"),
        ("S: for x < X.x: Q = X", "no array is named 'Q'"),
    ],
)
def test_unknown_names(text, words):
    with pytest.raises(DimError) as error:
        parse(f"program p\n input X: f32[x]\n output Y: f32[x: X.x]\n {text}")
    assert words in str(error.value)
    assert error.value.hints


@pytest.mark.parametrize(
    "deep", ["(" * 5000 + "X", "-" * 5000 + "X", "X" + " + X" * 5000, "abs(" * 5000, "{" + "(" * 5000]
)
def test_deep_nesting_is_refused(deep):
    with pytest.raises(SyntaxProblem, match=f"at most ({NESTING}|{DEPTH}) levels"):
        parse(f"program p\n input X: f32[]\n output Y: f32[]\n S: Y = {deep}")


def test_nesting_up_to_the_limit():
    n = NESTING // 2 - 2
    p = parse(f"program p\n input X: f32[]\n output Y: f32[]\n S: Y = {'-(' * n}X{')' * n}")
    assert parse(to_text(p)) == p


@given(st.text(alphabet="program XS:f32[x]=for<({+*-0.1,\n", max_size=60))
@settings(max_examples=200, deadline=None)
def test_garbage_never_crashes(text):
    with contextlib.suppress(SyntaxProblem, DimError):
        parse(f"program p\n input X: f32[x]\n{text}")


def test_cases_are_complete():
    assert set(CASES) == set(ZOO)
    assert Var("x") != Var("y")
