# SPDX-License-Identifier: MIT
"""`f.torch()` under `torch.func`, and what has no derivative: refused where it was 0 without a word.

Skipped without PyTorch.
"""

from importlib.util import find_spec

import pytest

import polyhedral as ph
from polyhedral.dim import b, d, k

if find_spec("torch") is None:
    pytest.skip("PyTorch is not installed", allow_module_level=True)

import torch
from torch import func
from torch.autograd import forward_ad


@ph.function(A="i k", B="k j", returns="i j")
def layer(A, B):
    return ph.tanh((A * B).sum(k))


@ph.function(X="n d", I="b")
def looked_up(X, I):  # noqa: E741
    return (X(n=I) ** 3).sum(b, d)


@ph.function(Z="i", X="i", returns=("i", "i"))
def mixed(Z, X):
    return Z * Z, Z.real * X


def reference(A, B):
    return torch.tanh(A @ B)


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def loss(f):
    return lambda A, B: (f(A, B) ** 2).sum()


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: func.jacrev(f),
        lambda f: func.jacrev(f, 1),
        lambda f: func.grad(loss(f), (0, 1)),
        lambda f: func.jacrev(func.grad(loss(f))),
        lambda f: lambda A, B: func.vmap(func.grad(loss(f)), (0, None))(torch.stack([A, 2 * A]), B),
        lambda f: func.grad(lambda A, B: func.vmap(loss(f), (0, None))(torch.stack([A, 2 * A]), B).sum()),
        lambda f: lambda A, B: func.vmap(func.vmap(f, (None, 1)), (0, None))(torch.stack([A, A]), torch.stack([B], 1)),
    ],
    ids=["jacobian", "jacobian by B", "grad", "hessian", "per example", "through a batch", "batches"],
)
def test_transforms_of_functions(transform):
    torch.manual_seed(0)
    A, B = drawn(3, 4), drawn(4, 2)
    torch.testing.assert_close(transform(layer.torch())(A, B), transform(reference)(A, B))


def test_gathers_under_transforms():
    X, I = drawn(3, 2), torch.tensor([0, 2, 2, 1])  # noqa: E741
    made = func.grad(looked_up.torch())(X, I)
    torch.testing.assert_close(made, func.grad(lambda X: (X[I] ** 3).sum())(X))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of jvp itself
def test_tangents_are_refused():
    f, A, B = layer.torch(), drawn(3, 4), drawn(4, 2)
    with pytest.raises(ph.Unsupported, match=r"PH900.*A carries a tangent"):
        func.jvp(lambda A: f(A, B), (A,), (A,))
    with pytest.raises(ph.Unsupported, match=r"PH900.*reverse mode only"):
        func.hessian(lambda A: f(A, B).sum())(A)  # forward over reverse
    with forward_ad.dual_level():
        with pytest.raises(ph.Unsupported, match="B carries a tangent"):
            f(A, forward_ad.make_dual(B, B))
        torch.testing.assert_close(f(A, B), reference(A, B))


def test_complex_derivatives_are_refused():
    f = mixed.torch()
    z = torch.randn(3, dtype=torch.complex128)
    x = drawn(3).requires_grad_()
    with pytest.raises(ph.DtypeError, match=r"PH051.*result 0 holds c128"):
        f(z.clone().requires_grad_(), x)[0].abs().sum().backward()
    with pytest.raises(ph.DtypeError, match=r"PH051.*Z holds c128"):
        f(z.clone().requires_grad_(), x)[1].sum().backward()
    f(z, x)[1].sum().backward()  # what takes no part may be complex
    torch.testing.assert_close(x.grad, z.real)
