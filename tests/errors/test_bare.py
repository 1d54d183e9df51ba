# SPDX-License-Identifier: MIT
"""What Python alone would refuse, in words of its own: attributes and cells of tensors, pickles, missing arguments."""

import copy
import pickle

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, j


def assign(X):
    X.scale = 2


def assign_to_a_property(X):
    X.dims = 2


def delete(X):
    del X[0]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (assign, ph.AttributeProblem, r"PH009.*X of {i, j} has no attribute 'scale' to assign"),
        (assign_to_a_property, AttributeError, r"PH009.*no attribute 'dims' to assign"),
        (delete, ph.DimError, r"PH003.*del X\[...\]"),
        (pickle.dumps, ph.DtypeError, r"PH020.*cannot pickle it"),
        (lambda X: pickle.dumps(X.size(i)), ph.DtypeError, r"PH020.*cannot pickle it"),
        (lambda X: ph.vjp(X), ph.ArgumentError, r"PH045.*ph.vjp misses wrt and cotangents"),
        (lambda X: ph.vjp(X, X), ph.ArgumentError, r"PH045.*ph.vjp misses cotangents"),
        (lambda X: ph.jvp(X, X), ph.ArgumentError, r"PH045.*ph.jvp misses tangents"),
        (lambda X: ph.grad(), ph.ArgumentError, r"PH045.*ph.grad misses what to differentiate"),
        (lambda X: ph.value_and_grad(), ph.ArgumentError, r"PH045.*ph.value_and_grad misses what"),
        (lambda X: ph.vjp(delete), ph.ArgumentError, r"PH045.*ph.vjp of delete: it wants what delete computes"),
    ],
)
def test_within_a_program(body, kind, said):
    with pytest.raises(kind, match=said) as raised:
        ph.function(X="i j")(lambda X: body(X))(np.ones((2, 3)))
    assert raised.value.hints


def test_without_a_program():
    with pytest.raises(ph.ArgumentError, match=r"PH045.*ph.vjp misses outputs and wrt and cotangents"):
        ph.vjp()
    with pytest.raises(ph.ArgumentError, match=r"PH045.*ph.jvp of <lambda>"):
        ph.jvp(ph.function(X="i")(lambda X: X), wrt="X")


def test_copies_are_the_value_itself():
    @ph.function(X="i j", returns="i j")
    def twice(X):
        a, b = copy.deepcopy([X, X + 1])
        return a + copy.copy(b) + copy.copy(i) - copy.deepcopy(j)

    at = np.indices((2, 3))
    np.testing.assert_array_equal(twice(np.ones((2, 3))), 3 + at[0] - at[1])


def test_all_letters():
    names = {}
    exec("from polyhedral.dim import *", names)
    assert names["i"] == i
    assert {"a", "x", "z"} < names.keys()
