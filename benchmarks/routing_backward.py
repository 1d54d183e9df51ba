# SPDX-License-Identifier: MIT
"""The derivatives of EM routing written out by hand in NumPy, an example at a time: what `ph.grad` is held against.

Names are those of `benchmarks.routing`; `d` before one is the derivative of the loss by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.routing import EPS, ITERATIONS, inverse_temperature, places, votes_by_index

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Step:
    """What one iteration found; E and Z are those that its shares are made of, None at first."""

    Rp: np.ndarray
    S: np.ndarray
    Mu: np.ndarray
    Var: np.ndarray
    A: np.ndarray
    R: np.ndarray | None


def reference(Pose: Any, Act: Any, W: Any, bu: Any, ba: Any, T: Any, stride: int) -> tuple[np.ndarray, ...]:
    """`sum(Mu * T) + sum(A**2)` and its derivatives by Pose, W, bu and ba."""
    loss, each, rest = 0.0, list[np.ndarray](), [np.zeros(a.shape) for a in (W, bu, ba)]
    for one in zip(Pose, Act, T, strict=True):
        value, dPose, *others = _example(*one, W, bu, ba, stride)
        loss += value
        each.append(dPose)
        for total, part in zip(rest, others, strict=True):
            total += part
    return np.asarray(loss), np.stack(each), *rest


def _example(Pose: Any, Act: Any, T: Any, W: Any, bu: Any, ba: Any, stride: int) -> tuple[Any, ...]:
    h, children = Act.shape[0], Act.shape[2]
    at, V = places(h, W.shape[0], stride), votes_by_index(Pose, W, stride)
    act = Act.reshape(h * h, children)[at][..., None]

    def of_child(x: np.ndarray) -> np.ndarray:
        found = np.zeros((h * h, children))
        np.add.at(found, at, x)
        return found[at]

    steps = list(_forward(V, act, bu, ba, at, of_child))
    last = steps[-1]
    dV, dbu, dba, dRp = np.zeros_like(V), np.zeros_like(bu), np.zeros_like(ba), np.zeros(0)
    for t, s in reversed(list(enumerate(steps))):
        D, U = V - _wide(s.Mu), s.Var - EPS
        if s is last:
            dMu, dA, dVar = T.copy(), 2 * s.A, np.zeros_like(s.Var)
        else:
            R = steps[t + 1].R
            assert R is not None
            dR = dRp * act
            dLP = R * (dR - of_child((dR * R).sum(-1))[..., None])
            total = dLP.sum((2, 3, 4))
            dMu, dA = np.zeros_like(s.Mu), total / s.A
            square = np.einsum("yxabio,yxabiopq->yxopq", dLP, D**2)
            dVar = square / (2 * s.Var**2) - 0.5 * total[..., None, None] / s.Var
            dD = -dLP[..., None, None] * D / _wide(s.Var)
            dV += dD
            dMu -= dD.sum((2, 3, 4))
        dlogit = dA * s.A * (1 - s.A) * inverse_temperature(t)
        dcost = -dlogit
        dba += dlogit.sum((0, 1))
        dbu += 16 * (dcost * s.S).sum((0, 1))
        dVar += (dcost * 0.5 * s.S)[..., None, None] / s.Var
        dS = dcost * (bu[:, None, None] + 0.5 * np.log(s.Var)).sum((-2, -1))
        each = dVar / s.S[..., None, None]
        dD = 2 * _wide(each) * s.Rp[..., None, None] * D
        dV += dD
        dMu -= dD.sum((2, 3, 4))
        dSum = dMu / s.S[..., None, None]
        dS -= (each * U + dSum * s.Mu).sum((-2, -1))
        dRp = np.einsum("yxopq,yxabiopq->yxabio", each, D**2) + np.einsum("yxopq,yxabiopq->yxabio", dSum, V)
        dRp += dS[:, :, None, None, None]
        dV += _wide(dSum) * s.Rp[..., None, None]
    dPose = np.zeros((h * h, *Pose.shape[2:]))
    np.add.at(dPose, at, np.einsum("yxabiopq,abiorq->yxabipr", dV, W, optimize=True))
    under = Pose.reshape(h * h, *Pose.shape[2:])[at]
    dW = np.einsum("yxabiopq,yxabipr->abiorq", dV, under, optimize=True)
    return (last.Mu * T).sum() + (last.A**2).sum(), dPose.reshape(Pose.shape), dW, dbu, dba


def _forward(V: Any, act: Any, bu: Any, ba: Any, at: np.ndarray, of_child: Any) -> Any:
    """The iterations as `benchmarks.routing.route_by_index` has them; greatest values are taken of each example."""
    R: np.ndarray | None = None
    shares = np.broadcast_to(1 / (len(bu) * of_child(np.ones((*at.shape, act.shape[-2]))))[..., None], V.shape[:6])
    for t in range(ITERATIONS):
        Rp = shares * act
        S = Rp.sum((2, 3, 4))
        Mu = np.einsum("yxabio,yxabiopq->yxopq", Rp, V) / S[..., None, None]
        square = (V - _wide(Mu)) ** 2
        Var = np.einsum("yxabio,yxabiopq->yxopq", Rp, square) / S[..., None, None] + EPS
        cost = ((bu[:, None, None] + 0.5 * np.log(Var)) * S[..., None, None]).sum((-2, -1))
        A = 1 / (1 + np.exp(-inverse_temperature(t) * (ba - cost)))
        yield _Step(Rp, S, Mu, Var, A, R)
        norm = np.log(A) - 0.5 * np.log(2 * np.pi * Var).sum((-2, -1))
        LP = norm[:, :, None, None, None] - np.einsum("yxabiopq,yxopq->yxabio", square, 0.5 / Var)
        most = np.full((at.max() + 1, act.shape[-2]), -np.inf)
        np.maximum.at(most, at, LP.max(-1))
        E = np.exp(LP - most[at][..., None])
        R = E / of_child(E.sum(-1))[..., None]
        shares = R


def _wide(of_parent: np.ndarray) -> np.ndarray:
    """`[y, x, o, p, q]` beside the votes."""
    return of_parent[:, :, None, None, None]
