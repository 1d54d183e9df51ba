# SPDX-License-Identifier: MIT
"""Capsules, their three routings, the EM network and its loss against NumPy loops in double precision.

The formulas below are written position by position, as the papers' are; other building blocks are in `test_library`.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, o
from tests.held import held

lib = ph.library
RNG = np.random.default_rng(29)


def normal(*shape):
    return RNG.standard_normal(shape)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sites(size, taps, s, d=1):
    """(y, x), (ky, kx), child: every tap of every window."""
    count = [(n - d * (k - 1) - 1) // s + 1 for n, k in zip(size, taps, strict=True)]
    for y, x, a, b in np.ndindex(*count, *taps):
        yield (y, x), (a, b), (s * y + d * a, s * x + d * b)


def votes(P, W, s, d=1):
    """V[y, x, ky, kx, i, o, p, q] of P[y, x, i, p, r] and W[ky, kx, i, o, r, q]."""
    found = list(sites(P.shape[:2], W.shape[:2], s, d))
    V = np.zeros((*(n + 1 for n in found[-1][0]), *W.shape[:4], P.shape[3], W.shape[5]))
    for at, tap, child in found:
        V[at + tap] = np.einsum("ipr,iorq->iopq", P[child], W[tap])
    return V


# EM routing


def em_step(R, A, V, bu, ba, t, eps, children):
    """M step and log-probabilities: R{children, o}, A{children}, V{children, o, p, q}, the children in front."""
    weight = R * A[..., None]
    S = weight.sum(children)
    Mu = (weight[..., None, None] * V).sum(children) / S[..., None, None]
    square = (V - Mu) ** 2
    Var = (weight[..., None, None] * square).sum(children) / S[..., None, None] + eps
    cost = ((bu[:, None, None] + 0.5 * np.log(Var)) * S[..., None, None]).sum((-1, -2))
    act = sigmoid(0.01 * (1 - 0.95 ** (t + 1)) * (ba - cost))
    return Mu, act, np.log(act) - (square / (2 * Var) + 0.5 * np.log(2 * np.pi * Var)).sum((-1, -2))


def em_dense(V, A, bu, ba, T=3, eps=1e-6):
    R = np.full(V.shape[:-2], 1 / V.shape[-3])
    children = tuple(range(A.ndim))
    for t in range(T):
        Mu, act, LP = em_step(R, A, V, bu, ba, t, eps, children)
        R = softmax(LP, -1)
    return Mu, act


def em_conv(P, W, A, bu, ba, s=1, T=3, eps=1e-6, d=1):
    V = votes(P, W, s, d)
    everywhere = list(sites(P.shape[:2], W.shape[:2], s, d))
    parents = np.zeros(P.shape[:2])
    for _, _, child in everywhere:
        parents[child] += 1
    R, seen = np.zeros(V.shape[:6]), np.zeros(V.shape[:5])
    for at, tap, child in everywhere:
        R[at + tap], seen[at + tap] = 1 / (W.shape[3] * parents[child]), A[child]
    Mu = np.zeros((*V.shape[:2], *V.shape[5:]))
    act, LP = np.zeros(Mu.shape[:3]), np.zeros(R.shape)
    for t in range(T):
        for at in np.ndindex(*V.shape[:2]):
            Mu[at], act[at], LP[at] = em_step(R[at], seen[at], V[at], bu, ba, t, eps, (0, 1, 2))
        top = np.full((*P.shape[:2], P.shape[2]), -np.inf)
        total = np.zeros(top.shape)
        for at, tap, child in everywhere:
            top[child] = np.maximum(top[child], LP[at + tap].max(-1))
        for at, tap, child in everywhere:
            total[child] += np.exp(LP[at + tap] - top[child][:, None]).sum(-1)
        for at, tap, child in everywhere:
            R[at + tap] = np.exp(LP[at + tap] - top[child][:, None]) / total[child][:, None]
    return Mu, act


LAYER = {"P": "y x i p r", "W": "ky kx i o r q", "A": "y x i", "bu": "o", "ba": "o"}


def layer_inputs(size, taps, I=3, O=2, p=4, r=4, q=4):  # noqa: E741
    return {
        "P": normal(*size, I, p, r),
        "W": 0.5 * normal(*taps, I, O, r, q),
        "A": RNG.random((*size, I)),
        "bu": normal(O),
        "ba": normal(O),
    }


@pytest.mark.parametrize(
    ("size", "taps", "stride", "dilation", "iterations"),
    [((7, 8), (3, 3), 2, 1, 3), ((5, 4), (3, 2), 1, 1, 2), ((8, 7), (3, 2), 3, 1, 3), ((7, 6), (2, 3), 1, 2, 4)],
)
def test_em_routing_shares_a_child_between_all_its_parents(size, taps, stride, dilation, iterations):
    def layer(P, W, A, bu, ba):
        V = lib.capsule_votes(P, W, stride=stride, dilation=dilation)
        em = lib.EM(iterations)
        return lib.em_routing(V, A, bu, ba, stride=stride, dilation=dilation, em=em)

    def formula(P, W, A, bu, ba):
        return em_conv(P, W, A, bu, ba, stride, iterations, d=dilation)

    lifted = ["P", "A"] if iterations == 2 else []
    held(layer, LAYER, ["y x o p q", "y x o"], formula, layer_inputs(size, taps), lifted)


def test_children_that_nobody_sees_have_no_derivative():
    """Six rows, of which windows of three with stride 2 see five: 0, and not the quotient of two zeros."""

    @ph.function(**LAYER)
    def loss(P, W, A, bu, ba):
        V = lib.capsule_votes(P, W, stride=2)
        Mu, act = lib.em_routing(V, A, bu, ba, stride=2, em=lib.EM(2))
        return (Mu * Mu).sum("y x o p q") + act.sum("y x o")

    given = layer_inputs((6, 6), (3, 3), I=2, p=2, r=2, q=2)
    dA = np.asarray(ph.grad(loss, wrt="A")(**given).order("y x i"))
    assert not dA[5].any()
    assert not dA[:, 5].any()
    step = 1e-6 * RNG.standard_normal(dA.shape)
    far, near = (float(loss(**{**given, "A": given["A"] + sign * step})) for sign in (1, -1))
    np.testing.assert_allclose((dA * step).sum(), (far - near) / 2, rtol=1e-5)


def test_em_routing_with_other_names_poses_and_schedule():
    def layer(P, W, A, bu, ba):
        V = lib.capsule_votes(P, W, "k", positions="u", taps="ku")
        em = lib.EM(3, schedule=lambda t: 0.01 * (1 - 0.95 ** (t + 1)), eps=1e-3)
        return lib.em_routing(V, A, bu, ba, positions="u", taps="ku", children="ci", parents="co", pose="i j", em=em)

    def formula(P, W, A, bu, ba):
        Mu, act = em_conv(P[:, None], W[:, None], A[:, None], bu, ba, eps=1e-3)
        return Mu[:, 0], act[:, 0]

    axes = {"P": "u ci i k", "W": "ku ci co k j", "A": "u ci", "bu": "co", "ba": "co"}
    inputs = {
        "P": normal(6, 2, 3, 2),
        "W": normal(3, 2, 4, 2, 5),
        "A": RNG.random((6, 2)),
        "bu": normal(4),
        "ba": normal(4),
    }
    held(layer, axes, ["u co i j", "u co"], formula, inputs, ["P"])


def test_assignments_of_a_child_add_up_to_its_activation():
    """What the weights sum to over all parents, from the program's own S: nothing is lost between windows."""
    inputs = layer_inputs((7, 7), (3, 3))

    @ph.function(**LAYER)
    def layer(P, W, A, bu, ba):
        return lib.em_routing(lib.capsule_votes(P, W, stride=2), A, bu, ba, stride=2)

    program = layer.trace(**inputs).program
    strengths = [n for n in program.arrays if n.name.partition("_")[0] == "S"]
    assert len(strengths) == 3
    kept = ph.Program(
        program.name,
        program.sizes,
        tuple(_output(a) if a in strengths else a for a in program.arrays),
        program.statements,
        program.assumptions,
    )
    found = ph.interpret(kept, inputs, dim_order={n: a.split() for n, a in LAYER.items()})
    for s in strengths:
        alike = 1 if "o" in s.dim_names else 2  # parents, before anything tells them apart
        np.testing.assert_allclose(found[s.name].sum() * alike, inputs["A"].sum())


