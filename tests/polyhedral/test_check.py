# SPDX-License-Identifier: MIT
"""The checker: each error with its point, preconditions, and verdicts against enumeration of random programs."""

import time
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from polyhedral.checks.check import check, violation
from polyhedral.errors import ArgumentError, BoundsError, DimError, DomainError, DtypeError, OrderError, UserError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import f32, i8, i32
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import specialise
from polyhedral.text.reader import parse
from tests.programs import CASES, ZOO
from tests.strategies import inputs_for, programs


def text(body, *declared):
    return parse("\n".join(["program p", *declared, body]))


IN, OUT = "input X: f32[x]", "output Y: f32[x: X.x]"


@pytest.mark.parametrize("name", ZOO)
def test_zoo_is_proved(name):
    checked = check(ZOO[name])
    assert checked.preconditions == ()
    assert all(p.verdict == "proved" for p in checked.proofs)


def test_refuted_access():
    p = parse("""
    program p
      input X: f32[x, y]
      output Y: f32[x: X.x, y: X.y]
      t0: for x < X.x, y < X.y:  Y = X + X(x=x + 1)
    """)
    with pytest.raises(BoundsError) as error:
        check(p)
    e = error.value
    assert (e.code, e.point, e.sizes) == ("PH101", {"x": 7, "y": 0}, {"X.x": 8, "X.y": 8})
    shown = str(e)
    assert "statement t0 reads X(x=x + 1) out of bounds" in shown
    assert "counterexample: at (x=7, y=0) with sizes X.x=8, X.y=8" in shown
    assert "X.x = x + 1 = 8, but X.x is in [0, 8)" in shown
    assert "x takes the whole of X.x" in shown
    assert "hint: X.pad(x=(0, 1))(x=x + 1)" in shown


def test_refuted_only_for_small_sizes():
    p = text("S: for x < 2: Y = X(x=3 - x)", "input X: f32[x: 3]", "output Y: f32[x: 2]")
    with pytest.raises(BoundsError, match="X") as error:
        check(p)
    assert error.value.point == {"x": 0}


def test_refuted_write():
    with pytest.raises(BoundsError, match=r"S writes Y\(x=x \+ 1\) out of bounds"):
        check(text("S: for x < X.x: Y(x=x + 1) = X", IN, OUT))


def test_conditional_access():
    p = ZOO["matmul"]
    p = replace(p, arrays=tuple(replace(a, dims=tuple((d, aff.size(f"{a.name}.{d}")) for d, _ in a.dims))
                                if a.name == "B" else a for a in p.arrays), sizes=(*p.sizes, "B.k"))  # fmt: skip
    (needed,) = check(p).preconditions
    assert str(needed) == "S0 reads B: needs A.k <= B.k"
    assert violation(needed, {"A.i": 2, "A.k": 4, "B.k": 4, "B.j": 1}) is None
    e = violation(needed, {"A.i": 2, "A.k": 5, "B.k": 4, "B.j": 1})
    assert (e.code, e.point) == ("PH102", {"i": 0, "j": 0, "k": 4})
    assert "B.k = k = 4, but B.k is in [0, 4)" in str(e)
    assert violation(needed, {"A.i": 0, "A.k": 5, "B.k": 4, "B.j": 1}) is None


def test_conditional_on_a_sum_of_sizes():
    p = text("S: for i < B.i, j < C.j: Y = A(n=i + j)", "input A: f32[n]", "input B: f32[i]", "input C: f32[j]",
             "output Y: f32[i: B.i, j: C.j]")  # fmt: skip
    (needed,) = check(p).preconditions
    sizes = {"A.n": 5, "B.i": 3, "C.j": 4}
    assert not aff.holds(needed.condition, {}, sizes)
    assert violation(needed, sizes).point == {"i": 2, "j": 3}
    assert aff.holds(needed.condition, {}, sizes | {"A.n": 6})


