# SPDX-License-Identifier: MIT
"""Capsule and ordinary convolutions as a user would write them, with references by einsum over shifted windows.

Sizes, strides and the axis order at the boundary are arguments; which sizes are measured is `benchmarks.cases`' list.
"""

from __future__ import annotations

import numpy as np

import polyhedral as ph
from benchmarks.case import Case, Nest, out_size
from polyhedral.dim import c, ci, k, kx, ky, u, v, x, y


def windows(a: np.ndarray, axes: tuple[int, int], kernel: int, stride: int, pad: int, dilation: int = 1):
    """Every (ky, kx) with the padded array sampled for it: what each tap sees at all outputs."""
    widths = [(pad, pad) if ax in axes else (0, 0) for ax in range(a.ndim)]
    padded = np.pad(a, widths)
    size = [out_size(a.shape[ax], kernel, stride, pad, dilation) for ax in axes]
    for ty in range(kernel):
        for tx in range(kernel):
            at = [slice(None)] * a.ndim
            for ax, t, m in zip(axes, (ty, tx), size, strict=True):
                at[ax] = slice(dilation * t, dilation * t + stride * (m - 1) + 1, stride)
            yield ty, tx, padded[tuple(at)]


LAYOUTS = {
    "inside": ("n y x ci i k", "ky kx ci co k j", "n y x co i j"),
    "channels": ("n y x i k ci", "ky kx k j ci co", "n y x i j co"),
}


def capsule(
    name: str, batch: int, h: int, cin: int, cout: int, kernel: int, stride: int, pad: int, layout: str = "inside"
) -> Case:
    """`O[n,y,x,co,i,j] = sum P[n, s*y+ky-p, s*x+kx-p, ci, i, k] * W[ky, kx, ci, co, k, j]` with 4x4 poses."""
    pa, wa, oa = LAYOUTS[layout]

    @ph.function(P=pa, W=wa, returns=oa)
    def capsule_convolution(P, W):
        return (P.pad(y=pad, x=pad)[stride * y + ky - pad, stride * x + kx - pad] * W).sum(ky, kx, ci, k)

    m = out_size(h, kernel, stride, pad)
    size = {"n": batch, "y": h, "x": h, "ci": cin, "co": cout, "ky": kernel, "kx": kernel, "i": 4, "j": 4, "k": 4}
    letters = {"ci": "c", "co": "o"}

    def reference(P, W):
        p_sub, w_sub, o_sub = (
            "".join(letters.get(d, d) for d in a.split()) for a in (pa, wa.replace("ky kx ", ""), oa)
        )
        return sum(
            np.einsum(f"{p_sub},{w_sub}->{o_sub}", tap, W[ty, tx], optimize=True)
            for ty, tx, tap in windows(P, (1, 2), kernel, stride, pad)
        )

    loops = [(d, m if d in "yx" else size[d]) for d in (*oa.split(), "ky", "kx", "ci", "k")]
    at = {"y": f"{stride} * y + ky - {pad}", "x": f"{stride} * x + kx - {pad}"}
    nest = Nest(
        tuple(loops),
        frozenset(("ky", "kx", "ci", "k")),
        tuple(oa.split()),
        "P * W",
        {"P": tuple(at.get(d, d) for d in pa.split()), "W": tuple(wa.split())},
        _inside(at, h) if pad else "",
    )
    return Case(
        name,
        "capsule",
        capsule_convolution,
        {"P": tuple(size[d] for d in pa.split()), "W": tuple(size[d] for d in wa.split())},
        2 * batch * m * m * cout * 16 * kernel * kernel * cin * 4,
        reference,
        {"stride": stride, "pad": pad, "channels": int(layout == "channels")},
        out_shape=tuple(m if d in "yx" else size[d] for d in oa.split()),
        nest=nest,
    )


def _inside(at: dict[str, str], h: int) -> str:
    return " && ".join(f"{i} >= 0 && {i} < {h}" for i in at.values())


