# SPDX-License-Identifier: MIT
"""Results as newcomers use them, and wrong ways to call what makes them: NumPy's meaning, or an error with a code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i

DATA = np.arange(12.0).reshape(3, 4)


@ph.function(X="i j")
def doubled(X: Any) -> Any:
    return 2 * X


@ph.function(X="i")
def squares(X: Any) -> Any:
    return (X**2).sum(i)


@ph.function(X="i", returns="i")
def scaled(X: Any, by: Any) -> Any:
    return X * by[0] if isinstance(by, list) else X * by["a"]


def test_one_number_computes():
    found = squares(np.ones(3))
    assert found + 1 == 4
    assert 2 * found < 7
    assert round(found / 2, 1) == 1.5
    assert f"{found:.2f}" == "3.00"
    assert np.exp(found) == np.exp(3.0)


def test_a_row_and_what_is_ordered_compute_as_numpy_does():
    row = scaled(np.arange(3.0), [2])
    np.testing.assert_array_equal(row + row, [0, 4, 8])
    assert (row[1], len(row), list(row)) == (2, 3, [0, 2, 4])
    view = doubled(DATA).order("j i")
    np.testing.assert_array_equal(view.T + 1, 2 * DATA + 1)
    np.testing.assert_array_equal(view @ np.ones(3), 2 * DATA.sum(0))
    assert view.sum() == 2 * DATA.sum()


UNORDERED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "T": ("PH009", lambda a: a.T, ".order('i j').T"),
    "shape": ("PH009", lambda a: a.shape, ".order('i j').shape"),
    "misspelt": ("PH009", lambda a: a.nothing, ".order('i j')"),
    "+": ("PH041", lambda a: a + 1, "a.order('i j')"),
    "==": ("PH041", lambda a: a == a, "a.order('i j')"),
    "[0]": ("PH041", lambda a: a[0], "a.order('i j')"),
    "len": ("PH041", len, "a.order('i j')"),
    "iter": ("PH041", list, "a.order('i j')"),
    "@": ("PH041", lambda a: a @ DATA, "a.order('i j')"),
    "format": ("PH042", lambda a: f"{a:.2f}", "reduce them first"),
}


@pytest.mark.parametrize("what", UNORDERED)
def test_what_needs_an_order_asks_for_it(what: str):
    code, use, hint = UNORDERED[what]
    with pytest.raises(ph.PolyhedralError) as caught:
        use(doubled(DATA))
    assert caught.value.code == code
    assert hint in "\n".join(caught.value.hints)


WRONG: dict[str, tuple[str, Callable[[], Any], str]] = {
    "gradient by nothing": ("PH052", lambda: ph.grad(squares), "wrt='X'"),
    "gradient of a plain function": ("PH045", lambda: ph.grad(lambda X: X, "X"), "@ph.function"),
    "gradient of a number by nothing": ("PH052", lambda: ph.value_and_grad(3.0), "(loss, W)"),
    "a class as a function": ("PH045", lambda: ph.function(X="i")(int), "@ph.function"),
    "hints that are none": ("PH402", lambda: doubled.lower(DATA, hints=3), "ph.hints()"),
    "a dim that is a number": ("PH006", lambda: ph.dims(3), "ph.dims('i j')"),
    "no such name": ("PH009", lambda: ph.softmx, "ph.softmax"),
    "names without blanks": ("PH040", lambda: ph.function(X="ij")(lambda X: X)(DATA), "X='i j'"),
    "an array that is not declared": (
        "PH040",
        lambda: ph.function(lambda X: X)(np.ones(3)),
        "@ph.function(..., X='i')",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_is_refused(what: str):
    code, call, hint = WRONG[what]
    with pytest.raises(ph.PolyhedralError) as caught:
        call()
    assert caught.value.code == code
    assert hint in "\n".join(caught.value.hints)


def test_sizes_have_an_end():
    @ph.function(X="i", returns="i")
    def first(X: Any, n: ph.Size) -> Any:
        return (X * 1).over(i=n)

    with pytest.raises(ph.ArgumentError, match="below 2\\*\\*62") as caught:
        first(np.ones(3), 2**70)
    assert caught.value.code == "PH047"


def test_lists_and_dicts_are_plain_arguments():
    """Keyed by what they hold: long arrays in them print alike."""
    np.testing.assert_array_equal(scaled(np.ones(2), [3]), [3, 3])
    np.testing.assert_array_equal(scaled(np.ones(2), [4]), [4, 4])
    np.testing.assert_array_equal(scaled(np.ones(2), {"a": 5}), [5, 5])

    @ph.function(X="i", returns="i")
    def middle(X: Any, tables: Any) -> Any:
        return X * float(tables[0][2000])

    zeros, spike = np.zeros(4000), np.zeros(4000)
    spike[2000] = 7
    assert repr(zeros) == repr(spike)
    np.testing.assert_array_equal(middle(np.ones(2), [zeros]), [0, 0])
    np.testing.assert_array_equal(middle(np.ones(2), [spike]), [7, 7])


def test_results_are_objects_of_their_own():
    a, b = doubled(DATA), doubled(DATA)
    assert len({a, b}) == 2
    assert not hasattr(a, "T")
