# SPDX-License-Identifier: MIT
"""The library's convolutions, attention, norms and dense layers against NumPy formulas; what errors say.

Capsules, routing and the network are in `test_library_capsules`.
"""

import math

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, g, h, m, o, s, t, x, y
from tests.held import held

lib = ph.library
RNG = np.random.default_rng(23)


def normal(*shape):
    return RNG.standard_normal(shape)


def windows(X, taps, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    """[..., y, x, ky, kx] from [..., y, x]."""
    X = np.pad(X, [(0, 0)] * (X.ndim - 2) + [(p, p) for p in padding])
    spans = [(k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(X, spans, (-2, -1))
    return seen[..., :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


IMAGE, KERNEL = "c y x", "o c ky kx"


@pytest.mark.parametrize(
    ("size", "taps", "stride", "padding", "dilation"),
    [
        ((6, 7), (3, 3), (1, 1), (0, 0), (1, 1)),
        ((9, 8), (3, 2), (2, 3), (1, 0), (1, 1)),
        ((11, 10), (2, 3), (3, 1), (2, 1), (3, 2)),
        ((5, 5), (5, 5), (1, 1), (2, 2), (1, 1)),
    ],
)
def test_convolution(size, taps, stride, padding, dilation):
    def conv(X, W, B):
        return lib.conv2d(X, W, c, B, stride=stride, padding=padding, dilation=dilation)

    def formula(X, W, B):
        return np.einsum("cyxab,ocab->oyx", windows(X, taps, stride, padding, dilation), W) + B[:, None, None]

    inputs = {"X": normal(3, *size), "W": normal(2, 3, *taps), "B": normal(2)}
    held(conv, {"X": IMAGE, "W": KERNEL, "B": "o"}, ["o y x"], formula, inputs, ["X"])


def test_convolution_over_one_axis_with_other_names():
    def conv(X, W):
        return lib.conv2d(X, W, "m", positions="t", taps="h", stride=2, padding=1)

    def formula(X, W):
        wide = np.pad(X, ((0, 0), (1, 1)))
        return np.stack([np.einsum("mh,omh->o", wide[:, n : n + 4], W) for n in range(0, wide.shape[1] - 3, 2)], -1)

    held(conv, {"X": "m t", "W": "o m h"}, ["o t"], formula, {"X": normal(3, 9), "W": normal(2, 3, 4)}, ["X", "W"])


def test_grouped_convolution_is_a_shared_name():
    def conv(X, W):
        return lib.merge(ph.let(lib.conv2d(lib.split(X, c, g, 2), W, c, padding=1)), g, o, 3)

    def formula(X, W):
        seen = windows(X, (3, 3), padding=(1, 1)).reshape(2, 2, 5, 6, 3, 3)
        return np.einsum("gcyxab,gocab->goyx", seen, W).reshape(6, 5, 6)

    inputs = {"X": normal(4, 5, 6), "W": normal(2, 3, 2, 3, 3)}
    held(conv, {"X": IMAGE, "W": "g o c ky kx"}, ["o y x"], formula, inputs, ["X"])


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0), (3, 2)])
def test_depthwise_convolution(stride, padding):
    def conv(X, W):
        return lib.depthwise_conv2d(X, W, stride=stride, padding=padding)

    def formula(X, W):
        return np.einsum("cyxab,cab->cyx", windows(X, (3, 3), (stride, stride), (padding, padding)), W)

    held(conv, {"X": IMAGE, "W": "c ky kx"}, ["c y x"], formula, {"X": normal(3, 8, 7), "W": normal(3, 3, 3)}, ["X"])


def test_pointwise_convolution():
    def conv(X, W, B):
        return lib.pointwise_conv2d(X, W, "c", B)

    def formula(X, W, B):
        return np.einsum("cyx,oc->oyx", X, W) + B[:, None, None]

    inputs = {"X": normal(3, 4, 5), "W": normal(6, 3), "B": normal(6)}
    held(conv, {"X": IMAGE, "W": "o c", "B": "o"}, ["o y x"], formula, inputs, ["X"])


@pytest.mark.parametrize(
    ("taps", "stride", "padding", "dilation", "extra"),
    [
        ((4, 4), (2, 2), (1, 1), (1, 1), (0, 0)),
        ((3, 2), (1, 3), (0, 0), (1, 1), (0, 2)),
        ((2, 3), (3, 2), (1, 2), (2, 1), (1, 1)),
    ],
)
def test_transposed_convolution_gathers_what_a_scatter_adds(taps, stride, padding, dilation, extra):
    def conv(X, W):
        return lib.transposed_conv2d(X, W, stride=stride, padding=padding, dilation=dilation, output_padding=extra)

    def formula(X, W):
        steps = zip(X.shape[1:], taps, stride, padding, dilation, extra, strict=True)
        sizes = [s * (n - 1) + d * (k - 1) + 1 + e for n, k, s, p, d, e in steps]
        whole = np.zeros((W.shape[1], *sizes))
        for i, j, a, b in np.ndindex(*X.shape[1:], *taps):
            at = (i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1])
            whole[:, at[0], at[1]] += X[:, i, j] @ W[:, :, a, b]
        return whole[:, padding[0] : sizes[0] - padding[0], padding[1] : sizes[1] - padding[1]]

    inputs = {"X": normal(3, 4, 5), "W": normal(3, 2, *taps)}
    held(conv, {"X": IMAGE, "W": "c o ky kx"}, ["o y x"], formula, inputs, ["X"])


