# SPDX-License-Identifier: MIT
"""The error catalogue, entry by entry: the message's words, code, point, sizes, place, and a hint that names a dim.

Every wrong input with its code is in `test_bad_inputs` and `test_bad_calls`.
"""

import inspect

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, j, k, t, x, y


def f4(*shape):
    return np.ones(shape, "f4")


def declared(axes, inout=()):
    """A decorator for one argument called X, u, A ... as the function names it."""
    return lambda f: ph.function(**dict(zip(inspect.signature(f).parameters, axes, strict=False)), inout=inout)(f)


@declared(["c y x"])
def unknown(X):
    return X(yy=0)


@declared(["i k", "k j"])
def mm(A, B):
    return (A * B).sum(k)


@declared(["y x"])
def oob(X):
    return X + X[x + 1]


@declared(["i", "j", "n"])
def conditional(B, D, C):
    return B * C(n=i + j) * D


@declared(["i j"])
def by_position(A):
    return A[j, i]


@declared(["i j"])
def no_dim(A):
    return A[k]


@declared(["s t"])
def diagonal(K):
    return K(s=t)


@declared(["x"])
def truth(X):
    return X if x >= 0 else -X


@declared(["x"])
def product(X):
    return X(x=x * y)


@declared(["y x"], inout="u")
def in_place(u):
    with ph.over(x=(1, u.size(x))):
        u[...] = u + u[x - 1]


@declared(["x"])
def unbounded(X):
    return X * 0 + i


@declared(["x"])
def ambiguous(X):
    return X(x=i + j)


@declared(["x"])
def origin(X):
    return X[x - 1] + X[x + 1]


@declared(["x"])
def undefined(X):
    u = ph.var("u", like=X, t=3)
    u(t=0)[...] = X
    with ph.over(x=(1, X.size(x) - 1)):
        u[t + 1] = u[x - 1] + u[x + 1]
    return u(t=2)


@declared(["x"])
def twice(X):
    u = ph.var("u", like=X, t=1)
    u(t=0)[...] = X
    u(t=0)[...] = 2 * X
    return u


@declared(["i", "i"])
def halves(A, B):
    return A * B


@declared(["x"])
def assigned(A):
    A[...] = 0


@declared(["x", "x"], inout="u")
def add(u, v):
    u[...] += v


def overlap():
    a = f4(100)
    add(a, a)


def halves_apart():
    halves(f4(2).astype(ph.f16.numpy), f4(2).astype(ph.bf16.numpy))


CATALOGUE = {
    "1": (ph.DimError, "PH001", "X(yy=...): X has no dimension named 'yy'; it has {c, x, y}. Did you mean 'y'?", "y",
          unknown.trace),
    "2": (ph.DimError, "PH010", "mm: sizes disagree: A.k = 4 but B.k = 5 (both are indexed by dimension k", "B(k=k2)",
          lambda: mm(f4(3, 4), f4(5, 3))),
    "3": (ph.BoundsError, "PH101", "reads X(x=x + 1) out of bounds", "X.pad(x=(0, 1))", oob.trace),
    "4": (ph.BoundsError, "PH102", "needs B.i + D.j", "C", lambda: conditional(f4(3), f4(4), f4(5))),
    "5": (ph.DimError, "PH003", "A[j] does nothing: A is already read at j=j", "a[j, i]", by_position.trace),
    "5, PH004": (ph.DimError, "PH004", "A[k]: which dimension is k for? A has {i, j}; the index mentions none of them",
                 "A(i=k) or A(j=k)", no_dim.trace),
    "6": (ph.DimError, "PH005", "K(s=t): K already has a dimension named 't', so this would read its diagonal",
          "K(s=t, t=t)", diagonal.trace),
    "7": (ph.DtypeError, "PH020", "condition 'x >= 0' is not known while the program is being built", "lo <= i",
          truth.trace),
    "8": (ph.DimError, "PH030", "X(x=...): index is not affine", "X(x=idx)", product.trace),
    "9": (ph.OrderError, "PH201", "updates u in place, and the result depends on the order of x", "ph.sequential(",
          in_place.trace),
    "10": (ph.DomainError, "PH110",
           "nothing bounds dimension i (used only as a value)", "ph.dims(i=10)", unbounded.trace),
    "10, PH111": (ph.DomainError, "PH111",
                  "the range of i and j is ambiguous: they occur only together, in X(x=i + j)",
                  "ph.dims(i=10)", ambiguous.trace),
    "10, PH112": (ph.DomainError, "PH112",
                  "largest in-bounds range of x is 1 <= x < X.x - 1, which does not start at 0",
                  ".over(x=(1, X.x - 1))", origin.trace),
    "11": (ph.DomainError, "PH120", "is read by S1", "ph.orelse(expr, fallback)", undefined.trace),
    "11, PH121": (ph.DomainError, "PH121", "u(x=0, t=0) is defined by S0 and S1", "domains", twice.trace),
    "13": (ph.ArgumentError, "PH040",
           "mm(A=...): got an unnamed array with 3 axes (2,3,4), but A is declared 'i k' (2)",
           "ph.array(a, 'batch i k') - the function is lifted over it", lambda: mm(f4(2, 3, 4), f4(4, 2))),
    "14": (ph.OrderError, "PH041",
           "this array has unordered dimensions {i, j}; say the axis order you want: .order('i j')",
           "'i j'", lambda: np.asarray(mm(f4(2, 3), f4(3, 2)))),
    "15": (ph.DtypeError, "PH301", "f16 * bf16 has no common type", ".astype(ph.f32)", halves_apart),
    "16": (ph.ArgumentError, "PH310", "A is assigned but is an input", 'inout="A"', assigned.trace),
    "16, PH311": (ph.ArgumentError, "PH311", "arguments u and v share memory (bytes 0..399)", "inout", overlap),
}  # fmt: skip
PLACED = [e for e, (*_, cause) in CATALOGUE.items() if getattr(cause, "__name__", "") == "trace"]
TYPE_ERRORS = {"1", "2", "5", "6", "7", "8", "9", "13", "14", "15"}


