# SPDX-License-Identifier: MIT
"""EM routing of a convolutional capsule layer (Hinton, Sabour and Frosst 2018), votes included: ours and a reference.

Sizes are arguments; how frameworks say the same is left to `benchmarks.torch_routing` and `benchmarks.jax_routing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import polyhedral as ph
from benchmarks.case import Case, out_size
from polyhedral.dim import cx, cy, i, o, p, q, r, x, y

EPS = 1e-4
"""What is added to a variance."""
ITERATIONS = 3


def inverse_temperature(iteration: int) -> float:
    return 0.01 * (1 - 0.95 ** (iteration + 1))


def votes(Pose, W, kernel: int, stride: int):
    """`V{n,y,x,ky,kx,i,o,p,q}`: what each child capsule of a window thinks each parent's pose is."""
    ky, kx = ph.dims(ky=kernel, kx=kernel)
    return (Pose[stride * y + ky, stride * x + kx] * W).sum(r)


def route(V, Act, bu, ba, kernel: int, stride: int, iterations: int = ITERATIONS):
    """Poses `{n,y,x,o,p,q}` and activations `{n,y,x,o}` of the parents; a child's assignments sum to 1 over all parents
    at all positions whose window covers it.
    """
    ky, kx = ph.dims(ky=kernel, kx=kernel)
    at = {"cy": stride * y + ky, "cx": stride * x + kx}
    covered = (stride * y + ky == cy) & (stride * x + kx == cx)
    act = Act[stride * y + ky, stride * x + kx]

    def of_child(op: str, e):
        return getattr(e, op)(y, x, ky, kx, o, where=covered).over(cy=Act.size(y), cx=Act.size(x))(**at)

    def windows(c, k, size):
        """How many windows along one axis cover child c."""
        inside = (c >= k) & (c - k < stride * ((size - kernel) // stride + 1)) & ((c - k) % stride == 0)
        return ph.where(inside, 1.0, 0.0).astype(ph.f32).sum(k)

    parents = windows(cy, ky, Act.size(y)) * windows(cx, kx, Act.size(x))
    R = 1 / (bu.size(o) * parents(**at))
    for iteration in range(iterations):
        Rp = R * act
        S = Rp.sum(ky, kx, i)
        Mu = (Rp * V).sum(ky, kx, i) / S
        Var = (Rp * (V - Mu) ** 2).sum(ky, kx, i) / S + EPS
        cost = ((bu + 0.5 * ph.log(Var)) * S).sum(p, q)
        A = ph.sigmoid(inverse_temperature(iteration) * (ba - cost))
        if iteration + 1 < iterations:
            LP = ph.log(A) - ((V - Mu) ** 2 / (2 * Var) + 0.5 * ph.log(2 * ph.pi * Var)).sum(p, q)
            E = ph.exp(LP - of_child("max", LP))
            R = E / of_child("sum", E)
    return Mu, A


def em(name: str, batch: int, h: int, children: int, parents: int, kernel: int, stride: int) -> Case:
    """Work: 8 FLOP a vote, 6 an iteration for mean and variance, 3 for the likelihood in all but the last."""

    @ph.function(
        Pose="n y x i p r", Act="n y x i", W="ky kx i o r q", bu="o", ba="o", returns=("n y x o p q", "n y x o")
    )
    def em_routing(Pose, Act, W, bu, ba):
        ph.assume((Act.size(y) == Pose.size(y)) & (Act.size(x) == Pose.size(x)))
        return route(votes(Pose, W, kernel, stride), Act, bu, ba, kernel, stride)

    def reference(Pose, Act, W, bu, ba):
        each = [
            route_by_index(votes_by_index(one[0], W, stride), one[1], bu, ba, kernel, stride)
            for one in zip(Pose, Act, strict=True)
        ]
        return tuple(np.stack(parts) for parts in zip(*each, strict=True))

    m = out_size(h, kernel, stride, 0)
    entries = batch * m * m * kernel * kernel * children * parents * 16
    return Case(
        name,
        "em",
        em_routing,
        {
            "Pose": (batch, h, h, children, 4, 4),
            "Act": (batch, h, h, children),
            "W": (kernel, kernel, children, parents, 4, 4),
            "bu": (parents,),
            "ba": (parents,),
        },
        entries * (8 + 6 * ITERATIONS + 3 * (ITERATIONS - 1)),
        reference,
        {"kernel": kernel, "stride": stride},
        out_shape=(batch, m, m, parents, 4, 4),
        further=((batch, m, m, parents),),
        tolerance=1e-4,
        weights=("W", "bu", "ba"),
        draw={"Act": lambda rng, shape: rng.random(shape)},
    )


# --- the reference: one example, children found by an index for each place of each window ----------------------------


def places(h: int, kernel: int, stride: int) -> np.ndarray:
    """The child (a row of h * h) under each place (y, x, ky, kx)."""
    m = out_size(h, kernel, stride, 0)
    line = stride * np.arange(m)[:, None] + np.arange(kernel)
    return line[:, None, :, None] * h + line[None, :, None, :]


def votes_by_index(Pose: np.ndarray, W: np.ndarray, stride: int) -> np.ndarray:
    """`[y, x, ky, kx, i, o, p, q]`"""
    h, children = Pose.shape[0], Pose.shape[2]
    under = Pose.reshape(h * h, children, 4, 4)[places(h, W.shape[0], stride)]
    return np.einsum("yxabipr,abiorq->yxabiopq", under, W, optimize=True)


def route_by_index(V: np.ndarray, Act: np.ndarray, bu: np.ndarray, ba: np.ndarray, kernel: int, stride: int) -> Any:
    h, children = Act.shape[0], Act.shape[2]
    at = places(h, kernel, stride)
    act = Act.reshape(h * h, children)[at][..., None]
    R = np.broadcast_to(1 / (len(bu) * np.bincount(at.ravel(), minlength=h * h))[at][..., None, None], V.shape[:6])
    for iteration in range(ITERATIONS):
        Rp = R * act
        S = Rp.sum((2, 3, 4))
        Mu = np.einsum("yxabio,yxabiopq->yxopq", Rp, V) / S[..., None, None]
        square = (V - Mu[:, :, None, None, None]) ** 2
        Var = np.einsum("yxabio,yxabiopq->yxopq", Rp, square) / S[..., None, None] + EPS
        cost = ((bu[:, None, None] + 0.5 * np.log(Var)) * S[..., None, None]).sum((-2, -1))
        A = 1 / (1 + np.exp(-inverse_temperature(iteration) * (ba - cost)))
        if iteration + 1 == ITERATIONS:
            break
        norm = np.log(A) - 0.5 * np.log(2 * np.pi * Var).sum((-2, -1))
        LP = norm[:, :, None, None, None] - np.einsum("yxabiopq,yxopq->yxabio", square, 0.5 / Var)
        most = np.full((h * h, children), -np.inf)
        np.maximum.at(most, at, LP.max(-1))
        E = np.exp(LP - most[at][..., None])
        Z = np.zeros((h * h, children))
        np.add.at(Z, at, E.sum(-1))
        R = E / Z[at][..., None]
    return Mu, A
