# SPDX-License-Identifier: MIT
"""Matrix products, other semirings, normalisations and classic loop nests, with references in NumPy.

Sizes are arguments; which sizes are measured is `benchmarks.cases`' list.
"""

from __future__ import annotations

import numpy as np

import polyhedral as ph
from benchmarks.case import Case, Nest
from polyhedral.dim import i, j, k, t, x, y


def gemm(name: str, m: int, cols: int, inner: int, dtype: str = "float32") -> Case:
    @ph.function(A="i k", B="k j", returns="i j")
    def matrix_product(A, B):
        return (A * B).sum(k)

    nest = Nest(
        (("i", m), ("j", cols), ("k", inner)), frozenset("k"), ("i", "j"), "A * B", {"A": ("i", "k"), "B": ("k", "j")}
    )
    shapes = {"A": (m, inner), "B": (inner, cols)}
    return Case(
        name,
        "gemm",
        matrix_product,
        shapes,
        2 * m * cols * inner,
        lambda A, B: A @ B,
        dtype=dtype,
        out_shape=(m, cols),
        nest=nest,
        tolerance=1e-12 if dtype == "float64" else 1e-5,
    )


def batched(name: str, batch: int, m: int, inner: int, cols: int) -> Case:
    @ph.function(A="b i k", B="b k j", returns="b i j")
    def batched_product(A, B):
        return (A * B).sum(k)

    shapes = {"A": (batch, m, inner), "B": (batch, inner, cols)}
    flops = 2 * batch * m * inner * cols
    return Case(name, "batched", batched_product, shapes, flops, lambda A, B: A @ B, out_shape=(batch, m, cols))


def maxplus(name: str, size: int) -> Case:
    """`C[i,j] = max_k A[i,k] + B[k,j]`: a product of the tropical semiring."""

    @ph.function(A="i k", B="k j", returns="i j")
    def tropical_product(A, B):
        return (A + B).max(k)

    def reference(A, B):
        return np.stack([(row[:, None] + B).max(axis=0) for row in A])

    sides = (("i", size), ("j", size), ("k", size))
    nest = Nest(sides, frozenset("k"), ("i", "j"), "A + B", {"A": ("i", "k"), "B": ("k", "j")}, op="max")
    shapes = {"A": (size, size), "B": (size, size)}
    return Case(name, "maxplus", tropical_product, shapes, 2 * size**3, reference, out_shape=(size, size), nest=nest)


def bilinear(name: str, batch: int, size: int) -> Case:
    """`Y[n,o] = sum_ij x[n,i] W[o,i,j] y[n,j]`: the order of contraction decides how much work it is."""

    @ph.function(X="n i", W="o i j", Y="n j", returns="n o")
    def bilinear_form(X, W, Y):
        return ((W * Y).sum(j) * X).sum(i)

    def reference(X, W, Y):
        return np.einsum("ni,oij,nj->no", X, W, Y, optimize=True)

    shapes = {"X": (batch, size), "W": (size, size, size), "Y": (batch, size)}
    flops = 2 * batch * size**3 + 2 * batch * size**2
    return Case(name, "bilinear", bilinear_form, shapes, flops, reference, out_shape=(batch, size))


def softmax(name: str, rows: int, cols: int) -> Case:
    @ph.function(X="y x", returns="y x")
    def rows_softmax(X):
        return ph.softmax(X, x)

    def reference(X):
        e = np.exp(X - X.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return Case(name, "softmax", rows_softmax, {"X": (rows, cols)}, 5 * rows * cols, reference, out_shape=(rows, cols))


def layer_norm(name: str, rows: int, cols: int) -> Case:
    @ph.function(X="y x", gain="x", bias="x", returns="y x")
    def rows_layer_norm(X, gain, bias):
        centred = ph.let(X - X.mean(x), "centred")
        return centred / ph.sqrt((centred * centred).mean(x) + 1e-5) * gain + bias

    def reference(X, gain, bias):
        centred = X - X.mean(axis=1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gain + bias

    shapes = {"X": (rows, cols), "gain": (cols,), "bias": (cols,)}
    return Case(name, "layer_norm", rows_layer_norm, shapes, 8 * rows * cols, reference, out_shape=(rows, cols))


def jacobi(name: str, size: int, steps: int) -> Case:
    """Five points, the border keeps its value; planes of time may share storage."""

    @ph.function(u0="y x", returns="y x")
    def jacobi_2d(u0, steps: ph.Size):
        u_ = ph.var("u", like=u0, t=steps + 1)
        u_(t=0)[...] = u0
        u_[t + 1] = ph.orelse(0.2 * (u_ + u_[x - 1] + u_[x + 1] + u_[y - 1] + u_[y + 1]), u_)
        return u_(t=steps)

    def reference(u0):
        now = u0.copy()
        for _ in range(steps):
            new = now.copy()
            new[1:-1, 1:-1] = 0.2 * (now[1:-1, 1:-1] + now[1:-1, :-2] + now[1:-1, 2:] + now[:-2, 1:-1] + now[2:, 1:-1])
            now = new
        return now

    flops = 5 * steps * (size - 2) ** 2
    return Case(
        name,
        "jacobi",
        jacobi_2d,
        {"u0": (size, size)},
        flops,
        reference,
        sizes={"steps": steps},
        out_shape=(size, size),
    )


def seidel(name: str, size: int, steps: int) -> Case:
    """In place: each point sees the new values above and to the left of it."""

    @ph.function(u="y x", inout="u")
    def gauss_seidel(u, steps: ph.Size):
        with ph.loop(t, steps), ph.loop(y, 1, u.size(y) - 1), ph.loop(x, 1, u.size(x) - 1):
            u[...] = 0.2 * (u + u[x - 1] + u[x + 1] + u[y - 1] + u[y + 1])

    def reference(u):
        a = u.copy()
        for _ in range(steps):
            for row in range(1, size - 1):
                known = 0.2 * (a[row, 1:-1] + a[row, 2:] + a[row - 1, 1:-1] + a[row + 1, 1:-1])
                left = a[row, 0]
                for col in range(1, size - 1):
                    left = a[row, col] = known[col - 1] + 0.2 * left
        return a

    flops = 5 * steps * (size - 2) ** 2
    return Case(name, "seidel", gauss_seidel, {"u": (size, size)}, flops, reference, sizes={"steps": steps}, inout="u")


def lu(name: str, size: int) -> Case:
    """Without pivoting, L and U in the place of A."""

    @ph.function(A="i j", inout="A")
    def lu_factors(A):
        a, m = A.order(i, j), A.size(i)
        with ph.loop(k, m), ph.loop(i, k + 1, m):
            a[i, k] /= a[k, k]
            with ph.loop(j, k + 1, m):
                a[i, j] -= a[i, k] * a[k, j]

    def reference(A):
        a = A.copy()
        for step in range(size):
            a[step + 1 :, step] /= a[step, step]
            a[step + 1 :, step + 1 :] -= np.outer(a[step + 1 :, step], a[step, step + 1 :])
        return a

    shapes = {"A": (size, size)}
    return Case(
        name, "lu", lu_factors, shapes, 2 * size**3 // 3, reference, dtype="float64", inout="A", tolerance=1e-12
    )
