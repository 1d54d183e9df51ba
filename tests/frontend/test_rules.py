# SPDX-License-Identifier: MIT
"""Rules of differentiation that users write: that they are used wherever their function is called; what they may be."""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, j, k
from tests.differentiated import held

RNG = np.random.default_rng(7)


def product():
    """A fresh matrix product, whose rule is the derivative."""
    f = ph.function(A="i k", B="k j")(lambda A, B: (A * B).sum(k))

    @f.defvjp
    def backward(A, B, dout):
        return {"A": (dout * B).sum(j), "B": (dout * A).sum(i)}

    return f


def doubled():
    """The identity, whose rule says that it doubles."""
    f = ph.function(X="i")(lambda X: X * 1)
    f.defvjp(lambda dout: 2 * dout)
    return f


def test_a_right_rule_is_the_derivative():
    f = product()
    A, B = RNG.random((3, 4)), RNG.random((4, 2))
    held(lambda A, B: ph.exp(f(A * A, B)) + f(A, B), {"A": "i k", "B": "k j"}, {"A": A, "B": B})


def test_a_rule_is_used_and_not_what_the_function_computes():
    f = doubled()
    X = RNG.random(5)
    loss = ph.function(X="i")(lambda X: (f(f(X)) ** 2).sum(i))
    np.testing.assert_allclose(np.asarray(ph.grad(loss, wrt="X")(X)), 4 * 2 * X)
    np.testing.assert_allclose(float(loss(X)), (X * X).sum())
    whole = ph.function(X="i")(lambda X: X.sum(i))
    whole.defvjp(lambda X, dout: dout * X)
    np.testing.assert_allclose(np.asarray(ph.grad(whole, wrt="X")(X)), X)
    moved = ph.function(X="i", V="i", returns="i")(lambda X, V: ph.jvp(f(X), X, V))
    np.testing.assert_allclose(np.asarray(moved(X, X)), 2 * X)


def test_a_call_without_derivatives_is_a_plain_call():
    f = product()
    A, B = RNG.random((3, 4)), RNG.random((4, 2))
    both = ph.function(A="i k", B="k j", returns="i j")(lambda A, B: f(A, B) + 1)
    np.testing.assert_allclose(np.asarray(both(A, B)), A @ B + 1)
    assert "dout" not in str(both)
    np.testing.assert_allclose(f(A, B).order("i j"), A @ B)


@pytest.mark.parametrize("each", [False, True])
def test_lifted_over_a_batch(each):
    """Cotangents of what a batch shares are summed over it, or stay apart where the derivative is of each example."""
    f = product()
    A, B = RNG.random((5, 3, 4)), RNG.random((4, 2))

    @ph.function(A="n i k", B="k j")
    def shared(A, B):
        return (f(A, B) ** 2).sum("n", i, j)

    per_example = ph.function(A="i k", B="k j")(lambda A, B: (f(A, B) ** 2).sum(i, j))
    dA, dB = ph.grad(per_example if each else shared, wrt="A B")(ph.array(A, "n i k"), B)
    np.testing.assert_allclose(dA.order("n i k"), 2 * A @ B @ B.T)
    wanted = 2 * np.einsum("nik,nij->nkj", A, A @ B)
    np.testing.assert_allclose(*((dB.order("n k j"), wanted) if each else (dB.order("k j"), wanted.sum(0))))


def test_a_shared_argument_whose_rule_sees_no_example():
    f = ph.function(X="i", s="")(lambda X, s: X * s)
    f.defvjp(lambda X, dout: {"X": dout, "s": 1.0})
    total = ph.function(X="n i", s="")(lambda X, s: f(X, s).sum("n", i))
    ds = ph.grad(total, wrt="s")(RNG.random((6, 2)), np.array(2.0))
    assert float(ds) == 6


def test_rules_in_rules_and_derivatives_of_rules():
    f = doubled()
    g = ph.function(X="i")(lambda X: f(X) + 1)
    g.defvjp(lambda X, dout: dout * f(X) * X)
    X = RNG.random(3)
    first = ph.grad(ph.function(X="i")(lambda X: g(X).sum(i)), wrt="X")
    np.testing.assert_allclose(np.asarray(first(X)), X * X)
    second = ph.grad(ph.function(X="i")(lambda X: first(X).sum(i)), wrt="X")
    np.testing.assert_allclose(np.asarray(second(X)), X + 2 * X)


def test_several_results_and_functions_that_a_backward_calls():
    f = ph.function(X="i")(lambda X: {"root": ph.sqrt(X), "cube": X**3})

    @f.defvjp
    def backward(X, root, droot, dcube):
        return droot / (2 * root) + dcube * ph.grad((X**3).sum(i), X)

    held(lambda X: f(X)["root"] * f(X)["cube"], {"X": "i"}, {"X": RNG.random(4) + 1})
    held(lambda X: f(X)["cube"], {"X": "i"}, {"X": RNG.random(4) + 1})


def test_bound_arguments_keep_the_rule():
    f = ph.function(X="i", s="")(lambda X, s: X * s)
    f.defvjp(lambda X, s, dout: {"X": 3 * dout})
    scaled = f.bind(s=np.array(2.0))
    X = RNG.random(4)
    loss = ph.function(X="i")(lambda X: scaled(X).sum(i))
    np.testing.assert_allclose(np.asarray(ph.grad(loss, wrt="X")(X)), 3)


def refused(f, backward, *args):
    f.defvjp(backward)
    with pytest.raises(ph.PolyhedralError) as caught:
        ph.grad(f, wrt="X")(*args)
    return caught.value


def test_wrong_rules():
    f = ph.function(X="i", n="j")(lambda X, n: X.sum(i) + n.sum(j))
    args = np.ones(3), np.arange(2)
    error = refused(f, lambda X, weight: X, *args)
    assert error.code == "PH053"
    assert "asks for 'weight', which is no argument, result or cotangent" in error.message
    assert "X, n, out, dout" in error.hints[0]
    error = refused(f, lambda dout: {"Y": dout}, *args)
    assert error.code == "PH053"
    assert "returns {'Y'}" in error.message
    assert "float arguments X" in error.message
    assert refused(f, lambda dout: (dout, dout), *args).code == "PH053"
    error = refused(f, lambda n, dout: dout * n, *args)
    assert error.code == "PH054"
    assert error.dim == "j"
    clash = ph.function(X="i", dout="i")(lambda X, dout: (X * dout).sum(i))
    assert refused(clash, lambda X: X, np.ones(2), np.ones(2)).code == "PH053"
    with pytest.raises(ph.Unsupported) as caught:
        ph.function(X="i", inout="X")(lambda X: None).defvjp(lambda dout: dout)
    assert caught.value.code == "PH900"
