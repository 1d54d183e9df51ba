# SPDX-License-Identifier: MIT
"""Sizes, scalars and constants; specialisation (R21); bound arguments; options; lowering by hand and from text.

What programs mean is tested in `test_language`, what they return in `test_language_calls`.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, i, j, k, kx, ky, t, x, y

RNG = np.random.default_rng(13)


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def values(a, order):
    return np.asarray(a.order(order))


def matmul():
    """A function of its own, so that what was called before does not matter."""

    @ph.function(A="i k", B="k j")
    def matmul(A, B):
        return (A * B).sum(k)

    return matmul


def rolled(u0, steps: ph.Size, rate: ph.Scalar[ph.f32] = 0.5):
    u = ph.var("u", like=u0, t=steps + 1)
    u(t=0)[...] = u0
    u[t + 1] = u + rate * (u(x=(x + 1) % 8) - u)
    return u(t=steps)


# sizes, scalars, constants


def test_sizes_and_scalars_are_arguments():
    ring = ph.function(u0="x")(rolled)
    u = u0 = normal(8)
    for steps, rate in ((0, 0.5), (1, 0.5), (5, 0.25), (9, 1)):
        u = u0
        for _ in range(steps):
            u = u + np.float32(rate) * (np.roll(u, -1) - u)
        np.testing.assert_allclose(values(ring(u0, steps, rate), "x"), u, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values(ring(u0, np.int64(1)), "x"), u0 + 0.5 * (np.roll(u0, -1) - u0), rtol=1e-5)


def test_a_scalar_does_not_recompile():
    @ph.function(X="i")
    def axpy(alpha: ph.Scalar[ph.f64], X, n: ph.Size):
        return alpha * X + n

    X = normal(5, dtype=np.float64)
    for alpha in (1, 2.5, np.float32(3), np.array(4.0)):
        np.testing.assert_allclose(values(axpy(alpha, X, 2), "i"), float(alpha) * X + 2)
    assert len(set(axpy._kernels.executables.values())) == 1


def test_a_compiled_program_takes_numbers_of_python_for_scalars():
    """An executable is called as its function is."""

    @ph.function(X="i", returns="i")
    def scaled(alpha: ph.Scalar[ph.f32], X):
        return alpha * X

    X = normal(5)
    exe = scaled.lower(np.float32(1), X).compile()
    for alpha in (2, 2.5, np.float32(3)):
        np.testing.assert_allclose(np.asarray(exe(alpha, X)), np.float32(alpha) * X)
    with pytest.raises(ph.PolyhedralError, match="PH046"):
        exe(np.float64(2), X)


def test_sizes_are_indices_bounds_and_values():
    @ph.function(X="i")
    def head(X, n: ph.Size):
        return X.over(i=n).sum(i), X(i=X.size(i) - 1 - i), X.size(i) + n, ph.where(i < n, X, n)

    X = normal(9)
    total, backwards, both, clipped = head(X, 4)
    assert float(total) == pytest.approx(X[:4].sum(), rel=1e-5)
    np.testing.assert_array_equal(values(backwards, "i"), X[::-1])
    assert int(both) == 13
    np.testing.assert_array_equal(values(clipped, "i"), np.where(np.arange(9) < 4, X, 4))


def test_constants():
    @ph.function(X="y x")
    def sobel(X):
        gx = ph.const(np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32), "ky kx")
        at = X.pad(y=1, x=1, mode="edge")[y + ky - 1, x + kx - 1]
        return ph.hypot((at * gx).sum(ky, kx), (at * gx(ky=kx, kx=ky)).sum(ky, kx))

    X = normal(6, 7)
    wide = np.pad(X, 1, mode="edge")
    gx = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    seen = np.lib.stride_tricks.sliding_window_view(wide, (3, 3))
    want = np.hypot((seen * gx).sum((2, 3)), (seen * gx.T).sum((2, 3)))
    np.testing.assert_allclose(values(sobel(X), "y x"), want, rtol=1e-4, atol=1e-5)


def test_assumptions_are_checked_once_a_call():
    @ph.function(X="c x")
    def grouped(X):
        ph.assume(X.size(c) % 4 == 0)
        within = ph.dims(w=4)
        return X(c=4 * ph.dims("g") + within).sum("w")

    X = normal(8, 5)
    np.testing.assert_allclose(values(grouped(X), "g x"), X.reshape(2, 4, 5).sum(1), rtol=1e-4, atol=1e-5)
    with pytest.raises(ph.DimError, match=r"X\.c = 6") as caught:
        grouped(normal(6, 5))
    assert caught.value.code == "PH010"


def test_steps_of_loops():
    @ph.function(u="x", inout="u")
    def sparse(u, n: ph.Size):
        with ph.loop(x, 1, n, 3):
            u[...] += 2 * u[x - 1] + x

    for n in (1, 2, 4, 5, 10, 11):
        u = normal(11)
        want = u.copy()
        for at in range(1, n, 3):
            want[at] += 2 * want[at - 1] + at
        sparse(u, n)
        np.testing.assert_allclose(u, want, rtol=1e-5)


# R21


def test_many_sizes_few_compilations():
    mm = matmul()
    for n in range(1, 24):
        A, B = normal(n, n + 2), normal(n + 2, 2 * n)
        np.testing.assert_allclose(values(mm(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-4)
    assert len({id(e) for e in mm._kernels.executables.values()}) <= 4


def test_symbolic_kernels_take_views_and_check_their_sizes():
    mm = matmul()
    for n in (2, 3, 4, 5, 6, 7):
        A, B = normal(2 * n, 5)[::-2], np.asfortranarray(normal(5, n))
        np.testing.assert_allclose(values(mm(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(values(mm(A[:, ::-1], B[::-1]), "i j"), A @ B, rtol=1e-4, atol=1e-4)
    for n in range(3, 9):
        with pytest.raises(ph.DimError, match="sizes disagree"):
            mm(normal(n, 6), normal(5, n))
    A, B = normal(30, 5), normal(5, 40)
    made = np.empty((40, 30), np.float32)
    mm(A, B, out=ph.array(made.T, "i j"))
    np.testing.assert_allclose(made.T, A @ B, rtol=1e-4, atol=1e-4)


def test_the_bounds_of_symbolic_kernels_are_checked():
    @ph.function(X="x", W="kx")
    def valid(X, W, n: ph.Size):
        return (X[x + kx] * W).over(x=n).sum(kx)

    for n in range(3, 12):
        X, W = normal(n + 2), normal(3)
        np.testing.assert_allclose(values(valid(X, W, n), "x"), np.correlate(X, W, "valid"), rtol=1e-4, atol=1e-5)
    for n in range(3, 12):
        with pytest.raises(ph.BoundsError) as caught:
            valid(normal(n + 1), normal(3), n)
        assert caught.value.code == "PH102"


def test_sizes_by_hand():
    mm = matmul()
    low = mm.lower(A="f32[i:4, k:8]", B="f32[k:8, j]", sizes={"i": ph.symbolic, "B.j": 6})
    assert set(low.program.sizes) == {"A.i"}
    exe = low.compile()
    for n in (1, 4, 9):
        A, B = normal(n, 8), normal(8, 6)
        np.testing.assert_allclose(values(exe(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-4)
    with pytest.raises(ph.ArgumentError, match="made for"):
        exe(normal(3, 7), normal(7, 6))
    every = mm.lower(sizes=dict.fromkeys("ijk", ph.symbolic)).compile()
    A, B = normal(3, 7), normal(7, 6)
    np.testing.assert_allclose(values(every(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(values(every(B=B, A=A), "i j"), A @ B, rtol=1e-4, atol=1e-4)


def test_exact_sizes_on_request():
    mm = matmul()
    with ph.options(sizes="exact"):
        for n in range(1, 6):
            A, B = normal(n, 3), normal(3, n)
            np.testing.assert_allclose(values(mm(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-4)
    assert len({id(e) for e in mm._kernels.executables.values()}) == 5


# stages


def test_bound_arguments_are_kept_as_they_were():
    A, B = normal(3, 4), normal(4, 5)
    by_B = matmul().bind(B=B)
    want = A @ B
    B[...] = 0
    np.testing.assert_allclose(values(by_B(A), "i j"), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values(by_B(A), "i j"), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values(by_B.bind(A=A)(), "i j"), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values(by_B(ph.array(A[None], "batch i k")), "batch i j")[0], want, rtol=1e-5, atol=1e-5)


def test_bound_functions_compose():
    B = normal(4, 4)
    step = matmul().bind(B=ph.array(B, "k j"))

    @ph.function(A="i k")
    def twice(A):
        return step(step(A)(j=k))

    A = normal(3, 4)
    np.testing.assert_allclose(values(twice(A), "i j"), A @ B @ B, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chosen", [{"threads": 1}, {"checked": True}, {"threads": 3, "tile": 4}, {"parallel": False}])
def test_options(chosen):
    mm = matmul()
    A, B = normal(33, 40), normal(40, 17)
    with ph.options(**chosen):
        np.testing.assert_allclose(values(mm(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(values(mm(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-4)


def test_one_can_look_inside():
    low = matmul().lower(A="f32[i:64, k:32]", B="f32[k:32, j:16]")
    for shown in (low.domains, low.accesses, low.schedule("initial"), low.schedule(), low.layouts, low.ast, low):
        assert str(shown)
    exe = low.compile()
    assert "ph_matmul" in exe.source("c")
    assert exe.cost().flops == 2 * 64 * 32 * 16
    A, B = normal(64, 32), normal(32, 16)
    assert exe.benchmark(A, B, repeat=3, seconds=0.01).median > 0


TEXT = """
program smooth
  sizes N
  input X: f32[x: N]
  output Y: f32[x: N]
  middle: for 1 <= x < N - 1:
    Y = (X(x=x - 1) + X + X(x=x + 1)) / 3.0
  first: for x < 1:
    Y = X
  last: for N - 1 <= x < N:
    Y = X
