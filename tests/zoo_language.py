# SPDX-License-Identifier: MIT
"""The programs of the language's description as plain functions, with the arguments to trace them with.

Undecorated, so that tracing, inference and lowering can be tested without the driver; `record` drives a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from frontend import lang as ph
from frontend.recorded import Recording
from polyhedral.dim import c, ci, co, cx, cy, d, g, i, j, k, kx, ky, o, p, q, r, s, t, x, y
from polyhedral.ir.dtypes import BY_NAME
from polyhedral.ir.program import Role


class Case(NamedTuple):
    """A function and its arguments: `"f32 c y x"` is an array, `"size"` a ph.Size, `"f32"` a scalar."""

    function: Callable[..., object]
    arguments: Mapping[str, str]
    inout: tuple[str, ...] = ()


# (a) capsule convolution


def caps_votes(P, W):
    return (P[2 * y + ky, 2 * x + kx] * W).sum(q)


def caps_conv(P, W):
    return (P[2 * y + ky, 2 * x + kx] * W).sum(ci, ky, kx, q)


# (b) EM routing


def em_routing(V, a, bu, ba, iters=3, lam=0.01):
    R = 1 / V.size(co)
    for it in range(iters):
        Ra = R * a
        rs = Ra.sum(ci)
        mu = (Ra * V).sum(ci) / rs
        s2 = (Ra * (V - mu) ** 2).sum(ci) / rs + 1e-6
        cost = ((bu + 0.5 * ph.log(s2)) * rs).sum(p, r)
        act = ph.sigmoid(lam * (it + 1) * (ba - cost))
        lp = -((V - mu) ** 2 / (2 * s2) + 0.5 * ph.log(2 * ph.pi * s2)).sum(p, r)
        R = ph.softmax(ph.log(act) + lp, co)
    return mu, act


# (c) convolutions


def conv_strided(X, W):
    return (X[2 * y + ky, 2 * x + kx] * W).sum(c, ky, kx)


def conv_same(X, W):
    return (X.pad(y=1, x=1)[y + ky - 1, x + kx - 1] * W).sum(c, ky, kx)


def conv_dilated(X, W):
    return (X.pad(y=2, x=2)[2 * y + 2 * ky - 2, 2 * x + 2 * kx - 2] * W).sum(c, ky, kx)


def conv_grouped(X, W):
    return (X[y + ky, x + kx] * W).sum(c, ky, kx)


def conv_depthwise(X, W):
    return (X[y + ky, x + kx] * W).sum(ky, kx)


def as_groups(X):
    within = ph.dims(c=4)
    return X(c=4 * g + within)


# (d) attention


def attention(Q, K, V, near=True):
    t = ph.fresh("t")
    mask = (t <= s) if near is True else near(t)
    a = (Q * K(s=t)).sum(d) * V.size(d) ** -0.5
    p = ph.softmax(a, t, where=mask)
    return (p * V(s=t)).sum(t, where=mask)


def causal(Q, K, V):
    return attention(Q, K, V)


def window(Q, K, V):
    return attention(Q, K, V, near=lambda t: (t <= s) & (s - t < 128))


# (e) matmul


def gemm(A, B):
    return (A * B).sum(k)


def gemm_bf16(A, B, bias):
    return ph.relu((A * B).sum(k) + bias).astype(ph.bf16)


def gemm_i8(A, B, bias, scale):
    acc = (A * B).sum(k, acc=ph.i32) + bias
    return ph.clip(ph.round(acc * scale), -128, 127).astype(ph.i8)


# (f) stencils and imperative programs


def jacobi2d(u0, steps):
    u = ph.var("u", like=u0, t=steps + 1)
    u(t=0)[...] = u0
    u[t + 1] = ph.orelse(0.2 * (u + u[x - 1] + u[x + 1] + u[y - 1] + u[y + 1]), u)
    return u(t=steps)


def gauss_seidel(u, steps):
    with ph.loop(t, steps), ph.loop(y, 1, u.size(y) - 1), ph.loop(x, 1, u.size(x) - 1):
        u[...] = 0.2 * (u + u[x - 1] + u[x + 1] + u[y - 1] + u[y + 1])


def lu(A):
    n = A.size(i)
    a = A.order(i, j)
    with ph.loop(k, n), ph.loop(i, k + 1, n):
        a[i, k] /= a[k, k]
        with ph.loop(j, k + 1, n):
            a[i, j] -= a[i, k] * a[k, j]


def lu_by_name(A):
    n = A.size(i)
    with ph.loop(k, n), ph.loop(i, k + 1, n):
        A(j=k)[...] /= A(i=k, j=k)
        with ph.loop(j, k + 1, n):
            A[...] -= A(j=k) * A(i=k)


def cholesky(A):
    n = A.size(i)
    a = A.order(i, j)
    with ph.loop(j, n):
        with ph.loop(k, j):
            a[j, j] -= a[j, k] ** 2
        a[j, j] = ph.sqrt(a[j, j])
        with ph.loop(i, j + 1, n):
            with ph.loop(k, j):
                a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]


def trisolve(L, b):
    z = ph.var("z", like=b)
    z[...] = (b - (L * z(i=j)).sum(j, where=j < i)) / L(i=i, j=i)
    return z


# (g) other semirings, scans


def maxplus(A, B):
    return (A + B).max(k)


def cumsum(X):
    return ph.scan("sum", X, along=i)


def cumsum_equation(X):
    s = ph.var(like=X)
    s[...] = ph.where(i > 0, s[i - 1], 0) + X
    return s


def floyd_warshall(D):
    d, n = D.order(i, j), D.size(i)
    with ph.loop(k, n), ph.loop(i, n), ph.loop(j, n):
        d[i, j] = ph.minimum(d[i, j], d[i, k] + d[k, j])


def pixel_shuffle(X):
    return X(c=4 * c + 2 * (y % 2) + x % 2, y=y // 2, x=x // 2)


# a reduction over the inverse of a strided access


def normalise(LP, A):
    covers = (2 * y + ky == cy) & (2 * x + kx == cx)
    m = LP.max(y, x, ky, kx, o, where=covers)
    e = ph.exp(LP - m(cy=2 * y + ky, cx=2 * x + kx))
    z = A * 0 + e.sum(y, x, ky, kx, o, where=covers)
    return e / z(cy=2 * y + ky, cx=2 * x + kx)


# beyond the description: one feature each


def mean_variance(X):
    mu = ph.let(X.mean(x), "mu")
    return {"mean": mu, "variance": ((X - mu) ** 2).mean(x)}


def nearest(X, C):
    """Index of the nearest of some centres, and that centre by a gather."""
    distance = ((X - C) ** 2).sum(d)
    nearest = ph.let(distance.argmin(k), "nearest")
    return nearest, C(k=nearest)


def histogram_rows(u, X):
    u[...] += X


def axpy(alpha, X, Y):
    return alpha * X + Y


def sobel(X):
    kernel = ph.const([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], "ky kx").astype(ph.f32)
    return (X.pad(y=1, x=1, mode="edge")[y + ky - 1, x + kx - 1] * kernel).sum(ky, kx)


def every_third(u):
    with ph.loop(x, 1, u.size(x), 3):
        u[...] = 0.5 * (u + u[x - 1])


CAPS = {"P": "f32 ci y x p q", "W": "f32 ci co ky kx q r"}
CONV = {"X": "f32 c y x", "W": "f32 o c ky kx"}
HEAD = {"Q": "f32 s d", "K": "f32 s d", "V": "f32 s d"}
EM = {"V": "f32 ci co p r", "a": "f32 ci", "bu": "f32 co", "ba": "f32 co"}

ZOO: dict[str, Case] = {
    "caps_votes": Case(caps_votes, CAPS),
    "caps_conv": Case(caps_conv, CAPS),
    "em_routing": Case(em_routing, EM),
    "conv_strided": Case(conv_strided, CONV),
    "conv_same": Case(conv_same, CONV),
    "conv_dilated": Case(conv_dilated, CONV),
    "conv_grouped": Case(conv_grouped, {"X": "f32 g c y x", "W": "f32 g o c ky kx"}),
    "conv_depthwise": Case(conv_depthwise, {"X": "f32 c y x", "W": "f32 c ky kx"}),
    "as_groups": Case(as_groups, {"X": "f32 c y x"}),
    "causal": Case(causal, HEAD),
    "window": Case(window, HEAD),
    "gemm": Case(gemm, {"A": "f32 i k", "B": "f32 k j"}),
    "gemm_bf16": Case(gemm_bf16, {"A": "bf16 i k", "B": "bf16 k j", "bias": "f32 j"}),
    "gemm_i8": Case(gemm_i8, {"A": "i8 i k", "B": "i8 k j", "bias": "i32 j", "scale": "f32 j"}),
    "jacobi2d": Case(jacobi2d, {"u0": "f32 y x", "steps": "size"}),
    "gauss_seidel": Case(gauss_seidel, {"u": "f32 y x", "steps": "size"}, ("u",)),
    "lu": Case(lu, {"A": "f64 i j"}, ("A",)),
    "lu_by_name": Case(lu_by_name, {"A": "f64 i j"}, ("A",)),
    "cholesky": Case(cholesky, {"A": "f64 i j"}, ("A",)),
    "trisolve": Case(trisolve, {"L": "f64 i j", "b": "f64 i"}),
    "maxplus": Case(maxplus, {"A": "f32 i k", "B": "f32 k j"}),
    "cumsum": Case(cumsum, {"X": "f32 i"}),
    "cumsum_equation": Case(cumsum_equation, {"X": "f32 i"}),
    "floyd_warshall": Case(floyd_warshall, {"D": "f32 i j"}, ("D",)),
    "pixel_shuffle": Case(pixel_shuffle, {"X": "f32 c y x"}),
    "normalise": Case(normalise, {"LP": "f32 y x ky kx i o", "A": "f32 i cy cx"}),
    "conv_lifted": Case(conv_strided, {"X": "f32 batch c y x", "W": "f32 o c ky kx"}),
    "conv_lifted_twice": Case(conv_strided, {"X": "f32 batch c y x", "W": "f32 model o c ky kx"}),
    "em_routing_lifted": Case(em_routing, EM | {"V": "f32 b y x ci co p r", "a": "f32 b y x ci"}),
    "mean_variance": Case(mean_variance, {"X": "f32 y x"}),
    "nearest": Case(nearest, {"X": "f32 i d", "C": "f32 k d"}),
    "histogram_rows": Case(histogram_rows, {"u": "f32 i", "X": "f32 i j"}, ("u",)),
    "axpy": Case(axpy, {"alpha": "f32", "X": "f32 i", "Y": "f32 i"}),
    "sobel": Case(sobel, {"X": "f32 y x"}),
    "every_third": Case(every_third, {"u": "f32 x"}, ("u",)),
}


def record(case: Case, settle: Callable[..., object], name: str = "program") -> tuple[Recording, object]:
    """Trace a case; its recording and the tree of its results' names."""
    trace = ph.Trace(name, settle=settle)
    with trace:
        values = {}
        for argument, spec in case.arguments.items():
            dtype, *dims = spec.split()
            if dtype == "size":
                values[argument] = trace.size_argument(argument)
            else:
                role = Role.INOUT if argument in case.inout else Role.INPUT
                values[argument] = trace.argument(argument, tuple(dims), BY_NAME[dtype], role)
        recording = trace.finish(case.function(**values))
    return recording, trace.returned
