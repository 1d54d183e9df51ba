# SPDX-License-Identifier: MIT
"""EM routing and a capsule network in torch: votes stored once, children reached by strided slices of a small tensor.

Two orders of the votes: parents in front, so that sums are matrix products; and parents along the lanes, for compilers
that fuse.  What is summed into a child is summed over parents first, so that nothing as large as R is ever scattered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log, pi
from typing import Any

from benchmarks.case import Case, out_size
from benchmarks.network import MARGIN, coordinates
from benchmarks.routing import EPS, ITERATIONS, inverse_temperature

Form = tuple[str, Callable[[], Any]]


@dataclass(frozen=True)
class Windows:
    """Windows over an h x h grid of children `[n, cy, cx, i]`; places are `[n, y, x, ky, kx, i]`."""

    torch: Any
    h: int
    kernel: int
    stride: int

    @property
    def size(self) -> int:
        return out_size(self.h, self.kernel, self.stride, 0)

    def gather(self, children: Any) -> Any:
        """What is under each place; dims after the second are taken along."""
        tiled = children.unfold(1, self.kernel, self.stride).unfold(2, self.kernel, self.stride)
        return tiled.movedim((-2, -1), (3, 4))

    def scatter(self, places: Any, start: float, into: Callable[[Any, Any], Any]) -> Any:
        """Combine over the places of each child: one strided slice for each (ky, kx)."""
        n, m, _, kernel, _, i = places.shape
        found = places.new_full((n, self.h, self.h, i), start)
        reach = self.stride * (m - 1) + 1
        for ky in range(kernel):
            for kx in range(kernel):
                part = found[:, ky : ky + reach : self.stride, kx : kx + reach : self.stride]
                part.copy_(into(part, places[:, :, :, ky, kx]))
        return found

    def shared(self, places: Any) -> Any:
        """The sum over each child, back at its places."""
        return self.gather(self.scatter(places, 0.0, self.torch.add))

    def most(self, places: Any) -> Any:
        return self.gather(self.scatter(places, -float("inf"), self.torch.maximum))


def by_products(w: Windows, V: Any, act: Any, bu: Any, ba: Any) -> tuple[Any, Any]:
    """Votes are `V[n y x, o, ky kx i, p q]`: means and variances are products with R, likelihoods with 1 / Var."""
    torch, m, kernel = w.torch, w.size, w.kernel
    places = (act.shape[0], m, m, kernel, kernel, act.shape[-1])
    rows, parents, children, _ = V.shape
    a = w.gather(act).reshape(rows, 1, children)
    covering = w.shared(torch.ones(places))
    Rp = (a / (parents * covering.reshape(rows, 1, children))).expand(rows, parents, children)
    for iteration in range(ITERATIONS):
        S = Rp.sum(2)[:, :, None, None]
        Mu = Rp[:, :, None] @ V / S
        square = (V - Mu).square_()
        Var = Rp[:, :, None] @ square / S + EPS
        logs = Var.log().sum((2, 3))
        cost = S[:, :, 0, 0] * (16 * bu + 0.5 * logs)
        A = torch.sigmoid(inverse_temperature(iteration) * (ba - cost))
        if iteration + 1 < ITERATIONS:
            norm = A.log() - 0.5 * logs - 8 * log(2 * pi)
            LP = norm[:, :, None] - (square @ (0.5 / Var).transpose(2, 3))[..., 0]
            most = w.most(LP.amax(1).reshape(places)).reshape(rows, 1, children)
            E = (LP - most).exp_()
            Rp = E * (a / w.shared(E.sum(1).reshape(places)).reshape(rows, 1, children))
    return Mu.reshape(*places[:3], parents, 4, 4), A.reshape(*places[:3], parents)


def by_lanes(w: Windows, V: Any, act: Any, bu: Any, ba: Any) -> tuple[Any, Any]:
    """Votes are `V[ky kx i, n y x, p q, o]`: sums of products over the first axis, for a compiler to fuse."""
    torch, m, kernel = w.torch, w.size, w.kernel
    n, i = act.shape[0], act.shape[-1]
    children, rows, _, parents = V.shape
    a = w.gather(act).permute(3, 4, 5, 0, 1, 2).reshape(children, rows, 1)

    def of_child(combined: Callable[[Any], Any], e: Any) -> Any:
        at = e.reshape(kernel, kernel, i, n, m, m).permute(3, 4, 5, 0, 1, 2)
        return combined(at).permute(3, 4, 5, 0, 1, 2).reshape(children, rows, 1)

    Rp = (a / (parents * of_child(w.shared, torch.ones_like(a)))).expand(children, rows, parents)
    for iteration in range(ITERATIONS):
        S = Rp.sum(0)[:, None]
        Mu = (Rp[:, :, None] * V).sum(0) / S
        Var = (Rp[:, :, None] * (V - Mu).square()).sum(0) / S + EPS
        logs = Var.log().sum(1)
        cost = S[:, 0] * (16 * bu + 0.5 * logs)
        A = torch.sigmoid(inverse_temperature(iteration) * (ba - cost))
        if iteration + 1 < ITERATIONS:
            norm = A.log() - 0.5 * logs - 8 * log(2 * pi)
            LP = norm - ((V - Mu).square() * (0.5 / Var)).sum(2)
            E = (LP - of_child(w.most, LP.amax(2))).exp()
            Rp = E * (a / of_child(w.shared, E.sum(2)))
    return Mu.reshape(n, m, m, 4, 4, parents).permute(0, 1, 2, 5, 3, 4).contiguous(), A.reshape(n, m, m, parents)


def products_layer(w: Windows, Pose: Any, act: Any, W: Any, bu: Any, ba: Any, move: Any = None) -> tuple[Any, Any]:
    """`move`, if any, is added to the votes: `[ky kx, p q]`."""
    tile, parents = w.gather(Pose), W.shape[3]  # n y x ky kx i p r
    rows = tile.permute(3, 4, 5, 0, 1, 2, 6, 7).reshape(-1, tile.shape[0] * w.size**2 * 4, 4)
    V = rows @ W.permute(0, 1, 2, 4, 3, 5).reshape(-1, 4, parents * 4)  # ky kx i, n y x p, o q
    V = V.reshape(V.shape[0], -1, 4, parents, 4).permute(1, 3, 0, 2, 4)
    if move is not None:
        V = V + move.repeat_interleave(Pose.shape[3], 0).reshape(-1, 4, 4)
    return by_products(w, V.reshape(*V.shape[:3], 16), act, bu, ba)


def lanes_layer(w: Windows, Pose: Any, act: Any, W: Any, bu: Any, ba: Any, move: Any = None) -> tuple[Any, Any]:
    tile, parents = w.gather(Pose), W.shape[3]
    rows = tile.permute(3, 4, 5, 0, 1, 2, 6, 7).reshape(-1, tile.shape[0] * w.size**2 * 4, 4)
    V = rows @ W.permute(0, 1, 2, 4, 5, 3).reshape(-1, 4, 4 * parents)  # ky kx i, n y x p, q o
    V = V.reshape(V.shape[0], -1, 16, parents)
    if move is not None:
        V = V + move.repeat_interleave(Pose.shape[3], 0)[:, None, :, None]
    return by_lanes(w, V, act, bu, ba)


LAYERS = {"products": products_layer, "lanes": lanes_layer}


def forms(torch: Any, case: Case, t: dict[str, Any]) -> Iterator[Form]:
    """Both orders over the whole batch, and the first an example at a time, whose votes stay nearer."""
    w = Windows(torch, t["Pose"].shape[1], case.numbers["kernel"], case.numbers["stride"])
    weights = t["W"], t["bu"], t["ba"]
    for name, layer in LAYERS.items():
        yield f"torch, {name}", lambda layer=layer: layer(w, t["Pose"], t["Act"], *weights)

    def one_by_one() -> tuple[Any, ...]:
        each = [products_layer(w, *one, *weights) for one in zip(t["Pose"].split(1), t["Act"].split(1), strict=True)]
        return tuple(torch.cat(part) for part in zip(*each, strict=True))

    yield "torch, products, one by one", one_by_one


def network(torch: Any, case: Case, t: dict[str, Any]) -> Iterator[Form]:
    """A whole capsule network, routed in either order."""
    h = case.numbers["side"]
    first, conv = (h - 1) // 2 + 1, torch.nn.functional.conv2d
    w1 = Windows(torch, first, 3, 2)
    w2 = Windows(torch, w1.size, 3, 1)
    w3 = Windows(torch, w2.size, w2.size, 1)
    move = torch.from_numpy(coordinates(w2.size)).reshape(-1, 16)
    kernel = t["K"].permute(2, 0, 1)[:, None].contiguous()
    channels, types = t["M"].shape[:2]
    join = torch.cat([t["M"].reshape(channels, -1), t["G"]], 1)
    offset = torch.cat([t["bM"].reshape(-1), t["bG"]])
    shared = t["W3"].expand(w2.size, w2.size, *t["W3"].shape)

    def run(layer: Callable[..., Any]) -> Any:
        seen = conv(t["X"][:, None], kernel, t["bK"], stride=2, padding=2).relu()
        both = seen.permute(0, 2, 3, 1) @ join + offset
        Pose, Act = both[..., : types * 16].reshape(*both.shape[:3], types, 4, 4), both[..., types * 16 :].sigmoid()
        Pose, Act = layer(w1, Pose, Act, t["W1"], t["bu1"], t["ba1"])
        Pose, Act = layer(w2, Pose, Act, t["W2"], t["bu2"], t["ba2"])
        A = layer(w3, Pose, Act, shared, t["bu3"], t["ba3"], move)[1][:, 0, 0]
        right = (A * t["T"]).sum(1, keepdim=True)
        return A, ((1 - t["T"]) * (MARGIN - (right - A)).clamp(min=0).square()).sum(1)

    for name, layer in LAYERS.items():
        yield f"torch, {name}", lambda layer=layer: run(layer)
