# SPDX-License-Identifier: MIT
"""isl said that a set has a bound and then, asked for it, "unbounded optimum": an error of isl's reached the user where
no single range holds for all sizes.
"""

from __future__ import annotations

import numpy as np

import polyhedral as ph
from polyhedral.dim import c


@ph.function(X="c y", W="c o ky")
def transposed(X, W):
    q, p, u = ph.dims(q=8, p=2, u=2)
    return (X.pad(y=1)(y=q + (p + 1) // 2 - u) * W(ky=(p + 1) % 2 + 2 * u)).sum(c, u)


def test_the_phases_of_a_transposed_convolution():
    X, W = np.ones((3, 8), np.float32), np.ones((3, 4, 4), np.float32)
    got = transposed(X, W)
    full = np.zeros((4, 2 * 8 + 2))
    for k in range(4):
        full[:, k : k + 15 : 2] += np.einsum("cy,co->oy", X, W[:, :, k])
    want = full[:, 1:17].reshape(4, 8, 2)
    np.testing.assert_allclose(got.order("o q p"), want)