def test_branches_and_assumptions_count():
    body = "S: for x < X.x: Y = where([x + 1 < X.x], X(x=x + 1), X)"
    assert check(text(body, IN, OUT)).preconditions == ()
    body = "S: for x < X.x: Y = X(x=x//2 + K.k - 4)"
    given_ = (IN, "input K: f32[k]", OUT)
    assert check(text(body, *given_)).preconditions
    assert not check(text(f"assume K.k == 4\n{body}", *given_)).preconditions


U = "temporary u: f32[x: X.x]"


@pytest.mark.parametrize(
    ("body", "more", "words"),
    [
        ("S0: for x < X.x - 1: Y = X", (), "is returned but no statement defines it"),
        ("S0: for x < X.x: Y = u(x=0)\n S1: for 1 <= x < X.x: u = X", (U,), "u(x=0) is read by S0 at"),
        ("S0: for x < X.x: Y = sum[j < x] u(x=j)\n S1: for 2 <= x < X.x: u = X", (U,), "u(x="),
        ("S0: for x < X.x: Y = X\n S1: u = 1.0\n S2: for x < 1: u = 2.0", ("temporary u: f32[]",), None),
        ("S0: for x < X.x: Y = u(x := i64(X))\n S1: for x < X.x - 1: u = X", (U,), "is read by S0"),
    ],
)
def test_undefined_cells(body, more, words):
    with pytest.raises(DomainError) as error:
        check(text(body, IN, OUT, *more))
    e = error.value
    if words is None:
        assert e.code == "PH121"
    else:
        assert e.code == "PH120"
        assert words in e.message
        assert "is defined on {" in str(e)


def test_undefined_cell_names_cell_and_reader():
    p = parse("""
    program p
      sizes X.x, steps
      input X: f32[x]
      temporary u: f32[t: steps + 1, x: X.x]
      output Y: f32[x: X.x]
      S0: for x < X.x:  u(t=0) = X
      S1: for t < steps, 1 <= x < X.x:  u(t=t + 1) = u(x=x - 1) + u
      S2: for x < X.x:  Y = u(t=steps)
    """)
    with pytest.raises(DomainError) as error:
        check(p)
    assert error.value.message == "u(t=1, x=0) is read by S1 at (t=1, x=1) but no statement defines it"
    assert "u is defined on {t == 0 and 0 <= x and x < X.x} by S0" in str(error.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("S0: for x < X.x: Y = X\n S1: for 1 <= x < X.x: Y = X", "Y(x=1) is defined by S0 and S1"),
        ("S0: for x < X.x: Y(x=x//2) = X", "Y(x=0) is defined twice by S0: at (x=0) and at (x=1)"),
        ("S0: for x < X.x, k < 2: Y = X", "defined twice by S0"),
        ("S0: for x < X.x: Y(x=x//2) = sum[k < 3] X", "defined twice by S0"),
        ("S0: for x < X.x: Y += sum[k < 3] X", "not inout"),
    ],
)
def test_defined_twice(body, words):
    with pytest.raises(DomainError) as error:
        check(text(body, IN, OUT))
    assert error.value.code == "PH121"
    assert words in error.value.message


def test_order_of_updates():
    u = "inout u: f32[y, x]"
    with pytest.raises(OrderError) as error:
        check(text("S0: for t < 3, y < u.y, 1 <= x < u.x at (0, t, 0): u = u(x=x - 1)", u))
    shown = str(error.value)
    assert error.value.code == "PH201"
    assert "statement S0 updates u in place, and the result depends on the order of x" in shown
    assert "instance (t=0, y=0, x=1) writes u(y=0, x=1), which instance (t=0, y=0, x=2) reads as u(x=x - 1)" in shown
    assert "Gauss-Seidel" in shown
    assert "Jacobi" in shown
    check(text("S0: for t < 3, y < u.y, 1 <= x < u.x at (0, t, 0, x, 0): u = u(x=x - 1)", u))
    check(text("S0: for y < u.y, x < u.x: u = u * 2.0", u))
    with pytest.raises(OrderError, match="order of k"):
        check(text("S0: for y < u.y, x < u.x, k < 2: u = 1.0", u))


