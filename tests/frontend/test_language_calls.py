# SPDX-License-Identifier: MIT
"""How programs are called: composition, results and outputs, views, numbers, symbolic sizes, options, stages, text.

The programs themselves are tested in `test_language`, wrong calls in `tests/errors`.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, i, j, k, kx, ky, x, y

RNG = np.random.default_rng(11)


def normal(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def values(a, order):
    return np.asarray(a.order(order))


@ph.function(A="i k", B="k j")
def matmul(A, B):
    return (A * B).sum(k)


@ph.function(X="c y x", W="o c ky kx")
def conv(X, W):
    return (X[2 * y + ky, 2 * x + kx] * W).sum(c, ky, kx)


# composition and results


def test_decorated_functions_compose():
    @ph.function(A="i k", B="k j", C="j l")
    def chain(A, B, C):
        AB = matmul(A, B)
        l = ph.dims("l")  # noqa: E741
        return {"AB": AB, "ABC": (AB * C).sum(j), "inner": (AB.max(i), l + 0 * C.sum(j))}

    A, B, C = normal(3, 4), normal(4, 5), normal(5, 6)
    got = chain(A, B, C)
    assert list(got) == ["AB", "ABC", "inner"]
    np.testing.assert_allclose(values(got["AB"], "i j"), A @ B, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values(got["ABC"], "i l"), A @ B @ C, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values(got["inner"][0], "j"), (A @ B).max(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values(got["inner"][1], "l"), np.arange(6), atol=1e-6)


def test_results_keep_their_declared_order():
    @ph.function(A="i k", B="k j", returns=("j i", "i"))
    def both(A, B):
        return (A * B).sum(k), A.sum(k)

    A, B = normal(3, 4), normal(4, 5)
    product, rows = both(A, B)
    np.testing.assert_allclose(np.asarray(product), (A @ B).T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(rows), A.sum(1), rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match=r"order\('i j'\)"):
        np.asarray(matmul(A, B))
    lifted, _ = both(ph.array(normal(2, 3, 4), "batch i k"), B)
    assert lifted.dims == {"batch", "i", "j"}


def test_the_same_result_twice_and_arguments_as_results():
    @ph.function(A="i j")
    def same(A):
        B = A * 2
        return B, B, A, A.sum(i, j), 3

    A = normal(2, 3)
    one, two, argument, total, number = same(A)
    for got in (one, two):
        np.testing.assert_allclose(values(got, "i j"), A * 2)
    np.testing.assert_array_equal(values(argument, "i j"), A)
    assert float(total) == pytest.approx(A.sum(), rel=1e-5)
    assert int(number) == 3


def test_results_chain_in_whatever_layout():
    A, B = normal(5, 4), normal(4, 3)
    first = matmul(A, B)
    again = matmul(ph.array(np.asarray(first.order("i j")), "i k"), ph.array(values(first, "i j").T, "k j"))
    np.testing.assert_allclose(values(again, "i j"), (A @ B) @ (A @ B).T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ["o y x", "x o y"])
def test_out(order):
    X, W = normal(3, 9, 8), normal(4, 3, 3, 3)
    want = values(conv(X, W), order)
    made = np.full(want.shape, np.nan, np.float32)
    returned = conv(X, W, out=ph.array(made, order))
    np.testing.assert_array_equal(made, want)
    np.testing.assert_array_equal(values(returned, order), want)
    wide = np.full((*want.shape[:-1], want.shape[-1] * 2), 5, np.float32)
    conv(X, W, out=ph.array(wide[..., ::-2], order))
    np.testing.assert_array_equal(wide[..., ::-2], want)
    assert (wide[..., ::2] == 5).all()


def test_out_is_positional_where_the_order_is_declared():
    @ph.function(A="i k", B="k j", returns="j i")
    def product(A, B):
        return (A * B).sum(k)

    A, B, made = normal(3, 4), normal(4, 5), np.empty((5, 3), np.float32)
    product(A, B, out=made)
    np.testing.assert_allclose(made, (A @ B).T, rtol=1e-5, atol=1e-5)
    product(A, B, out=made.T[::1].T)


# arrays of every form


VIEWS = {
    "reversed": lambda a: a[::-1, ::-1],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "sliced": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "fortran": np.asfortranarray,
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "packed": lambda a: np.rec.fromarrays([a, a.astype(np.int8)], names="v,w")["v"],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("view", VIEWS)
def test_any_strides_come_in(view):
    A, B = VIEWS[view](normal(6, 4)), VIEWS[view](normal(4, 6))
    np.testing.assert_allclose(values(matmul(A, B), "i j"), A @ B, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("view", ["reversed", "transposed", "sliced", "fortran"])
def test_updates_reach_the_view(view):
    @ph.function(u="i j", v="i", inout="u")
    def scale(u, v):
        with ph.loop(i, 1, u.size(i)):
            u[...] += v * u[i - 1]

    base = normal(6, 4)
    u = VIEWS[view](base) if view != "sliced" else np.zeros((12, 12), np.float32)[::2, ::3]
    u[...] = base
    v, want = normal(6), u.copy()
    for n in range(1, 6):
        want[n] += v[n] * want[n - 1]
    scale(u, v)
    np.testing.assert_allclose(u, want, rtol=1e-5, atol=1e-5)


def test_updates_reach_misaligned_memory_and_named_arrays():
    @ph.function(u="i", v="i", inout="u")
    def add(u, v):
        u[...] += v

    packed = np.rec.fromarrays([normal(5), np.zeros(5, np.int8)], names="v,w")["v"]
    odd = np.frombuffer(bytearray(b"x" + normal(5).tobytes()), np.uint8)[1:].view(np.float32)
    for u in (packed, odd):
        want = u + 1
        add(u, np.ones(5, np.float32))
        np.testing.assert_array_equal(u, want)
        add(ph.array(u, "i"), np.ones(5, np.float32))
        np.testing.assert_array_equal(u, want + 1)


def test_a_kernel_never_updates_memory_of_other_strides():
    @ph.function(u="i", inout="u")
    def double(u):
        u[...] *= 2

    exe = double.lower(normal(4)).compile()
    wide = np.ones(8, np.float32)
    with pytest.raises(ph.ArgumentError, match="strides"):
        exe(wide[::2])
    assert (wide == 1).all()


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0), (1, 1, 1), (0, 0, 0), (1, 7, 1)])
def test_empty_and_single(shape):
    n, m, l = shape  # noqa: E741
    A, B = normal(n, m), normal(m, l)
    np.testing.assert_allclose(values(matmul(A, B), "i j"), A @ B, rtol=1e-5, atol=1e-6)

    @ph.function(A="i k")
    def rows(A):
        return A.sum(k), A.prod(k), A.max(k), (A != 0).any(k), (A != 0).all(k)

    total, product, top, some, every = (values(r, "i") for r in rows(A))
    np.testing.assert_allclose(total, A.sum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(product, A.prod(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(top, A.max(1, initial=-np.inf))
    np.testing.assert_array_equal(some, A.any(1))
    np.testing.assert_array_equal(every, A.all(1))


def test_xarray_in_and_out():
    xarray = pytest.importorskip("xarray")
    X = xarray.DataArray(normal(3, 9, 8), dims=("c", "y", "x"), coords={"c": list("rgb")})
    W = normal(4, 3, 3, 3)
    got = conv(X.transpose("x", "c", "y"), W)
    assert isinstance(got, xarray.DataArray)
    np.testing.assert_allclose(got.transpose("o", "y", "x"), values(conv(X.data, W), "o y x"), rtol=1e-5, atol=1e-5)

    @ph.function(X="c y x")
    def brighter(X):
        return X + 1, X.mean(y, x)

    full, means = brighter(X)
    assert list(full.coords["c"].values) == list(means.coords["c"].values) == list("rgb")


# numbers


@pytest.mark.parametrize(
    ("dtype", "accumulator"),
    [("int8", "i32"), ("uint8", "i32"), ("int16", "i32"), ("uint16", "i32"), ("int32", "i64"), ("uint32", "u64"),
     ("int64", "i64"), ("float16", "f32"), ("bfloat16", "f32"), ("float32", "f32"), ("float64", "f64"),
     ("float8_e4m3fn", "f32"), ("float8_e5m2", "f32"), ("complex64", "c64"), ("complex128", "c128")],
)  # fmt: skip
def test_accumulators(dtype, accumulator):
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    A, B = (RNG.integers(0, 4, shape).astype(kind) for shape in ((5, 70), (70, 3)))
    got = matmul(A, B)
    assert str(got.dtype) == accumulator
    wide = np.complex128 if kind.kind == "c" else np.float64
    np.testing.assert_array_equal(values(got, "i j").astype(wide), A.astype(wide) @ B.astype(wide))


def test_leaves_are_widened_before_the_arithmetic():
    A = np.full((1, 8), 300, np.float16)
    assert values(matmul(A, A.T), "i j")[0, 0] == 8 * 300 * 300
    bytes_ = np.full((2, 3), 127, np.int8)

    @ph.function(A="i k")
    def squares(A):
        return (A * A).sum(k), (A * A).sum(k, acc=ph.f64), A * A, A.max(k)

    wide, double, narrow, top = squares(bytes_)
    assert values(wide, "i").tolist() == [3 * 127 * 127] * 2
    assert double.dtype is ph.f64
    assert str(narrow.dtype) == str(top.dtype) == "i8"


def test_python_scalars_are_weak_and_division_is_pythons():
    @ph.function(A="i")
    def arithmetic(A):
        return 2 * A, A + 1.5, A // 4, A % 4, A / 4, -A, abs(A), i + 0 * A.astype(ph.i64)

    A = np.array([-7, -1, 0, 5, 7], np.int32)
    double, shifted, floor, rest, ratio, negative, size, index = arithmetic(A)
    assert [str(v.dtype) for v in (double, floor, rest, negative, size)] == ["i32"] * 5
    assert str(index.dtype) == "i64"
    for got, want in (
        (floor, A // 4), (rest, A % 4), (ratio, A / 4), (shifted, A + 1.5), (size, abs(A)), (index, range(5)),
    ):  # fmt: skip
        np.testing.assert_allclose(values(got, "i"), want)


def test_extremes_and_their_places_with_nan():
    @ph.function(X="i j")
    def extremes(X):
        return X.argmax(j), X.argmin(j), X.max(j), X.min(j)

    X = RNG.integers(0, 4, (20, 7)).astype(np.float32)
    X[3, 2] = X[3, 5] = X[7, 0] = np.nan
    X[9] = -np.inf
    X[10] = np.inf
    high, low, top, bottom = (values(v, "i") for v in extremes(X))
    np.testing.assert_array_equal(high, X.argmax(1))
    np.testing.assert_array_equal(low, X.argmin(1))
    np.testing.assert_array_equal(top, X.max(1))
    np.testing.assert_array_equal(bottom, X.min(1))


def test_softmax_of_masks_and_infinities():
    @ph.function(X="i j", M="i j")
    def shares(X, M):
        return ph.softmax(X, j), ph.softmax(X, j, where=M), ph.softmax(X, j, where=j <= i)

    X, M = normal(5, 6), RNG.random((5, 6)) > 0.4
    X[1, 2], X[2] = -np.inf, -np.inf
    M[3] = False

    def want(mask):
        with np.errstate(all="ignore"):
            low = np.where(mask, X, -np.inf)
            e = np.where(mask, np.exp(X - low.max(1, keepdims=True)), 0)
            return np.where(mask, e / e.sum(1, keepdims=True), 0)

    plain, masked, lower = (values(v, "i j") for v in shares(X, M))
    every = np.ones_like(M)
    np.testing.assert_allclose(plain, want(every), rtol=1e-5)
    np.testing.assert_allclose(masked, want(M), rtol=1e-5)
    np.testing.assert_allclose(lower, want(np.tril(every)), rtol=1e-5)


def test_gathers():
    @ph.function(T="v d", n="b s", w="b s")
    def bag(T, n, w):
        v = ph.dims("v")  # noqa: F841
        return (T(v=n) * w).sum("s")

    T, n, w = normal(10, 4), RNG.integers(0, 10, (3, 5)), normal(3, 5)
    np.testing.assert_allclose(values(bag(T, n, w), "b d"), (T[n] * w[..., None]).sum(1), rtol=1e-5, atol=1e-5)
    for wrong in (10, -1):
        n[1, 2] = wrong
        with pytest.raises(ph.BoundsError, match="the index is data") as caught:
            bag(T, n, w)
        assert caught.value.code == "PH103"


@pytest.mark.parametrize("n", [1, 63, 1000])
def test_strict_sums_are_the_interpreters_bits(n):
    @ph.function(A="i k", B="k j")
    def strict(A, B):
        return (A * B).sum(k, order="strict"), A.sum(k, order="strict"), A.mean(k, order="strict")

    A, B = normal(4, n), normal(n, 3)
    got = strict(A, B)
    program = strict.lower(A, B).program
    want = ph.interpret(ph.to_text(program) and program, {"A": A, "B": B}, {})
    for at, array in enumerate(got):
        name = [a.name for a in program.with_role(ph.Role.OUTPUT)][at]
        axes = " ".join(program.array(name).dim_names)
        np.testing.assert_array_equal(values(array, axes), want[name])
