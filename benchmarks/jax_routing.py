# SPDX-License-Identifier: MIT
"""EM routing and a capsule network in JAX, as functions to compile.

Sums over children are products with R, which XLA does several times as fast as loops with parents along the lanes;
sums into children are updates of strided slices, after sums over parents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log, pi
from typing import Any

from benchmarks.case import Case, out_size
from benchmarks.network import MARGIN, coordinates
from benchmarks.routing import EPS, ITERATIONS, inverse_temperature

Form = tuple[str, Callable[..., Any]]


@dataclass(frozen=True)
class Windows:
    """Windows over an h x h grid of children `[n, cy, cx, i]`; places are `[ky kx, n, y, x, i]`."""

    jax: Any
    h: int
    kernel: int
    stride: int

    @property
    def size(self) -> int:
        return out_size(self.h, self.kernel, self.stride, 0)

    def _slices(self) -> Iterator[tuple[slice, ...]]:
        reach = self.stride * (self.size - 1) + 1
        for ky in range(self.kernel):
            for kx in range(self.kernel):
                yield (slice(None), slice(ky, ky + reach, self.stride), slice(kx, kx + reach, self.stride))

    def gather(self, children: Any) -> Any:
        return self.jax.numpy.stack([children[s] for s in self._slices()])

    def shared(self, places: Any) -> Any:
        """The sum over each child, back at its places."""
        found = self.jax.numpy.zeros((places.shape[1], self.h, self.h, places.shape[4]), places.dtype)
        for at, s in enumerate(self._slices()):
            found = found.at[s].add(places[at])
        return self.gather(found)

    def most(self, places: Any) -> Any:
        jnp = self.jax.numpy
        found = jnp.full((places.shape[1], self.h, self.h, places.shape[4]), -jnp.inf, places.dtype)
        for at, s in enumerate(self._slices()):
            found = found.at[s].max(places[at])
        return self.gather(found)


def layer(w: Windows, Pose: Any, Act: Any, W: Any, bu: Any, ba: Any, move: Any = None) -> Any:
    """Votes are `V[n y x, o, k i, p q]`; `move[k, p q]`, if any, is added to them."""
    jnp = w.jax.numpy
    tile, taps = w.gather(Pose), w.kernel**2  # k n y x i p r
    tile = tile.reshape(taps, -1, *tile.shape[4:])
    weights = W.reshape(taps, *W.shape[2:])  # k i o r q
    parents, i = W.shape[3], W.shape[2]
    V = jnp.einsum("kzipr,kiorq->zokipq", tile, weights).reshape(tile.shape[1], parents, taps * i, 16)
    if move is not None:
        V += jnp.repeat(move, i, 0)
    return by_products(w, V, Act, bu, ba)


def by_products(w: Windows, V: Any, act: Any, bu: Any, ba: Any) -> tuple[Any, Any]:
    jax, jnp, m = w.jax, w.jax.numpy, w.size
    n, i = act.shape[0], act.shape[-1]
    rows, parents, children, _ = V.shape
    taps = w.kernel**2

    def folded(places: Any) -> Any:
        return jnp.transpose(places.reshape(taps, rows, i), (1, 0, 2)).reshape(rows, 1, children)

    def of_child(combined: Callable[[Any], Any], e: Any) -> Any:
        return folded(combined(jnp.transpose(e.reshape(rows, taps, i), (1, 0, 2)).reshape(taps, n, m, m, i)))

    a = folded(w.gather(act))
    Rp = jnp.broadcast_to(a / (parents * of_child(w.shared, jnp.ones_like(a))), (rows, parents, children))
    for iteration in range(ITERATIONS):
        S = Rp.sum(2)[:, :, None]
        Mu = jnp.einsum("zoc,zoch->zoh", Rp, V) / S
        square = jnp.square(V - Mu[:, :, None])
        Var = jnp.einsum("zoc,zoch->zoh", Rp, square) / S + EPS
        logs = jnp.log(Var).sum(2)
        cost = S[..., 0] * (16 * bu + 0.5 * logs)
        A = jax.nn.sigmoid(inverse_temperature(iteration) * (ba - cost))
        if iteration + 1 < ITERATIONS:
            norm = jnp.log(A) - 0.5 * logs - 8 * log(2 * pi)
            LP = norm[..., None] - jnp.einsum("zoch,zoh->zoc", square, 0.5 / Var)
            E = jnp.exp(LP - of_child(w.most, jax.lax.stop_gradient(LP.max(1))))
            Rp = E * (a / of_child(w.shared, E.sum(1)))
    return Mu.reshape(n, m, m, parents, 4, 4), A.reshape(n, m, m, parents)


def forms(jax: Any, case: Case) -> Iterator[Form]:
    """Over the whole batch, and an example at a time, whose votes stay nearer."""

    def whole(Pose: Any, Act: Any, W: Any, bu: Any, ba: Any) -> Any:
        w = Windows(jax, Pose.shape[1], case.numbers["kernel"], case.numbers["stride"])
        return layer(w, Pose, Act, W, bu, ba)

    def one_by_one(Pose: Any, Act: Any, W: Any, bu: Any, ba: Any) -> Any:
        def one(example: Any) -> Any:
            return tuple(part[0] for part in whole(example[0][None], example[1][None], W, bu, ba))

        return jax.lax.map(one, (Pose, Act))

    yield "JAX", whole
    yield "JAX, one by one", one_by_one


def backward(jax: Any, case: Case) -> Iterator[Form]:
    """The loss of `benchmarks.backward` and its derivatives, over the whole batch, and an example at a time, whose
    votes and adjoints are then all that is held.
    """

    def loss(Pose: Any, W: Any, bu: Any, ba: Any, Act: Any, T: Any) -> Any:
        w = Windows(jax, Pose.shape[1], case.numbers["kernel"], case.numbers["stride"])
        Mu, A = layer(w, Pose, Act, W, bu, ba)
        return (Mu * T).sum() + jax.numpy.square(A).sum()

    both = jax.value_and_grad(loss, (0, 1, 2, 3))

    def whole(Pose: Any, Act: Any, W: Any, bu: Any, ba: Any, T: Any) -> Any:
        value, made = both(Pose, W, bu, ba, Act, T)
        return value, *made

    def one_by_one(Pose: Any, Act: Any, W: Any, bu: Any, ba: Any, T: Any) -> Any:
        def one(example: Any) -> Any:
            value, (dPose, *rest) = both(example[0][None], W, bu, ba, example[1][None], example[2][None])
            return value, dPose[0], *rest

        value, dPose, *rest = jax.lax.map(one, (Pose, Act, T))
        return value.sum(), dPose, *(d.sum(0) for d in rest)

    yield "JAX", whole
    yield "JAX, one by one", one_by_one


def network(jax: Any, case: Case) -> Callable[..., Any]:
    jnp, h = jax.numpy, case.numbers["side"]
    w1 = Windows(jax, (h - 1) // 2 + 1, 3, 2)
    w2 = Windows(jax, w1.size, 3, 1)
    w3 = Windows(jax, w2.size, w2.size, 1)
    move = coordinates(w2.size).reshape(-1, 16)

    def run(X: Any, T: Any, **t: Any) -> Any:
        seen = jax.lax.conv_general_dilated(
            X[..., None], t["K"][:, :, None], (2, 2), ((2, 2), (2, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        seen = jax.nn.relu(seen + t["bK"])
        Pose = jnp.einsum("nyxa,aipr->nyxipr", seen, t["M"]) + t["bM"]
        Act = jax.nn.sigmoid(seen @ t["G"] + t["bG"])
        Pose, Act = layer(w1, Pose, Act, t["W1"], t["bu1"], t["ba1"])
        Pose, Act = layer(w2, Pose, Act, t["W2"], t["bu2"], t["ba2"])
        shared = jnp.broadcast_to(t["W3"], (w2.size, w2.size, *t["W3"].shape))
        A = layer(w3, Pose, Act, shared, t["bu3"], t["ba3"], move)[1][:, 0, 0]
        right = (A * T).sum(1, keepdims=True)
        return A, ((1 - T) * jnp.square(jnp.maximum(0, MARGIN - (right - A)))).sum(1)

    return run
