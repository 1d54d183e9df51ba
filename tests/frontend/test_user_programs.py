# SPDX-License-Identifier: MIT
"""Programs as users bring them, from vision and sequence models, against NumPy; odd combinations of the rules.

The description's own programs are in `test_language`, others in `test_user_numerics`.
"""
# fmt: off

import math

import numpy as np

import polyhedral as ph
from polyhedral.dim import c, d, h, i, k, kx, ky, o, q, s, t, x, y

RNG = np.random.default_rng(17)


def normal(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


def same(got, order, want, tol=1e-9):
    np.testing.assert_allclose(np.asarray(got.order(order)), want, rtol=tol, atol=tol)


def windows(a, *sizes):
    return np.lib.stride_tricks.sliding_window_view(a, sizes, tuple(range(-len(sizes), 0)))


# convolutions and images


def test_dilated_strided_padded_convolution():
    @ph.function(X="c y x", W="o c ky kx")
    def conv(X, W):
        return (X.pad(y=3, x=(1, 2), mode="reflect")[3*y + 2*ky - 3, 2*x + 3*kx - 1] * W).sum(c, ky, kx)

    X, W = normal(2, 11, 12), normal(3, 2, 3, 2)
    wide = np.pad(X, ((0, 0), (3, 3), (1, 2)), mode="reflect")
    seen = windows(wide, 5, 4)[:, ::3, ::2, ::2, ::3]
    same(conv(X, W), "o y x", np.einsum("cyxab,ocab->oyx", seen, W))


def test_transposed_convolution_as_a_gather():
    @ph.function(X="i", W="k")
    def up(X, W):
        n = 2 * X.size(i) + W.size(k) - 2
        return (X * W).sum(i, k, where=2*i + k == ph.dims(x=n))

    X, W = normal(5), normal(4)
    want = np.zeros(12)
    for a in range(5):
        want[2*a:2*a + 4] += X[a] * W
    same(up(X, W), "x", want)


def test_locally_connected():
    @ph.function(X="c y x", W="y x o c ky kx")
    def local(X, W):
        return (X[y + ky, x + kx] * W).sum(c, ky, kx)

    X, W = normal(2, 6, 7), normal(4, 5, 3, 2, 3, 3)
    same(local(X, W), "o y x", np.einsum("cyxab,yxocab->oyx", windows(X, 3, 3), W))


def test_capsules_share_transforms_between_positions_and_classes():
    @ph.function(P="y x i p q", W="i o q r", K="g o")
    def classes(P, W, K):
        votes = (P * W).sum(q) + ph.where(ph.dims("r") == 0, y, 0) * 0.1
        return (votes * K).sum(o).mean(y, x)

    P, W, K = normal(3, 4, 2, 4, 4), normal(2, 5, 4, 4), normal(3, 5)
    votes = np.einsum("yxipq,ioqr->yxiopr", P, W)
    votes[..., 0] += 0.1 * np.arange(3)[:, None, None, None, None]
    same(classes(P, W, K), "g i p r", np.einsum("yxiopr,go->gipr", votes, K) / 12)


def test_pooling_with_and_without_overlap():
    @ph.function(X="y x")
    def pools(X):
        ky, kx = ph.dims(ky=2, kx=3)
        return X[2*y + ky, 3*x + kx].max(ky, kx), X.pad(x=1, value=-math.inf)[x + kx - 1].max(kx), X[2*y + ky].mean(ky)

    X = normal(6, 9)
    blocks, running, means = pools(X)
    same(blocks, "y x", X.reshape(3, 2, 3, 3).max((1, 3)))
    same(running, "y x", windows(np.pad(X, ((0, 0), (1, 1)), constant_values=-np.inf), 3).max(-1))
    same(means, "y x", X.reshape(3, 2, 9).mean(1))


def test_bilinear_upsampling_by_two():
    @ph.function(X="y x")
    def double(X):
        E = X.pad(y=1, x=1, mode="edge")
        def along(E, d):
            near, far = (d // 2), d // 2 + 2 * (d % 2) - 1
            return near, far
        ny, fy = along(E, y)
        nx, fx = along(E, x)
        def at(a, b):
            return E(y=a, x=b)
        rows = 0.75 * (0.75 * at(ny, nx) + 0.25 * at(ny, fx)) + 0.25 * (0.75 * at(fy, nx) + 0.25 * at(fy, fx))
        return rows.over(y=2 * X.size(y), x=2 * X.size(x))

    X = normal(4, 5)
    def up(a):
        wide = np.pad(a, ((1, 1), (0, 0)), mode="edge")
        out = np.empty((2 * a.shape[0], a.shape[1]))
        out[0::2] = 0.75 * wide[1:-1] + 0.25 * wide[:-2]
        out[1::2] = 0.75 * wide[1:-1] + 0.25 * wide[2:]
        return out
    same(double(X), "y x", up(up(X).T).T)


def test_median_of_three_and_sobel_magnitude():
    @ph.function(X="y x")
    def filters(X):
        a, m, e = X, X[x + 1], X[x + 2]
        median = ph.maximum(ph.minimum(a, m), ph.minimum(ph.maximum(a, m), e))
        return median.over(x=X.size(x) - 2)

    X = normal(4, 9)
    same(filters(X), "y x", np.median(windows(X, 3), -1))


def test_integral_image():
    @ph.function(X="y x")
    def integral(X):
        return ph.scan("sum", ph.scan("sum", X, along=x), along=y)

    X = normal(5, 6)
    same(integral(X), "y x", X.cumsum(0).cumsum(1))


def test_histogram_and_segments_by_predicates():
    @ph.function(X="i", S="i")
    def segments(X, S):
        k = ph.dims(k=4)
        member = k == S
        return X.sum(i, where=member), X.max(i, where=member), X.mean(i, where=member), member.any(i)

    X, S = normal(30), RNG.integers(0, 3, 30)
    total, top, mean, some = segments(X, S)
    with np.errstate(invalid="ignore"):
        same(total, "k", [X[n == S].sum() for n in range(4)])
        same(mean, "k", [*(X[n == S].mean() for n in range(3)), np.nan])
    same(top, "k", [X[n == S].max(initial=-np.inf) for n in range(4)])
    assert np.asarray(some.order("k")).tolist() == [True, True, True, False]


# attention and sequences


def attend(scores, V):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True)) @ V


