# SPDX-License-Identifier: MIT
"""The programs of the language's description, spelled as there, compiled, run and held against NumPy.

How arrays of other forms come in and results leave is tested in `test_language_calls`.
"""
# ruff: noqa: E501, E701, E702  spelled as in the description
# fmt: off

import ml_dtypes
import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, ci, co, cx, cy, d, g, i, j, k, kx, ky, o, p, q, r, s, t, x, y

RNG = np.random.default_rng(7)


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def close(got, order, want, tol=2e-4):
    a = np.asarray(got.order(order))
    assert a.shape == np.shape(want)
    np.testing.assert_allclose(a.astype(np.float64), np.asarray(want).astype(np.float64), rtol=tol, atol=tol)


def softmax(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def patches(X, size, stride=1, dilation=1):
    """[..., y, x, ky, kx] from [..., y, x]."""
    span = (size - 1) * dilation + 1
    views = np.lib.stride_tricks.sliding_window_view(X, (span, span), (-2, -1))
    return views[..., ::stride, ::stride, ::dilation, ::dilation]


# (a) capsule convolution

@ph.function(P="ci y x p q", W="ci co ky kx q r")
def caps_votes(P, W):                                    # -> {ci, co, y, x, ky, kx, p, r}
    return (P[2*y + ky, 2*x + kx] * W).sum(q)
@ph.function(P="ci y x p q", W="ci co ky kx q r")
def caps_conv(P, W):                                     # -> {co, y, x, p, r}
    return (P[2*y + ky, 2*x + kx] * W).sum(ci, ky, kx, q)


def test_capsule_convolution():
    P, W = normal(3, 7, 9, 4, 4), normal(3, 2, 3, 3, 4, 4)
    seen = patches(P.transpose(0, 3, 4, 1, 2), 3, 2)                    # ci p q y x ky kx
    close(caps_votes(P, W), "ci co y x ky kx p r", np.einsum("ipqyxab,ioabqr->ioyxabpr", seen, W))
    close(caps_conv(P, W), "co y x p r", np.einsum("ipqyxab,ioabqr->oyxpr", seen, W))


# (b) EM routing

@ph.function(V="ci co p r", a="ci", bu="co", ba="co")
def em_routing(V, a, bu, ba, iters=3, lam=0.01):         # iters, lam: plain Python values
    R = 1 / V.size(co)
    for it in range(iters):                              # plain Python loop: unrolled while tracing
        Ra  = R * a                                      # {ci, co}  (first pass: {ci}; a missing dim is no parameter)
        rs  = Ra.sum(ci)                                 # {co}
        mu  = (Ra * V).sum(ci) / rs                      # {co, p, r}
        s2  = (Ra * (V - mu)**2).sum(ci) / rs + 1e-6
        cost= ((bu + 0.5*ph.log(s2)) * rs).sum(p, r)
        act = ph.sigmoid(lam*(it + 1) * (ba - cost))     # {co}
        lp  = -((V - mu)**2/(2*s2) + 0.5*ph.log(2*ph.pi*s2)).sum(p, r)   # {ci, co}
        R   = ph.softmax(ph.log(act) + lp, co)
    return mu, act


def em_numpy(V, a, bu, ba, iters=3, lam=0.01):
    V, a = V.astype(np.float64), a.astype(np.float64)
    R = np.full(V.shape[:2], 1 / V.shape[1])
    for it in range(iters):
        Ra = (R * a[:, None])[..., None, None]
        rs = Ra.sum(0)
        mu = (Ra * V).sum(0) / rs
        s2 = (Ra * (V - mu) ** 2).sum(0) / rs + 1e-6
        cost = ((bu[:, None, None] + 0.5 * np.log(s2)) * rs).sum((1, 2))
        act = 1 / (1 + np.exp(-lam * (it + 1) * (ba - cost)))
        lp = -((V - mu) ** 2 / (2 * s2) + 0.5 * np.log(2 * np.pi * s2)).sum((2, 3))
        R = softmax(np.log(act) + lp, 1)
    return mu, act


@pytest.mark.parametrize("iters", [1, 3])
def test_em_routing(iters):
    V, a, bu, ba = normal(6, 4, 3, 2), np.abs(normal(6)), normal(4), normal(4)
    mu, act = em_routing(V, a, bu, ba, iters=iters)
    want_mu, want_act = em_numpy(V, a, bu, ba, iters)
    close(mu, "co p r", want_mu, 2e-3)
    close(act, "co", want_act, 2e-3)


# (c) conv2d

@ph.function(X="c y x", W="o c ky kx")
def conv_strided(X, W):  return (X[2*y + ky, 2*x + kx] * W).sum(c, ky, kx)
@ph.function(X="c y x", W="o c ky kx")
def conv_same(X, W):     return (X.pad(y=1, x=1)[y + ky - 1, x + kx - 1] * W).sum(c, ky, kx)
@ph.function(X="c y x", W="o c ky kx")
def conv_dilated(X, W):  return (X.pad(y=2, x=2)[2*y + 2*ky - 2, 2*x + 2*kx - 2] * W).sum(c, ky, kx)
@ph.function(X="g c y x", W="g o c ky kx")               # grouped: the group is just a shared name
def conv_grouped(X, W):  return (X[y + ky, x + kx] * W).sum(c, ky, kx)
@ph.function(X="c y x", W="c ky kx")                     # depthwise: c is shared and not reduced
def conv_depthwise(X, W): return (X[y + ky, x + kx] * W).sum(ky, kx)
def as_groups(X, n):
    c = ph.dims(c=n)
    return X(c=n*g + c)             # split c into (g, c) with dims(c=n): reshape = substitution


@pytest.mark.parametrize("shape", [(7, 9), (8, 8), (3, 20)])
def test_convolutions(shape):
    X, W = normal(3, *shape), normal(4, 3, 3, 3)
    close(conv_strided(X, W), "o y x", np.einsum("cyxab,ocab->oyx", patches(X, 3, 2), W))
    once, twice = (np.pad(X, ((0, 0), (n, n), (n, n))) for n in (1, 2))
    close(conv_same(X, W), "o y x", np.einsum("cyxab,ocab->oyx", patches(once, 3), W))
    close(conv_dilated(X, W), "o y x", np.einsum("cyxab,ocab->oyx", patches(twice, 3, 2, 2), W))
    close(conv_depthwise(X, W[0]), "c y x", np.einsum("cyxab,cab->cyx", patches(X, 3), W[0]))
    G, V = normal(2, 3, *shape), normal(2, 4, 3, 3, 3)
    close(conv_grouped(G, V), "g o y x", np.einsum("gcyxab,gocab->goyx", patches(G, 3), V))


def test_groups_are_a_substitution():
    @ph.function(X="c y x", W="g o c ky kx")
    def split(X, W, n):  return as_groups(X, n), (as_groups(X, n)[y + ky, x + kx] * W).sum(c, ky, kx)

    X, W = normal(6, 5, 6), normal(2, 4, 3, 3, 3)
    groups, result = split(X, W, 3)
    close(groups, "g c y x", X.reshape(2, 3, 5, 6))
    close(result, "g o y x", np.einsum("gcyxab,gocab->goyx", patches(X.reshape(2, 3, 5, 6), 3), W))


# (d) attention

def attention(Q, K, V, near=True):                       # a library function: not decorated, composes anywhere
    t = ph.fresh("t")
    mask = (t <= s) if near is True else near(t)
    a = (Q * K(s=t)).sum(d) * V.size(d)**-0.5
    p = ph.softmax(a, t, where=mask)
    return (p * V(s=t)).sum(t, where=mask)
@ph.function(Q="s d", K="s d", V="s d")
def causal(Q, K, V):  return attention(Q, K, V)
@ph.function(Q="s d", K="s d", V="s d")
def window(Q, K, V):  return attention(Q, K, V, near=lambda t: (t <= s) & (s - t < 128))


@pytest.mark.parametrize(("head", "near", "n"), [(causal, 1 << 30, 9), (causal, 1 << 30, 1), (window, 128, 150)])
def test_attention(head, near, n):
    Q, K, V = normal(n, 8), normal(n, 8), normal(n, 8)
    at, to = np.indices((n, n))
    scores = np.where((to <= at) & (at - to < near), Q @ K.T * 8**-0.5, -np.inf)
    close(head(Q, K, V), "s d", softmax(scores, 1) @ V)


def test_attention_is_lifted_over_any_names():
    Q, K, V = (ph.array(normal(2, 3, 5, 4), "batch head s d") for _ in range(3))
    got = causal(Q, K, V)
    for b in range(2):
        for h in range(3):
            one = causal(Q.data[b, h], K.data[b, h], V.data[b, h])
            want = np.asarray(got.order("batch head s d"))[b, h]
            close(one, "s d", want)


# (e) matmul + bias + relu, bf16 and int8

@ph.function(A="i k", B="k j", bias="j", returns="i j")
def gemm_bf16(A, B, bias):                               # A,B bf16: leaves widened to f32 before the product
    return ph.relu((A * B).sum(k) + bias).astype(ph.bf16)
@ph.function(A="i k", B="k j", bias="j", scale="j", returns="i j")
def gemm_i8(A, B, bias, scale):                          # A,B i8 -> i32 accumulation (default for i8), i32 bias
    acc = (A * B).sum(k, acc=ph.i32) + bias
    return ph.clip(ph.round(acc * scale), -128, 127).astype(ph.i8)


@pytest.mark.parametrize("n", [1, 7, 64])
def test_bf16_gemm(n):
    A, B = (normal(*shape).astype(ml_dtypes.bfloat16) for shape in ((5, n), (n, 6)))
    bias = normal(6)
    got = np.asarray(gemm_bf16(A, B, bias))
    assert got.dtype == ml_dtypes.bfloat16
    want = np.maximum(A.astype(np.float32) @ B.astype(np.float32) + bias, 0)
    np.testing.assert_allclose(got.astype(np.float32), want, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("n", [1, 65, 300])
def test_i8_gemm_is_exact(n):
    A, B = (RNG.integers(-128, 128, shape).astype(np.int8) for shape in ((5, n), (n, 6)))
    bias, scale = RNG.integers(-99, 99, 6).astype(np.int32), (RNG.random(6) * 0.01).astype(np.float32)
    acc = A.astype(np.int32) @ B.astype(np.int32) + bias
    want = np.clip(np.round(acc.astype(np.float32) * scale), -128, 127).astype(np.int8)
    got = np.asarray(gemm_i8(A, B, bias, scale))
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, want)


# (f) stencils and imperative programs

@ph.function(u0="y x")
def jacobi2d(u0, steps: ph.Size):
    u = ph.var("u", like=u0, t=steps + 1)
    u(t=0)[...] = u0
    u[t+1] = ph.orelse(0.2*(u + u[x-1] + u[x+1] + u[y-1] + u[y+1]), u)   # border keeps its value
    return u(t=steps)                                    # storage of t is folded to 2 planes by the compiler
@ph.function(u="y x", inout="u")
def gauss_seidel(u, steps: ph.Size):
    with ph.loop(t, steps), ph.loop(y, 1, u.size(y)-1), ph.loop(x, 1, u.size(x)-1):
        u[...] = 0.2*(u + u[x-1] + u[x+1] + u[y-1] + u[y+1])
@ph.function(A="i j", inout="A")
def lu(A):                                               # textbook positional view
    n = A.size(i); a = A.order(i, j)
    with ph.loop(k, n), ph.loop(i, k+1, n):
        a[i, k] /= a[k, k]
        with ph.loop(j, k+1, n):
            a[i, j] -= a[i, k] * a[k, j]
@ph.function(A="i j", inout="A")
def lu_by_name(A):                                       # the same purely by name
    n = A.size(i)
    with ph.loop(k, n), ph.loop(i, k+1, n):
        A(j=k)[...] /= A(i=k, j=k)
        with ph.loop(j, k+1, n):
            A[...] -= A(j=k) * A(i=k)
@ph.function(A="i j", inout="A")
def cholesky(A):
    n = A.size(i); a = A.order(i, j)
    with ph.loop(j, n):
        with ph.loop(k, j): a[j, j] -= a[j, k]**2
        a[j, j] = ph.sqrt(a[j, j])
        with ph.loop(i, j+1, n):
            with ph.loop(k, j): a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]
