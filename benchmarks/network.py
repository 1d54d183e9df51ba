# SPDX-License-Identifier: MIT
"""A whole capsule network with EM routing (Hinton, Sabour and Frosst 2018), forward with its loss, as one program.

Sizes are arguments; one convolution, primary capsules, two convolutional capsule layers, class capsules, spread loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

import polyhedral as ph
from benchmarks.case import Arrays, Case
from benchmarks.convolutions import windows
from benchmarks.routing import route, route_by_index, votes, votes_by_index
from polyhedral.dim import a, i, kx, ky, o, p, q, r, x, y

MARGIN = 0.2
LAYERS = (3, 2), (3, 1)
"""Kernel and stride of the two convolutional capsule layers."""


@dataclass(frozen=True)
class Sizes:
    """`A` channels of the convolution, `B`, `C` and `D` capsule types of the layers after it, `classes` at the end;
    `h` is the side of the image.
    """

    batch: int
    h: int
    A: int
    B: int
    C: int
    D: int
    classes: int

    @property
    def sides(self) -> tuple[int, int, int]:
        """Of the grids of primary capsules and of the two layers after them."""
        first = (self.h - 1) // 2 + 1
        second = (first - 3) // 2 + 1
        return first, second, second - 2

    def weights(self) -> dict[str, tuple[int, ...]]:
        A, B, C, D, E = self.A, self.B, self.C, self.D, self.classes
        routed = {f"{b}{at}": (n,) for at, n in enumerate((C, D, E), 1) for b in ("bu", "ba")}
        return {
            "K": (5, 5, A),
            "bK": (A,),
            "M": (A, B, 4, 4),
            "bM": (B, 4, 4),
            "G": (A, B),
            "bG": (B,),
            "W1": (3, 3, B, C, 4, 4),
            "W2": (3, 3, C, D, 4, 4),
            "W3": (D, E, 4, 4),
            **routed,
        }

    def flops(self) -> int:
        """Routing as `benchmarks.routing` counts it, 32 a vote and more; convolutions 2 a multiply-add."""
        first, second, third = self.sides
        pairs = (second**2 * 9 * self.B * self.C, third**2 * 9 * self.C * self.D, third**2 * self.D * self.classes)
        return self.batch * (first**2 * 2 * self.A * (25 + 17 * self.B) + sum(pairs) * 16 * (8 + 24))


AXES = {
    "X": "n y x",
    "T": "n o",
    "K": "ky kx a",
    "bK": "a",
    "M": "a i p r",
    "bM": "i p r",
    "G": "a i",
    "bG": "i",
    "W1": "ky kx i o r q",
    "W2": "ky kx i o r q",
    "W3": "i o r q",
    **{f"{b}{at}": "o" for b in ("bu", "ba") for at in (1, 2, 3)},
}


def network(name: str, sizes: Sizes) -> Case:
    """Activations of the classes and the loss of each example; T is 1 at the right class and 0 elsewhere."""
    last = sizes.sides[2]

    @ph.function(**AXES, returns=("n o", "n"))
    def capsule_network(X, T, K, bK, M, bM, G, bG, W1, W2, W3, bu1, ba1, bu2, ba2, bu3, ba3):
        seen = ph.relu((X.pad(y=2, x=2)[2 * y + ky - 2, 2 * x + kx - 2] * K).sum(ky, kx) + bK)
        Pose, Act = (seen * M).sum(a) + bM, ph.sigmoid((seen * G).sum(a) + bG)
        for (kernel, stride), W, bu, ba in zip(LAYERS, (W1, W2), (bu1, bu2), (ba1, ba2), strict=True):
            Mu, up = route(votes(Pose, W, kernel, stride), Act, bu, ba, stride)
            Pose, Act = ph.let(Mu(o=i, q=r), "pose"), ph.let(up(o=i), "act")
        down, along = (ph.where((p == at) & (q == 3), (k + 0.5) / last, 0.0) for at, k in enumerate((ky, kx)))
        V = votes(Pose, W3, last, 1) + (down + along).astype(ph.f32)
        _, A = route(V, Act, bu3, ba3, 1)
        A = A(y=0, x=0)
        right = (A * T).sum(o)
        return A, ((1 - T) * ph.maximum(0, MARGIN - (right - A)) ** 2).sum(o)

    shapes = {"X": (sizes.batch, sizes.h, sizes.h), "T": (sizes.batch, sizes.classes), **sizes.weights()}
    return Case(
        name,
        "network",
        capsule_network,
        shapes,
        sizes.flops(),
        lambda **arrays: expected(arrays, sizes),
        {"side": sizes.h},
        out_shape=(sizes.batch, sizes.classes),
        further=((sizes.batch,),),
        tolerance=1e-4,
        weights=tuple(sizes.weights()),
        draw={"T": _one_each, **{n: _scaled for n in ("K", "M", "G", "W1", "W2", "W3")}},
    )


def _one_each(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.eye(shape[1])[rng.integers(shape[1], size=shape[0])]


def _scaled(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Weights under which values keep their size from layer to layer, and poses of parents differ."""
    return 4 * (rng.random(shape) - 0.5) / (1 if len(shape) > 3 else prod(shape[:-1]) ** 0.5)


def coordinates(side: int) -> np.ndarray:
    """What is added to the votes of class capsules: `[ky, kx, p, q]`, the scaled row and column."""
    added = np.zeros((side, side, 4, 4), np.float32)
    added[:, :, 0, 3] = ((np.arange(side) + 0.5) / side)[:, None]
    added[:, :, 1, 3] = (np.arange(side) + 0.5) / side
    return added


def expected(arrays: Arrays, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    w, last = arrays, sizes.sides[2]
    found = []
    taps = windows(w["X"], (1, 2), 5, 2, 2)
    seen = np.maximum(sum(tap[..., None] * w["K"][ty, tx] for ty, tx, tap in taps) + w["bK"], 0)
    poses = np.einsum("nyxa,aipr->nyxipr", seen, w["M"], optimize=True) + w["bM"]
    acts = 1 / (1 + np.exp(-(seen @ w["G"] + w["bG"])))
    shared = np.broadcast_to(w["W3"], (last, last, *w["W3"].shape))
    for Pose, Act in zip(poses, acts, strict=True):
        for at, (kernel, stride) in enumerate(LAYERS, 1):
            V = votes_by_index(Pose, w[f"W{at}"], stride)
            Pose, Act = route_by_index(V, Act, w[f"bu{at}"], w[f"ba{at}"], kernel, stride)
        V = votes_by_index(Pose, shared, 1) + coordinates(last)[:, :, None, None]
        found.append(route_by_index(V, Act, w["bu3"], w["ba3"], last, 1)[1][0, 0])
    A, T = np.stack(found), w["T"]
    right = (A * T).sum(1, keepdims=True)
    return A, ((1 - T) * np.maximum(0, MARGIN - (right - A)) ** 2).sum(1)
