# SPDX-License-Identifier: MIT
"""Gradients of functions that update their arguments: what they are by, what is left in place, what is refused.

Values are held against differences in `test_gradients` and `tests/properties/test_gradients_in_place`.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, j, n, t, x
from tests.zoo_language import cholesky, gauss_seidel, lu

RNG = np.random.default_rng(2)


@ph.function(A="i j", inout="A")
def log_determinant(A):
    lu(A)
    return ph.log(A(i=i, j=i)).sum(i)


def test_a_gradient_is_by_what_came_and_the_update_is_done():
    A = RNG.random((4, 4)) + 4 * np.eye(4)
    held = A.copy()
    value, dA = ph.value_and_grad(log_determinant, wrt="A")(A)
    np.testing.assert_allclose(np.asarray(value), np.linalg.slogdet(held)[1])
    np.testing.assert_allclose(dA.order("i j"), np.linalg.inv(held).T, atol=1e-12)
    again = held.copy()
    ph.function(A="i j", inout="A")(lu)(again)
    np.testing.assert_array_equal(A, again)


def test_gradients_of_gradients_through_updates():
    @ph.function(A="i j", V="i j", inout="A")
    def hessian_product(A, V):
        dA = ph.grad(log_determinant.python(A), A)
        return ph.grad((dA * V).sum(i, j), A)

    A, V = RNG.random((3, 3)) + 3 * np.eye(3), RNG.random((3, 3))
    inverse = np.linalg.inv(A)
    module = hessian_product.trace(A="f64[i, j]", V="f64[i, j]")
    got = ph.interpret(module.program, {"A": A, "V": V})[module.returned]
    np.testing.assert_allclose(got, -(inverse @ V @ inverse).T, atol=1e-12)


def test_a_batch_of_updates():
    A = RNG.random((2, 3, 3)) + 3 * np.eye(3)
    held = A.copy()
    dA = ph.grad(log_determinant, wrt="A")(ph.array(A, "n i j"))
    np.testing.assert_allclose(dA.order("n i j"), np.linalg.inv(held).transpose(0, 2, 1), atol=1e-12)


def test_backward_through_cholesky_and_its_tangent():
    @ph.function(A="i j", V="i j", W="i j", inout="A")
    def both(A, V, W):
        cholesky(A)
        lower = A * ph.where(j <= i, 1.0, 0.0)
        return (lower * W).sum(i, j), (ph.vjp(lower, A, W) * V).sum(i, j), (ph.jvp(lower, A, V) * W).sum(i, j)

    A, V, W = RNG.random((3, 4, 4))
    A = A @ A.T + 4 * np.eye(4)
    V += V.T

    def factor(step):
        return (np.linalg.cholesky(A + step * V) * W).sum()

    difference = (factor(1e-6) - factor(-1e-6)) / 2e-6
    _, backward, forward = map(float, both(A.copy(), V, W))
    np.testing.assert_allclose([backward, forward], difference, rtol=1e-6)


def test_what_stands_before_an_update_is_what_it_was():
    @ph.function(u="x", X="x", inout="u", returns=("x", "x", "x"))
    def step(u, X):
        before = ph.let(u * u)
        u[...] *= X
        with ph.loop(t, 2):
            u[...] += X
        return (*ph.vjp((before, u), (u, X), (1, 10)), before)

    u, X = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 2.0])
    du, dX, before = step(u, X)
    np.testing.assert_allclose(before, [1, 4, 9])
    np.testing.assert_allclose(du, 2 * np.array([1, 2, 3]) + 10 * X)
    np.testing.assert_allclose(dX, 10 * (np.array([1, 2, 3]) + 2))
    np.testing.assert_allclose(u, [1.5, 4, 10])


def test_many_steps_in_place_run_compiled():
    @ph.function(u="y x", inout="u")
    def smoothness(u, steps: ph.Size):
        gauss_seidel(u, steps)
        return (u * u).sum("y", "x")

    step = ph.grad(smoothness, wrt="u")
    assert "u_S0 keeps every value that u is given" in " ".join(map(str, step.trace().checked.remarks))
    u, v = RNG.random((2, 6, 7))
    du = step(u.copy(), 4)
    high, low = (float(smoothness(u + h * v, 4)) for h in (1e-6, -1e-6))
    np.testing.assert_allclose((du.order("y x") * v).sum(), (high - low) / 2e-6, rtol=1e-6)


def test_what_data_decides_is_refused():
    @ph.function(u="x", at="n", inout="u")
    def scattered(u, at):
        with ph.loop(t, 2):
            u[...] = 2 * u
        return u(x=at).sum(n)

    with pytest.raises(ph.Unsupported) as caught:
        ph.grad(scattered, wrt="u")(np.ones(3), np.array([0, 2]))
    assert caught.value.code == "PH900"
    assert "reads at a place that data decides" in caught.value.message
    assert "ph.let(u)" in caught.value.hints[0]


def test_an_order_that_matters_is_an_error_here_too():
    shifted = ph.function(u="x", inout="u")(lambda u: _shift(u))
    with pytest.raises(ph.OrderError) as caught:
        ph.grad(shifted, wrt="u")(np.ones(3))
    assert caught.value.code == "PH201"


def _shift(u):
    with ph.over(x=(1, u.size(x))):
        u[...] = u[x - 1]
    return (u * u).sum(x)