def _output(array):
    return array.__class__(array.name, array.dims, array.dtype, ph.Role.OUTPUT)


def test_probabilities_beyond_the_range_of_exp():
    """144 pose entries with a spread of 1e-3 have densities near exp(860): only differences to the largest are safe."""

    def layer(P, W, A, bu, ba):
        return lib.em_routing(lib.capsule_votes(P, W, stride=2), A, bu, ba, stride=2)

    inputs = layer_inputs((5, 5), (3, 3), p=12, q=12)
    inputs["W"] *= 1e-3
    held(layer, LAYER, ["y x o p q", "y x o"], lambda **given: em_conv(**given, s=2), inputs)


def test_class_capsules_share_matrices_and_know_where_they_are():
    def classes(P, W, A, bu, ba):
        return lib.em_routing_dense(lib.class_votes(P, W), A, bu, ba, children="y x i")

    def formula(P, W, A, bu, ba):
        V = np.einsum("yxipr,iorq->yxiopq", P, W)
        V[..., 0, -1] += ((np.arange(3) + 0.5) / 3)[:, None, None, None]
        V[..., 1, -1] += ((np.arange(4) + 0.5) / 4)[:, None, None]
        return em_dense(V, A, bu, ba)

    axes = LAYER | {"W": "i o r q"}
    inputs = layer_inputs((3, 4), (1, 1))
    inputs["W"] = inputs["W"][0, 0]
    held(classes, axes, ["o p q", "o"], formula, inputs, ["P", "A"])