@ph.function(L="i j", b="i")
def trisolve(L, b):                                      # triangular recurrence as one equation; isl finds the order
    z = ph.var("z", like=b)
    z[...] = (b - (L * z(i=j)).sum(j, where=j < i)) / L(i=i, j=i)
    return z


@pytest.mark.parametrize(("shape", "steps"), [((6, 7), 0), ((6, 7), 1), ((12, 9), 5), ((2, 5), 3), ((3, 3), 4), ((1, 1), 2)])
def test_stencils(shape, steps):
    u0 = normal(*shape)
    u, v = u0.copy(), u0.copy()
    for _ in range(steps):
        w = u.copy()
        w[1:-1, 1:-1] = 0.2 * (u[1:-1, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] + u[:-2, 1:-1] + u[2:, 1:-1])
        u = w
        for a in range(1, shape[0] - 1):
            for b in range(1, shape[1] - 1):
                v[a, b] = 0.2 * (v[a, b] + v[a, b - 1] + v[a, b + 1] + v[a - 1, b] + v[a + 1, b])
    close(jacobi2d(u0, steps), "y x", u)
    mine = u0.copy()
    assert gauss_seidel(mine, steps) is None
    np.testing.assert_allclose(mine, v, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 17, 40])
def test_factorisations(n):
    A = normal(n, n, dtype=np.float64) + n * np.eye(n)
    for factor in (lu, lu_by_name):
        B = A.copy()
        factor(B)
        np.testing.assert_allclose((np.tril(B, -1) + np.eye(n)) @ np.triu(B), A, rtol=1e-9, atol=1e-9)
    S = A @ A.T
    B = S.copy()
    cholesky(B)
    np.testing.assert_allclose(np.tril(B), np.linalg.cholesky(S), rtol=1e-8)
    b = normal(n, dtype=np.float64)
    close(trisolve(np.tril(A), b), "i", np.linalg.solve(np.tril(A), b), 1e-8)


