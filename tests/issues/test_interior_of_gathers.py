# SPDX-License-Identifier: MIT
"""`orelse` and `inside` of a gather whose index is itself read elsewhere: the derived condition read it out of bounds.

`0 <= I[i - 1]` was asked at i = 0 too (PH101), and of `I[J[i + 1] - 1]` wherever J pointed (PH103).
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i

RNG = np.random.default_rng(0)
X = RNG.random(5)
I = np.array([3, -1, 7, 4, 0, 2])  # noqa: E741
J = np.array([3, 0, 1, 6, 2, 9, 5])


@ph.function(X="n", I="i", returns="i")
def before(X, I):  # noqa: E741
    return ph.orelse(X(n=I[i - 1]), X(n=0) + 0 * I)


@ph.function(X="n", I="i")
def loss(X, I):  # noqa: E741
    return (before(X, I) ** 2).sum(i)


def wanted(X):
    return np.array([X[I[n - 1]] if n and 0 <= I[n - 1] < 5 else X[0] for n in range(6)])


@pytest.mark.parametrize("options", [{}, {"threads": 1}, {"checked": True}])
def test_an_index_read_elsewhere(options):
    with ph.options(**options):
        np.testing.assert_array_equal(before(X, I), wanted(X))


def test_its_gradient():
    step = 1e-6 * np.eye(5)
    numeric = [((wanted(X + e) ** 2).sum() - (wanted(X - e) ** 2).sum()) / 2e-6 for e in step]
    np.testing.assert_allclose(ph.grad(loss, wrt="X")(X, I), numeric, rtol=1e-6)


def test_indices_within_indices():
    @ph.function(X="n", I="i", J="j", returns="i")
    def far(X, I, J):  # noqa: E741
        return ph.orelse(X(n=I(i=J(j=i + 1) - 1)), 0.0 * I - 1)

    at = [J[n + 1] - 1 for n in range(6)]
    each = [X[I[a]] if 0 <= a < 6 and 0 <= I[a] < 5 else -1 for a in at]
    np.testing.assert_array_equal(far(X, I, J), each)


def test_the_condition_alone():
    @ph.function(X="n", I="i", returns="i")
    def inner(X, I):  # noqa: E741
        return ph.where(ph.inside(X(n=I[i + 2])), 1.0, 0.0) + 0 * I

    np.testing.assert_array_equal(inner(X, I), [n + 2 < 6 and 0 <= I[n + 2] < 5 for n in range(6)])