def test_em_routing_of_fully_connected_capsules():
    axes = {"V": "i o p q", "A": "i", "bu": "o", "ba": "o"}
    inputs = {"V": normal(5, 3, 4, 2), "A": RNG.random(5), "bu": normal(3), "ba": normal(3)}
    held(lambda V, A, bu, ba: lib.em_routing_dense(V, A, bu, ba), axes, ["o p q", "o"], em_dense, inputs, ["V", "A"])


def test_a_far_vote_does_not_cancel_the_variance():
    """Votes near 1e4 with a spread of 1e-2: a sum of squares in f32 would lose it, the two passes do not."""

    @ph.function(V="i o p q", A="i", bu="o", ba="o", returns=("o p q", "o"))
    def routed(V, A, bu, ba):
        return lib.em_routing_dense(V, A, bu, ba)

    V = (1e4 + np.round(64 * normal(6, 2, 2, 2)) / 1024).astype(np.float32)
    A, zero = np.full(6, 0.5, np.float32), np.zeros(2, np.float32)
    Mu, act = routed(V, A, zero, zero)
    want_mu, want_act = em_dense(V.astype(float), A.astype(float), zero.astype(float), zero.astype(float), eps=1e-6)
    np.testing.assert_allclose(np.asarray(Mu), want_mu, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(act), want_act, rtol=1e-3)


