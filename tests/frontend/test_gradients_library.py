# SPDX-License-Identifier: MIT
"""Gradients of what the library has, at small sizes, against finite differences.

The library's own values are `test_library` and `test_library_capsules`' business.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, h, i, j
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
}


@pytest.mark.parametrize("name", CASES)
def test_the_library(name):
    python, axes, sizes = CASES[name]
    values = {n: RNG.uniform(0.4, 1.4, [sizes[d] for d in a.split()]) for n, a in axes.items()}
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
