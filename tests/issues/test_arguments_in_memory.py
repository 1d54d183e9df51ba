# SPDX-License-Identifier: MIT
"""Lane functions of more than eight operands: GCC called them, and looked for vectors where it had not put them.

The maximum is looked for again, and its place was never found: 9223372036854775807.
"""

from __future__ import annotations

import numpy as np

import polyhedral as ph
from polyhedral.dim import d, k


def test_argmax_of_short_products():
    @ph.function(X="i d", G="k d", returns=("i", "i"))
    def best(X, G):
        scores = (X * G).sum(d)
        return scores.argmax(k), scores.max(k)

    rng = np.random.default_rng(0)
    X, G = rng.standard_normal((17, 8)).astype(np.float32), rng.standard_normal((5, 8)).astype(np.float32)
    with ph.options(plan_above=1, threads=1):
        place, top = map(np.asarray, best(X, G))
    np.testing.assert_array_equal(place, (X @ G.T).argmax(1))
    np.testing.assert_allclose(top, (X @ G.T).max(1), rtol=1e-5)
