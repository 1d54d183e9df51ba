# SPDX-License-Identifier: MIT
"""Scaled dot-product attention: causal, in a window, or under any mask (Vaswani et al. 2017).

Heads and batches are dims that the operands share; storing scores or not is the compiler's.
"""

from __future__ import annotations

from collections.abc import Callable

from frontend import lang as ph
from frontend.lang.location import here
from frontend.library.dims import as_dim, needs
from polyhedral.errors import ArgumentError


def attention(
    Q: ph.Expr,
    K: ph.Expr,
    V: ph.Expr,
    s: ph.Dim | str = "s",
    d: ph.Dim | str = "d",
    *,
    keys: ph.Dim | str | None = None,
    near: Callable[[ph.Dim], ph.Expr] | None = None,
    bias: Callable[[ph.Dim], ph.Expr] | None = None,
    scale: float | ph.Expr | None = None,
) -> ph.Expr:
    """`Q{s d}`, `K{s d}`, `V{s e}` -> `{s e}`: `softmax_t(scale * sum_d Q[s] K[t] + bias) V[t]`, over `t` near `s`.

    `keys` is the dim of K and V along which they are looked up, `s` unless given (cross attention).  `near` says of a
    dim `t` which keys a query sees: an affine condition, `lambda t: t <= s`, shrinks the loops; a tensor of bools,
    `lambda t: M(t=t)`, is a mask.  `bias` adds to the scores: `lambda t: B(t=t)`.  `scale` is 1/sqrt(Q.d) unless
    given.  A query that sees no key gives zeros.  DimError (PH001) where a dim is missing.
    """
    there = as_dim(s if keys is None else keys)
    needs("attention", "Q", Q, (s, d))
    needs("attention", "K", K, (there, d))
    needs("attention", "V", V, (there,))
    t = ph.fresh("t")
    seen = None if near is None else near(t)
    by = Q.size(d) ** -0.5 if scale is None else scale
    scores = (Q * K({there: t})).sum(d) * by
    if bias is not None:
        scores = scores + bias(t)
    return (ph.softmax(scores, t, where=seen) * V({there: t})).sum(t, where=seen)


def causal_attention(Q: ph.Expr, K: ph.Expr, V: ph.Expr, s: ph.Dim | str = "s", d: ph.Dim | str = "d") -> ph.Expr:
    """`attention` to this key and those before it: t <= s."""
    return attention(Q, K, V, s, d, near=lambda t: t <= as_dim(s))


def window_attention(
    Q: ph.Expr, K: ph.Expr, V: ph.Expr, width: int, s: ph.Dim | str = "s", d: ph.Dim | str = "d"
) -> ph.Expr:
    """`attention` to the last `width` keys, this one included: s - width < t <= s (Beltagy et al. 2020)."""
    if width < 1:
        raise ArgumentError(
            "PH040",
            f"window_attention(width={width}) along {as_dim(s)} sees no key",
            hints=("width=128: this key and the 127 before it",),
            location=here(),
        )
    at = as_dim(s)
    return attention(Q, K, V, s, d, near=lambda t: (t <= at) & (at - t < width))
