# SPDX-License-Identifier: MIT
"""Programs as users bring them, from dynamic programming, linear algebra, simulation and statistics, against NumPy.

Vision and sequence models are in `test_user_programs`.
"""
# fmt: off


import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import b, d, i, j, k, t, w, x, y, z

RNG = np.random.default_rng(17)


def normal(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


def same(got, order, want, tol=1e-9):
    np.testing.assert_allclose(np.asarray(got.order(order)), want, rtol=tol, atol=tol)


def windows(a, *sizes):
    return np.lib.stride_tricks.sliding_window_view(a, sizes, tuple(range(-len(sizes), 0)))


# dynamic programming


def levenshtein(a, b):
    D = np.add.outer(np.arange(len(a) + 1), np.arange(len(b) + 1))
    for n in range(1, len(a) + 1):
        for m in range(1, len(b) + 1):
            D[n, m] = min(D[n - 1, m] + 1, D[n, m - 1] + 1, D[n - 1, m - 1] + (a[n - 1] != b[m - 1]))
    return D


@pytest.mark.parametrize("lengths", [(6, 8), (1, 1), (9, 2), (0, 3)])
def test_edit_distance(lengths):
    @ph.function(A="i", B="j")
    def edit(A, B):
        n, m = A.size(i), B.size(j)
        D = ph.var("D", dtype=ph.i64, i=n + 1, j=m + 1)
        D(i=0)[...] = j
        with ph.over(i=(1, n + 1)):
            D(j=0)[...] = i
        D[i + 1, j + 1] = ph.minimum(ph.minimum(D[j + 1], D[i + 1]) + 1, D + ph.where(A == B, 0, 1))
        return D, D(i=n, j=m)

    a, c_ = (RNG.integers(0, 3, n) for n in lengths)
    table, distance = edit(a, c_)
    want = levenshtein(a, c_)
    same(table, "i j", want)
    assert int(distance) == want[-1, -1]


def test_longest_common_subsequence_and_local_alignment():
    @ph.function(A="i", B="j")
    def align(A, B):
        n, m = A.size(i), B.size(j)
        def table(label, cell):
            T = ph.var(label, dtype=ph.i32, i=n + 1, j=m + 1)
            T(i=0)[...] = 0 * j
            with ph.over(i=(1, n + 1)):
                T(j=0)[...] = 0 * i
            T[i + 1, j + 1] = cell(T)
            return T
        L = table("L", lambda T: ph.where(A == B, T + 1, ph.maximum(T[i + 1], T[j + 1])))
        def local(T):
            return ph.maximum(0, ph.maximum(T + ph.where(A == B, 3, -3), ph.maximum(T[i + 1], T[j + 1]) - 2))
        H = table("H", local)
        return L(i=n, j=m), H.max(i, j)

    a, c_ = RNG.integers(0, 3, 9), RNG.integers(0, 3, 11)
    L, H = np.zeros((10, 12), int), np.zeros((10, 12), int)
    for n in range(9):
        for m in range(11):
            L[n + 1, m + 1] = L[n, m] + 1 if a[n] == c_[m] else max(L[n + 1, m], L[n, m + 1])
            H[n + 1, m + 1] = max(0, H[n, m] + (3 if a[n] == c_[m] else -3), H[n + 1, m] - 2, H[n, m + 1] - 2)
    longest, best = align(a, c_)
    assert (int(longest), int(best)) == (L[-1, -1], H.max())


def test_viterbi_and_forward():
    @ph.function(T="i j", E="t j")
    def decode(T, E):
        best, sums = ph.var("best", like=E), ph.var("sums", like=E)
        best(t=0)[...] = E(t=0)
        best[t + 1] = (best(j=i) + T).max(i) + E[t + 1]
        sums(t=0)[...] = E(t=0)
        ahead = sums(j=i) + T
        top = ahead.max(i)
        sums[t + 1] = top + ph.log(ph.exp(ahead - top).sum(i)) + E[t + 1]
        return best, sums, (best(j=i) + T).argmax(i)

    T, E = normal(4, 4), normal(6, 4)
    best, sums, back = [E[0]], [E[0]], []
    for n in range(6):
        back.append((best[-1][:, None] + T).argmax(0))
        if n < 5:
            best.append((best[-1][:, None] + T).max(0) + E[n + 1])
            sums.append(np.log(np.exp(sums[-1][:, None] + T).sum(0)) + E[n + 1])
    got = decode(T, E)
    same(got[0], "t j", best)
    same(got[1], "t j", sums)
    same(got[2], "t j", back)


def test_knapsack():
    @ph.function(weight="i", value="i")
    def knapsack(weight, value, capacity: ph.Size):
        best = ph.var("best", dtype=ph.i64, i=weight.size(i) + 1, w=capacity + 1)
        best(i=0)[...] = 0 * w
        fits = weight <= w
        taken = best(w=ph.clip(w - weight, 0, capacity), i=i) + value
        best[i + 1] = ph.where(fits, ph.maximum(best, taken), best)
        return best(i=weight.size(i), w=capacity)

    weight, value = RNG.integers(1, 6, 7), RNG.integers(1, 20, 7)
    table = np.zeros(14, int)
    for a, v in zip(weight, value, strict=True):
        table[a:] = np.maximum(table[a:], table[:-a] + v)
    assert int(knapsack(weight, value, 13)) == table[-1]


# linear algebra


def test_inverse_of_a_triangle():
    @ph.function(L="i k")
    def inverse(L):
        n = L.size(i)
        Z = ph.var("Z", i=n, j=n)
        Z[...] = (ph.where(i == j, 1, 0) - (L * Z(i=k)).sum(k, where=k < i)) / L(i=i, k=i)
        return Z

    L = np.tril(normal(6, 6)) + 6 * np.eye(6)
    same(inverse(L), "i j", np.linalg.inv(L))


def test_ldl():
    @ph.function(A="i j", inout="A")
    def ldl(A):
        a, n = A.order(i, j), A.size(i)
        with ph.loop(j, n):
            with ph.loop(k, j):
                a[j, j] -= a[j, k]**2 * a[k, k]
            with ph.loop(i, j + 1, n):
                with ph.loop(k, j):
                    a[i, j] -= a[i, k] * a[j, k] * a[k, k]
                a[i, j] /= a[j, j]

    S = normal(7, 7)
    S = S @ S.T + np.eye(7)
    A = S.copy()
    ldl(A)
    L = np.tril(A, -1) + np.eye(7)
    np.testing.assert_allclose(L @ np.diag(np.diag(A)) @ L.T, S)


def test_thomas_solver():
    @ph.function(lower="i", main="i", upper="i", r="i")
    def thomas(lower, main, upper, r):
        n = main.size(i)
        u, v, z = ph.var("u", like=main), ph.var("v", like=main), ph.var("z", like=main)
        u[...] = upper / (main - ph.where(i > 0, lower * u[i - 1], 0))
        v[...] = (r - ph.where(i > 0, lower * v[i - 1], 0)) / (main - ph.where(i > 0, lower * u[i - 1], 0))
        z[...] = v - ph.where(i < n - 1, u * z[i + 1], 0)
        return z

    for n in (1, 2, 9):
        lo, up, r = normal(n), normal(n), normal(n)
        main = 5 + RNG.random(n)
        A = np.diag(main) + np.diag(lo[1:], -1) + np.diag(up[:-1], 1)
        same(thomas(lo, main, up, r), "i", np.linalg.solve(A, r))


def test_gram_schmidt_under_loops():
    @ph.function(Q="i j", R="k j", inout="Q R")
    def modified(Q, R):
        n = Q.size(j)
        with ph.loop(j, n):
            with ph.loop(k, j):
                R[...] = (Q(j=k) * Q).sum(i)
                Q[...] -= R * Q(j=k)
            R(k=j, j=j)[...] = ph.sqrt((Q * Q).sum(i))
            Q[...] /= R(k=j, j=j)

    A = normal(6, 4)
    Q, R = A.copy(), np.zeros((4, 4))
    modified(Q, R)
    np.testing.assert_allclose(Q @ R, A, atol=1e-12)
    np.testing.assert_allclose(Q.T @ Q, np.eye(4), atol=1e-12)


def test_power_iteration():
    @ph.function(A="i j", v="i")
    def power(A, v, steps: ph.Size):
        u = ph.var("u", like=v, t=steps + 1)
        u(t=0)[...] = v
        next_ = (A * u(i=j)).sum(j)
        u[t + 1] = next_ / ph.sqrt((next_ * next_).sum(i))
        last = u(t=steps)
        return (last * (A * last(i=j)).sum(j)).sum(i)

    A = normal(5, 5)
    A = A @ A.T
    assert float(power(A, normal(5), 300)) == pytest.approx(np.linalg.eigvalsh(A)[-1], rel=1e-6)


def test_batched_inverse_by_gauss_jordan():
    @ph.function(A="i j", B="i j", inout="A B")
    def jordan(A, B):
        n = A.size(i)
        with ph.loop(k, n):
            scale = ph.let(1 / A(i=k, j=k))
            row, other = ph.let(A(i=k) * scale), ph.let(B(i=k) * scale)
            factor = ph.let(ph.where(i == k, 0, A(j=k)))
            A(i=k)[...] = row
            B(i=k)[...] = other
            A[...] -= factor * row
            B[...] -= factor * other

    S = normal(2, 4, 4) + 6 * np.eye(4)
    A, B = S.copy(), np.tile(np.eye(4), (2, 1, 1))
    jordan(ph.array(A, "n i j"), ph.array(B, "n i j"))
    np.testing.assert_allclose(B, np.linalg.inv(S), rtol=1e-8, atol=1e-10)


# scientific


def test_game_of_life():
    @ph.function(G="y x")
    def life(G, steps: ph.Size):
        u = ph.var("u", like=G, t=steps + 1)
        ky, kx = ph.dims(ky=3, kx=3)
        u(t=0)[...] = G
        inside = (y + ky >= 1) & (y + ky <= G.size(y)) & (x + kx >= 1) & (x + kx <= G.size(x))
        around = ph.where(inside, u[y + ky - 1, x + kx - 1], 0)
        n = around.astype(ph.i32).sum(ky, kx) - u
        u[t + 1] = ph.where((n == 3) | ((n == 2) & (u == 1)), 1, 0).astype(ph.u8)
        return u(t=steps)

    G = (RNG.random((9, 8)) > 0.6).astype(np.uint8)
    want = G
    for _ in range(4):
        n = windows(np.pad(want, 1), 3, 3).sum((-1, -2)) - want
        want = ((n == 3) | ((n == 2) & (want == 1))).astype(np.uint8)
    same(life(G, 4), "y x", want)


def test_heat_in_three_dimensions():
    @ph.function(u0="z y x")
    def heat(u0, steps: ph.Size):
        u = ph.var("u", like=u0, t=steps + 1)
        u(t=0)[...] = u0
        near = u[x - 1] + u[x + 1] + u[y - 1] + u[y + 1] + u[z - 1] + u[z + 1]
        u[t + 1] = ph.orelse(u + 0.1 * (near - 6 * u), u)
        return u(t=steps)

    u = u0 = normal(5, 6, 4)
    for _ in range(3):
        v = u.copy()
        m = (slice(1, -1),) * 3
        near = sum(np.roll(u, n, a) for n in (1, -1) for a in range(3))
        v[m] = (u + 0.1 * (near - 6 * u))[m]
        u = v
    same(heat(u0, 3), "z y x", u)


def test_fdtd_with_three_fields():
    @ph.function(ex="y x", ey="y x", hz="y x", inout="ex ey hz")
    def fdtd(ex, ey, hz, steps: ph.Size):
        n, m = hz.size(y), hz.size(x)
        with ph.loop(t, steps):
            ey(y=0)[...] = t
            with ph.over(y=(1, n)):
                ey[...] -= 0.5 * (hz - hz[y - 1])
            with ph.over(x=(1, m)):
                ex[...] -= 0.5 * (hz - hz[x - 1])
            with ph.over(x=m - 1, y=n - 1):
                hz[...] -= 0.7 * (ex[x + 1] - ex + ey[y + 1] - ey)

    fields = [normal(6, 7) for _ in range(3)]
    ex, ey, hz = (f.copy() for f in fields)
    for n in range(4):
        ey[0] = n
        ey[1:] -= 0.5 * (hz[1:] - hz[:-1])
        ex[:, 1:] -= 0.5 * (hz[:, 1:] - hz[:, :-1])
        hz[:-1, :-1] -= 0.7 * (ex[:-1, 1:] - ex[:-1, :-1] + ey[1:, :-1] - ey[:-1, :-1])
    fdtd(*fields, 4)
    for got, want in zip(fields, (ex, ey, hz), strict=True):
        np.testing.assert_allclose(got, want)


def test_butterflies_of_a_hadamard_transform():
    @ph.function(X="i")
    def hadamard(X):
        for bit in (1, 2, 4, 8):
            low = i // bit % 2
            flipped = X(i=i + bit * (1 - 2 * low))
            X = ph.let(ph.where(low == 0, X + flipped, flipped - X))
        return X

    X, H = normal(16), np.ones((1, 1))
    while len(H) < 16:
        H = np.kron([[1, 1], [1, -1]], H)
    same(hadamard(X), "i", H @ X)


def test_tiles_reversals_and_permutations():
    @ph.function(X="i")
    def shuffled(X):
        q, p = ph.dims(q=4), ph.dims("p")
        return X(i=4 * p + q), X(i=X.size(i) - 1 - i), X(i=(5 * i + 3) % 12).over(i=12)

    X = normal(12)
    tiles, back, plain = shuffled(X)
    same(tiles, "p q", X.reshape(3, 4))
    same(back, "i", X[::-1])
    same(plain, "i", X[(5 * np.arange(12) + 3) % 12])


def test_cumulative_maximum_and_drawdown():
    @ph.function(X="i")
    def drawdown(X):
        top = ph.scan("max", X, along=i)
        return (top - X).max(i), (top - X).argmax(i)

    X = normal(50).cumsum()
    fall = np.maximum.accumulate(X) - X
    worst, where = drawdown(X)
    assert float(worst) == pytest.approx(fall.max())
    assert int(where) == fall.argmax()


def test_nearest_neighbours_and_k_means_step():
    @ph.function(X="i d", C="k d")
    def step(X, C):
        near = ph.let(((X - C)**2).sum(d).argmin(k), "near")
        mine = (near == k).over(k=C.size(k))
        n = ph.where(mine, 1.0, 0.0).sum(i)
        return near, ph.where(mine, X, 0).sum(i) / n, (X - C(k=near)).sum(d)

    X, C = normal(40, 3), normal(3, 3)
    near = ((X[:, None] - C)**2).sum(2).argmin(1)
    got, means, rest = step(X, C)
    same(got, "i", near)
    same(means, "k d", [X[near == n].mean(0) for n in range(3)])
    same(rest, "i", (X - C[near]).sum(1))


def test_layer_norm_and_cross_entropy():
    @ph.function(X="b d", gain="d", label="b")
    def loss(X, gain, label):
        mu = X.mean(d)
        var = ((X - mu)**2).mean(d)
        Y = (X - mu) / ph.sqrt(var + 1e-5) * gain
        top = Y.max(d)
        logits = Y - top - ph.log(ph.exp(Y - top).sum(d))
        return -logits(d=label, b=b).mean(b)

    X, gain, label = normal(6, 8), normal(8), RNG.integers(0, 8, 6)
    Y = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-5) * gain
    logp = Y - np.log(np.exp(Y).sum(1, keepdims=True))
    assert float(loss(X, gain, label)) == pytest.approx(-logp[np.arange(6), label].mean())


def test_mandelbrot_with_complex_numbers():
    @ph.function(C="y x")
    def escape(C, steps: ph.Size):
        z = ph.var("z", like=C, t=steps + 1)
        z(t=0)[...] = 0 * C
        z[t + 1] = z * z + C
        return z(t=steps)

    C = (normal(4, 5) + 1j * normal(4, 5)) * 0.3
    want = np.zeros_like(C)
    for _ in range(5):
        want = want * want + C
    same(escape(C, 5), "y x", want)
