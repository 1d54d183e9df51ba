# SPDX-License-Identifier: MIT
"""`f.torch()` against PyTorch's own checks: finite differences, what it asks of operators; batches, errors.

Skipped without PyTorch, but for what is said then.
"""

import sys
from importlib.util import find_spec

import pytest

import polyhedral as ph
from polyhedral.dim import c, ci, d, i, j, k, kx, ky, q, s, x, y

needed = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
if find_spec("torch") is not None:
    import torch


@ph.function(X="c y x", W="o c ky kx", returns="o y x")
def conv(X, W):
    return (X.pad(x=1)[2 * y + ky, x + kx - 1] * W).sum(c, ky, kx)


@ph.function(P="ci y x p q", W="ci co ky kx q r", returns="co y x p r")
def capsules(P, W):
    return (P[2 * y + ky, 2 * x + kx] * W).sum(ci, ky, kx, q)


@ph.function(Q="s d", K="s d", V="s d", returns="s d")
def attention(Q, K, V):
    t = ph.fresh("t")
    weights = ph.softmax((Q * K(s=t)).sum(d) * V.size(d) ** -0.5, t, where=t <= s)
    return (weights * V(s=t)).sum(t, where=t <= s)


@ph.function(A="i k", B="k j", returns=("i j", "i", "i"))
def products(A, B):
    C = ph.let((A * B).sum(k))
    return C, ph.tanh(A).sum(k), C.argmax(j)


@ph.function(A="i j", at="m", returns="m j")
def chosen(A, at):
    return ph.exp(A(i=at))


@ph.function(u="x", returns="x")
def diffused(u, steps: ph.Size, rate: ph.Scalar[ph.f64] = 0.5):
    v = ph.var("v", like=u, t=steps + 1)
    v(t=0)[...] = u
    t = ph.dims("t")
    v[t + 1] = ph.orelse(v + rate * (v[x - 1] + v[x + 1] - 2 * v), v)
    return v(t=steps)


def drawn(*shape, grad=True, seed=0):
    made = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + len(shape)))
    return made.requires_grad_(grad)


def given(name):
    match name:
        case "conv":
            return conv, (drawn(2, 5, 4), drawn(2, 2, 3, 3))
        case "capsules":
            return capsules, (drawn(2, 5, 5, 2, 2), drawn(2, 2, 3, 3, 2, 2))
        case "attention":
            return attention, tuple(drawn(3, 2, seed=n) for n in range(3))
        case "products":
            return products, (drawn(2, 3), drawn(3, 2))
        case "chosen":
            return chosen, (drawn(4, 2), torch.tensor([1, 3, 1]))
        case _:
            return diffused, (drawn(5), 3, torch.tensor(0.3, dtype=torch.float64, requires_grad=True))


@needed
@pytest.mark.parametrize("name", ["conv", "capsules", "attention", "products", "chosen", "diffused"])
def test_gradients(name):
    f, args = given(name)
    assert torch.autograd.gradcheck(f.torch(), args)


@needed
@pytest.mark.parametrize("name", ["conv", "products", "diffused"])
def test_what_torch_asks_of_operators(name):
    f, args = given(name)
    called = []
    made = f.torch()
    with Seen(called):
        made(*args)
    torch.library.opcheck(called[0], args)


if find_spec("torch") is not None:

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        """Which operators of ours are called."""

        def __init__(self, called):
            super().__init__()
            self.called = called

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            if op.namespace == "polyhedral":
                self.called.append(op)
            return op(*args, **(kwargs or {}))


@needed
def test_second_derivatives():
    @ph.function(A="i", B="i", returns="i")
    def cubic(A, B):
        return A**3 * B

    assert torch.autograd.gradgradcheck(cubic.torch(), (drawn(3), drawn(3, seed=1)))


@needed
def test_only_what_is_asked_for_is_differentiated():
    X, W = given("conv")[1]
    called = []
    with Seen(called):
        conv.torch()(X, W.detach()).sum().backward()
        products.torch()(*given("products")[1])[1].sum().backward()
    names = [str(op) for op in called]
    back = [op for op in called if "_vjp" in str(op)]
    assert len(names) == 4, names
    assert [len(op._schema.arguments) for op in back] == [3, 3]
    assert X.grad.shape == X.shape


@needed
def test_tensors_are_read_where_they_lie():
    X, W = drawn(2, 6, 4, grad=False), drawn(2, 2, 3, 3, grad=False)
    f, whole = conv.torch(), conv.torch()(X, W)
    moved = X.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    wide = torch.zeros(2, 6, 8, dtype=torch.float64)
    wide[:, :, ::2] = X
    for same in (moved, wide[:, :, ::2]):
        assert not same.is_contiguous()
        torch.testing.assert_close(f(same, W), whole)
    flat = torch.ones((), dtype=torch.float64).expand(2, 6, 4)
    torch.testing.assert_close(f(flat, W), f(flat.contiguous(), W))
    from frontend.interop.torch import _view  # noqa: PLC0415

    assert _view(torch, moved).__array_interface__["data"][0] == moved.data_ptr()
    halves = X.to(torch.bfloat16)
    assert _view(torch, halves).__array_interface__["data"][0] == halves.data_ptr()
    assert f(halves, W.to(torch.bfloat16)).dtype == torch.float32


