# SPDX-License-Identifier: MIT
"""The zoo: small named programs, one feature each, with small sizes and what NumPy says they compute.

Every part of the compiler is tried on all of them; random programs are drawn in `tests.strategies`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from polyhedral.ir.program import Program
from polyhedral.text.reader import parse

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A program, sizes to try it with, and its meaning: inputs (by name) to outputs, axes in the order of the dims."""

    program: Program
    sizes: Mapping[str, int]
    expect: Callable[..., dict[str, np.ndarray]]


CASES: dict[str, Case] = {}


def _case(text: str, **sizes: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Register the formula below under the program's name; a single result is called `out`."""

    def register(formula: Callable[..., object]) -> Callable[..., object]:
        program = parse(text)

        def expect(inputs: Arrays) -> dict[str, np.ndarray]:
            copies = {n: v.copy() for n, v in inputs.items()}
            with np.errstate(all="ignore"):
                result = formula(**copies)
            return result if isinstance(result, dict) else {"out": np.asarray(result)}

        CASES[program.name] = Case(program, {n.replace("__", "."): v for n, v in sizes.items()}, expect)
        return formula

    return register


@_case("""
program copy
  input X: f32[y, x]
  output out: f32[y: X.y, x: X.x]
  S0: for y < X.y, x < X.x:  out = X
""", X__y=3, X__x=5)  # fmt: skip
def _copy(X):
    return X


@_case("""
program transpose
  input X: f32[i, j]
  output out: f32[i: X.j, j: X.i]
  S0: for i < X.j, j < X.i:  out = X(i=j, j=i)
""", X__i=3, X__j=4)  # fmt: skip
def _transpose(X):
    return X.T


@_case("""
program diagonal
  input X: f64[i, j]
  output out: f64[i: X.i]
  assume X.i == X.j
  S0: for i < X.i:  out = X(j=i)
""", X__i=5, X__j=5)  # fmt: skip
def _diagonal(X):
    return np.diagonal(X).copy()


@_case("""
program reversal
  input X: i32[i]
  output out: i32[i: X.i]
  S0: for i < X.i:  out = X(i=X.i - 1 - i)
""", X__i=6)  # fmt: skip
def _reversal(X):
    return X[::-1].copy()


@_case("""
program matmul
  input A: f32[i, k]
  input B: f32[k: A.k, j]
  output out: f32[i: A.i, j: B.j]
  S0: for i < A.i, j < B.j:  out = sum[k < A.k] A * B
""", A__i=4, A__k=7, B__j=5)  # fmt: skip
def _matmul(A, B):
    out = np.zeros((A.shape[0], B.shape[1]), np.float32)
    for k in range(A.shape[1]):
        out += A[:, k, None] * B[k]
    return out


@_case("""
program conv_strided
  input X: f32[c, y, x]
  input W: f32[o, c: X.c, ky, kx]
  output out: f32[o: W.o, y: (X.y - W.ky)//2 + 1, x: (X.x - W.kx)//2 + 1]
  assume W.ky <= X.y and W.kx <= X.x
  S0: for o < W.o, y < (X.y - W.ky)//2 + 1, x < (X.x - W.kx)//2 + 1:
    out = sum[c < X.c, ky < W.ky, kx < W.kx] X(y=2*y + ky, x=2*x + kx) * W
""", X__c=3, X__y=9, X__x=8, W__o=4, W__ky=3, W__kx=3)  # fmt: skip
def _conv_strided(X, W):
    o, c, ky, kx = W.shape
    out = np.zeros((o, (X.shape[1] - ky) // 2 + 1, (X.shape[2] - kx) // 2 + 1), np.float32)
    for i, a, b in np.ndindex(c, ky, kx):
        patch = X[i, a : a + 2 * out.shape[1] - 1 : 2, b : b + 2 * out.shape[2] - 1 : 2]
        out += patch * W[:, i, a, b, None, None]
    return out


@_case("""
program capsule_conv
  input P: f64[ci, y, x, p, q]
  input W: f64[ci: P.ci, co, ky, kx, q: P.q, r]
  output out: f64[co: W.co, y: (P.y - W.ky)//2 + 1, x: (P.x - W.kx)//2 + 1, p: P.p, r: W.r]
  assume W.ky <= P.y and W.kx <= P.x
  S0: for co < W.co, y < (P.y - W.ky)//2 + 1, x < (P.x - W.kx)//2 + 1, p < P.p, r < W.r:
    out = sum[ci < P.ci, ky < W.ky, kx < W.kx, q < P.q] P(y=2*y + ky, x=2*x + kx) * W
""", P__ci=2, P__y=5, P__x=5, P__p=2, P__q=2, W__co=2, W__ky=3, W__kx=3, W__r=2)  # fmt: skip
def _capsule_conv(P, W):
    out = np.zeros((W.shape[1], 2, 2, P.shape[3], W.shape[5]))
    for co, y, x in np.ndindex(W.shape[1], 2, 2):
        out[co, y, x] = np.einsum("cyxpq,cyxqr->pr", P[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3], W[:, co])
    return out


@_case("""
program conv_padded
  input X: f32[x]
  input W: f32[k: 3]
  output out: f32[x: X.x]
  S0: for x < X.x:
    out = sum[k < 3] where([0 <= x + k - 1 and x + k - 1 < X.x], X(x=x + k - 1), 0.0) * W
""", X__x=6)  # fmt: skip
def _conv_padded(X, W):
    return np.convolve(np.pad(X, 1), W[::-1], "valid").astype(np.float32)


@_case("""
program trisolve
  input L: f64[i, j: L.i]
  input b: f64[i: L.i]
  temporary t: f64[i: L.i]
  output out: f64[i: L.i]
  S0: for i < L.i:  t = sum[j < i] L * out(i=j)
  S1: for i < L.i:  out = (b - t) / L(j=i)
""", L__i=5)  # fmt: skip
def _trisolve(L, b):
    z = np.zeros_like(b)
    for i in range(len(b)):
        z[i] = (b[i] - sum(L[i, j] * z[j] for j in range(i))) / L[i, i]
    return z


@_case("""
program prefix_sum
  input X: i64[i]
  output out: i64[i: X.i]
  S0: for i < X.i:  out = where([1 <= i], out(i=i - 1), 0) + X
""", X__i=7)  # fmt: skip
def _prefix_sum(X):
    return np.cumsum(X)


@_case("""
program jacobi2d
  sizes u0.y, u0.x, steps
  input u0: f64[y, x]
  temporary u: f64[t: steps + 1, y: u0.y, x: u0.x]
  output out: f64[y: u0.y, x: u0.x]
  S0: for y < u0.y, x < u0.x:  u(t=0) = u0
  S1: for t < steps, y < u0.y, x < u0.x:
    u(t=t + 1) = where([1 <= y < u0.y - 1 and 1 <= x < u0.x - 1],
      0.2 * (u + u(x=x - 1) + u(x=x + 1) + u(y=y - 1) + u(y=y + 1)), u)
  S2: for y < u0.y, x < u0.x:  out = u(t=steps)
""", u0__y=5, u0__x=6, steps=3)  # fmt: skip
def _jacobi2d(u0):
    u = u0
    for _ in range(3):
        new = u.copy()
        m = u[1:-1, 1:-1]
        new[1:-1, 1:-1] = 0.2 * (m + u[1:-1, :-2] + u[1:-1, 2:] + u[:-2, 1:-1] + u[2:, 1:-1])
        u = new
    return u


@_case("""
program gauss_seidel
  sizes u.y, u.x, steps
  inout u: f64[y, x]
  S0: for t < steps, 1 <= y < u.y - 1, 1 <= x < u.x - 1 at (0, t, 0, y, 0, x, 0):
    u = 0.2 * (u + u(x=x - 1) + u(x=x + 1) + u(y=y - 1) + u(y=y + 1))
""", u__y=5, u__x=6, steps=2)  # fmt: skip
def _gauss_seidel(u):
    for _ in range(2):
        for y in range(1, u.shape[0] - 1):
            for x in range(1, u.shape[1] - 1):
                u[y, x] = 0.2 * (u[y, x] + u[y, x - 1] + u[y, x + 1] + u[y - 1, x] + u[y + 1, x])
    return {"u": u}


@_case("""
program lu
  inout A: f64[i, j: A.i]
  S0: for k < A.i, k + 1 <= i < A.i at (0, k, 0, i, 0):
    A(j=k) = A(j=k) / A(i=k, j=k)
  S1: for k < A.i, k + 1 <= i < A.i, k + 1 <= j < A.i at (0, k, 0, i, 1, j, 0):
    A = A - A(j=k) * A(i=k)
""", A__i=5)  # fmt: skip
def _lu(A):
    n = len(A)
    for k in range(n):
        for i in range(k + 1, n):
            A[i, k] /= A[k, k]
            A[i, k + 1 :] -= A[i, k] * A[k, k + 1 :]
    return {"A": A}


@_case("""
program cholesky
  inout A: f64[i, j: A.i]
  S0: for j < A.i, k < j at (0, j, 0, k, 0):
    A(i=j) = A(i=j) - A(i=j, j=k) * A(i=j, j=k)
  S1: for j < A.i at (0, j, 1):
    A(i=j) = sqrt(A(i=j))
  S2: for j < A.i, j + 1 <= i < A.i, k < j at (0, j, 2, i, 0, k, 0):
    A = A - A(j=k) * A(i=j, j=k)
  S3: for j < A.i, j + 1 <= i < A.i at (0, j, 2, i, 1):
    A = A / A(i=j)
""", A__i=5)  # fmt: skip
def _cholesky(A):
    for j in range(len(A)):
        for k in range(j):
            A[j, j] -= A[j, k] * A[j, k]
        A[j, j] = np.sqrt(A[j, j])
        for i in range(j + 1, len(A)):
            for k in range(j):
                A[i, j] -= A[i, k] * A[j, k]
            A[i, j] /= A[j, j]
    return {"A": A}


@_case("""
program floyd_warshall
  inout D: i32[i, j: D.i]
  S0: for k < D.i, i < D.i, j < D.i at (0, k, 0, i, 0, j, 0):
    D = min(D, D(j=k) + D(i=k))
""", D__i=5)  # fmt: skip
def _floyd_warshall(D):
    for k, i, j in np.ndindex(*(len(D),) * 3):
        D[i, j] = min(D[i, j], D[i, k] + D[k, j])
    return {"D": D}


@_case("""
program max_plus
  input A: f32[i, k]
  input B: f32[k: A.k, j]
  output out: f32[i: A.i, j: B.j]
  S0: for i < A.i, j < B.j:  out = max[k < A.k] A + B
""", A__i=3, A__k=4, B__j=5)  # fmt: skip
def _max_plus(A, B):
    return (A[:, :, None] + B).max(1)


@_case("""
program arg_max
  input X: f32[i, k]
  temporary m: f32[i: X.i]
  output out: i64[i: X.i]
  S0: for i < X.i:  m = max[k < X.k] X
  S1: for i < X.i:  out = min[k < X.k] where(X == m, k, {X.k})
""", X__i=4, X__k=6)  # fmt: skip
def _argmax(X):
    return X.argmax(1)


@_case("""
program softmax
  input X: f64[i, k]
  temporary m: f64[i: X.i]
  temporary e: f64[i: X.i, k: X.k]
  temporary s: f64[i: X.i]
  output out: f64[i: X.i, k: X.k]
  S0: for i < X.i:  m = max[k < X.k] X
  S1: for i < X.i, k < X.k:  e = exp(X - m)
  S2: for i < X.i:  s = sum[k < X.k] e
  S3: for i < X.i, k < X.k:  out = e / s
""", X__i=3, X__k=4)  # fmt: skip
def _softmax(X):
    e = np.exp(X - X.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@_case("""
program gather
  input X: f32[n]
  input idx: i64[i]
  output out: f32[i: idx.i]
  S0: for i < idx.i:  out = X(n := max(0, min(idx, {X.n - 1})))
""", X__n=5, idx__i=7)  # fmt: skip
def _gather(X, idx):
    return X[np.clip(idx, 0, len(X) - 1)]


@_case("""
program accumulation
  input X: f64[i, k]
  inout A: f64[i: X.i]
  S0: for i < X.i:  A += sum[k < X.k] X * 2.0
""", X__i=4, X__k=3)  # fmt: skip
def _accumulate(X, A):
    for k in range(X.shape[1]):
        A += X[:, k] * 2
    return {"A": A}


@_case("""
program dot
  input A: f32[i]
  input B: f32[i: A.i]
  output out: f32[]
  S0: strict:
    out = sum[i < A.i] A * B
""", A__i=9)  # fmt: skip
def _dot(A, B):
    total = np.float32(0)
    for a, b in zip(A, B, strict=True):
        total += a * b
    return total


@_case("""
program empty
  input X: f32[i, k]
  output out: f32[i: X.i]
  S0: for i < X.i:  out = sum[k < X.k] X
""", X__i=3, X__k=0)  # fmt: skip
def _empty(X):
    return X.sum(1)


@_case("""
program matmul_i8
  input A: i8[i, k]
  input B: i8[k: A.k, j]
  output out: i32[i: A.i, j: B.j]
  S0: for i < A.i, j < B.j:  out = sum[k < A.k] i32(A) * i32(B)
""", A__i=3, A__k=5, B__j=4)  # fmt: skip
def _matmul_i8(A, B):
    return A.astype(np.int32) @ B.astype(np.int32)


@_case("""
program brain_floats
  input A: bf16[i]
  input B: bf16[i: A.i]
  output out: bf16[i: A.i]
  S0: for i < A.i:  out = A * B + 1.0
""", A__i=8)  # fmt: skip
def _bf16(A, B):
    product = (A.astype(np.float32) * B.astype(np.float32)).astype(ml_dtypes.bfloat16)
    return (product.astype(np.float32) + 1).astype(ml_dtypes.bfloat16)


@_case("""
program selection
  input X: f32[i, j]
  output out: f32[i: X.i, j: X.j]
  S0: for i < X.i, j < X.j:  out = where([i < j or i == 2*j], X, where(X < 0.0, -X, X * 3.0))
""", X__i=5, X__j=4)  # fmt: skip
def _select(X):
    i, j = np.indices(X.shape)
    return np.where((i < j) | (i == 2 * j), X, np.where(X < 0, -X, X * 3)).astype(np.float32)


@_case("""
program constant_array
  input X: f32[x]
  constant K: f32[k: 3] = (0.25, 0.5, 0.25)
  output out: f32[x: X.x - 2]
  assume 2 <= X.x
  S0: for x < X.x - 2:  out = sum[k < 3] X(x=x + k) * K
""", X__x=7)  # fmt: skip
def _constant(X):
    return np.float32(0.25) * X[:-2] + np.float32(0.5) * X[1:-1] + np.float32(0.25) * X[2:]


@_case("""
program union_guard
  input X: f32[i]
  output out: f32[i: X.i]
  S0: for i < X.i if i < 2 or X.i - 2 <= i:  out = X
  S1: for 2 <= i < X.i - 2:  out = X(i=i - 1) + X(i=i + 1)
""", X__i=8)  # fmt: skip
def _union_guard(X):
    out = X.copy()
    out[2:-2] = X[1:-3] + X[3:-1]
    return out


@_case("""
program two_outputs
  input X: f32[i]
  output out: f32[i: X.i]
  output top: f32[]
  S0: for i < X.i:  out = X * X
  S1: top = max[i < X.i] out
""", X__i=5)  # fmt: skip
def _two_outputs(X):
    return {"out": X * X, "top": np.asarray((X * X).max())}


@_case("""
program pixel_shuffle
  input X: f32[c, y, x]
  output out: f32[c: X.c//4, y: 2*X.y, x: 2*X.x]
  S0: for c < X.c//4, y < 2*X.y, x < 2*X.x:
    out = X(c=4*c + 2*(y % 2) + x % 2, y=y//2, x=x//2)
""", X__c=8, X__y=2, X__x=3)  # fmt: skip
def _pixel_shuffle(X):
    c, y, x = X.shape
    return X.reshape(c // 4, 2, 2, y, x).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * y, 2 * x)


@_case("""
program scan2d
  input X: f64[i, j]
  output out: f64[i: X.i, j: X.j]
  S0: for i < X.i, j < X.j:
    out = X + where([1 <= i], out(i=i - 1), 0.0) + where([1 <= j], out(j=j - 1), 0.0)
""", X__i=3, X__j=4)  # fmt: skip
def _scan2d(X):
    out = np.zeros_like(X)
    for i, j in np.ndindex(*X.shape):
        out[i, j] = X[i, j] + (out[i - 1, j] if i else 0) + (out[i, j - 1] if j else 0)
    return out


@_case("""
program relu_chain
  input X: f32[i, k]
  input W: f32[k: X.k, j]
  input b: f32[j: W.j]
  temporary h: f32[i: X.i, j: W.j]
  output out: f32[i: X.i, j: W.j]
  S1: for i < X.i, j < W.j:  out = max(h + b, 0.0)
  S0: for i < X.i, j < W.j:  h = sum[k < X.k] X * W
""", X__i=3, X__k=4, W__j=5)  # fmt: skip
def _relu_chain(X, W, b):
    h = np.zeros((X.shape[0], W.shape[1]), np.float32)
    for k in range(X.shape[1]):
        h += X[:, k, None] * W[k]
    return np.maximum(h + b, 0)


ZOO: dict[str, Program] = {name: case.program for name, case in CASES.items()}
