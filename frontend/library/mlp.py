# SPDX-License-Identifier: MIT
"""Dense layers, their activations, and stacks of them.

Which dim a layer contracts is said by name; every other dim of either operand stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frontend import lang as ph
from frontend.lang.location import here
from frontend.library.conv import plus
from frontend.library.dims import needs
from polyhedral.errors import ArgumentError


def dense(X: ph.Expr, W: ph.Expr, inner: ph.Dim | str, bias: ph.Expr | None = None) -> ph.Expr:
    """`X{... c}`, `W{c o}`, `bias{o}` -> `{... o}`: `sum_c X*W + bias`.  DimError (PH001) where a dim is missing."""
    needs("dense", "X", X, (inner,))
    needs("dense", "W", W, (inner,))
    return plus((X * W).sum(inner), bias)


@dataclass(frozen=True, eq=False)
class Dense:
    """One layer of an `mlp`: weights, the dim that they contract, and a bias over their other dims."""

    W: ph.Expr
    inner: ph.Dim | str
    bias: ph.Expr | None = None


def mlp(X: ph.Expr, layers: Sequence[Dense], activation: Callable[[ph.Expr], ph.Expr] = ph.relu) -> ph.Expr:
    """Dense layers with an activation between them, none after the last.

    Hidden values are kept by the name `Hidden`.  ArgumentError (PH040) without layers.
    """
    if not layers:
        raise ArgumentError(
            "PH040",
            "mlp: there are no layers to contract a dimension by",
            hints=("mlp(X, [Dense(W1, 'c', b1), Dense(W2, 'h', b2)])",),
            location=here(),
        )
    *hidden, last = layers
    value = X
    for layer in hidden:
        value = ph.let(activation(dense(value, layer.W, layer.inner, layer.bias)), "Hidden")
    return dense(value, last.W, last.inner, last.bias)


def gated(X: ph.Expr, U: ph.Expr, G: ph.Expr, W: ph.Expr, inner: ph.Dim | str, hidden: ph.Dim | str) -> ph.Expr:
    """SwiGLU: `sum_h silu(X G) * (X U) * W`; `X{c}`, `U{c h}`, `G{c h}`, `W{h o}` -> `{o}`.  Source: Shazeer 2020."""
    kept = ph.let(silu(dense(X, G, inner)) * dense(X, U, inner), "Hidden")
    return dense(kept, W, hidden)


def silu(x: ph.Expr) -> ph.Expr:
    """`x * sigmoid(x)` (Elfwing, Uchibe, Doya 2017)."""
    return x * ph.sigmoid(x)


def gelu(x: ph.Expr) -> ph.Expr:
    """`x * Phi(x)`, Phi the normal distribution function, exactly (Hendrycks, Gimpel 2016)."""
    return 0.5 * x * (1 + ph.erf(x * math.sqrt(0.5)))


def softplus(x: ph.Expr) -> ph.Expr:
    """`log(1 + exp(x))`, without overflow for any x."""
    return ph.maximum(x, 0) + ph.log1p(ph.exp(-ph.abs(x)))
