# SPDX-License-Identifier: MIT
"""The mean of unsigned integers of 32 and 64 bits was refused (u64 / i64 has no type)."""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i4", "i8", "?"])
def test_means_of_integers(dtype):
    X = np.array([3, 0, 7, 200]).astype(dtype)
    mean = ph.function(X="i")(lambda X: X.mean(i))
    some = ph.function(X="i")(lambda X: X.mean(i, where=i > 0))
    np.testing.assert_allclose(float(mean(X)), X.mean(), rtol=1e-6)
    np.testing.assert_allclose(float(some(X)), X[1:].mean(), rtol=1e-6)
