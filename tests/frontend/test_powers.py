# SPDX-License-Identifier: MIT
"""Powers of integers are integers, and the larger of two booleans is a boolean, as in NumPy."""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k

RANDOM = np.random.default_rng(4)
POWF = 4 + 1
"""Units in the last place between powers of floats: 4 that C promises of vectors, and 1 of the interpreter's."""


def both(f, names, *arrays, units=0):
    """Compiled and interpreted, which must be the same, or so many units in the last place apart."""
    made = ph.function(**dict(zip("AB", names, strict=False)), returns="i")(f)
    found = np.asarray(made(*arrays))
    kinds = {n: ph.array(a, "i").dtype for n, a in zip("AB", arrays, strict=False)}
    program = made.trace(**{n: f"{t}[i]" for n, t in kinds.items()}).program
    meant = ph.interpret(program, dict(zip("AB", arrays, strict=False)))["out"]
    if units:
        np.testing.assert_array_max_ulp(meant, found, units)
    else:
        np.testing.assert_array_equal(meant, found)
    return found


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_integers_to_integers(dtype):
    low = -9 if dtype[0] == "i" else 0
    A = RANDOM.integers(low, 10, 300).astype(dtype)
    B = RANDOM.integers(0, 70, 300).astype(dtype)
    with np.errstate(over="ignore"):
        want = A**B
    found = both(lambda A, B: A**B, ("i", "i"), A, B)
    assert found.dtype == A.dtype
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("exponent", [1, 2, 7, 16, 17, 40, 63])
@pytest.mark.parametrize("dtype", ["i4", "u1", "i8"])
def test_literal_exponents(exponent, dtype):
    A = np.arange(12).astype(dtype)
    with np.errstate(over="ignore"):
        want = A**exponent
    found = both(lambda A: A**exponent, ("i",), A)
    assert found.dtype == A.dtype
    np.testing.assert_array_equal(found, want)


def test_negative_exponents():
    A = np.array([-3, -2, -1, -1, 0, 1, 2, 5], "i4")
    B = np.array([-1, -2, -3, -2, -1, -7, -1, -2], "i4")
    np.testing.assert_array_equal(both(lambda A, B: A**B, ("i", "i"), A, B), [0, 0, -1, 1, 0, 1, 0, 0])
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(both(lambda A: A**-1, ("i",), A), 1 / A)


def test_indices_and_mixed_types():
    X = RANDOM.normal(size=11).astype("f4")
    np.testing.assert_array_equal(both(lambda A: A * 2**i, ("i",), X), X * 2.0 ** np.arange(11, dtype="f4"))
    np.testing.assert_array_equal(both(lambda A: (-1) ** i * A, ("i",), X), X * (-1.0) ** np.arange(11, dtype="f4"))
    assert both(lambda A: 3**i + 0 * A.astype("i4"), ("i",), X).dtype == np.int64
    np.testing.assert_array_equal(both(lambda A: 3**i + 0 * A.astype("i4"), ("i",), X), 3 ** np.arange(11))
    A = RANDOM.integers(1, 5, 11).astype("i4")
    assert both(lambda A: A**2.0, ("i",), A).dtype == np.float64
    found = both(lambda A, B: A**B, ("i", "i"), A, X, units=POWF)
    np.testing.assert_array_max_ulp(found, A.astype(found.dtype) ** X.astype(found.dtype), POWF)


def test_powers_in_sums():
    @ph.function(A="i k", returns="i")
    def polynomial(A):
        return (A**k).sum(k)

    A = RANDOM.integers(-3, 4, (5, 6)).astype("i2")
    np.testing.assert_array_equal(np.asarray(polynomial(A)), (A.astype("i8") ** np.arange(6)).sum(1))


def test_larger_and_smaller_booleans():
    A, B = RANDOM.normal(size=(2, 20)).astype("f4")
    for ours, theirs in ((ph.maximum, np.maximum), (ph.minimum, np.minimum), (np.maximum, np.maximum)):
        found = both(lambda A, B, f=ours: f(A > 0, B > 0), ("i", "i"), A, B)
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, theirs(A > 0, B > 0))
    assert both(lambda A: ph.maximum(A > 0, 2), ("i",), A).dtype == np.int64
