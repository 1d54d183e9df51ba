# SPDX-License-Identifier: MIT
"""Derivatives by both operands of convolutions, and an EM routing layer forward and backward: `ph.vjp` and `ph.grad`.

The forward programs are those of `benchmarks.convolutions` and `benchmarks.routing`; how torch and JAX differentiate is
left to `benchmarks.autograd`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import polyhedral as ph
from benchmarks import routing, routing_backward
from benchmarks.case import Case, out_size
from benchmarks.convolutions import LAYOUTS, windows
from polyhedral.dim import c, ci, k, kx, ky, n, o, p, q, x, y


def capsule(name: str, batch: int, h: int, cin: int, cout: int, kernel: int, stride: int, pad: int) -> Case:
    """dP and dW of a capsule convolution, of fresh operands."""
    pa, wa, oa = LAYOUTS["inside"]

    @ph.function(P=pa, W=wa, dO=oa, returns=(pa, wa))
    def capsule_backward(P, W, dO):
        made = (P.pad(y=pad, x=pad)[stride * y + ky - pad, stride * x + kx - pad] * W).sum(ky, kx, ci, k)
        return ph.vjp(made, (P, W), dO)

    m = out_size(h, kernel, stride, pad)
    shapes = {
        "P": (batch, h, h, cin, 4, 4),
        "W": (kernel, kernel, cin, cout, 4, 4),
        "dO": (batch, m, m, cout, 4, 4),
    }

    def reference(P, W, dO):
        dP, dW = np.zeros((batch, h + 2 * pad, h + 2 * pad, cin, 4, 4)), np.zeros_like(W)
        for ty, tx, tap in windows(P, (1, 2), kernel, stride, pad):
            at = [slice(t, t + stride * (m - 1) + 1, stride) for t in (ty, tx)]
            dP[:, at[0], at[1]] += np.einsum("nyxoij,cokj->nyxcik", dO, W[ty, tx], optimize=True)
            dW[ty, tx] = np.einsum("nyxcik,nyxoij->cokj", tap, dO, optimize=True)
        return dP[:, pad : pad + h, pad : pad + h], dW

    return Case(
        name,
        "capsule-backward",
        capsule_backward,
        shapes,
        4 * batch * m * m * cout * 16 * kernel * kernel * cin * 4,
        reference,
        {"stride": stride, "pad": pad},
        out_shape=shapes["P"],
        further=(shapes["W"],),
        tolerance=1e-4,
    )


def conv2d(name: str, batch: int, cin: int, h: int, cout: int, kernel: int, stride: int) -> Case:
    """dX and dW of a layer of ResNet-18 shape, of fresh operands."""
    pad = kernel // 2
    xa, wa, oa = "b c y x", "o c ky kx", "b o y x"

    @ph.function(X=xa, W=wa, dY=oa, returns=(xa, wa))
    def convolution_backward(X, W, dY):
        made = (X.pad(y=pad, x=pad)[stride * y + ky - pad, stride * x + kx - pad] * W).sum(c, ky, kx)
        return ph.vjp(made, (X, W), dY)

    m = out_size(h, kernel, stride, pad)
    shapes = {"X": (batch, cin, h, h), "W": (cout, cin, kernel, kernel), "dY": (batch, cout, m, m)}

    def reference(X, W, dY):
        dX, dW = np.zeros((batch, cin, h + 2 * pad, h + 2 * pad)), np.zeros_like(W)
        for ty, tx, tap in windows(X, (2, 3), kernel, stride, pad):
            at = [slice(t, t + stride * (m - 1) + 1, stride) for t in (ty, tx)]
            dX[:, :, at[0], at[1]] += np.einsum("boyx,oc->bcyx", dY, W[:, :, ty, tx], optimize=True)
            dW[:, :, ty, tx] = np.einsum("boyx,bcyx->oc", dY, tap, optimize=True)
        return dX[:, :, pad : pad + h, pad : pad + h], dW

    return Case(
        name,
        "conv2d-backward",
        convolution_backward,
        shapes,
        4 * batch * m * m * cout * cin * kernel * kernel,
        reference,
        {"stride": stride, "pad": pad},
        out_shape=shapes["X"],
        further=(shapes["W"],),
        tolerance=1e-4,
    )


def em(name: str, batch: int, h: int, children: int, parents: int, kernel: int, stride: int) -> Case:
    """A loss over poses, weighted, and squared activations, with its derivatives by poses and weights; the activations
    of the children are constants of the problem.
    """
    forward = routing.em(name, batch, h, children, parents, kernel, stride)

    @ph.function(
        Pose="n y x i p r", Act="n y x i", W="ky kx i o r q", bu="o", ba="o", T="n y x o p q",
        returns=((), "n y x i p r", "ky kx i o r q", "o", "o"),
    )  # fmt: skip
    def em_backward(Pose, Act, W, bu, ba, T):
        ph.assume((Act.size(y) == Pose.size(y)) & (Act.size(x) == Pose.size(x)))
        Mu, A = routing.route(routing.votes(Pose, W, kernel, stride), Act, bu, ba, stride)
        Mu, A = ph.let(Mu, "Mu"), ph.let(A, "A")
        loss = (Mu * T).sum(n, y, x, o, p, q) + (A**2).sum(n, y, x, o)
        value, made = ph.value_and_grad(loss, (Pose, W, bu, ba))
        return (value, *made)

    m = out_size(h, kernel, stride, 0)
    shapes = {**forward.shapes, "T": (batch, m, m, parents, 4, 4)}

    return replace(
        forward,
        family="em-backward",
        function=em_backward,
        shapes=shapes,
        flops=3 * forward.flops,
        reference=lambda **arrays: routing_backward.reference(**arrays, stride=stride),
        out_shape=(1,),
        further=tuple(forward.shapes[w] for w in ("Pose", "W", "bu", "ba")),
    )