@needed
def test_compiled_with_gradients():
    @ph.function(A="i k", B="k j", returns=("i j", "i"))
    def named(A, B):
        C = (A * B).sum(k)
        return {"product": C, "top": C.max(j)}

    f = named.torch()

    def loss(A, B):
        made = f(A, B=B)
        return (made["product"] ** 2).sum() + made["top"].sum()

    A, B = drawn(3, 4), drawn(4, 2)
    want = torch.autograd.grad(loss(A, B), (A, B))
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(A, B), (A, B))
    torch.testing.assert_close(got, want)


@needed
def test_batches():
    X, W = drawn(3, 2, 5, 4), drawn(2, 2, 3, 3)
    f, lifted = conv.torch(), conv.torch(X="b c y x", returns="b o y x")
    each = torch.stack([f(x, W) for x in X])
    torch.testing.assert_close(lifted(X, W), each)
    torch.testing.assert_close(torch.vmap(f, (0, None))(X, W), each)

    want = torch.autograd.grad((each**2).sum(), (X, W))
    torch.testing.assert_close(torch.autograd.grad((lifted(X, W) ** 2).sum(), (X, W)), want)
    torch.testing.assert_close(torch.autograd.grad((torch.vmap(f, (0, None))(X, W) ** 2).sum(), (X, W)), want)
    made, seeds = f(X[0], W), drawn(2, *each[0].shape, grad=False)
    apart = torch.vmap(lambda g: torch.autograd.grad(made, W, g, retain_graph=True)[0])(seeds)
    torch.testing.assert_close(apart, torch.stack([torch.autograd.grad(f(X[0], W), W, g)[0] for g in seeds]))


@needed
def test_a_step_of_gradient_descent_and_bound_arguments():
    @ph.function(A="i k", B="k j", C="i j")
    def loss(A, B, C):
        return (((A * B).sum(k) - C) ** 2).sum(i, j)

    A, B, C = (drawn(3, 3, seed=n, grad=n == 1) for n in range(3))
    f = loss.bind(A=A.numpy()).torch()
    f(B, C).backward()
    torch.testing.assert_close(B.grad, 2 * A.T @ (A @ B.detach() - C))
    step = ph.grad(loss, wrt="B").torch()
    torch.testing.assert_close(step(A, B.detach(), C), B.grad)


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(f, *args, **kwargs):
    with pytest.raises(ph.PolyhedralError) as caught:
        f(*args, **kwargs)
    return caught.value


@needed
def test_calls_that_make_no_sense():
    f = conv.torch()
    X, W = given("conv")[1]
    assert refused(f, X).code == "PH045"
    assert refused(f, X, W, W).code == "PH045"
    assert refused(f, X, X=W).code == "PH045"
    assert "bind" in str(refused(f, X, W, stride=2))
    assert refused(f, X.detach().numpy(), W).code == "PH316"
    assert refused(f, X.to_sparse(), W).code == "PH316"
    error = refused(f, X[None], W)
    assert error.code == "PH040"
    assert "returns=" in str(error)
    assert refused(f, X, W[:, :1]).code == "PH010"
    with torch._subclasses.FakeTensorMode():
        error = refused(f, torch.empty(2, 5, 4, device="cuda"), W)
    assert error.code == "PH314"
    assert "X.cpu()" in str(error)


@needed
def test_functions_that_are_no_operators():
    unordered = ph.function(X="i j")(lambda X: X * 2)
    assert refused(unordered.torch(), drawn(2, 3)).code == "PH041"
    assert refused(conv.torch, Z="i").code == "PH045"

    @ph.function(A="i", inout="A")
    def doubled(A):
        A[...] *= 2

    assert refused(doubled.torch).code == "PH900"
    assert refused(ph.function(lambda A: A).torch).code == "PH045"


def test_what_is_said_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match=r"pip install 'polyhedral-loops\[torch\]'"):
        conv.torch()
    with pytest.raises(ImportError, match=r"pip install 'polyhedral-loops\[jax\]'"):
        conv.jax()


@needed
def test_a_rule_of_the_user_is_the_derivative_of_the_operator():
    f = ph.function(X="i", returns="i")(lambda X: X * 1)
    f.defvjp(lambda X, dout: 3 * X * dout)
    X = torch.arange(4.0, requires_grad=True)
    f.torch()(X).sum().backward()
    torch.testing.assert_close(X.grad, 3 * X.detach())
