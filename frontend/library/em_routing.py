# SPDX-License-Identifier: MIT
"""EM routing: capsules above as Gaussian clusters of the votes of capsules below (Hinton, Sabour, Frosst 2018).

Votes come in as an expression and are used several times; whether they are kept or made again is the compiler's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from frontend import lang as ph
from frontend.lang.location import here
from frontend.library.dims import Dims, as_dim, as_dims, needs, private
from frontend.library.windows import Steps, Window, window
from polyhedral.errors import ArgumentError


def inverse_temperature(iteration: int) -> float:
    """`0.01 * (1 - 0.95^(t+1))`: how sharp activations are in iteration t = 0, 1, ..."""
    return 0.01 * (1 - 0.95 ** (iteration + 1))


@dataclass(frozen=True)
class EM:
    """How often EM iterates, its inverse temperature in each iteration, and what is added to variances."""

    iterations: int = 3
    schedule: Callable[[int], float] = inverse_temperature
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ArgumentError(
                "PH040",
                f"EM(iterations={self.iterations}): the first iteration makes the first capsules of dimension o",
                hints=("EM(iterations=3)",),
                location=here(),
            )


def em_routing(
    V: ph.Expr,
    A: ph.Expr,
    bu: ph.Expr,
    ba: ph.Expr,
    *,
    positions: Dims = "y x",
    taps: Dims = "ky kx",
    children: ph.Dim | str = "i",
    parents: ph.Dim | str = "o",
    pose: Dims = "p q",
    stride: Steps = 1,
    dilation: Steps = 1,
    em: EM = EM(),
) -> tuple[ph.Tensor, ph.Tensor]:
    """EM routing of a convolutional capsule layer: poses and activations of the capsules above.

    Votes `V{y x ky kx i o p q}` of child `(stride*y + dilation*ky, ...)`, activations `A{y x i}` of the children at
    their own positions, `bu{o}`, `ba{o}` -> `Mu{y x o p q}`, `act{y x o}`.  With h = (p, q), k = (ky, kx):

        R    = 1 / (Co * parents(child))                            in the first iteration, afterwards
        R    = exp(LP - max) / Z[child],   Z[child] = sum over ALL (y, x, k, o) that see the child of exp(LP - max)
        S    = sum_{k i} R*A;    Mu = sum_{k i} R*A*V / S;    Var = sum_{k i} R*A*(V - Mu)^2 / S + eps
        cost = sum_h (bu + log(Var)/2) * S;                   act = sigmoid(lambda_t * (ba - cost))
        LP   = log act - sum_h ((V - Mu)^2 / (2 Var) + log(2 pi Var)/2)

    A child is shared out between all its parents at all positions, which makes `Z` a reduction over the inverse of the
    window, not a sum in each window.  The variance is taken about the mean (two passes: a sum of squares cancels).
    Source: Hinton, Sabour, Frosst 2018.  Nothing as large as the votes is stored by name.  A parent whose weights `S`
    are all 0 has no mean: NaN.  DimError (PH001, PH002) where a dim is missing.
    """
    seen = window(positions, taps, stride, 0, dilation)
    o = as_dim(parents)
    needs("em_routing", "V", V, (*seen.positions, *seen.taps, children, o, *as_dims(pose)))
    needs("em_routing", "A", A, (*seen.positions, children))

    def first() -> ph.Expr:
        share = ph.let(A / (V.size(o) * _parents(seen, V)), "Share")
        ranges = {d.name: V.size(d) for d in (*seen.positions, *seen.taps)}
        return share(seen.at(seen.positions)).over(**ranges)

    def weights(LP: ph.Expr) -> ph.Expr:
        return _shared_out(LP, A, seen, o)

    return _iterate(V, bu, ba, (*seen.taps, as_dim(children)), as_dims(pose), em, first, weights)


def em_routing_dense(
    V: ph.Expr,
    A: ph.Expr,
    bu: ph.Expr,
    ba: ph.Expr,
    *,
    children: Dims = "i",
    parents: ph.Dim | str = "o",
    pose: Dims = "p q",
    em: EM = EM(),
) -> tuple[ph.Tensor, ph.Tensor]:
    """EM routing where every child votes for every parent: `V{i o p q}`, `A{i}` -> `Mu{o p q}`, `act{o}`.

    The formulas of `em_routing`, with `R` a softmax of `LP` over `o` and 1/Co at first.  For class capsules `children`
    are the positions too: `children="y x i"`.  Source and errors as there.
    """
    o = as_dim(parents)
    needs("em_routing_dense", "V", V, (*as_dims(children), o, *as_dims(pose)))
    needs("em_routing_dense", "A", A, children)
    return _iterate(
        V,
        bu,
        ba,
        as_dims(children),
        as_dims(pose),
        em,
        lambda: ph.let(A / V.size(o), "Share"),
        lambda LP: ph.softmax(LP, o) * A,
    )


def _iterate(
    V: ph.Expr,
    bu: ph.Expr,
    ba: ph.Expr,
    children: tuple[ph.Dim, ...],
    pose: tuple[ph.Dim, ...],
    em: EM,
    first: Callable[[], ph.Expr],
    weights: Callable[[ph.Expr], ph.Expr],
) -> tuple[ph.Tensor, ph.Tensor]:
    """M and E steps in turn; `weights` makes shares R*A of log-probabilities."""
    share = first()
    for t in range(em.iterations):
        S = ph.let(share.sum(*children), "S")
        Mu = ph.let((share * V).sum(*children) / S, "Mu")
        Var = ph.let((share * (V - Mu) ** 2).sum(*children) / S + em.eps, "Var")
        cost = ((bu + 0.5 * ph.log(Var)) * S).sum(*pose)
        logit = ph.let(em.schedule(t) * (ba - cost), "Logit")
        if t == em.iterations - 1:
            return Mu, ph.let(ph.sigmoid(logit), "Act")
        precision = ph.let(0.5 / Var, "Precision")
        scale = ph.let(log_sigmoid(logit) - (0.5 * ph.log(2 * ph.pi * Var)).sum(*pose), "Scale")
        share = weights(scale - ((V - Mu) ** 2 * precision).sum(*pose))
    raise AssertionError("EM has an iteration")


def log_sigmoid(x: ph.Expr) -> ph.Expr:
    """`log(1 / (1 + exp(-x)))`, without overflow for any x."""
    return ph.minimum(x, 0) - ph.log1p(ph.exp(-ph.abs(x)))


def _shared_out(LP: ph.Expr, A: ph.Expr, seen: Window, o: ph.Dim) -> ph.Expr:
    """`R*A`: each child's activation, shared out between all the parents that see it in proportion to exp(LP)."""
    cells = tuple(private(f"c{y}", A.size(y)) for y in seen.positions)
    over, covers = (*seen.positions, *seen.taps), seen.covers(cells)
    best = ph.let(LP.max(o), "Best")
    top = ph.held(ph.let(best.max(*over, where=covers), "Top"))
    likely = ph.let(ph.exp(LP - top(seen.at(cells))), "Likely")
    total = ph.let(likely.sum(o), "Total").sum(*over, where=covers)
    here = dict[object, object](zip(seen.positions, cells, strict=True))
    share = ph.let(A(here) / ph.where(total > 0, total, 1), "Share")  # no window sees some cells: their total is 0
    return likely * share(seen.at(cells))


def _parents(seen: Window, V: ph.Expr) -> ph.Expr:
    """How many positions see each cell, 1 for the cells that none sees; over dims named like the positions."""
    parents: ph.Expr | None = None
    for y, k, s, d in zip(seen.positions, seen.taps, seen.stride, seen.dilation, strict=True):
        at, tap = private(y.name, V.size(y)), private(k.name, V.size(k))
        along = ph.maximum(ph.where(s * at + d * tap == y, 1, 0).sum(at, tap), 1)
        parents = along if parents is None else parents * along
    if parents is None:
        raise AssertionError("a window has an axis")
    return parents
