# SPDX-License-Identifier: MIT
"""Routing by agreement (Sabour, Frosst, Hinton 2017) and self-routing (Hahn, Pyeon, Kim 2019); EM is in `em_routing`.

Votes come in as an expression over children and parents; a window's votes have the taps among the children.
"""

from __future__ import annotations

from frontend import lang as ph
from frontend.lang.location import here
from frontend.library.dims import Dims, as_dim, as_dims, needs
from polyhedral.errors import ArgumentError


def squash(S: ph.Expr, pose: Dims = "d", eps: float = 1e-9) -> ph.Expr:
    """A vector shortened to below 1: `S * n / (1 + n) / sqrt(n + eps)`, n the sum of squares over `pose`.

    Source: Sabour, Frosst, Hinton 2017; eps keeps the vector 0 where it is 0.  DimError (PH001) without such a dim.
    """
    needs("squash", "S", S, pose)
    n = (S**2).sum(*as_dims(pose))
    return S * (n / ((1 + n) * ph.sqrt(n + eps)))


def dynamic_routing(
    V: ph.Expr,
    *,
    children: Dims = "i",
    parents: ph.Dim | str = "o",
    pose: Dims = "d",
    iterations: int = 3,
) -> ph.Tensor:
    """Votes `V{i o d}` -> squashed poses `{o d}`; their length is the parent's activation.

        C = softmax_o(B);   v = squash(sum_i C*V);   B += sum_d V*v          from B = 0, `iterations` times

    In a window `children="ky kx i"`: coefficients are shared out between the parents at one position.
    Source: Sabour, Frosst, Hinton 2017.  DimError (PH001) where a dim is missing.
    """
    needs("dynamic_routing", "V", V, (*as_dims(children), parents, *as_dims(pose)))
    _require_iterations("dynamic_routing", iterations, parents)
    v = ph.let(squash(V.sum(*as_dims(children)) * (1 / V.size(parents)), pose), "Pose")
    logits: ph.Tensor | None = None
    for _ in range(1, iterations):
        agreement = (V * v).sum(*as_dims(pose))
        logits = ph.let(agreement if logits is None else logits + agreement, "Logits")
        C = ph.softmax(logits, parents)
        v = ph.let(squash((C * V).sum(*as_dims(children)), pose), "Pose")
    return v


def self_routing(
    V: ph.Expr,
    logits: ph.Expr,
    A: ph.Expr,
    *,
    children: Dims = "i",
    parents: ph.Dim | str = "o",
) -> tuple[ph.Tensor, ph.Tensor]:
    """Each child routes itself, without iterations: votes `V{i o d}`, `logits{i o}`, `A{i}` -> `{o d}`, act `{o}`.

        C = softmax_o(logits);   pose = sum_i C*A*V / sum_i C*A;   act = sum_i C*A / sum_i A

    `logits` are a linear function of the child's pose, as votes are.  In a window `children="ky kx i"`, with
    `A` at the child.  Source: Hahn, Pyeon, Kim 2019.  DimError (PH001) where a dim is missing; a parent that gets
    nothing of any child has no pose: NaN.
    """
    needs("self_routing", "V", V, (*as_dims(children), parents))
    needs("self_routing", "logits", logits, (*as_dims(children), parents))
    needs("self_routing", "A", A, children)
    CA = ph.softmax(logits, as_dim(parents)) * A
    got = ph.let(CA.sum(*as_dims(children)), "Got")
    pose = ph.let((CA * V).sum(*as_dims(children)) / got, "Pose")
    return pose, ph.let(got / A.sum(*as_dims(children)), "Act")


def _require_iterations(doing: str, iterations: int, parents: ph.Dim | str) -> None:
    if iterations < 1:
        raise ArgumentError(
            "PH040",
            f"{doing}(iterations={iterations}): the first iteration makes the first capsules of {as_dim(parents)}",
            hints=("iterations=3",),
            location=here(),
        )
