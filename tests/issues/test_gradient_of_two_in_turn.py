# SPDX-License-Identifier: MIT
"""Of two arrays that are computed from each other, the adjoint that was asked for first was read but never stored."""

import numpy as np

import polyhedral as ph
from polyhedral.dim import t
from tests.differentiated import held


def test_a_recurrence_through_two_arrays():
    def turns(x, steps):
        u, v = ph.var("u", t=steps, dtype=ph.f64), ph.var("v", like=x, t=steps)
        v[...] = ph.where(t >= 1, u(t=t - 1), x)
        u[...] = 2 * v(i=0)
        return u(t=steps - 1)

    held(turns, {"x": "i"}, {"x": np.array([0.7, 0.3])}, {"steps": 3})
