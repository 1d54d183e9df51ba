# SPDX-License-Identifier: MIT
"""A program with a gradient read memory after the update that it stands before."""

import numpy as np

import polyhedral as ph
from polyhedral.dim import i


def test_a_copy_before_an_update_stays_before_it():
    @ph.function(u="i", X="i", inout="u")
    def step(u, X):
        before = ph.let(2 * u)
        u[...] += X
        return before, ph.grad((X**2).sum(i), X)

    u = np.ones(3)
    before, dX = step(u, np.arange(3.0))
    np.testing.assert_array_equal(before, [2, 2, 2])
    np.testing.assert_array_equal(dX, [0, 2, 4])
    np.testing.assert_array_equal(u, [1, 2, 3])
