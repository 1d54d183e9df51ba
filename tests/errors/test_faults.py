# SPDX-License-Identifier: MIT
"""An index that is data and leaves its array: the read, the line, a point, the values it takes, and what there is."""

from __future__ import annotations

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import d, k, x


def refused(call, *arguments) -> ph.BoundsError:
    with pytest.raises(ph.BoundsError) as caught:
        call(*arguments)
    assert caught.value.code == "PH103"
    return caught.value


@ph.function(A="x d", at="j", returns="j d")
def taken(A, at):
    return A(x=at)


def test_the_read_is_named_with_its_line_and_its_values():
    error = refused(taken, np.ones((3, 2)), np.array([0, 4, -2]))
    assert error.message == "statement out reads A(x=at) out of bounds: the index is data"
    assert error.details == ("A.x = at = 4, but A.x is in [0, 3)", "at takes values from -2 to 4, 2 of 3 outside")
    assert (error.point, error.dim) == ({"j": 1}, "x")
    assert error.location is not None
    assert "A(x=at)" in error.location.text
    assert error.hints == (
        "ph.clip(at, 0, 2) reads the nearest that there is",
        "A.pad(x=(2, 2)) has another value there, 0 or the one given by value=",
    )


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_padding_counts(mode):
    @ph.function(A="x", at="j", returns="j")
    def padded(A, at):
        return A.pad(x=(1, 2), mode=mode)(x=at)

    padded(np.arange(3.0), np.array([-1, 4]))
    error = refused(padded, np.arange(3.0), np.array([0, -2, 5]))
    assert "A.x with its padding is in [-1, 5)" in error.details[0]
    assert error.details[1] == "at takes values from -2 to 5, 2 of 3 outside"


def test_padding_counts_for_indices_that_are_known():
    @ph.function(A="x", returns="x")
    def moved(A, width):
        return A + A.pad(x=width)[x + 2]

    with pytest.raises(ph.BoundsError) as caught:
        moved(np.arange(5.0), 1)
    assert caught.value.code == "PH101"
    assert "A.x = x + 2 = 9, but A.x with its padding is in [-1, 9)" in caught.value.details
    assert caught.value.hints[0] == "A.pad(x=(1, 2))(x=x + 2)"


def test_an_index_that_is_computed_is_computed_again():
    @ph.function(A="x d", B="x d", returns="x")
    def nearest(A, B):
        which = ph.let(((A(x=k) - B) ** 2).sum(d).argmin(k), "which")
        return A(x=which + 1).sum(d)

    error = refused(nearest, np.eye(3), np.eye(3))
    assert error.details[0] == "A.x = which + 1 = 3, but A.x is in [0, 3)"
    assert error.point == {"x": 2}


def test_reads_that_nobody_comes_to_are_not_blamed():
    @ph.function(A="x", at="j", to="j", returns="j")
    def chosen(A, at, to):
        return ph.where(at >= 0, A(x=at), 0.0) + A(x=to)

    error = refused(chosen, np.arange(3.0), np.array([-9, 1]), np.array([0, 3]))
    assert "A(x=to)" in error.message
    assert error.point == {"j": 1}


def test_what_the_call_has_overwritten_is_not_consulted():
    @ph.function(at="x", inout="at")
    def followed(at):
        with ph.loop(x, at.size(x)):
            at[...] = at(x=at) + 1

    error = refused(followed, np.array([0, 7, 1]))
    assert "at(x=at)" in error.message
    assert error.details == ("at.x is in [0, 3)",)


def test_what_the_call_has_updated_is_read_as_it_left_it():
    @ph.function(A="x", at="j", inout="at", returns="j")
    def shifted(A, at):
        at[...] += 1
        twice = ph.let(at * 2, "twice")
        return A(x=twice)

    error = refused(shifted, np.arange(6.0), np.array([0, 1, 2]))
    assert error.details[0] == "A.x = twice = 6, but A.x is in [0, 6)"
    assert error.point == {"j": 2}


def test_an_index_that_was_overwritten_since_is_not_guessed():
    @ph.function(A="x", at="j", inout="at", returns="j")
    def before(A, at):
        taken = ph.let(A(x=at), "taken")
        at[...] = at * 0
        return taken

    error = refused(before, np.arange(6.0), np.array([0, 9, 2]))
    assert error.details == ("A.x is in [0, 6)",)


def test_large_calls_are_not_computed_again(monkeypatch):
    monkeypatch.setattr("frontend.running.faults.MOST", 2)
    error = refused(taken, np.ones((3, 2)), np.array([0, 4, -2]))
    assert "A(x=at)" in error.message
    assert error.details == ("A.x is in [0, 3)",)
    assert error.location is not None