def votes(name: str, h: int, cin: int, cout: int, kernel: int, stride: int) -> Case:
    """Votes of every child for every parent, stored: a bandwidth test."""

    @ph.function(P="y x ci i k", W="ky kx ci co k j", returns="y x ky kx ci co i j")
    def capsule_votes(P, W):
        return (P[stride * y + ky, stride * x + kx] * W).sum(k)

    m = out_size(h, kernel, stride, 0)
    shape = (m, m, kernel, kernel, cin, cout, 4, 4)

    def reference(P, W):
        out = np.empty(shape)
        for ty, tx, tap in windows(P, (0, 1), kernel, stride, 0):
            out[:, :, ty, tx] = np.einsum("yxcik,cokj->yxcoij", tap, W[ty, tx], optimize=True)
        return out

    shapes = {"P": (h, h, cin, 4, 4), "W": (kernel, kernel, cin, cout, 4, 4)}
    return Case(
        name,
        "votes",
        capsule_votes,
        shapes,
        2 * int(np.prod(shape)) * 4,
        reference,
        {"stride": stride},
        out_shape=shape,
    )


def conv2d(
    name: str,
    batch: int,
    cin: int,
    h: int,
    cout: int,
    kernel: int,
    stride: int,
    layout: str = "nchw",
    pad: int | None = None,
    dilation: int = 1,
) -> Case:
    """A layer of ResNet-18 shape, both axis orders at the boundary; padding is `kernel // 2` unless given."""
    p = kernel // 2 if pad is None else pad
    xa, wa, oa = ("b c y x", "o c ky kx", "b o y x") if layout == "nchw" else ("b y x c", "ky kx c o", "b y x o")

    @ph.function(X=xa, W=wa, returns=oa)
    def convolution(X, W):
        return (X.pad(y=p, x=p)[stride * y + dilation * ky - p, stride * x + dilation * kx - p] * W).sum(c, ky, kx)

    m = out_size(h, kernel, stride, p, dilation)
    size = {"b": batch, "c": cin, "y": h, "x": h, "o": cout, "ky": kernel, "kx": kernel}

    def reference(X, W):
        taps = windows(X, (2, 3) if layout == "nchw" else (1, 2), kernel, stride, p, dilation)
        if layout == "nchw":
            return sum(np.einsum("bcyx,oc->boyx", tap, W[:, :, ty, tx], optimize=True) for ty, tx, tap in taps)
        return sum(np.einsum("byxc,co->byxo", tap, W[ty, tx], optimize=True) for ty, tx, tap in taps)

    out = tuple(m if d in "yx" else size[d] for d in oa.split())
    at = {"y": f"{stride} * y + {dilation} * ky - {p}", "x": f"{stride} * x + {dilation} * kx - {p}"}
    nest = Nest(
        tuple((d, m if d in "yx" else size[d]) for d in (*oa.split(), "c", "ky", "kx")),
        frozenset(("c", "ky", "kx")),
        tuple(oa.split()),
        "X * W",
        {"X": tuple(at.get(d, d) for d in xa.split()), "W": tuple(wa.split())},
        _inside(at, h) if p else "",
    )
    numbers = {"stride": stride, "pad": p, "dilation": dilation, "nhwc": int(layout != "nchw"), "groups": 1}
    shapes = {"X": tuple(size[d] for d in xa.split()), "W": tuple(size[d] for d in wa.split())}
    return Case(
        name,
        "conv2d",
        convolution,
        shapes,
        2 * int(np.prod(out)) * cin * kernel * kernel,
        reference,
        numbers,
        out_shape=out,
        nest=nest,
    )