# (g) other semirings, scans

@ph.function(A="i k", B="k j")
def maxplus(A, B): return (A + B).max(k)
@ph.function(X="i")
def cumsum(X):     return ph.scan("sum", X, along=i)     # or: s = ph.var(like=X); s[...] = ph.where(i > 0, s[i-1], 0) + X
@ph.function(D="i j", inout="D")
def floyd_warshall(D):
    d, n = D.order(i, j), D.size(i)
    with ph.loop(k, n), ph.loop(i, n), ph.loop(j, n):
        d[i, j] = ph.minimum(d[i, j], d[i, k] + d[k, j])
@ph.function(X="c y x")
def pixel_shuffle(X): return X(c=4*c + 2*(y % 2) + x % 2, y=y//2, x=x//2)   # all sizes inferred


def test_semirings_and_scans():
    A, B = normal(5, 6), normal(6, 7)
    close(maxplus(A, B), "i j", (A[:, :, None] + B).max(1), 1e-6)
    X = normal(100)
    close(cumsum(X), "i", np.cumsum(X), 1e-4)
    D = RNG.random((11, 11))
    want = D.copy()
    for n in range(11):
        want = np.minimum(want, want[:, n:n + 1] + want[n])
    floyd_warshall(D)
    np.testing.assert_allclose(D, want)


def test_pixel_shuffle():
    X = normal(12, 3, 5)
    close(pixel_shuffle(X), "c y x", X.reshape(3, 2, 2, 3, 5).transpose(0, 3, 1, 4, 2).reshape(3, 6, 10))


# (i) lifting

def test_lifting():
    imgs, W, Ws = normal(2, 3, 7, 8), normal(4, 3, 3, 3), normal(3, 4, 3, 3, 3)
    close(conv_strided(ph.array(imgs, "batch c y x"), W), "batch o y x", np.einsum("ncyxab,ocab->noyx", patches(imgs, 3, 2), W))
    both = conv_strided(ph.array(imgs, "batch c y x"), ph.array(Ws, "model o c ky kx"))
    assert both.dims == {"batch", "model", "o", "y", "x"}
    close(both, "batch model o y x", np.einsum("ncyxab,mocab->nmoyx", patches(imgs, 3, 2), Ws))
    V, a, bu, ba = normal(2, 2, 3, 5, 4, 2, 2), np.abs(normal(2, 2, 3, 5)), normal(4), normal(4)
    mu, act = em_routing(ph.array(V, "b y x ci co p r"), ph.array(a, "b y x ci"), bu, ba)
    for at in np.ndindex(2, 2, 3):
        want_mu, want_act = em_numpy(V[at], a[at], bu, ba)
        np.testing.assert_allclose(np.asarray(mu.order("b y x co p r"))[at], want_mu, rtol=5e-3, atol=5e-3)
        np.testing.assert_allclose(np.asarray(act.order("b y x co"))[at], want_act, rtol=2e-3)


def test_updates_and_scans_are_lifted():
    A = normal(3, 5, 5, dtype=np.float64) + 5 * np.eye(5)
    B = A.copy()
    lu(ph.array(B, "batch i j"))
    for n in range(3):
        np.testing.assert_allclose((np.tril(B[n], -1) + np.eye(5)) @ np.triu(B[n]), A[n])
    X = normal(4, 6)
    close(cumsum(ph.array(X, "row i")), "row i", np.cumsum(X, 1))
    u = normal(2, 4, 5)
    got = np.asarray(jacobi2d(ph.array(u, "n y x"), 3).order("n y x"))
    for n in range(2):
        close(jacobi2d(u[n], 3), "y x", got[n])


# a reduction over the inverse of a strided access

@ph.function(LP="y x ky kx i o", A="i cy cx")           # LP: log-probability of child (2y+ky, 2x+kx) under parent (y, x)
def normalise(LP, A):
    m = LP.max(y, x, ky, kx, o, where=(2*y + ky == cy) & (2*x + kx == cx))          # {i, cy, cx}; cy, cx pinned by A
    e = ph.exp(LP - m(cy=2*y + ky, cx=2*x + kx))
    z = (A * 0 + e.sum(y, x, ky, kx, o, where=(2*y + ky == cy) & (2*x + kx == cx)))
    return e / z(cy=2*y + ky, cx=2*x + kx)               # {y, x, ky, kx, i, o}


@pytest.mark.parametrize(("parents", "window"), [((3, 3), 3), ((2, 4), 2), ((1, 1), 5)])
def test_normalisation_over_covering_windows(parents, window):
    LP = normal(*parents, window, window, 2, 3)
    H, W = (2 * (n - 1) + window for n in parents)
    got = np.asarray(normalise(LP, normal(2, H, W)).order("y x ky kx i o"))
    total = np.zeros((2, H, W))
    for at in np.ndindex(LP.shape):
        total[at[4], 2 * at[0] + at[2], 2 * at[1] + at[3]] += np.exp(LP[at].astype(np.float64))
    for at in np.ndindex(LP.shape):
        want = np.exp(LP[at]) / total[at[4], 2 * at[0] + at[2], 2 * at[1] + at[3]]
        np.testing.assert_allclose(got[at], want, rtol=1e-4)


EVERY = [caps_votes, caps_conv, em_routing, conv_strided, conv_same, conv_dilated, conv_grouped, conv_depthwise, causal,
         window, gemm_bf16, gemm_i8, jacobi2d, gauss_seidel, lu, lu_by_name, cholesky, trisolve, maxplus, cumsum,
         floyd_warshall, pixel_shuffle, normalise]


@pytest.mark.parametrize("f", EVERY, ids=lambda f: f.name)
def test_the_printed_program_parses_back(f):
    types = {"gemm_i8": {"A": "i8[i, k]", "B": "i8[k, j]", "bias": "i32[j]"}}.get(f.name, {})
    program = f.trace(**types).program
    assert ph.parse(str(f)) == program
    assert ph.parse(ph.to_text(program)) == program