"""


@pytest.mark.parametrize("sizes", [{}, {"N": 9}])
def test_programs_from_text(sizes):
    program = ph.parse(TEXT)
    assert ph.parse(ph.to_text(program)) == program
    exe = ph.lower(ph.parse(TEXT.replace("  middle", "  assume N >= 3\n  middle")), sizes).compile()
    X = normal(9)
    want = X.copy()
    want[1:-1] = (X[:-2] + X[1:-1] + X[2:]) / 3
    np.testing.assert_allclose(values(exe(X, N=9), "x"), want, rtol=1e-5)
    with pytest.raises(ph.DomainError, match="defined"):
        ph.lower(program)


def test_programs_from_statement_definitions():
    conv = ph.build(
        "conv",
        "input X: f32[c, x]",
        "input W: f32[c, k]",
        "output O: f32[x: (X.x - W.k)//2 + 1]",
        "assume X.c == W.c",
        ph.statement(
            "S0", domain="x < (X.x - W.k)//2 + 1, c < X.c, k < W.k", write="O", value="X(x=2*x + k) * W", reduce="sum"
        ),
    )
    exe = ph.lower(conv, {"X.c": 3, "W.c": 3, "X.x": 11, "W.k": 3}).compile()
    X, W = normal(3, 11), normal(3, 3)
    want = (np.lib.stride_tricks.sliding_window_view(X, 3, 1)[:, ::2] * W[:, None]).sum((0, 2))
    np.testing.assert_allclose(values(exe(X, W), "x"), want, rtol=1e-4, atol=1e-5)
    triangle = ph.build(
        "triangle",
        "sizes N",
        "input A: f64[i: N, j: N]",
        "output O: f64[i: N]",
        ph.statement("S", domain="i < N, j < N if j <= i", write="O", value="A", reduce="sum"),
    )
    A = normal(7, 7, dtype=np.float64)
    exe = ph.lower(triangle, {"N": 7}).compile()
    np.testing.assert_allclose(values(exe(A), "i"), np.tril(A).sum(1))


def test_equations_in_any_order_of_the_text():
    @ph.function(X="i j")
    def pascal(X):
        p = ph.var("p", like=X)
        p[i + 1, j + 1] = p(i=i + 1) + p(j=j + 1) + X(i=i + 1, j=j + 1)
        p(i=0)[...] = X(i=0)
        with ph.over(i=(1, X.size(i))):
            p(j=0)[...] = X(j=0)
        return p

    X = normal(5, 6)
    want = X.copy()
    for a in range(1, 5):
        for b in range(1, 6):
            want[a, b] += want[a - 1, b] + want[a, b - 1]
    got = values(pascal(X), "i j")
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
