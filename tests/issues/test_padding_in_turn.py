# SPDX-License-Identifier: MIT
"""Padding dim by dim, each in a mode of its own, lost the first: reads beyond it were out of bounds (PH101, PH102)."""

from itertools import product

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import k, x, y, z

MODES = "constant", "edge", "reflect", "wrap"
RNG = np.random.default_rng(0)


def padded_by_numpy(X, first, second):
    return np.pad(np.pad(X, ((0, 0), (2, 1)), mode=first), ((1, 3), (0, 0)), mode=second)


@pytest.mark.parametrize(("first", "second"), list(product(MODES, MODES)))
def test_two_modes(first, second):
    f = ph.function(X="y x", returns="y x")(
        lambda X: (
            X.pad(x=(2, 1), mode=first)
            .pad(y=(1, 3), mode=second)(x=x - 2, y=y - 1)
            .over(x=X.size(x) + 3, y=X.size(y) + 4)
        )
    )
    for shape in (4, 3), (5, 8), (7, 4):
        X = RNG.random(shape)
        np.testing.assert_array_equal(f(X), padded_by_numpy(X, first, second))


def test_gradients():
    @ph.function(X="y x", W="y x")
    def weighed(X, W):
        wide = X.pad(x=(2, 1), mode="wrap").pad(y=(1, 3), mode="edge")
        return (wide(x=x - 2, y=y - 1) * W).sum(x, y)

    X, W = RNG.random((4, 3)), RNG.random((8, 6))
    made = ph.grad(weighed, wrt="X")(X, W)
    each = [(padded_by_numpy(e.reshape(4, 3), "wrap", "edge") * W).sum() for e in np.eye(12)]
    np.testing.assert_allclose(made.order("y x"), np.reshape(each, (4, 3)))


def test_three_dims_a_window_and_an_interior():
    @ph.function(X="z y x", W="k", returns="z y x")
    def blurred(X, W):
        wide = X.pad(1.0, z=1).pad(2.0, y=1).pad(x=1, mode="wrap")
        return (wide[z + k - 1, y + k - 1, x + k - 1] * W).sum(k)

    @ph.function(X="y x", returns="y x")
    def inner(X):
        return ph.orelse(X.pad(3.0, x=1).pad(y=1, mode="edge")[x - 2, y - 1], 0 * X - 1)

    X, W = RNG.random((4, 5, 6)), RNG.random(3)
    wide = np.pad(X, ((1, 1), (0, 0), (0, 0)), constant_values=1)
    wide = np.pad(wide, ((0, 0), (1, 1), (0, 0)), constant_values=2)
    wide = np.pad(wide, ((0, 0), (0, 0), (1, 1)), mode="wrap")
    wanted = sum(w * wide[n : n + 4, n : n + 5, n : n + 6] for n, w in enumerate(W))
    np.testing.assert_allclose(blurred(X, W), wanted)

    wanted = np.full((4, 6), 3.0)  # y - 1 is padded, x - 2 is one too far at x = 0
    wanted[:, 2:] = np.pad(X[0, :4], ((1, 0), (0, 0)), mode="edge")[:4, :4]
    wanted[:, 0] = -1
    np.testing.assert_allclose(inner(X[0, :4]), wanted)


def test_one_dim_twice():
    """It was the second padding alone, at other places than the first had."""
    with pytest.raises(ph.ArgumentError, match=r"PH040.*x is padded already, by \(1, 1\)"):
        ph.function(X="x")(lambda X: X.pad(5.0, x=1).pad(7.0, x=2)(x=x - 1).over(x=3))(np.ones(4))