def test_reductions_commute_but_their_reads_do_not():
    declared = ("input X: f32[x, k]", "inout u: f32[x: X.x]")
    check(text("S0: for x < X.x: u += sum[k < X.k] X", *declared))
    check(text("S0: for x < X.x, k < X.k at (0, k, 0): u += sum[k] X", *declared))
    for body in ("u += sum[k < X.k] X * u", "u = sum[k < X.k] X * u", "u += sum[k < X.k] X * u(x=0)"):
        with pytest.raises(OrderError):
            check(text(f"S0: for x < X.x: {body}", *declared))
    with pytest.raises(DomainError, match="loops over it"):
        check(text("S0: for x < X.x, k < X.k at (0, k, 0): u = sum[k] X", *declared))


def test_overflow_is_a_remark():
    p = ZOO["matmul_i8"]
    assert check(specialise(p, {"A.k": 1000})).remarks == ()
    (remark,) = check(specialise(p, {"A.k": 1 << 22})).remarks
    assert "i32 sum over k may overflow (PH302), because 4194304 terms in [-16256, 16384]" in str(remark)


def broken(f):
    """The copy program with its statement changed."""
    p = ZOO["copy"]
    return replace(p, statements=(f(p.statements[0]),))


X = ex.Load("X", (("y", aff.var("y")), ("x", aff.var("x"))), f32)


def reading(*index):
    return broken(lambda s: replace(s, value=replace(X, index=index)))


def short_constant():
    p = ZOO["constant_array"]
    return replace(p, arrays=tuple(replace(a, data=(1.0,)) if a.data else a for a in p.arrays))


@pytest.mark.parametrize(
    ("program", "error", "code", "words"),
    [
        (broken(lambda s: replace(s, value=replace(X, array="XX"))), DimError, "PH001", "no array is named 'XX'"),
        (broken(lambda s: replace(s, value=replace(X, index=X.index[:1]))), DimError, "PH001", "missing: x"),
        (broken(lambda s: replace(s, value=replace(X, index=X.index[::-1]))), DimError, "PH001", "one index for each"),
        (reading(X.index[0], ("x", aff.var("xx"))), DimError, "PH001", "'xx'"),
        (reading(X.index[0], ("x", aff.size("N"))), DimError, "PH001", "'N'"),
        (reading(("yy", aff.var("y")), X.index[1]), DimError, "PH001", "'yy'"),
        (broken(lambda s: replace(s, value=replace(X, dtype=i32))), DtypeError, "PH301", "is read as i32"),
        (broken(lambda s: replace(s, value=ex.Cast(i8, X))), DtypeError, "PH301", "the value has type i8"),
        (broken(lambda s: replace(s, value=ex.Binary("+", X, ex.Const(1, i32)))), DtypeError, "PH301", "f32 + i32"),
        (broken(lambda s: replace(s, value=ex.Binary("<<", X, X))), DtypeError, "PH301", "<<"),
        (broken(lambda s: replace(s, value=ex.Select(X, X, X))), DtypeError, "PH301", "where takes bool"),
        (broken(lambda s: replace(s, value=ex.Call("foo", (X,)))), DtypeError, "PH301", "no function foo"),
        (broken(lambda s: replace(s, position=(0, "t"))), DimError, "PH001", "'t'"),
        (broken(lambda s: replace(s, op="mean")), DomainError, "PH121", "no reduction is named 'mean'"),
        (broken(lambda s: replace(s, domain=replace(s.domain, ranges=s.domain.ranges * 2))), DimError, "PH002", "'y'"),
        (broken(lambda s: replace(s, write=replace(s.write, array="X"))), ArgumentError, "PH310", "which is input"),
        (replace(ZOO["copy"], sizes=("X.x",)), DimError, "PH001", "did you mean 'X.x'"),
        (replace(ZOO["copy"], arrays=ZOO["copy"].arrays[:1] * 2), DimError, "PH002", "two arrays"),
        (short_constant(), ArgumentError, "PH315", "1 values"),
    ],
)
def test_ill_formed(program, error, code, words):
    with pytest.raises(UserError) as raised:
        check(program)
    assert isinstance(raised.value, error)
    assert raised.value.code == code
    assert words in str(raised.value)
    assert raised.value.hints