# attention


def attend(Q, K, V, seen=None, scale=None, bias=0.0):
    scores = Q @ K.T * (Q.shape[1] ** -0.5 if scale is None else scale) + bias
    weights = np.exp(scores - scores.max()) * (1 if seen is None else seen)
    total = weights.sum(1, keepdims=True)
    return weights @ V / np.where(total > 0, total, 1)


HEAD = {"Q": "s d", "K": "s d", "V": "s e"}


def head(n=7, d=3, e=2):
    return {"Q": normal(n, d), "K": normal(n, d), "V": normal(n, e)}


def test_attention_causal_in_a_window_and_to_everything():
    at, to = np.indices((7, 7))
    inputs = head()
    held(lambda Q, K, V: lib.attention(Q, K, V), HEAD, ["s e"], attend, inputs, ["Q"])
    held(
        lambda Q, K, V: lib.causal_attention(Q, K, V),
        HEAD,
        ["s e"],
        lambda Q, K, V: attend(Q, K, V, to <= at),
        inputs,
        ["Q", "K", "V"],
    )
    held(
        lambda Q, K, V: lib.window_attention(Q, K, V, 3),
        HEAD,
        ["s e"],
        lambda Q, K, V: attend(Q, K, V, (to <= at) & (at - to < 3)),
        inputs,
        ["K", "V"],
    )


def test_attention_with_a_mask_a_bias_and_a_scale():
    seen = RNG.random((7, 7)) < 0.6
    seen[3] = False

    def masked(Q, K, V, M, B):
        return lib.attention(Q, K, V, near=lambda u: M(t=u), bias=lambda u: B(t=u), scale=0.3)

    def formula(Q, K, V, M, B):
        return attend(Q, K, V, M, 0.3, B)

    held(masked, {**HEAD, "M": "s t", "B": "s t"}, ["s e"], formula, {**head(), "M": seen, "B": normal(7, 7)}, ["Q"])


def test_cross_attention_of_grouped_heads():
    def cross(Q, K, V):
        return lib.attention(Q, K, V, s, keys=t)

    def formula(Q, K, V):
        return np.stack([[attend(Q[a, b], K[a], V[a]) for b in range(2)] for a in range(3)])

    inputs = {"Q": normal(3, 2, 4, 3), "K": normal(3, 6, 3), "V": normal(3, 6, 2)}
    held(cross, {"Q": "g h s d", "K": "g t d", "V": "g t e"}, ["g h s e"], formula, inputs)


