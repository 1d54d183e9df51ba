# SPDX-License-Identifier: MIT
"""EM routing of a convolutional capsule layer (Hinton, Sabour and Frosst 2018), votes included: ours and a reference.

Sizes are arguments; how frameworks say the same is left to `benchmarks.torch_routing` and `benchmarks.jax_routing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import polyhedral as ph
from benchmarks.case import Case, out_size
from polyhedral.dim import r, x, y

EPS = 1e-4
"""What is added to a variance."""
ITERATIONS = 3


def inverse_temperature(iteration: int) -> float:
    return 0.01 * (1 - 0.95 ** (iteration + 1))


def votes(Pose, W, kernel: int, stride: int):
    """`V{n,y,x,ky,kx,i,o,p,q}`: what each child capsule of a window thinks each parent's pose is."""
    ky, kx = ph.dims(ky=kernel, kx=kernel)
    return (Pose[stride * y + ky, stride * x + kx] * W).sum(r)


def route(V, Act, bu, ba, stride: int):
    """Poses `{n,y,x,o,p,q}` and activations `{n,y,x,o}` of the parents, as the library has them; `Act` lies at the
    children's own positions.
    """
    how = ph.library.EM(ITERATIONS, inverse_temperature, EPS)
    return ph.library.em_routing(V, Act, bu, ba, stride=stride, em=how)


def em(name: str, batch: int, h: int, children: int, parents: int, kernel: int, stride: int) -> Case:
    """Work: 8 FLOP a vote, 6 an iteration for mean and variance, 3 for the likelihood in all but the last."""

    @ph.function(
        Pose="n y x i p r", Act="n y x i", W="ky kx i o r q", bu="o", ba="o", returns=("n y x o p q", "n y x o")
    )
    def em_routing(Pose, Act, W, bu, ba):
        ph.assume((Act.size(y) == Pose.size(y)) & (Act.size(x) == Pose.size(x)))
        return route(votes(Pose, W, kernel, stride), Act, bu, ba, stride)

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
