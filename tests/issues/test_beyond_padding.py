# SPDX-License-Identifier: MIT
"""Closed, in `frontend.inference.padding`: a reader whose range another read had pinned could go beyond the padding,
and found its value there without end.
"""

from __future__ import annotations

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import k, kx, ky, o, x, y
from polyhedral.errors import BoundsError
from polyhedral.ir import expr as ex


@ph.function(X="c y x", W="o c ky kx", returns="o y x")
def residual(X, W):
    from_all = (X.pad(y=1, x=1)[y + ky - 1, x + kx - 1] * W).sum("c", ky, kx)
    return X(c=o) + from_all


def refused(code: str, call, *arguments) -> BoundsError:
    with pytest.raises(BoundsError) as caught:
        call(*arguments)
    assert caught.value.code == code
    return caught.value


def test_a_kernel_must_fit_its_padding():
    rng = np.random.default_rng(0)
    X, W = rng.random((3, 6, 7)), rng.random((3, 3, 3, 3))
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1)))
    want = X + sum(
        np.einsum("oc,cyx->oyx", W[:, :, a, b], padded[:, a : a + 6, b : b + 7]) for a in range(3) for b in range(3)
    )
    np.testing.assert_allclose(residual(X, W), want)
    error = refused("PH102", residual, X, rng.random((3, 3, 5, 5)))
    assert "W.kx <= 3 and W.ky <= 3" in str(error)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("shift", [-2, 2])
def test_no_mode_reads_beyond(mode: str, shift: int):
    @ph.function(A="x", returns="x")
    def moved(A, width):
        return A + A.pad(x=width, mode=mode)[x + shift]

    moved(np.arange(5.0), 2)
    refused("PH101", moved, np.arange(5.0), 1)


def test_nor_does_an_index_that_is_data():
    @ph.function(A="x", at="j", returns="j")
    def taken(A, at):
        return A.pad(x=1, value=7.0)(x=at)

    np.testing.assert_array_equal(taken(np.arange(3.0), np.array([-1, 0, 3])), [7, 0, 7])
    refused("PH103", taken, np.arange(3.0), np.array([0, 4]))


def test_what_stays_within_is_not_tested_again():
    """The choice between the padding and what lies beyond is gone once sizes are known."""
    low = residual.lower(X="f32[c:4, y:8, x:8]", W="f32[o:4, c:4, ky:3, kx:3]")
    (product,) = (s for s in low.built.program.statements if s.op == "sum")
    assert sum(load.array == "X" for load in ex.loads(product.value)) == 1


def test_a_sum_of_a_row_and_its_padding():
    @ph.function(A="x", W="k", returns="x")
    def smoothed(A, W):
        return A + (A.pad(x=1)[x + k - 1] * W).sum(k)

    np.testing.assert_array_equal(smoothed(np.arange(1.0, 5.0), np.ones(3)), [4, 8, 12, 11])
    refused("PH102", smoothed, np.arange(1.0, 9.0), np.ones(7))
