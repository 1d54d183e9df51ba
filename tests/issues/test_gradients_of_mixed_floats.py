# SPDX-License-Identifier: MIT
"""Derivatives through floats of several widths: each array's has the type of the array.

Where f32 met f64, as with a table that NumPy made, programs were refused: dX holds f32, but the value has type f64.
"""

import itertools

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k

RANDOM = np.random.default_rng(8)
KINDS = {"f2": ph.f16, "f4": ph.f32, "f8": ph.f64}


@pytest.mark.parametrize(("x", "w"), list(itertools.product(KINDS, KINDS)))
def test_each_derivative_has_the_type_of_its_array(x, w):
    X, W = RANDOM.normal(size=(4, 5)).astype(x), RANDOM.normal(size=5).astype(w)
    narrow = KINDS[min(x, w)]

    @ph.function(X="i k", W="k", returns=((), "i k", "k", ()))
    def mixed(X, W):
        h = ph.let((X * W).astype(narrow) * W, "h")
        loss = (h * X + ph.exp(W) * X).sum(i, k)
        dX, dW = ph.grad(loss, (X, W))
        return loss, dX, dW, ph.jvp(loss, (X, W), (X * 0 + 1, W * 0 + 1))

    loss, dX, dW, change = mixed(X, W)
    a, b = X.astype("f8"), W.astype("f8")
    assert (dX.dtype, dW.dtype) == (KINDS[x], KINDS[w])
    tolerance = {"f2": 3e-2, "f4": 1e-4, "f8": 1e-12}[min(x, w)]
    expected = 2 * a * b * b + np.exp(b), (2 * a * a * b + np.exp(b) * a).sum(0)
    for found, want in zip((loss, dX, dW), ((a * a * b * b + np.exp(b) * a).sum(), *expected), strict=True):
        np.testing.assert_allclose(np.asarray(found), want, rtol=tolerance, atol=tolerance * 10)
    np.testing.assert_allclose(np.asarray(change), expected[0].sum() + expected[1].sum(), rtol=tolerance)


def test_a_table_of_numpy():
    table = ph.function(X="i")(lambda X: ph.grad((X * X * ph.const(np.array([1.0, 2, 3]), "i")).sum(i), X))
    np.testing.assert_allclose(table(np.array([1, 2, -3], "f4")).data, np.array([2, 8, -18], "f4"))
