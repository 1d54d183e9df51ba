# SPDX-License-Identifier: MIT
"""What the recorded programs compute, by the interpreter, against a few lines of NumPy each.

Only the meaning of the language is tested; ranges, code and speed have their own tests.
"""

import numpy as np
import pytest

from frontend import lang as ph
from frontend.inference.assemble import assemble
from frontend.inference.settling import settle
from polyhedral.dim import kx, x
from polyhedral.ir import interpreter
from tests.zoo_language import ZOO, Case, record


def run(case, sizes=None, **arrays):
    """The program's arrays by name, axes in the order of a string: `result("out", "i j")`."""
    recording, returned = record(ZOO[case] if isinstance(case, str) else case, settle)
    program = assemble(recording)
    values = interpreter.run(program, arrays, sizes or {})

    def result(name, dims):
        order = program.array(name).dim_names
        return values[name].transpose([order.index(d) for d in dims.split()])

    return result, returned


@pytest.fixture(name="normal")
def normal_arrays():
    rng = np.random.default_rng(0)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32)


def softmax(z, axis):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_causal_attention(normal):
    Q, K, V = normal(6, 4), normal(6, 4), normal(6, 4)
    result, out = run("causal", Q=Q, K=K, V=V)
    scores = Q @ K.T * 4**-0.5
    scores[np.triu_indices(6, 1)] = -np.inf
    np.testing.assert_allclose(result(out, "s d"), softmax(scores, 1) @ V, rtol=1e-5, atol=1e-6)


def test_em_routing(normal):
    V, a, bu, ba = normal(3, 4, 2, 2), np.abs(normal(3)), normal(4), normal(4)
    result, (pose, activation) = run("em_routing", V=V, a=a, bu=bu, ba=ba)
    R = np.full((3, 4), 0.25)
    for n in range(3):
        Ra = (R * a[:, None])[:, :, None, None]
        rs = Ra.sum((0, 2, 3))[:, None, None]
        mu = (Ra * V).sum(0) / rs
        s2 = (Ra * (V - mu) ** 2).sum(0) / rs + 1e-6
        cost = ((bu[:, None, None] + 0.5 * np.log(s2)) * rs).sum((1, 2))
        act = 1 / (1 + np.exp(-0.01 * (n + 1) * (ba - cost)))
        lp = -((V - mu) ** 2 / (2 * s2) + 0.5 * np.log(2 * np.pi * s2)).sum((2, 3))
        R = softmax(np.log(act) + lp, 1)
    np.testing.assert_allclose(result(pose, "co p r"), mu, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result(activation, "co"), act, rtol=1e-4)


