# SPDX-License-Identifier: MIT
"""Capsules, whose values are small matrices (poses): votes for the capsules above, and their sum.

Routing, which weighs votes instead of summing them, is left to `em_routing` and its neighbours.
"""

from __future__ import annotations

from frontend import lang as ph
from frontend.library.dims import Dims, as_dims, needs
from frontend.library.windows import Steps, window


def capsule_votes(
    P: ph.Expr,
    W: ph.Expr,
    inner: ph.Dim | str = "r",
    *,
    positions: Dims = "y x",
    taps: Dims = "ky kx",
    stride: Steps = 1,
    padding: Steps = 0,
    dilation: Steps = 1,
) -> ph.Expr:
    """What each capsule of a window predicts for each capsule above: its pose times a matrix of its own.

    `P{y x i p r}`, `W{ky kx i o r q}` -> `V{y x ky kx i o p q}`:
    `V = sum_r P[stride*y + dilation*ky - padding, ..., i, p, r] * W[ky, kx, i, o, r, q]`.
    A `W` without taps is shared by all positions; but then nothing bounds the window.  An expression, never stored by
    itself: votes are larger than everything else in a capsule network by an order of magnitude.
    Source: Hinton, Sabour, Frosst 2018.  DimError (PH001, PH002) where a dim is missing.
    """
    return (window(positions, taps, stride, padding, dilation).read(P) * W).sum(inner)


def capsule_conv(
    P: ph.Expr,
    W: ph.Expr,
    capsules: ph.Dim | str = "ci",
    inner: ph.Dim | str = "k",
    *,
    positions: Dims = "y x",
    taps: Dims = "ky kx",
    stride: Steps = 1,
    padding: Steps = 0,
    dilation: Steps = 1,
) -> ph.Expr:
    """The votes of a window, summed: a convolution whose elements are matrices.

    `P{y x ci i k}`, `W{ky kx ci co k j}` -> `{y x co i j}`:
    `O = sum_{ky kx ci k} P[stride*y + dilation*ky - padding, ..., ci, i, k] * W[ky, kx, ci, co, k, j]`.
    Source: Barham, Isard 2019.  DimError (PH001, PH002) where a dim is missing.
    """
    return (window(positions, taps, stride, padding, dilation).read(P) * W).sum(capsules, *as_dims(taps), inner)


def add_coordinates(
    V: ph.Expr,
    *,
    positions: Dims = "y x",
    pose: Dims = "p q",
) -> ph.Expr:
    """Votes that say where they come from: the n-th coordinate is added to row n of the last column of the pose.

    `V{y x i o p q}` -> the same dims, with `(y + 1/2)/V.y` added at p = 0, q = V.q - 1 and `(x + 1/2)/V.x` at p = 1:
    cell centres in units of the whole.  Lets class capsules share one matrix between positions.
    Source: Hinton, Sabour, Frosst 2018.  DimError (PH001) where a dim is missing.
    """
    needs("add_coordinates", "V", V, (*as_dims(positions), *as_dims(pose)))
    row, column = as_dims(pose)
    last = column == V.size(column) - 1
    votes = V
    for n, y in enumerate(as_dims(positions)):
        votes = votes + ph.where((row == n) & last, (y + 0.5) / V.size(y), 0)
    return votes


def class_votes(P: ph.Expr, W: ph.Expr, inner: ph.Dim | str = "r") -> ph.Expr:
    """Votes of capsules at all positions by matrices that the positions share, coordinates added.

    `P{y x i p r}`, `W{i o r q}` -> `V{y x i o p q}`; then `em_routing_dense(V, A, ..., children="y x i")`.
    """
    needs("class_votes", "P", P, (inner,))
    needs("class_votes", "W", W, (inner,))
    return add_coordinates((P * W).sum(inner))
