# SPDX-License-Identifier: MIT
"""Convolutions: strided, padded, dilated, grouped, depthwise, 1x1, and transposed as a gather with exact bounds.

Where windows lie is said in `windows`; convolutions of capsules are in `capsules`.
"""

from __future__ import annotations

from frontend import lang as ph
from frontend.library.dims import Dims, as_dim, as_dims, needs, private
from frontend.library.windows import Steps, window


def conv2d(
    X: ph.Expr,
    W: ph.Expr,
    c: ph.Dim | str = "c",
    bias: ph.Expr | None = None,
    *,
    positions: Dims = "y x",
    taps: Dims = "ky kx",
    stride: Steps = 1,
    padding: Steps = 0,
    dilation: Steps = 1,
) -> ph.Expr:
    """`X{c y x}`, `W{o c ky kx}` -> `{o y x}`, a correlation as in every framework:

        Y[o, y, x] = sum_{c ky kx} X[c, stride*y + dilation*ky - padding, ...] * W[o, c, ky, kx] + bias[o]

    Groups are a name that both have: `X{g c y x}`, `W{g o c ky kx}` -> `{g o y x}` (`split` makes it of one dim).  One
    or three axes: `positions="x", taps="kx"`.  DimError (PH001) where a dim is missing.
    """
    needs("conv2d", "X", X, (c, *as_dims(positions)))
    needs("conv2d", "W", W, (c, *as_dims(taps)))
    return plus((window(positions, taps, stride, padding, dilation).read(X) * W).sum(c, *as_dims(taps)), bias)


def depthwise_conv2d(
    X: ph.Expr,
    W: ph.Expr,
    bias: ph.Expr | None = None,
    *,
    positions: Dims = "y x",
    taps: Dims = "ky kx",
    stride: Steps = 1,
    padding: Steps = 0,
    dilation: Steps = 1,
) -> ph.Expr:
    """`X{c y x}`, `W{c ky kx}` -> `{c y x}`: each channel by itself; a multiplier is one more dim of `W`.

    DimError (PH001) where a dim is missing.
    """
    needs("depthwise_conv2d", "X", X, positions)
    needs("depthwise_conv2d", "W", W, taps)
    return plus((window(positions, taps, stride, padding, dilation).read(X) * W).sum(*as_dims(taps)), bias)


def pointwise_conv2d(X: ph.Expr, W: ph.Expr, c: ph.Dim | str = "c", bias: ph.Expr | None = None) -> ph.Expr:
    """`X{c y x}`, `W{o c}` -> `{o y x}`: a 1x1 convolution, which is a matrix product at each position.

    DimError (PH001) where a dim is missing.
    """
    needs("pointwise_conv2d", "X", X, (c,))
    needs("pointwise_conv2d", "W", W, (c,))
    return plus((X * W).sum(c), bias)


def transposed_conv2d(
    X: ph.Expr,
    W: ph.Expr,
    c: ph.Dim | str = "c",
    bias: ph.Expr | None = None,
    *,
    positions: Dims = "y x",
    taps: Dims = "ky kx",
    stride: Steps = 1,
    padding: Steps = 0,
    dilation: Steps = 1,
    output_padding: Steps = 0,
) -> ph.Expr:
    """The adjoint of `conv2d` along positions: `X{c y x}`, `W{c o ky kx}` -> `{o y x}`.

        Y[o, y, x] = sum of X[c, y', x'] * W[c, o, ky, kx]
                     over c and all (y', ky) with stride*y' + dilation*ky - padding == y, and alike along x

    for y < stride*(X.y - 1) + dilation*(W.ky - 1) + 1 - 2*padding + output_padding.  A gather: each
    result sums exactly the products that a scatter would add to it, and zeros between the elements of X are never
    multiplied.  DimError (PH001) where a dim is missing.
    """
    needs("transposed_conv2d", "X", X, (c, *as_dims(positions)))
    needs("transposed_conv2d", "W", W, (c, *as_dims(taps)))
    outer = as_dims(positions)
    inner = tuple(private(d.name.partition("'")[0], X.size(d)) for d in outer)
    seen = window(inner, taps, stride, padding, dilation)
    more = window(outer, taps, padding=output_padding).padding
    sizes = (
        s * (X.size(y) - 1) + d * (W.size(k) - 1) + 1 - 2 * p + extra
        for y, k, s, p, d, extra in zip(outer, seen.taps, seen.stride, seen.padding, seen.dilation, more, strict=True)
    )
    cells = tuple(ph.Dim(d.name, size) for d, size in zip(outer, sizes, strict=True))
    there = X(dict[object, object](zip(outer, inner, strict=True)))
    return plus((there * W).sum(c, *inner, *seen.taps, where=seen.covers(cells)), bias)


def split(X: ph.Expr, c: ph.Dim | str, outer: ph.Dim | str, n: int) -> ph.Expr:
    """`c` as blocks of `n`: `X{c ...}` -> `{outer c ...}` with `c` = n*outer + c.  X.c must be a multiple of n.

    With it grouped convolution is `conv2d(split(X, "c", "g", n), W)` for `W{g o c ky kx}`; `merge` is its inverse.
    """
    needs("split", "X", X, (c,))
    ph.assume(X.size(c) % n == 0)
    d = as_dim(c)
    within = ph.Dim(d.name, n)
    return X({d: n * as_dim(outer) + within})


def merge(X: ph.Expr, outer: ph.Dim | str, c: ph.Dim | str, n: int) -> ph.Expr:
    """Blocks of `n` as one dim: `X{outer c ...}` -> `{c ...}`.  X.c must be n."""
    needs("merge", "X", X, (outer, c))
    d = as_dim(c)
    ph.assume(X.size(d) == n)
    return X({as_dim(outer): d // n, d: d % n})


def plus(value: ph.Expr, bias: ph.Expr | None) -> ph.Expr:
    """The value, with a bias where there is one."""
    return value if bias is None else value + bias
