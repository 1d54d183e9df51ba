# SPDX-License-Identifier: MIT
"""A derivative that only another derivative reads was left out of the program, and the other one came out as zero.

`ph.vjp(ph.grad(...), ...)` reads the first through neither a statement nor a result.
"""

import numpy as np

import polyhedral as ph
from polyhedral.dim import i

RNG = np.random.default_rng(0)


def test_a_derivative_of_a_derivative_without_a_statement_between():
    @ph.function(A="i", V="i", returns="i")
    def bent(A, V):
        return ph.vjp(ph.grad((A**3).sum(i), A), A, V)

    A, V = RNG.standard_normal((2, 4))
    np.testing.assert_allclose(np.asarray(bent(A, V)), 6 * A * V)


def test_a_derivative_that_weighs_another():
    @ph.function(A="i", B="i", returns="i")
    def weighed(A, B):
        return ph.vjp(B * B, B, ph.grad((A**3).sum(i), A))

    A, B = RNG.standard_normal((2, 4))
    np.testing.assert_allclose(np.asarray(weighed(A, B)), 2 * B * 3 * A**2)
