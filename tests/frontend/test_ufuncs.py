# SPDX-License-Identifier: MIT
"""NumPy's functions of single elements within a program compute what they compute outside; others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.errors import ArgumentError, DtypeError

X = np.linspace(0.1, 0.9, 21, dtype=np.float64)

SAME: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "sqrt": np.sqrt,
    "arctan": np.arctan,
    "floor": lambda x: np.floor(x * 3),
    "rint": lambda x: np.rint(x * 3),
    "negative": np.negative,
    "absolute": lambda x: np.absolute(x - 0.5),
    "maximum": lambda x: np.maximum(x, 0.5),
    "left": lambda x: np.subtract(0.5, x),
    "scalar of NumPy": lambda x: np.float64(2) * x - np.float64(1) / x,
    "two": lambda x: np.hypot(x, x + 1),
    "power": lambda x: np.power(x, 2),
}


@pytest.mark.parametrize("name", SAME)
def test_what_numpy_computes(name: str):
    @ph.function(x="i", returns="i")
    def f(x: Any) -> Any:
        return SAME[name](x)

    np.testing.assert_allclose(np.asarray(f(X)), SAME[name](X), rtol=1e-14)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: np.add.reduce(x),
        lambda x: np.exp(x, out=np.zeros(21)),
        lambda x: np.gcd(x, x),
    ],
    ids=["reduce", "out", "no such function"],
)
def test_what_no_program_can_is_refused(use: Callable[[Any], Any]):
    @ph.function(x="i")
    def f(x: Any) -> Any:
        return use(x)

    with pytest.raises(DtypeError, match="PH020"):
        f(X)


def test_the_line_is_the_users_and_not_one_of_numpy():
    @ph.function(x="i")
    def f(x: Any) -> Any:
        return np.cumsum(x)

    with pytest.raises(DtypeError, match="PH020") as caught:
        f(X)
    assert caught.value.location is not None
    assert caught.value.location.file == __file__


def test_derivatives_are_by_names():
    @ph.function(x="i")
    def square(x: Any) -> Any:
        return (x * x).sum("i")

    with pytest.raises(ArgumentError, match=r"PH052.*wrt=7"):
        ph.grad(square, wrt=7)

    @ph.function(x="i")
    def by_place(x: Any) -> Any:
        return ph.grad((x * x).sum("i"), 0)  # pyright: ignore[reportCallIssue, reportArgumentType]

    with pytest.raises(ArgumentError, match=r"PH052.*wrt=0"):
        by_place(X)
