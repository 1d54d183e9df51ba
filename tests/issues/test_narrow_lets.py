# SPDX-License-Identifier: MIT
"""Closed, in `frontend.lang.reduce`: a sum widened the arithmetic before it, but not that of a `ph.let` naming it."""

from __future__ import annotations

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import k, t


@ph.function(A="i k", B="i k", returns=("i", "i", "i", "i k"))
def sums(A, B):
    product = ph.let(A * B, "product")
    twice = ph.let(-product, "twice")
    return (A * B).sum(k), product.sum(k), -twice.sum(k), product


@pytest.mark.parametrize(("dtype", "value"), [(np.int8, 100), (np.float16, 300)])
def test_a_name_changes_no_sum(dtype, value):
    A = np.full((2, 4), value, dtype)
    plain, named, negated, product = map(np.asarray, sums(A, A))
    want = np.full(2, 4 * value * value)
    np.testing.assert_array_equal(plain, want)
    np.testing.assert_array_equal(named, want)
    np.testing.assert_array_equal(negated, want)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(product, A * A)


def test_sums_within_a_loop_widen_what_was_named_before():
    @ph.function(A="k", out="t", inout="out")
    def repeated(A, out):
        square = ph.let(A * A, "square")
        with ph.loop(t, out.size(t)):
            out[...] = square.sum(k).astype(ph.i64)

    out = np.zeros(3, np.int64)
    repeated(np.full(4, 100, np.int8), out)
    np.testing.assert_array_equal(out, 40000)


def test_memory_is_read_when_it_was_named():
    @ph.function(A="k", inout="A", returns="")
    def before(A):
        square = ph.let(A * A, "square")
        A[...] = 0
        return square.sum(k)

    assert int(before(np.full(4, 10, np.int8))) == 400
