# SPDX-License-Identifier: MIT
"""Tensors, sizes, private dims and all that is made of them stay within the recording that made them.

A name of one program may be that of something else in another: taken for it, results were wrong without a word.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k

KEPT = {}


@ph.function(X="i")
def keeper(X):
    KEPT["tensor"] = X
    KEPT["let"] = ph.let(X * 2, "h")
    KEPT["expression"] = ph.exp(X)
    KEPT["reduction"] = X.sum(i)
    KEPT["size"] = X.size(i)
    KEPT["sized"] = ph.dims(k=X.size(i))
    KEPT["private"] = ph.fresh("t")
    KEPT["condition"] = i < X.size(i) - 1
    KEPT["test"] = X > 0
    KEPT["ordered"] = X.order(i)
    KEPT["padded"] = X.pad(i=1)
    return X


def equation(X, size=None, when=None, value=None):
    v = ph.var("v", like=X) if size is None else ph.var("v", i=size)
    with ph.when(i >= 0 if when is None else when):
        v[...] = X if value is None else value
    return v


USES = {
    "mixed": lambda X: X * KEPT["tensor"],
    "mixed, first": lambda X: KEPT["tensor"] * X,
    "alone": lambda X: KEPT["tensor"],
    "one of several": lambda X: {"a": X, "b": KEPT["tensor"]},
    "let": lambda X: X + KEPT["let"],
    "expression": lambda X: KEPT["expression"].sum(i) + X,
    "negated": lambda X: -KEPT["tensor"],
    "reduction": lambda X: X + KEPT["reduction"],
    "size as data": lambda X: X * KEPT["size"],
    "size as index": lambda X: X(i=KEPT["size"] - 1),
    "size of a range": lambda X: (X * i).over(i=KEPT["size"]),
    "size of a variable": lambda X: equation(X, size=KEPT["size"]),
    "sized dim": lambda X: X(i=0) + KEPT["sized"],
    "private dim": lambda X: X(i=KEPT["private"]).sum(i),
    "where": lambda X: X.sum(i, where=KEPT["condition"]),
    "when": lambda X: equation(X, when=KEPT["condition"]),
    "test": lambda X: ph.where(KEPT["test"], X, 0),
    "equation": lambda X: equation(X, value=KEPT["tensor"]),
    "assumption": lambda X: ph.assume(KEPT["size"] > 2),
    "ordered": lambda X: KEPT["ordered"][0],
    "to be ordered": lambda X: KEPT["tensor"].order(i),
    "padded": lambda X: KEPT["padded"][i + 1],
    "to be padded": lambda X: KEPT["tensor"].pad(i=1),
    "asked its size": lambda X: KEPT["tensor"].size(i),
    "asked its interior": lambda X: ph.where(ph.inside(KEPT["tensor"][i + 1]), X, 0),
    "gathered": lambda X: X(i=KEPT["tensor"].astype(ph.i32)),
    "scanned": lambda X: ph.scan("sum", KEPT["tensor"], i),
    "softmax": lambda X: ph.softmax(KEPT["tensor"], i),
    "argmax": lambda X: KEPT["tensor"].argmax(i),
    "mean": lambda X: X - KEPT["tensor"].mean(i),
    "ufunc": lambda X: np.exp(KEPT["tensor"]),
    "differentiated by": lambda X: ph.grad((X * X).sum(i), KEPT["tensor"]),
    "tangent": lambda X: ph.jvp(X * X, X, KEPT["tensor"]),
    "stopped": lambda X: ph.stop_gradient(KEPT["tensor"]),
    "like": lambda X: ph.var("v", like=KEPT["tensor"]),
}


def writing(A):
    KEPT["written"] = A
    A[...] += 1


@pytest.mark.parametrize("use", USES)
def test_what_another_recording_made_is_refused(use):
    keeper(np.ones(4, "f4"))

    @ph.function(X="i")
    def user(X):
        return USES[use](X)

    with pytest.raises(ph.UserError, match="belongs to another program") as caught:
        user(np.ones(4, "f4"))
    error = caught.value
    assert error.code == "PH020"
    assert "it was made while keeper was recorded, and is used in user" in error.message
    assert "test_owners.py" in error.details[0], error.details
    assert error.location.file == __file__
    assert "as an argument" in error.hints[0]


def test_memory_of_another_recording_is_not_written():
    ph.function(A="i", inout="A")(writing)(np.ones(4, "f4"))

    @ph.function(A="i", inout="A")
    def user(A):
        KEPT["written"][...] = 2.0

    with pytest.raises(ph.UserError, match="A belongs to another program"):
        user(np.ones(4, "f4"))


def test_an_earlier_recording_of_the_same_function_is_another():
    kept = []

    @ph.function(X="i")
    def twice(X):
        kept.append(X)
        return X + kept[0]

    np.testing.assert_array_equal(twice(np.ones(4, "f4")).data, np.full(4, 2, "f4"))
    with pytest.raises(ph.UserError, match="while an earlier recording of twice was recorded"):
        twice(np.ones(4, "f8"))


def test_where_a_let_was_made_is_said():
    keeper(np.ones(4, "f4"))
    with pytest.raises(ph.UserError, match=r'h was made in keeper  \[test_owners.py:\d+\]  KEPT\["let"\] = ph.let'):
        ph.function(X="i")(lambda X: X + KEPT["let"])(np.ones(4, "f4"))


def test_what_belongs_to_no_recording_goes_anywhere():
    index, condition, sized = 2 * i + 1, k < 2, ph.dims(k=3)

    @ph.function(X="i")
    def use(X):
        return (X[index - 1] * sized).sum(sized, where=condition)

    A = np.arange(9, dtype="f4")
    for dtype in ("f4", "f8"):
        found = use(A.astype(dtype)).data
        np.testing.assert_array_equal(found, A[::2])


def test_values_go_through_calls_rules_and_derivatives():
    @ph.function(X="i")
    def cube(X):
        return X * X * X

    @cube.defvjp
    def backward(X, dout):
        return 3 * X * X * dout

    def library(X):
        t = ph.fresh("t")
        scale = ph.const(np.arange(3.0, dtype="f4"), "k")
        return (X(i=t) * scale).sum(t, k) + X

    @ph.function(X="i")
    def outer(X):
        h = ph.let(library(cube(X)), "h")
        loss = (h * h).sum(i)
        with ph.options(threads=1):
            return loss, ph.grad(loss, X), ph.jvp(loss, X, ph.let(X * 0 + 1))

    A = np.array([[0.5, -1.0, 2.0]], "f4")
    loss, gradient, change = outer(ph.array(A, "b i"))
    x = A[0].astype("f8")
    h = x**3 + 3 * (x**3).sum()
    expected = (2 * h + 3 * (2 * h).sum()) * 3 * x * x
    np.testing.assert_allclose(loss.order("b").data, [(h * h).sum()], rtol=1e-5)
    np.testing.assert_allclose(gradient.order("b i").data, [expected], rtol=1e-5)
    np.testing.assert_allclose(change.order("b").data, [expected.sum()], rtol=1e-5)