# other capsules and routings


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(2, 1, 1), (1, 1, 1), (3, 0, 2)])
def test_capsule_convolution(stride, padding, dilation):
    def conv(P, W):
        return lib.capsule_conv(P, W, stride=stride, padding=padding, dilation=dilation)

    def formula(P, W):
        wide = np.pad(P, ((padding, padding), (padding, padding), (0, 0), (0, 0), (0, 0)))
        return votes(wide, W, stride, dilation).sum((2, 3, 4))

    axes = {"P": "y x ci i k", "W": "ky kx ci co k j"}
    held(conv, axes, ["y x co i j"], formula, {"P": normal(8, 7, 2, 4, 4), "W": normal(3, 3, 2, 3, 4, 4)}, ["P"])


def test_votes():
    def program(P, W):
        return lib.capsule_votes(P, W, stride=2, padding=(1, 0))

    def formula(P, W):
        return votes(np.pad(P, ((1, 1), (0, 0), (0, 0), (0, 0), (0, 0))), W, 2)

    axes = {"P": "y x i p r", "W": "ky kx i o r q"}
    inputs = {"P": normal(5, 6, 2, 3, 2), "W": normal(3, 2, 2, 2, 2, 4)}
    held(program, axes, ["y x ky kx i o p q"], formula, inputs, ["P"])


def squash(s):
    n = (s**2).sum(-1, keepdims=True)
    return s * n / (1 + n) / np.sqrt(n + 1e-9)


def sabour(V, T):
    B = np.zeros(V.shape[:2])
    for _ in range(T):
        v = squash(np.einsum("io,iod->od", softmax(B, 1), V))
        B = B + np.einsum("iod,od->io", V, v)
    return v


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_dynamic_routing(iterations):
    def program(V):
        return lib.dynamic_routing(V, iterations=iterations)

    held(program, {"V": "i o d"}, ["o d"], lambda V: sabour(V, iterations), {"V": normal(6, 3, 5)}, ["V"])


def test_dynamic_routing_in_windows():
    def program(P, W):
        V = lib.capsule_votes(P, W, "p")
        return lib.dynamic_routing(V, children=("ky", "kx", i))

    def formula(P, W):
        V = votes(P[..., None, :], W, 1)[..., 0, :]
        return np.stack([[sabour(at.reshape(-1, *at.shape[3:]), 3) for at in row] for row in V])

    axes = {"P": "y x i p", "W": "ky kx i o p d"}
    held(program, axes, ["y x o d"], formula, {"P": normal(4, 5, 2, 3), "W": normal(2, 3, 2, 3, 3, 4)}, ["P"])


def test_self_routing():
    def program(P, W, G, A):
        return lib.self_routing((P * W).sum("p"), (P * G).sum("p"), A)

    def formula(P, W, G, A):
        CA = softmax(np.einsum("ip,iop->io", P, G), 1) * A[:, None]
        V = np.einsum("ip,iopd->iod", P, W)
        return np.einsum("io,iod->od", CA, V) / CA.sum(0)[:, None], CA.sum(0) / A.sum()

    axes = {"P": "i p", "W": "i o p d", "G": "i o p", "A": "i"}
    inputs = {"P": normal(5, 3), "W": normal(5, 4, 3, 2), "G": normal(5, 4, 3), "A": RNG.random(5)}
    held(program, axes, ["o d", "o"], formula, inputs, ["P", "A"])


# the network


def network_formula(X, W0, b0, Wp, bp, Wa, ba, W1, bu1, ba1, W2, bu2, ba2, W3, bu3, ba3):
    seen = np.lib.stride_tricks.sliding_window_view(X, (5, 5), (-2, -1))[:, ::2, ::2]
    stem = np.maximum(np.einsum("cyxab,ocab->oyx", seen, W0) + b0[:, None, None], 0)
    P = np.einsum("ayx,aipr->yxipr", stem, Wp) + bp
    A = sigmoid(np.einsum("ayx,ai->yxi", stem, Wa) + ba)
    P, A = em_conv(P, W1, A, bu1, ba1, 2)
    P, A = em_conv(P, W2, A, bu2, ba2)
    V = np.einsum("yxipr,iorq->yxiopq", P, W3)
    V[..., 0, -1] += ((np.arange(V.shape[0]) + 0.5) / V.shape[0])[:, None, None, None]
    V[..., 1, -1] += ((np.arange(V.shape[1]) + 0.5) / V.shape[1])[:, None, None]
    return em_dense(V, A, bu3, ba3)