# norms


def standard(X, axes, eps=1e-5):
    return (X - X.mean(axes, keepdims=True)) / np.sqrt(X.var(axes, keepdims=True) + eps)


def test_layer_norm_over_one_dim_and_over_several():
    def one(X, G, B):
        return lib.layer_norm(X, c, G, B)

    inputs = {"X": normal(4, 9) + 1e3, "G": normal(9), "B": normal(9)}
    held(one, {"X": "s c", "G": "c", "B": "c"}, ["s c"], lambda X, G, B: standard(X, 1) * G + B, inputs, ["X"], 1e-8)
    held(
        lambda X: lib.layer_norm(X, "c y x"),
        {"X": IMAGE},
        ["c y x"],
        lambda X: standard(X, None),
        {"X": normal(2, 3, 5)},
        ["X"],
    )


def test_rms_norm():
    def formula(X, G):
        return X / np.sqrt((X**2).mean(1, keepdims=True) + 1e-6) * G

    held(
        lambda X, G: lib.rms_norm(X, c, G),
        {"X": "s c", "G": "c"},
        ["s c"],
        formula,
        {"X": normal(3, 7), "G": normal(7)},
        ["X"],
    )


@pytest.mark.parametrize("per_group", [1, 2, 6])
def test_group_norm(per_group):
    def norm(X, G, B):
        return lib.group_norm(X, c, per_group, (y, x), G, B)

    def formula(X, G, B):
        groups = standard(X.reshape(-1, per_group, 3, 5), (1, 2, 3)).reshape(X.shape)
        return groups * G[:, None, None] + B[:, None, None]

    inputs = {"X": normal(6, 3, 5), "G": normal(6), "B": normal(6)}
    held(norm, {"X": IMAGE, "G": "c", "B": "c"}, ["c y x"], formula, inputs, ["X"])


def test_batch_norm_in_training_then_with_running_statistics():
    def training(X, M, G):
        Y, mean, var = lib.batch_norm_training(X, "n y x", G)
        return Y, mean, var, lib.running(M, mean, 0.25)

    def of_training(X, M, G):
        mean, var = X.mean((0, 2, 3)), X.var((0, 2, 3))
        return standard(X, (0, 2, 3)) * G[:, None, None], mean, var, 0.75 * M + 0.25 * mean

    axes = {"X": "n c y x", "M": "c", "G": "c"}
    inputs = {"X": normal(3, 2, 4, 5), "M": normal(2), "G": normal(2)}
    held(training, axes, ["n c y x", "c", "c", "c"], of_training, inputs)

    def inference(X, M, V, B):
        return lib.batch_norm(X, M, V, bias=B, eps=1e-3)

    def of_inference(X, M, V, B):
        return (X - M[:, None, None]) / np.sqrt(V + 1e-3)[:, None, None] + B[:, None, None]

    inputs = {"X": normal(2, 4, 5), "M": normal(2), "V": RNG.random(2), "B": normal(2)}
    held(inference, {"X": IMAGE, "M": "c", "V": "c", "B": "c"}, ["c y x"], of_inference, inputs, ["X"])


# dense layers


def test_mlp():
    def program(X, W, B, U):
        return lib.mlp(X, [lib.Dense(W, c, B), lib.Dense(U, h)], lib.gelu)

    def formula(X, W, B, U):
        z = X @ W + B
        return (0.5 * z * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))) @ U

    inputs = {"X": normal(5), "W": normal(5, 7), "B": normal(7), "U": normal(7, 3)}
    held(program, {"X": "c", "W": "c h", "B": "h", "U": "h o"}, ["o"], formula, inputs, ["X"])


