# SPDX-License-Identifier: MIT
"""Gradients of what the library has, at small sizes, against finite differences and tangents.

The library's own values are `test_library` and `test_library_capsules`' business.
"""

import inspect

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, h, i, j, o
from tests.differentiated import held

lib = ph.library
RNG = np.random.default_rng(11)
CASES = {
    "conv2d": (
        lambda X, W, B: lib.conv2d(X, W, c, B, stride=(2, 1), padding=1, dilation=(1, 2)),
        {"X": "c y x", "W": "o c ky kx", "B": "o"},
        {"c": 2, "y": 5, "x": 6, "o": 2, "ky": 3, "kx": 2},
    ),
    "depthwise_conv2d": (
        lambda X, W: lib.depthwise_conv2d(X, W, stride=2, padding=1),
        {"X": "c y x", "W": "c ky kx"},
        {"c": 2, "y": 5, "x": 4, "ky": 3, "kx": 3},
    ),
    "transposed_conv2d": (
        lambda X, W: lib.transposed_conv2d(X, W, c, stride=2, padding=1),
        {"X": "c y x", "W": "c o ky kx"},
        {"c": 2, "y": 3, "x": 2, "o": 2, "ky": 3, "kx": 2},
    ),
    "attention": (
        lambda Q, K, V: lib.attention(Q, K, V),
        {"Q": "s d", "K": "s d", "V": "s e"},
        {"s": 4, "d": 2, "e": 3},
    ),
    "layer_norm": (
        lambda X, G, B: lib.layer_norm(X, c, G, B),
        {"X": "s c", "G": "c", "B": "c"},
        {"s": 3, "c": 4},
    ),
    "rms_norm": (lambda X, G: lib.rms_norm(X, c, G), {"X": "s c", "G": "c"}, {"s": 3, "c": 4}),
    "gated": (
        lambda X, U, G, W: lib.gated(X, U, G, W, c, h),
        {"X": "s c", "U": "c h", "G": "c h", "W": "h o"},
        {"s": 2, "c": 3, "h": 3, "o": 2},
    ),
    "em_routing_dense": (
        lambda V, A, bu, ba: lib.em_routing_dense(V, A, bu, ba),
        {"V": "i o p q", "A": "i", "bu": "o", "ba": "o"},
        {"i": 4, "o": 3, "p": 2, "q": 2},
    ),
    "em_routing": (
        lambda V, A, bu, ba: lib.em_routing(V, A, bu, ba, taps="kx", positions="x", stride=2, em=lib.EM(iterations=2)),
        {"V": "x kx i o p q", "A": "x i", "bu": "o", "ba": "o"},
        {"i": 2, "o": 2, "p": 2, "q": 1, "kx": 3, "x": 2, "A.x": 5},
    ),
    "dynamic_routing": (
        lambda V: lib.dynamic_routing(V, iterations=2),
        {"V": "i o d"},
        {"i": 3, "o": 2, "d": 2},
    ),
    "self_routing": (
        lambda V, L, A: lib.self_routing(V, L, A),
        {"V": "i o d", "L": "i o", "A": "i"},
        {"i": 3, "o": 2, "d": 2},
    ),
    "capsule_conv": (
        lambda P, W: lib.capsule_conv(P, W, stride=2, padding=1),
        {"P": "y x ci i k", "W": "ky kx ci co k j"},
        {"y": 4, "x": 3, "ci": 2, "co": 2, "i": 2, "j": 2, "k": 2, "ky": 3, "kx": 2},
    ),
    "capsule_votes": (
        lambda P, W: lib.capsule_votes(P, W, dilation=2),
        {"P": "y x i p r", "W": "ky kx i o r q"},
        {"y": 4, "x": 5, "i": 2, "o": 2, "p": 2, "q": 2, "r": 2, "ky": 2, "kx": 3},
    ),
    "class_votes": (
        lambda P, W: lib.class_votes(P, W),
        {"P": "y x i p r", "W": "i o r q"},
        {"y": 2, "x": 3, "i": 2, "o": 2, "p": 2, "q": 2, "r": 2},
    ),
    "pointwise_conv2d of blocks": (
        lambda X, W: lib.merge(lib.pointwise_conv2d(lib.split(X, c, "g", 2), W), "g", "o", 2),
        {"X": "c y", "W": "o c"},
        {"c": 4, "y": 3, "o": 2, "W.c": 2},
    ),
    "causal_attention": (
        lambda Q, K, V: lib.causal_attention(Q, K, V),
        {"Q": "s d", "K": "s d", "V": "s e"},
        {"s": 4, "d": 2, "e": 2},
    ),
    "window_attention": (
        lambda Q, K, V: lib.window_attention(Q, K, V, 2),
        {"Q": "s d", "K": "s d", "V": "s e"},
        {"s": 4, "d": 2, "e": 2},
    ),
    "group_norm": (
        lambda X, G, B: lib.group_norm(X, c, 2, "y", G, B),
        {"X": "c y", "G": "c", "B": "c"},
        {"c": 4, "y": 3},
    ),
    "batch_norm_training": (
        lambda X, G, B, old: (lambda Y, mean, var: (Y, lib.running(old, mean), var))(
            *lib.batch_norm_training(X, "b y", G, B)
        ),
        {"X": "b c y", "G": "c", "B": "c", "old": "c"},
        {"b": 2, "c": 2, "y": 3},
    ),
    "mlp": (
        lambda X, W, B, U: lib.mlp(X, [lib.Dense(W, c, B), lib.Dense(U, h)], lib.gelu),
        {"X": "s c", "W": "c h", "B": "h", "U": "h o"},
        {"s": 2, "c": 3, "h": 3, "o": 2},
    ),
    "activations": (
        lambda X: lib.silu(X - 1) + lib.softplus(2 * X - 2) * lib.log_sigmoid(1 - X),
        {"X": "i j"},
        {"i": 3, "j": 2},
    ),
    "spread_loss": (lambda A: lib.spread_loss(A, A.argmin(o), 0.9), {"A": "o"}, {"o": 4}),
    "squash": (lambda S: lib.squash(S), {"S": "o d"}, {"o": 2, "d": 3}),
}
LEFT = {
    "EM_NETWORK", "SMALL", "Widths", "inverse_temperature",  # no functions of tensors
    "add_coordinates", "batch_norm", "dense", "moments",  # parts of others here
    "em_network",  # its layers are; the whole is in benchmarks
}  # fmt: skip


