# SPDX-License-Identifier: MIT
"""Attention over a part of the earlier positions: all of them, or a sliding window.

Positions that a row does not see are no work in ours, and are not counted; peers choose their own way.
"""

from __future__ import annotations

import numpy as np

import polyhedral as ph
from benchmarks.case import Case
from polyhedral.dim import d, s


def seen(length: int, window: int) -> np.ndarray:
    """Which positions (columns) each row sees: itself and those before it, `window` of them at most if not 0."""
    back = np.arange(length)[:, None] - np.arange(length)
    return (back >= 0) & ((back < window) if window else True)


def attention(name: str, heads: int, length: int, depth: int, window: int = 0) -> Case:
    """softmax(Q K^T / sqrt(d)) V over what each row sees; FLOP of both products, 2 a multiply-add, softmax not
    counted.
    """

    @ph.function(Q="h s d", K="h s d", V="h s d", returns="h s d")
    def masked_attention(Q, K, V):
        t = ph.fresh("t")
        before = (t <= s) & (t > s - window) if window else t <= s
        scores = (Q * K(s=t)).sum(d) * V.size(d) ** -0.5
        return (ph.softmax(scores, t, where=before) * V(s=t)).sum(t, where=before)

    visible = seen(length, window)

    def reference(Q, K, V):
        scores = np.where(visible, Q @ K.transpose(0, 2, 1) * depth**-0.5, -np.inf)
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return (e / e.sum(axis=-1, keepdims=True)) @ V

    shape = (heads, length, depth)
    return Case(
        name,
        "attention",
        masked_attention,
        {"Q": shape, "K": shape, "V": shape},
        4 * heads * int(visible.sum()) * depth,
        reference,
        {"window": window},
        out_shape=shape,
    )