def test_gated_layer():
    def formula(X, U, G, W):
        z = X @ G
        return (z / (1 + np.exp(-z)) * (X @ U)) @ W

    inputs = {"X": normal(4, 5), "U": normal(5, 6), "G": normal(5, 6), "W": normal(6, 3)}
    axes = {"X": "s c", "U": "c h", "G": "c h", "W": "h o"}
    held(lambda X, U, G, W: lib.gated(X, U, G, W, c, h), axes, ["s o"], formula, inputs, ["X"])


def test_logarithms_do_not_overflow():
    X = np.array([-1000.0, -3.0, 0.0, 2.0, 1000.0])
    held(
        lambda X: (lib.softplus(X), lib.log_sigmoid(X)),
        {"X": "i"},
        ["i", "i"],
        lambda X: (np.logaddexp(0, X), -np.logaddexp(0, -X)),
        {"X": X},
    )


# errors


@pytest.mark.parametrize(
    ("python", "axes", "says", "hint"),
    [
        (lambda X, W: lib.conv2d(X, W), ("ch y x", KERNEL), "X has no dimension named 'c'; it has {ch, x, y}", "ch"),
        (lambda X, W: lib.conv2d(X, W), (IMAGE, "o c kyy kx"), "W has no dimension named 'ky'", "kyy"),
        (lambda X, W: lib.transposed_conv2d(X, W), ("c y", KERNEL), "X has no dimension named 'x'", "argument"),
        (lambda X, W: lib.pointwise_conv2d(X, W, m), (IMAGE, "o c"), "X has no dimension named 'm'", "argument"),
        (lambda X, W: lib.dense(X, W, c), ("i", "c o"), "dense: X has no dimension named 'c'", "argument"),
        (lambda X, W: lib.attention(X, W, W, t), ("s d", "s d"), "Q has no dimension named 't'", "argument"),
        (lambda X, W: lib.layer_norm(X, "cc", W), ("s c", "c"), "X has no dimension named 'cc'", "c instead of cc"),
    ],
)
def test_a_missing_dim_is_named(python, axes, says, hint):
    with pytest.raises(ph.DimError) as caught:
        ph.function(X=axes[0], W=axes[1])(python).trace()
    assert caught.value.code == "PH001"
    assert caught.value.location is not None
    assert caught.value.location.file == __file__
    assert says in caught.value.message
    assert any(hint in h for h in caught.value.hints)


@pytest.mark.parametrize(
    ("python", "says"),
    [
        (lambda X, W: lib.conv2d(X, W, stride=0), "stride=0"),
        (lambda X, W: lib.conv2d(X, W, padding=(1, 2, 3)), "padding=(1, 2, 3)"),
        (lambda X, W: lib.conv2d(X, W, taps=("ky",)), "pairs each position with a tap"),
        (lambda X, W: lib.group_norm(X, c, 0), "per_group=0"),
        (lambda X, W: lib.mlp(X, []), "no layers"),
        (lambda X, W: lib.window_attention(X, W, W, 0, y, x), "sees no key"),
    ],
)
def test_an_impossible_number_is_refused_with_a_hint(python, says):
    with pytest.raises(ph.ArgumentError) as caught:
        ph.function(X=IMAGE, W=KERNEL)(python).trace()
    assert says in caught.value.message
    assert caught.value.hints


def test_groups_must_divide_the_channels():
    norm = ph.function(X=IMAGE)(lambda X: lib.group_norm(X, c, 4))
    with pytest.raises(ph.PolyhedralError, match="4"):
        norm(normal(6, 2, 2))


def test_no_dim_of_the_caller_is_captured():
    """Private dims of the library are called like a caller's only in what is printed."""

    def formula(Q, K, V):
        return np.stack([attend(Q[n], K[n], V[n]) for n in range(4)])

    inputs = {"Q": normal(4, 5, 3), "K": normal(4, 5, 3), "V": normal(4, 5, 2)}
    axes = {"Q": "t s d", "K": "t s d", "V": "t s e"}
    held(lambda Q, K, V: lib.attention(Q, K, V), axes, ["t s e"], formula, inputs)
