# SPDX-License-Identifier: MIT
"""Loops around equations run as they are written, or are refused: never the other way without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import t, x


def test_a_loop_against_the_flow_of_values_is_refused():
    @ph.function(X="x", returns="x")
    def suffix(X: Any) -> Any:
        n, z = X.size(x), ph.var("z", like=X)
        with ph.loop(x, n):
            z[...] = X + ph.where(x < n - 1, z[x + 1], 0)
        return z

    with pytest.raises(ph.OrderError) as caught:
        suffix(np.ones(4))
    error = caught.value
    assert (error.code, error.dim) == ("PH202", "x")
    assert error.point is not None
    at = error.point["x"]
    assert error.details[0] == f"at x={at} it reads z(x={at + 1}), which S0 defines at x={at + 1}"
    assert error.location is not None
    assert "z[...]" in error.location.text


def test_so_are_two_equations_that_need_another_order():
    @ph.function(X="x", returns="x")
    def ahead(X: Any) -> Any:
        n, z, w = X.size(x), ph.var("z", like=X), ph.var("w", like=X)
        with ph.loop(x, n):
            z[...] = X + ph.where(x < n - 1, w[x + 1], 0)
            w[...] = 2 * X
        return z

    with pytest.raises(ph.OrderError, match="PH202"):
        ahead(np.ones(4))


def test_without_the_loop_the_order_is_found():
    @ph.function(X="x", returns="x")
    def suffix(X: Any) -> Any:
        z = ph.var("z", like=X)
        z[...] = X + ph.where(x < X.size(x) - 1, z[x + 1], 0)
        return z

    np.testing.assert_array_equal(suffix(np.ones(4)), [4, 3, 2, 1])


def test_loops_along_the_flow_stay():
    @ph.function(u="x", returns="x")
    def walked(u: Any, steps: ph.Size) -> Any:
        v = ph.var("v", like=u, t=steps + 1)
        v(t=0)[...] = u
        with ph.loop(t, steps):
            v[t + 1] = ph.orelse(v[x + 1], v)
        return v(t=steps)

    np.testing.assert_array_equal(walked(np.arange(4.0), 2), [2, 3, 3, 3])


def test_downwards_is_said_by_the_index():
    @ph.function(X="x", returns="x")
    def suffix(X: Any) -> Any:
        n, z = X.size(x), ph.var("z", like=X)
        with ph.loop(x, n):
            z(x=n - 1 - x)[...] = X(x=n - 1 - x) + ph.where(x > 0, z(x=n - x), 0)
        return z

    np.testing.assert_array_equal(suffix(np.ones(4)), [4, 3, 2, 1])
