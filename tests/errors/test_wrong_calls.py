# SPDX-License-Identifier: MIT
"""Calls that are wrong in their form: an error of the catalogue, with what to write, for each that was a bare one."""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k

A = np.ones((3, 4), "f4")


@ph.function(X="i k")
def rows(X):
    return X.sum(k)


PROGRAM = rows.trace().program
RECORDED = {
    "over": (lambda X: X.over(3), "PH030", r"X.over\(3\) names no dimension", "X.over(i=(1, 5))"),
    "pad": (lambda X: X.pad(1), "PH030", r"X.pad\(1\) names no dimension", "X.pad(i=(1, 2))"),
    "clip": (lambda X: ph.clip(X), "PH045", "ph.clip misses a bound", "ph.clip(X, hi=1)"),
    "const": (lambda X: ph.const([1, 2], 3), "PH040", "the names of the axes are a string", "ph.const(array, 'i')"),
    "var": (lambda X: ph.var(np.ones(3)), "PH007", "is no name for a tensor", "ph.var('name', x=9)"),
    "vjp": (lambda X: ph.vjp("a", X, 4), "PH045", "outputs 'a' are no tensors", "ph.vjp(Y, W, dY)"),
    "jvp": (lambda X: ph.jvp(3, X, X), "PH045", "outputs 3 are no tensors", "ph.jvp(Y, W, tW)"),
    "tangents": (lambda X: ph.jvp(X.sum(i), (X,), 3), "PH045", "tangents 3 are no tensors", "(tW, tb)"),
}
CALLS = {
    "bind": (lambda: rows.bind(A), "PH045", "rows.bind takes arguments by name", "rows.bind(X=...)"),
    "check": (lambda: ph.check(3), "PH045", "ph.check wants a program, not an int", "f.trace(X='f32[c, y, x]')"),
    "to_text": (lambda: ph.to_text(rows), "PH045", "ph.to_text wants a program, not a Function", ".program"),
    "interpret": (lambda: ph.interpret(3, {}), "PH045", "ph.interpret wants a program, not an int", "ph.parse(text)"),
    "inputs": (lambda: ph.interpret(PROGRAM, A), "PH045", "the arguments by name, not a ndarray", "{'X': ...}"),
    "array": (lambda: PROGRAM.array("Z"), "PH045", "program rows has no array 'Z'", "it has X, out"),
    "statement": (lambda: PROGRAM.statement("Z"), "PH045", "program rows has no statement 'Z'", "it has out"),
    "Dim": (lambda: ph.Dim([]), "PH006", "not a name", "use letters"),
    "Dim and size": (lambda: ph.Dim(1.5, "z"), "PH006", "not a name", "use letters"),
    "source": (lambda: rows.lower(A).source(3), "PH505", "no 3 source", "source('c')"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_while_a_program_is_recorded(name):
    call, code, message, hint = RECORDED[name]
    f = ph.function(X="i k")(lambda X: call(X))
    with pytest.raises(ph.PolyhedralError, match=message) as caught:
        f.trace()
    assert caught.value.code == code
    assert hint in "\n".join(caught.value.hints)
    assert caught.value.location is not None


@pytest.mark.parametrize("name", CALLS)
def test_elsewhere(name):
    call, code, message, hint = CALLS[name]
    with pytest.raises(ph.PolyhedralError, match=message) as caught:
        call()
    assert caught.value.code == code
    assert hint in "\n".join(caught.value.hints)


def test_one_sided_clips():
    @ph.function(X="i k", returns="i k")
    def clipped(X):
        return ph.clip(X, 0) + ph.clip(X, hi=0.5)

    X = np.random.default_rng(1).normal(size=(3, 4)).astype("f4")
    np.testing.assert_allclose(np.asarray(clipped(X)), np.clip(X, 0, None) + np.clip(X, None, 0.5))


def test_nothing_to_pad_is_no_mistake():
    np.testing.assert_array_equal(ph.function(X="i k", returns="i k")(lambda X: X.pad() + 0)(A).order("i k").data, A)


def test_what_the_facade_imports_for_itself_is_not_shown():
    assert not {"Any", "import_module", "get_close_matches", "annotations"} & set(dir(ph))
    assert {"function", "conj", "interpret"} <= set(dir(ph))