def network_inputs(widths, size):
    return {n: 0.3 * normal(*shape) for n, shape in widths.shapes(*size).items()}


def test_the_em_network():
    """Every layer at its full depth, few capsules; 18x16 pixels make 7x6, then 3x2, which a 3x2 window covers once."""
    inputs = network_inputs(lib.Widths(A=3, B=2, C=3, D=2, classes=4), (18, 16))
    inputs["W2"] = inputs["W2"][:, :2]
    held(lib.em_network, lib.EM_NETWORK, ["o p q", "o"], network_formula, inputs, ["X"], 1e-8)


def test_the_network_has_the_size_of_the_paper():
    def weights(widths):
        return sum(int(np.prod(shape)) for n, shape in widths.shapes().items() if n != "X")

    assert weights(lib.Widths()) == 316_394
    program = ph.function(**lib.EM_NETWORK)(lib.em_network).trace().program
    act = next(a for a in program.with_role(ph.Role.OUTPUT) if a.dim_names == ("o",))
    assert act.name.startswith("Act")
    assert lib.Widths(A=64, B=8, C=16, D=16) == lib.SMALL


def test_spread_loss():
    def loss(A, T, M):
        return lib.spread_loss(A, T, M)

    def formula(A, T, M):
        others = np.delete(A, T)
        return np.array((np.maximum(0, M - (A[T] - others)) ** 2).sum())

    f = ph.function(A="o", T="", M="")(loss)
    A, T = RNG.random((3, 5)), np.array([0, 4, 2])
    want = [formula(a, t, 0.9) for a, t in zip(A, T, strict=True)]
    margin = np.array(0.9)
    got = f(ph.array(A, "b o"), ph.array(T, "b"), margin)
    np.testing.assert_allclose(np.asarray(got.order("b")), want)
    np.testing.assert_allclose(float(np.asarray(f(A[1], T[1], margin))), want[1])


# errors


@pytest.mark.parametrize(
    ("python", "says"),
    [
        (lambda V, A: lib.em_routing(V, A, 0, 0, children="k"), "em_routing: V has no dimension named 'k'"),
        (lambda V, A: lib.em_routing(V, V.sum("y"), 0, 0), "em_routing: A has no dimension named 'y'"),
        (
            lambda V, A: lib.em_routing_dense(V, A, 0, 0, parents="oo"),
            "em_routing_dense: V has no dimension named 'oo'",
        ),
        (lambda V, A: lib.dynamic_routing(V), "dynamic_routing: V has no dimension named 'd'"),
        (lambda V, A: lib.self_routing(V, A, A), "self_routing: logits has no dimension named 'o'"),
        (lambda V, A: lib.add_coordinates(V, pose=("p", "r")), "add_coordinates: V has no dimension named 'r'"),
        (lambda V, A: lib.spread_loss(A, 0, 1, o), "spread_loss: A has no dimension named 'o'"),
    ],
)
def test_a_missing_dim_is_named(python, says):
    f = ph.function(V="y x ky kx i o p q", A="y x i")(python)
    with pytest.raises(ph.DimError) as caught:
        f.trace()
    assert caught.value.code == "PH001"
    assert caught.value.location is not None
    assert caught.value.location.file == __file__
    assert says in caught.value.message
    assert caught.value.hints


def test_routing_takes_an_iteration():
    with pytest.raises(ph.ArgumentError, match="iterations=0"):
        lib.EM(0)
    with pytest.raises(ph.ArgumentError, match="iterations=0"):
        ph.function(V="i o d")(lambda V: lib.dynamic_routing(V, iterations=0)).trace()