@given(programs())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_programs_are_right(p):
    assert check(p).preconditions == ()


@given(programs(updates=False), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_broken_programs_are_refused_as_the_interpreter_refuses_them(p, data):
    """Shift one read, or shrink one domain: checker and interpreter must agree that it is right or wrong."""
    k = data.draw(st.integers(0, len(p.statements) - 1))
    s = p.statements[k]
    loads = [n for n in ex.walk(s.value) if isinstance(n, ex.Load) and n.index]
    mentioned = [n for n in loads if isinstance(n.index[0][1], aff.Affine)]  # a gather has no index to shift
    if mentioned and data.draw(st.booleans()):
        target, shift = data.draw(st.sampled_from(mentioned)), data.draw(st.integers(-2, 2))
        moved = replace(target, index=((target.index[0][0], target.index[0][1] + shift), *target.index[1:]))
        s = replace(s, value=ex.rewrite(s.value, lambda n: moved if n == target else n))
    else:
        assume(s.domain.ranges)
        r = s.domain.ranges[0]
        r = replace(r, hi=r.hi + data.draw(st.integers(-2, 1)))
        s = replace(s, domain=replace(s.domain, ranges=(r, *s.domain.ranges[1:])))
    p = replace(p, statements=(*p.statements[:k], s, *p.statements[k + 1 :]))
    assert verdict(check, p) == verdict(lambda q: run(q, inputs_for(q, {})), p)


def caught(p):
    try:
        check(p)
    except UserError as e:
        return e
    return None


def verdict(f, p):
    """Whether a program is refused; the interpreter finds circles (PH122) that the checker leaves to the scheduler."""
    try:
        f(p)
    except UserError as e:
        assume(e.code != "PH122")
        return "wrong"
    return "right"


@given(st.integers(0, 3), st.integers(-2, 2), st.integers(1, 3), st.integers(0, 3), st.integers(-1, 1))
@settings(max_examples=60, deadline=None)
def test_bounds_verdict_against_enumeration(scale, shift, divisor, extra, sign):
    """`X(n=(scale*i + sign*j + shift)//divisor)` over i < N, j <= i, for all N and extents up to 9."""
    index = (aff.var("i") * scale + aff.var("j") * sign + shift) // divisor
    p = parse(f"""
    program p
      sizes N, M
      input X: f32[n: M + {extra}]
      output Y: f32[]
      S0: Y = sum[i < N, j < i + 1] X(n={index})
    """)
    wrong = {
        (n, m): any(
            not 0 <= aff.evaluate(index, {"i": i, "j": j}, {}) < m + extra for i in range(n) for j in range(i + 1)
        )
        for n, m in product(range(9), repeat=2)
    }
    refused = caught(p)
    if refused is not None:
        assert refused.code == "PH101"
        assert all(w for (n, _), w in wrong.items() if n)
        assert wrong[refused.sizes["N"], refused.sizes["M"]]
        return
    preconditions = check(p).preconditions
    for (n, m), w in wrong.items():
        found = [v for c in preconditions if (v := violation(c, {"N": n, "M": m})) is not None]
        assert bool(found) == w


def test_conv_is_checked_fast():
    p = CASES["conv_strided"].program
    check(p)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        check(p)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.015