def test_jacobi_keeps_its_border(normal):
    u0 = normal(6, 7)
    result, out = run("jacobi2d", {"steps": 3}, u0=u0)
    u = u0
    for _ in range(3):
        v = u.copy()
        v[1:-1, 1:-1] = 0.2 * (u[1:-1, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] + u[:-2, 1:-1] + u[2:, 1:-1])
        u = v
    np.testing.assert_allclose(result(out, "y x"), u, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lu", "lu_by_name"])
def test_lu(normal, name):
    A = normal(5, 5).astype(np.float64) + 5 * np.eye(5)
    result, _ = run(name, A=A)
    both = result("A", "i j")
    np.testing.assert_allclose((np.tril(both, -1) + np.eye(5)) @ np.triu(both), A)


def test_cholesky_and_triangular_solve(normal):
    A = normal(5, 5).astype(np.float64) + 5 * np.eye(5)
    result, _ = run("cholesky", A=A @ A.T)
    L = np.tril(result("A", "i j"))
    np.testing.assert_allclose(L @ L.T, A @ A.T)
    b = normal(5).astype(np.float64)
    result, out = run("trisolve", L=L, b=b)
    np.testing.assert_allclose(L @ result(out, "i"), b)


def test_integer_matmul_accumulates_in_32_bits():
    rng = np.random.default_rng(1)
    A, B = (rng.integers(-128, 127, s).astype(np.int8) for s in ((4, 9), (9, 5)))
    bias, scale = rng.integers(-9, 9, 5).astype(np.int32), rng.random(5).astype(np.float32) * 0.01
    result, out = run("gemm_i8", A=A, B=B, bias=bias, scale=scale)
    want = np.clip(np.round((A.astype(np.int32) @ B + bias) * scale), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(result(out, "i j"), want)


def test_nearest_centre_and_its_gather(normal):
    X, C = normal(6, 3), normal(4, 3)
    result, (index, centre) = run("nearest", X=X, C=C)
    want = ((X[:, None] - C) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(result(index, "i"), want)
    np.testing.assert_array_equal(result(centre, "i d"), C[want])


def test_edge_padding_and_constants(normal):
    X = normal(5, 6)
    result, out = run("sobel", X=X)
    wide, kernel = np.pad(X, 1, mode="edge"), [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    want = sum(kernel[r][c] * wide[r : r + 5, c : c + 6] for r in range(3) for c in range(3))
    np.testing.assert_allclose(result(out, "y x"), want, rtol=1e-5, atol=1e-5)


def test_a_loop_with_a_step_and_an_accumulation(normal):
    u = normal(10)
    result, _ = run("every_third", u=u)
    want = u.copy()
    for n in range(1, 10, 3):
        want[n] = 0.5 * (want[n] + want[n - 1])
    np.testing.assert_allclose(result("u", "x"), want, rtol=1e-6)
    X = normal(10, 4)
    result, _ = run("histogram_rows", u=u, X=X)
    np.testing.assert_allclose(result("u", "i"), u + X.sum(1), rtol=1e-5)


def test_pixel_shuffle(normal):
    X = normal(8, 2, 3)
    result, out = run("pixel_shuffle", X=X)
    want = X.reshape(2, 2, 2, 2, 3).transpose(0, 3, 1, 4, 2).reshape(2, 4, 6)
    np.testing.assert_array_equal(result(out, "c y x"), want)


def masked(X):
    return ph.softmax(X, x, where=X > 0), X.argmax(x), X.mean(x, where=X > 0), X.min(x, where=x >= 2)


def test_masks_nans_and_empty_rows(normal):
    X = normal(3, 6)
    X[1], X[2, 3] = -1, np.nan
    result, (share, first, mean, low) = run(Case(masked, {"X": "f32 y x"}), X=X)
    positive = X > 0
    e = np.where(positive, np.exp(X), 0)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(result(share, "y x"), np.where(positive, e / e.sum(1, keepdims=True), 0), rtol=1e-5)
        np.testing.assert_allclose(result(mean, "y"), np.where(positive, X, 0).sum(1) / positive.sum(1), rtol=1e-5)
    np.testing.assert_array_equal(result(first, "y"), X.argmax(1))
    np.testing.assert_array_equal(result(low, "y"), X[:, 2:].min(1))


def soft(X):
    return ph.softmax(X, x)


def test_softmax_of_infinities_is_numpys():
    X = np.array([[-np.inf, 0, 1], [-np.inf, -np.inf, -np.inf]], np.float32)
    result, out = run(Case(soft, {"X": "f32 y x"}), X=X)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(result(out, "y x"), softmax(X, 1), rtol=1e-6)


def filtered(X, W):
    return ph.orelse((X[x + kx - 1] * W).sum(kx), X * 0 - 7)


def test_the_interior_of_a_reduction():
    result, out = run(Case(filtered, {"X": "f32 x", "W": "f32 kx"}), X=np.arange(6, dtype="f4"), W=np.ones(3, "f4"))
    np.testing.assert_array_equal(result(out, "x"), [-7, 3, 6, 9, 12, -7])


def running(X):
    steps = ph.let(X[x + 1] - X, "steps", x=X.size(x) - 1)
    return (steps * steps).sum(x), ph.scan("max", X, along=x), X(x=X.size(x) - 1 - x)


def test_lets_scans_and_reversal(normal):
    X = normal(6)
    result, (energy, top, back) = run(Case(running, {"X": "f32 x"}), X=X)
    np.testing.assert_allclose(result(energy, ""), (np.diff(X) ** 2).sum(), rtol=1e-5)
    np.testing.assert_array_equal(result(top, "x"), np.maximum.accumulate(X))
    np.testing.assert_array_equal(result(back, "x"), X[::-1])