def test_relative_positions():
    @ph.function(Q="s d", K="s d", V="s d", R="r d")
    def relative(Q, K, V, R):
        n = Q.size(s)
        scores = (Q * K(s=t)).sum(d) + (Q * R(r=s - t + n - 1)).sum(d)
        return (ph.softmax(scores, t) * V(s=t)).sum(t)

    n = 6
    Q, K, V, R = normal(n, 4), normal(n, 4), normal(n, 4), normal(2 * n - 1, 4)
    at, to = np.indices((n, n))
    same(relative(Q, K, V, R), "s d", attend(Q @ K.T + np.einsum("sd,std->st", Q, R[at - to + n - 1]), V))


def test_block_sparse_attention():
    @ph.function(Q="s d", K="s d", V="s d")
    def blocks(Q, K, V):
        near = (s // 4 == t // 4) | (t < 2)
        return (ph.softmax((Q * K(s=t)).sum(d), t, where=near) * V(s=t)).sum(t)

    Q, K, V = normal(10, 3), normal(10, 3), normal(10, 3)
    at, to = np.indices((10, 10))
    same(blocks(Q, K, V), "s d", attend(np.where((at // 4 == to // 4) | (to < 2), Q @ K.T, -np.inf), V))


def test_ring_attention_over_blocks():
    @ph.function(Q="b s d", K="b s d", V="b s d")
    def ring(Q, K, V):
        t, u = ph.fresh("t"), ph.fresh("u")
        scores = (Q * K(b=u, s=t)).sum(d)
        m = scores.max(t)
        e = ph.exp(scores - m)
        top = m.max(u)
        scale = ph.exp(m - top)
        return ((e * V(b=u, s=t)).sum(t) * scale).sum(u) / (e.sum(t) * scale).sum(u)

    Q, K, V = normal(3, 4, 5), normal(3, 4, 5), normal(3, 4, 5)
    flat = [a.reshape(12, 5) for a in (Q, K, V)]
    same(ring(Q, K, V), "b s d", attend(flat[0] @ flat[1].T, flat[2]).reshape(3, 4, 5))


def test_recurrent_network_as_equations():
    @ph.function(X="t d", U="h d", W="h g")
    def rnn(X, U, W):
        g = ph.dims("g")
        H = ph.var("H", t=X.size(t) + 1, h=U.size(h))
        H(t=0)[...] = 0 * U.sum(d)
        H[t + 1] = ph.tanh((X * U).sum(d) + (W * H(h=g)).sum(g))
        return H[t + 1].over(t=X.size(t))

    X, U, W = normal(7, 3), normal(4, 3), normal(4, 4)
    state, want = np.zeros(4), []
    for n in range(7):
        state = np.tanh(U @ X[n] + W @ state)
        want.append(state)
    same(rnn(X, U, W), "t h", want)


def test_state_space_scan():
    @ph.function(A="t h", X="t h")
    def linear(A, X):
        H = ph.var("H", like=X)
        H[...] = ph.where(t > 0, A * H[t - 1], 0) + X
        return H

    A, X = RNG.random((9, 3)), normal(9, 3)
    want = X.copy()
    for n in range(1, 9):
        want[n] += A[n] * want[n - 1]
    same(linear(A, X), "t h", want)
