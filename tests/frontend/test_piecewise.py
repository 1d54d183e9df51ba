# SPDX-License-Identifier: MIT
"""Reads at indices that are affine case by case: clipped, the smaller of two, chosen by a condition."""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k, x, y

X = np.random.default_rng(12).normal(size=(6, 9)).astype("f4")
ROWS, COLUMNS = np.mgrid[:6, :9]
READS = {
    "clip": (lambda X: X(x=ph.clip(x - 2, 0, X.size(x) - 1)), X[ROWS, np.clip(COLUMNS - 2, 0, 8)]),
    "np.clip": (lambda X: X(x=np.clip(x + 3, 0, X.size(x) - 1)), X[ROWS, np.clip(COLUMNS + 3, 0, 8)]),
    "minimum": (lambda X: X(x=ph.minimum(x, y), y=y), X[ROWS, np.minimum(ROWS, COLUMNS)]),
    "maximum": (lambda X: X(x=ph.maximum(2 * x - 8, 0)), X[ROWS, np.maximum(2 * COLUMNS - 8, 0)]),
    "where": (lambda X: X(x=ph.where(y > 2, x, 8 - x), y=y), np.where(ROWS > 2, X, X[:, ::-1])),
    "arithmetic": (lambda X: X(x=8 - 2 * ph.minimum(x, 3)), X[ROWS, 8 - 2 * np.minimum(COLUMNS, 3)]),
    "distance": (lambda X: X(x=ph.maximum(x - y, y - x), y=y), X[ROWS, np.abs(COLUMNS - ROWS)]),
    "length": (
        lambda X: X(x=abs(x - y), y=y) + X(x=ph.abs(4 - x)),
        X[ROWS, np.abs(COLUMNS - ROWS)] + X[ROWS, np.abs(4 - COLUMNS)],
    ),
    "two dims": (
        lambda X: X(x=ph.clip(x + 1, 0, 8), y=ph.clip(y - 1, 0, 5)),
        X[np.clip(ROWS - 1, 0, 5), np.clip(COLUMNS + 1, 0, 8)],
    ),
    "a reduction": (lambda X: X.sum(y)(x=ph.maximum(x - 4, 0)) + X, X.sum(0)[np.maximum(COLUMNS - 4, 0)] + X),
}


@pytest.mark.parametrize("name", READS)
def test_reads_are_numpys(name):
    read, want = READS[name]

    @ph.function(X="y x", returns="y x")
    def taken(X):
        return read(X).over(y=6, x=9)

    np.testing.assert_allclose(np.asarray(taken(X)), want, rtol=1e-5)
    program = taken.trace().program
    np.testing.assert_allclose(ph.interpret(program, {"X": X})["out"], want, rtol=1e-5)


def test_a_clamped_convolution_and_its_gradient_are_those_of_edge_padding():
    W = np.array([0.5, -1.0, 2.0], "f4")

    def loss(read):
        @ph.function(X="x", W="k", returns=((), "x", "k"))
        def f(X, W):
            value = ((read(X) * W).sum(k) ** 2).over(x=X.size(x)).sum(x)
            return value, *ph.grad(value, (X, W))

        return f

    clamped = loss(lambda X: X(x=ph.clip(x + k - 1, 0, X.size(x) - 1)))
    padded = loss(lambda X: X.pad(x=1, mode="edge")[x + k - 1])
    for found, want in zip(clamped(X[0], W), padded(X[0], W), strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(want), rtol=1e-5)


def test_a_case_that_leaves_the_array_is_refuted():
    with pytest.raises(ph.BoundsError, match="out of bounds"):
        ph.function(X="y x")(lambda X: X(x=ph.maximum(x, 3)).over(x=12, y=6))(X)


def test_what_is_not_affine_in_any_piece_is_refused():
    with pytest.raises(ph.DimError, match="PH030"):
        ph.function(X="y x")(lambda X: X(x=ph.minimum(x * i, 3)))(X)
