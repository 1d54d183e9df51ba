# SPDX-License-Identifier: MIT
"""A predicate of a reduction may decide whole rows: where it fails for each of the reduced dims, the row is empty and
has the identity (rule R6).  It was refused as undefined there (PH120).
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k

A = np.random.default_rng(3).normal(size=(7, 5)).astype("f4")
ROWS, COLUMNS = np.mgrid[:7, :5]
PREDICATES = {
    "a row": (lambda X: i >= 3, ROWS >= 3),
    "a row and more": (lambda X: (i >= 3) & (k <= i - 2), (ROWS >= 3) & (COLUMNS <= ROWS - 2)),
    "rows of each side": (lambda X: (i >= 1) & (i < 5) & (k > 0), (ROWS >= 1) & (ROWS < 5) & (COLUMNS > 0)),
    "sizes that fail": (lambda X: X.size(k) > 9, ROWS < 0),
    "sizes that hold": (lambda X: (X.size(k) > 2) & (k < 3), COLUMNS < 3),
    "either": (lambda X: (i >= 4) | (k == 1), (ROWS >= 4) | (COLUMNS == 1)),
}


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("name", PREDICATES)
def test_empty_rows_have_the_identity(name, op):
    where, mask = PREDICATES[name]

    @ph.function(X="i k", returns="i")
    def reduced(X):
        return getattr(X, op)(k, where=where(X))

    unit = {"sum": 0, "prod": 1, "max": -np.inf, "min": np.inf}[op]
    np.testing.assert_allclose(reduced(A), getattr(np, op)(np.where(mask, A, unit), axis=1), rtol=1e-5)


def test_reads_of_rows_that_are_empty_need_not_be_in_bounds():
    @ph.function(X="i k", returns=("i", "i k"))
    def shifted(X):
        value = X.max(k) + (X[i - 1] * X).sum(k, where=(i >= 1) & (k < 4))
        return value, ph.grad(value.sum(i), X)

    value, gradient = shifted(A)
    expected = A.max(1)
    expected[1:] += (A[1:, :4] * A[:-1, :4]).sum(1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    slope = (A.max(1)[:, None] == A).astype("f4")
    slope[1:, :4] += A[:-1, :4]
    slope[:-1, :4] += A[1:, :4]
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)
