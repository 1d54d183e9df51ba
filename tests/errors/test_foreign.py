# SPDX-License-Identifier: MIT
"""What newcomers from NumPy write has the meaning it has there, or an error with a code and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import k, x, y

DATA = np.arange(1.0, 13.0).reshape(3, 4)


def built(body: Callable[[Any], Any]) -> Any:
    @ph.function(X="x y")
    def f(X: Any) -> Any:
        return body(X)

    return f(DATA)


REFUSED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "np.sum": ("PH020", np.sum, "X.sum(x, y)"),
    "np.sum, axis": ("PH020", lambda X: np.sum(X, axis=0), "X.sum(x, y)"),
    "np.dot": ("PH020", lambda X: np.dot(X, X), "(A * B).sum(k)"),
    "np.concatenate": ("PH020", lambda X: np.concatenate([X, X]), "ph.where(x < n"),
    "np.linalg.norm": ("PH020", np.linalg.norm, "ph.sqrt((X**2).sum(x, y))"),
    "np.array": ("PH020", lambda X: np.array(X, copy=True), "ph.exp"),
    "T": ("PH009", lambda X: X.T, "X(x=y, y=x)"),
    "shape": ("PH009", lambda X: X.shape, "X.size(x)"),
    "reshape": ("PH009", lambda X: X.reshape(4, 3), "ph.dims(k=4)"),
    "exp": ("PH009", lambda X: X.exp(), "ph.exp(X)"),
    "misspelt": ("PH009", lambda X: X.summ(x), "sum instead of summ"),
    "by position": ("PH003", lambda X: X(1, 2), "X(x=1, y=2)"),
    "one position": ("PH003", lambda X: X(x), "X(x=x, y=y)"),
    "slice": ("PH004", lambda X: X[1:], ".over(x=(1, 5))"),
    "new axis": ("PH004", lambda X: X[None], "no dim is added"),
    "size, not called": ("PH301", lambda X: X * X.size, "X.size(x)"),
    "size of nothing": ("PH002", lambda X: X.size(), "X.size(x)"),
    "axis=": ("PH041", lambda X: X.sum(axis=0), "X.sum(x)"),
    "keepdims=": ("PH041", lambda X: X.max(x, keepdims=True), "no keepdims"),
    "numbered": ("PH001", lambda X: X.sum(0), "polyhedral.dim"),
    "len": ("PH020", len, "X.size(x)"),
    "in": ("PH020", lambda X: 1 in X, "(X == 1).any(x, y)"),
    "in a tuple": ("PH020", lambda X: X in (1, 2), "(X == 1) | (X == 2)"),
    "format": ("PH020", lambda X: f"{X:.2f}", "when the function is called"),
    "np.add, None": ("PH301", lambda X: np.add(X, None), "without a return"),
    "None": ("PH301", lambda X: X + None, "without a return"),
    "text": ("PH301", lambda X: "a" + X, "float(...)"),
    "equal to text": ("PH301", lambda X: X == "a", "float(...)"),
    "less than None": ("PH301", lambda X: X < None, "without a return"),
    "fraction": ("PH301", lambda X: Fraction(1, 2) + X, "float(...)"),
    "dict": ("PH301", lambda X: X * {}, "float(...)"),
    "shifted float": ("PH301", lambda X: X << 1, "X * 2**k"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_error_says_what_to_write_instead(what: str):
    code, body, hint = REFUSED[what]
    with pytest.raises(ph.PolyhedralError) as caught:
        built(body)
    assert caught.value.code == code
    assert hint in "\n".join(caught.value.hints)
    assert caught.value.location is not None
    assert caught.value.location.file == __file__


MEANT: dict[str, tuple[Callable[[Any], Any], np.ndarray[Any, Any]]] = {
    "np.where": (lambda X: np.where(X > 5, X, 0), np.where(DATA > 5, DATA, 0)),
    "np.clip": (lambda X: np.clip(X, 2, 7), np.clip(DATA, 2, 7)),
    "np.round": (lambda X: np.round(X / 4), np.round(DATA / 4)),
    "np.square": (np.square, DATA**2),
    "np.reciprocal": (np.reciprocal, 1 / DATA),
    "np.logical_and": (lambda X: np.logical_and(X > 2, X < 9) * 1, np.logical_and(DATA > 2, DATA < 9) * 1),
    "np.logical_not": (lambda X: np.logical_not(X > 2) * 1, np.logical_not(DATA > 2) * 1),
    "np.isfinite": (lambda X: np.isfinite(1 / (X - 1)) * 1, (DATA != 1) * 1),
    "half power": (lambda X: X**0.5, DATA**0.5),
    "divmod": (lambda X: divmod(X, 5)[0] * 10 + divmod(X, 5)[1], DATA // 5 * 10 + DATA % 5),
    "divmod, right": (lambda X: divmod(20, X)[1], 20 % DATA),
    "divmod of an index": (lambda X: X(x=divmod(x, 2)[0]), DATA[[0, 0, 1, 1, 2, 2]]),
    "pow": (lambda X: pow(X, 2, 5), DATA**2 % 5),
    "trunc": (lambda X: math.trunc(X / 4), np.trunc(DATA / 4)),
    "shift, right": (lambda X: 1 << X.astype(ph.i64), 1 << DATA.astype(np.int64)),
}


@pytest.mark.parametrize("what", MEANT)
def test_what_has_a_meaning_has_it(what: str):
    body, want = MEANT[what]
    np.testing.assert_allclose(built(body).order("x y"), want, rtol=1e-14)


def test_hints_about_shapes_work():
    """Joining and splitting dims and arrays, as the hints spell it."""
    a, b = x, y

    def behind(X: Any) -> Any:
        Y, n, m = ph.let(X + 1), X.size(x), X.size(x)
        return ph.let(ph.where(a < n, X, Y(x=a - n)), x=n + m)

    def split(X: Any) -> Any:
        with_size = ph.dims(k=4)
        return X(y=4 * y + with_size)

    np.testing.assert_array_equal(built(behind).order("x y"), np.concatenate([DATA, DATA + 1]))
    np.testing.assert_array_equal(built(split).order("x y k"), DATA.reshape(3, 1, 4))
    joined = built(lambda X: X(x=k // 4, y=k % 4).over(k=4 * X.size(x)))
    np.testing.assert_array_equal(joined.order("k"), DATA.reshape(-1))
    np.testing.assert_array_equal(built(lambda X: X(x=b, y=a)).order("y x"), DATA)


def test_attributes_can_still_be_asked_for():
    found: list[bool] = []

    def body(X: Any) -> Any:
        found.extend((hasattr(X, "T"), hasattr(X, "sum"), hasattr(X, "__array_interface__")))
        return X

    built(body)
    assert found == [False, True, False]


def test_text_is_laid_out_as_text():
    seen: list[str] = []

    def body(X: Any) -> Any:
        seen.append(f"{X:>3}|{X}")
        return X

    built(body)
    assert seen == ["  X|X"]


def test_others_may_know_what_to_do_with_a_tensor():
    class Pair:
        def __radd__(self, other: Any) -> str:
            return f"{other} and a pair"

    seen: list[str] = []

    def body(X: Any) -> Any:
        seen.append(X + Pair())
        return X

    built(body)
    assert seen == ["X and a pair"]
