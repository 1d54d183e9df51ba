# SPDX-License-Identifier: MIT
"""Layers in a row as one program: a residual block, and capsule convolutions whose boundary layouts disagree.

What a layer alone costs is measured by `benchmarks.convolutions`; here values between layers are the compiler's to lay.
"""

from __future__ import annotations

import numpy as np

import polyhedral as ph
from benchmarks.case import Case
from benchmarks.convolutions import windows
from polyhedral.dim import c, ci, k, kx, ky, o, x, y


def residual(name: str, channels: int, h: int) -> Case:
    """Two 3x3 convolutions, each with bias and ReLU, and the input added: channels in front, weights constant."""

    def layer(X, W, bias):
        return ph.relu((X.pad(y=1, x=1)[y + ky - 1, x + kx - 1] * W).sum(c, ky, kx) + bias)

    weight = "o c ky kx"

    @ph.function(X="n c y x", W1=weight, b1="o", W2=weight, b2="o", returns="n o y x")
    def residual_block(X, W1, b1, W2, b2):
        inner = ph.let(layer(X, W1, b1)(o=c), "inner")
        return layer(inner, W2, b2) + X(c=o)

    def reference(X, W1, b1, W2, b2):
        def one(a, W, bias):
            taps = windows(a, (2, 3), 3, 1, 1)
            summed = sum(np.einsum("ncyx,oc->noyx", tap, W[:, :, ty, tx], optimize=True) for ty, tx, tap in taps)
            return np.maximum(summed + bias[:, None, None], 0)

        return one(one(X, W1, b1), W2, b2) + X

    shape, filters = (1, channels, h, h), (channels, channels, 3, 3)
    return Case(
        name,
        "residual",
        residual_block,
        {"X": shape, "W1": filters, "b1": (channels,), "W2": filters, "b2": (channels,)},
        2 * 2 * 9 * channels**2 * h * h,
        reference,
        out_shape=shape,
        weights=("W1", "b1", "W2", "b2"),
    )


INPUT, WEIGHT, OUTPUT = "n y x ci i k", "ky kx k j ci co", "co n j i y x"
"""Capsules inside, channels inside, and an order that is neither: whoever keeps the caller's layouts loses."""


def capsules(name: str, batch: int, h: int, types: int) -> Case:
    """Three capsule convolutions in a row, 3x3 with padding 1, poses 4x4: the poses' columns j are the next one's k."""

    def layer(P, W):
        return (P.pad(y=1, x=1)[y + ky - 1, x + kx - 1] * W).sum(ky, kx, ci, k)

    @ph.function(P=INPUT, W1=WEIGHT, W2=WEIGHT, W3=WEIGHT, returns=OUTPUT)
    def capsule_chain(P, W1, W2, W3):
        first = ph.let(layer(P, W1)(co=ci, j=k), "first")
        second = ph.let(layer(first, W2)(co=ci, j=k), "second")
        return layer(second, W3)

    def reference(P, W1, W2, W3):
        for W in (W1, W2, W3):
            taps = windows(P, (1, 2), 3, 1, 1)
            every = [np.einsum("nyxcik,kjco->nyxoij", tap, W[ty, tx], optimize=True) for ty, tx, tap in taps]
            P = np.sum(every, axis=0)
        return P.transpose(3, 0, 5, 4, 1, 2)

    weight = (3, 3, 4, 4, types, types)
    return Case(
        name,
        "capsule_chain",
        capsule_chain,
        {"P": (batch, h, h, types, 4, 4), "W1": weight, "W2": weight, "W3": weight},
        3 * 2 * batch * h * h * types * 16 * 9 * types * 4,
        reference,
        out_shape=(types, batch, 4, 4, h, h),
        weights=("W1", "W2", "W3"),
    )
