# SPDX-License-Identifier: MIT
"""A small capsule network with EM routing (Hinton, Sabour, Frosst 2018) for 8x8 images, its loss and Adam, as programs.

Sizes are arguments; which images are seen, and in which order, is left to `benchmarks.digits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import polyhedral as ph
from benchmarks.case import Arrays
from polyhedral.dim import i, n, o, r

SIDE, KERNEL, WINDOW, STRIDE = 8, 4, 3, 2
"""Images are 8x8; a 4x4 convolution makes a 5x5 grid of primary capsules, 3x3 windows at stride 2 a 2x2 grid."""
INVERSE_TEMPERATURE = 0.01
"""Of the last iteration of routing; the ones before are proportionally softer."""
VARIANCE = 1e-2
"""What is added to variances."""
QUIET = -3.0
"""A class that nobody votes for begins with an activation of sigmoid(-3), so that the loss can reach 0."""
DECAY, DECAY_SQUARE, TINY = 0.9, 0.999, 1e-8
"""Adam's constants, as its authors propose."""

AXES = {name: axes for name, axes in ph.library.EM_NETWORK.items() if name not in ("X", "W2", "bu2", "ba2")}


@dataclass(frozen=True)
class Network:
    """`channels` of the convolution, `primary` capsule types, `capsules` of the layer after them, `classes` at the end;
    `iterations` of routing.
    """

    channels: int = 32
    primary: int = 8
    capsules: int = 8
    classes: int = 10
    iterations: int = 2

    def shapes(self) -> dict[str, tuple[int, ...]]:
        A, B, C, E = self.channels, self.primary, self.capsules, self.classes
        return {
            "W0": (A, 1, KERNEL, KERNEL),
            "b0": (A,),
            "Wp": (A, B, 4, 4),
            "bp": (B, 4, 4),
            "Wa": (A, B),
            "ba": (B,),
            "W1": (WINDOW, WINDOW, B, C, 4, 4),
            "bu1": (C,),
            "ba1": (C,),
            "W3": (C, E, 4, 4),
            "bu3": (E,),
            "ba3": (E,),
        }

    def named(self, weights: np.ndarray) -> Arrays:
        """Views of all weights, which lie one after another."""
        return dict(self._views(weights))

    def _views(self, weights: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        start = 0
        for name, shape in self.shapes().items():
            yield name, weights[start : start + prod(shape)].reshape(shape)
            start += prod(shape)

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Weights under which values keep their size from layer to layer; biases are zero but for the classes'."""
        weights = np.zeros(sum(map(prod, self.shapes().values())), np.float32)
        named = self.named(weights)
        summed = {"W0": KERNEL**2, "Wp": self.channels, "Wa": self.channels, "W1": 4, "W3": 4}
        for name, terms in summed.items():
            named[name][...] = rng.standard_normal(named[name].shape) / terms**0.5
        named["ba3"][...] = QUIET / INVERSE_TEMPERATURE
        return weights


@dataclass(frozen=True)
class Programs:
    """`gradient(X, T, margin, **weights)` gives the mean loss and its derivative by each of the weights;
    `predicted(X, **weights)` the classes; `adam` new weights and moments.
    """

    gradient: Any
    predicted: Any
    adam: Any


def programs(network: Network) -> Programs:
    """The programs of a network, whose derivative is the compiler's."""
    library, steps = ph.library, network.iterations
    em = library.EM(steps, lambda t: INVERSE_TEMPERATURE * (t + 1) / steps, VARIANCE)

    @ph.function(X="n c y x", **AXES)
    def activations(X, W0, b0, Wp, bp, Wa, ba, W1, bu1, ba1, W3, bu3, ba3):
        seen = ph.let(ph.relu(library.conv2d(X, W0, "c", b0)), "Stem")
        pose = ph.let(library.pointwise_conv2d(seen, Wp, "a", bp), "Primary")
        act = ph.let(ph.sigmoid(library.pointwise_conv2d(seen, Wa, "a", ba)), "PrimaryAct")
        votes = library.capsule_votes(pose, W1, stride=STRIDE)
        pose, act = library.em_routing(votes, act, bu1, ba1, stride=STRIDE, em=em)
        pose, act = pose(o=i, q=r), act(o=i)
        return library.em_routing_dense(library.class_votes(pose, W3), act, bu3, ba3, children="y x i", em=em)[1]

    @ph.function(X="n c y x", T="n", **AXES)
    def loss(X, T, margin: ph.Scalar[ph.f32], W0, b0, Wp, bp, Wa, ba, W1, bu1, ba1, W3, bu3, ba3):
        act = activations(X, W0, b0, Wp, bp, Wa, ba, W1, bu1, ba1, W3, bu3, ba3)
        return library.spread_loss(act, T, margin).mean(n)

    @ph.function(X="n c y x", returns="n", **AXES)
    def predicted(X, W0, b0, Wp, bp, Wa, ba, W1, bu1, ba1, W3, bu3, ba3):
        return activations(X, W0, b0, Wp, bp, Wa, ba, W1, bu1, ba1, W3, bu3, ba3).argmax(o)

    return Programs(ph.value_and_grad(loss, wrt=" ".join(AXES)), predicted, adam)


@ph.function(W="w", G="w", M="w", V="w", returns=("w", "w", "w"))
def adam(W, G, M, V, rate: ph.Scalar[ph.f64], t: ph.Scalar[ph.f64]):
    """Weights and both moments after step t = 1, 2, ...  Source: Kingma, Ba 2015, section 2."""
    first = ph.let(DECAY * M + (1 - DECAY) * G, "first")
    second = ph.let(DECAY_SQUARE * V + (1 - DECAY_SQUARE) * G**2, "second")
    unbiased = ph.let((rate * ph.sqrt(1 - DECAY_SQUARE**t) / (1 - DECAY**t)).astype(W.dtype), "unbiased")
    return W - unbiased * first / (ph.sqrt(second) + TINY), first, second