def test_nothing_of_the_library_is_left_out():
    shown = " ".join(inspect.getsource(python) for python, _, _ in CASES.values())
    assert {n for n in lib.__all__ if f"lib.{n}(" not in shown and f"lib.{n})" not in shown} == LEFT


@pytest.mark.parametrize("name", CASES)
def test_the_library(name):
    python, axes, sizes = CASES[name]
    values = {n: RNG.uniform(0.4, 1.4, [sizes.get(f"{n}.{d}", sizes[d]) for d in a.split()]) for n, a in axes.items()}
    held(python, axes, values, tol=1e-5)


@pytest.mark.parametrize(
    ("python", "axes"),
    [
        (lambda A: A.prod(i, j), "i j"),
        (lambda A: A.max(j) * A.min(j, where=j >= 1), "i j"),
        (lambda A: A.sum(j, where=j <= i) ** 2, "i j"),
        (lambda A: ph.tanh(A) / ph.sqrt(A) + ph.exp2(-A) ** 1.5 + ph.abs(A - 0.9), "i j"),
        (lambda A: ph.atan2(A, 1 + A * A) + ph.hypot(A, 2) + ph.erf(A) + ph.log1p(A) * ph.expm1(A), "i j"),
        (lambda A: A**A + ph.sin(A) * ph.cosh(A) - ph.acos(A / 2) + ph.atan(A) % 0.3, "i j"),
        (lambda A: A(i=i, j=i) + A(i=j // 2, j=j)(j=i), "i j"),
        (lambda A: A.pad(i=1, j=(2, 1), mode="edge")[i - 1, j + 1] * A, "i j"),
        (lambda A: ph.scan("max", A, along=j) + ph.scan("prod", A, along=i), "i j"),
    ],
)
def test_reductions_functions_and_accesses(python, axes):
    held(python, {"A": axes}, {"A": RNG.uniform(0.5, 1.5, (3, 3))}, tol=1e-5)