def caught(entry):
    family, code, *_, cause = CATALOGUE[entry]
    with pytest.raises(family) as raised:
        cause()
    assert raised.value.code == code
    return raised.value


@pytest.mark.parametrize("entry", CATALOGUE)
def test_words_code_and_hint(entry):
    _, code, words, hint, _ = CATALOGUE[entry]
    error = caught(entry)
    assert words in error.message
    assert any(hint in h for h in error.hints), error.hints
    assert str(error).startswith(f"[{code}] {error.message}")
    assert "\n  hint: " in str(error)
    json = error.to_json()
    assert (json["code"], json["hint"]) == (code, list(error.hints))
    assert len(str(error).splitlines()) < 16


@pytest.mark.parametrize("entry", PLACED)
def test_the_place_is_the_users_line(entry):
    where = caught(entry).location
    assert where.file == __file__
    function = CATALOGUE[entry][-1].__self__.python
    lines, first = inspect.getsourcelines(function)
    assert first <= where.line < first + len(lines)


def test_counterexamples():
    refuted = caught("3")
    assert refuted.point == {"x": 7, "y": 0}
    assert refuted.sizes == {"X.x": 8, "X.y": 8}
    assert "X.x = x + 1 = 8, but X.x is in [0, 8)" in str(refuted)
    assert "x takes the whole of X.x" in str(refuted)
    conditional = caught("4")
    assert conditional.point["i"] + conditional.point["j"] == 5
    assert conditional.sizes["C.n"] == 5
    assert "C.n = i + j = 5, but C.n is in [0, 5)" in str(conditional)
    order = caught("9")
    assert "instance (" in str(order)
    assert order.dim == "x" or "x" in order.point
    assert caught("11").point


def test_an_overflowing_sum_is_a_remark():
    @ph.function(A="i k", B="k j")
    def small(A, B):
        return (A * B).sum(k, acc=ph.i32)

    low = small.lower(A="i32[i:2, k:4]", B="i32[k:4, j:2]")
    remark = next((r for r in ph.check(low.program).remarks if "PH302" in str(r)), None)
    assert remark is not None
    assert "may overflow" in str(remark)


def test_no_compiler(monkeypatch, tmp_path):
    from codegen.runtime.cc import find_compiler  # noqa: PLC0415

    empty = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    monkeypatch.setattr("os.environ", empty)
    with pytest.raises(ph.ToolchainError) as raised:
        find_compiler(empty, tmp_path / "compilers.json")
    assert raised.value.code == "PH500"
    assert "no C compiler" in raised.value.message
    assert any("polyhedral doctor" in h for h in raised.value.hints)


def test_families_are_pythons():
    for entry, (family, *_) in CATALOGUE.items():
        if entry.partition(",")[0] in TYPE_ERRORS and family is not ph.ArgumentError:
            assert issubclass(family, TypeError)
        assert issubclass(family, ph.UserError)
    assert issubclass(ph.BoundsError, IndexError)
    assert not issubclass(ph.UserError, ph.InternalError)


def test_sizes_that_disagree_at_a_call_show_the_line_that_wants_them_equal():
    @ph.function(u="n", v="n2", returns="n")
    def coupled(u, v, steps: ph.Size):
        p, q = ph.var("p", like=u, t=steps + 1), ph.var("q", like=v(n2=ph.Dim("n")), t=steps + 1)
        p(t=0)[...], q(t=0)[...] = u, 0.0
        with ph.over(t=(0, steps)):
            p[t + 1] = p - q
            q[t + 1] = q + p
        return p(t=steps)

    with pytest.raises(ph.DimError, match="PH010") as caught:
        coupled(f4(3), f4(4), 2)
    assert caught.value.location is not None
    assert "p[t + 1] = p - q" in caught.value.location.text
    assert caught.value.statement == "S2"


def test_a_bare_dim_between_brackets_is_left_out():
    @ph.function(X="y x")
    def shifted(X):
        return X[y, x + 1]

    with pytest.raises(ph.DimError, match="PH003") as caught:
        shifted(f4(3, 4))
    assert caught.value.hints[0] == "leave y out: X[x + 1]"