def transposed(name: str, batch: int, h: int, cin: int, cout: int, kernel: int, stride: int, pad: int) -> Case:
    """Every input adds to a window of results; written from the result's side, phase by phase of the stride, which must
    divide the kernel and the result."""
    m = (h - 1) * stride - 2 * pad + kernel

    reach = taps = kernel // stride

    @ph.function(X="b c y x", W="c o ky kx", returns="b o oy ox")
    def transposed_convolution(X, W):
        qy, qx = ph.dims(qy=m // stride, qx=m // stride)  # results of one phase (py, px) of the stride
        py, px, uy, ux = ph.dims(py=stride, px=stride, uy=taps, ux=taps)
        near = X.pad(y=reach, x=reach)(y=qy + (py + pad) // stride - uy, x=qx + (px + pad) // stride - ux)
        tap = W(ky=(py + pad) % stride + stride * uy, kx=(px + pad) % stride + stride * ux)
        phases = ph.let((near * tap).sum(c, uy, ux), "phases")
        oy, ox = ph.dims(oy=m, ox=m)
        return phases(qy=oy // stride, py=oy % stride, qx=ox // stride, px=ox % stride)

    def reference(X, W):
        full = np.zeros((batch, cout, m + 2 * pad, m + 2 * pad))
        for ty in range(kernel):
            for tx in range(kernel):
                at = (slice(ty, ty + stride * (h - 1) + 1, stride), slice(tx, tx + stride * (h - 1) + 1, stride))
                full[:, :, at[0], at[1]] += np.einsum("bcyx,co->boyx", X, W[:, :, ty, tx], optimize=True)
        return full[:, :, pad : pad + m, pad : pad + m]

    return Case(
        name,
        "transposed",
        transposed_convolution,
        {"X": (batch, cin, h, h), "W": (cin, cout, kernel, kernel)},
        2 * batch * h * h * cin * cout * kernel * kernel,
        reference,
        {"stride": stride, "pad": pad},
        out_shape=(batch, cout, m, m),
    )


def grouped(name: str, groups: int, cin: int, h: int, cout: int, kernel: int) -> Case:
    """The group is a name that both operands share."""
    p = kernel // 2

    @ph.function(X="g c y x", W="g o c ky kx", returns="g o y x")
    def grouped_convolution(X, W):
        return (X.pad(y=p, x=p)[y + ky - p, x + kx - p] * W).sum(c, ky, kx)

    def reference(X, W):
        return sum(
            np.einsum("gcyx,goc->goyx", tap, W[..., ty, tx], optimize=True)
            for ty, tx, tap in windows(X, (2, 3), kernel, 1, p)
        )

    shapes = {"X": (groups, cin, h, h), "W": (groups, cout, cin, kernel, kernel)}
    out = (groups, cout, h, h)
    flops = 2 * int(np.prod(out)) * cin * kernel * kernel
    return Case(
        name,
        "grouped",
        grouped_convolution,
        shapes,
        flops,
        reference,
        {"stride": 1, "pad": p, "groups": groups},
        out_shape=out,
    )


def depthwise(name: str, channels: int, h: int, kernel: int, stride: int) -> Case:
    """`c` is shared and not summed: one operation per byte, or less."""
    p = kernel // 2

    @ph.function(X="c y x", W="c ky kx", returns="c y x")
    def depthwise_convolution(X, W):
        return (X.pad(y=p, x=p)[stride * y + ky - p, stride * x + kx - p] * W).sum(ky, kx)

    def reference(X, W):
        return sum(tap * W[:, ty, tx, None, None] for ty, tx, tap in windows(X, (1, 2), kernel, stride, p))

    m = out_size(h, kernel, stride, p)
    shapes = {"X": (channels, h, h), "W": (channels, kernel, kernel)}
    out = (channels, m, m)
    flops = 2 * channels * m * m * kernel * kernel
    numbers = {"stride": stride, "pad": p, "groups": channels}
    return Case(name, "depthwise", depthwise_convolution, shapes, flops, reference, numbers, out_shape=out)


def involution(name: str, groups: int, h: int, kernel: int = 7, per: int = 16) -> Case:
    """A kernel per position, shared by the channels of a group (Li et al. 2021)."""
    p = kernel // 2

    @ph.function(X="n g c y x", K="n g u v y x", returns="n g c y x")
    def involve(X, K):
        return (X.pad(y=p, x=p)(y=y + u - p, x=x + v - p) * K).sum(u, v)

    def reference(X, K):
        return sum(tap * K[:, :, None, ty, tx] for ty, tx, tap in windows(X, (3, 4), kernel, 1, p))

    shapes = {"X": (1, groups, per, h, h), "K": (1, groups, kernel, kernel, h, h)}
    flops = 2 * groups * per * h * h * kernel * kernel
    return Case(name, "involution", involve, shapes, flops, reference, {"pad": p}, out_shape=shapes["X"])
