# SPDX-License-Identifier: MIT
"""`f.jax()` against JAX's own checks and its own convolution: jit, gradients, batches, results of 64 bits, errors.

Skipped without JAX.
"""

from importlib.util import find_spec

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, k, kx, ky, x, y
from tests.frontend.test_torch import attention, capsules, chosen, conv, diffused, products

if find_spec("jax") is None:
    pytest.skip("JAX is not installed", allow_module_level=True)

import jax
import jax.numpy as jnp
from jax.test_util import check_grads

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def drawn(*shape):
    return jnp.asarray(RNG.standard_normal(shape))


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (conv, ((2, 5, 4), (2, 2, 3, 3))),
        (capsules, ((2, 5, 5, 2, 2), (2, 2, 3, 3, 2, 2))),
        (attention, ((3, 2), (3, 2), (3, 2))),
    ],
    ids=["conv", "capsules", "attention"],
)
def test_gradients(f, shapes):
    check_grads(f.jax(), tuple(drawn(*n) for n in shapes), order=1, modes=["rev"])


def test_two_results_integers_sizes_and_scalars():
    A, B = drawn(2, 3), drawn(3, 2)
    f = products.jax()
    C, row, top = jax.jit(f)(A, B)
    np.testing.assert_allclose(C, A @ B)
    np.testing.assert_array_equal(top, (A @ B).argmax(1))
    np.testing.assert_allclose(row, jnp.tanh(A).sum(1))
    check_grads(lambda A, B: f(A, B)[:2], (A, B), order=1, modes=["rev"])
    at = jnp.asarray([1, 3, 1])
    check_grads(lambda A: chosen.jax()(A, at), (drawn(4, 2),), order=1, modes=["rev"])
    check_grads(lambda u, r: diffused.jax()(u, 3, rate=r), (drawn(5), jnp.asarray(0.3)), order=1, modes=["rev"])


def reference(X, W):
    return jax.lax.conv_general_dilated(X[None], W, (2, 2), "VALID")[0]


@ph.function(X="c y x", W="o c ky kx", returns="o y x")
def strided(X, W):
    return (X[2 * y + ky, 2 * x + kx] * W).sum(c, ky, kx)


def test_jit_and_batches_of_gradients():
    X, W = drawn(3, 2, 5, 7), drawn(2, 2, 3, 3)

    def losses(f):
        def loss(X, W):
            return (f(X, W) ** 2).sum()

        each = jax.vmap(loss, (0, None))
        yield each
        yield jax.vmap(jax.grad(loss, (0, 1)), (0, None))
        yield jax.grad(lambda X, W: each(X, W).sum(), (0, 1))

    for ours, theirs in zip(losses(strided.jax()), losses(reference), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), jax.jit(ours)(X, W), theirs(X, W))
    lifted = strided.jax(X="b c y x", returns="b o y x")
    np.testing.assert_allclose(lifted(X, W), jax.vmap(reference, (0, None))(X, W), atol=1e-9)


def test_second_derivatives_and_bound_arguments():
    @ph.function(A="i k", B="k j")
    def square(A, B):
        return ((A * B).sum(k) ** 2).sum("i", "j")

    B = RNG.standard_normal((3, 2))
    f = square.bind(B=B).jax()
    got = jax.jacrev(jax.grad(f))(drawn(1, 3))
    np.testing.assert_allclose(got[0, :, 0], 2 * B @ B.T)


def refused(f, *args, **kwargs):
    with pytest.raises(ph.PolyhedralError) as caught:
        f(*args, **kwargs)
    return caught.value


def test_refusals():
    X, W = drawn(2, 5, 4), drawn(2, 2, 3, 3)
    f = conv.jax()
    assert refused(f, X).code == "PH045"
    assert refused(f, X[None], W).code == "PH040"
    assert refused(jax.jit(f), X, W[:, :1]).code == "PH010"
    assert refused(jax.jit(diffused.jax()), drawn(5), 3).code == "PH047"
    with jax.enable_x64(False):
        assert refused(products.jax(), jnp.ones((2, 3)), jnp.ones((3, 2))).code == "PH304"


def test_an_error_of_a_kernel_is_one_of_the_call():
    with pytest.raises(jax.errors.JaxRuntimeError, match="PH103"):
        jax.block_until_ready(chosen.jax()(drawn(4, 2), jnp.asarray([1, 9])))


def test_complex_derivatives_are_refused():
    f = ph.function(Z="x", returns="x")(lambda Z: Z * Z).jax()
    z = drawn(3) + 1j * drawn(3)
    np.testing.assert_allclose(f(z), z * z)
    with pytest.raises(ph.DtypeError, match=r"PH051.*result 0 holds c128"):
        jax.grad(lambda z: jnp.abs(f(z)).sum())(z)
