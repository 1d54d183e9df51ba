# SPDX-License-Identifier: MIT
"""Gradients of the language's programs against finite differences, and what `ph.grad` and its like accept and refuse.

Those of the library are in `test_gradients_library`, random programs in `tests/properties/test_gradients`.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import c, i, j, k, kx, ky, m, o, x, y
from tests.differentiated import held
from tests.zoo_language import ZOO

RNG = np.random.default_rng(5)
SIZES = {
    "batch": 2, "model": 2, "b": 1, "c": 2, "ci": 2, "co": 3, "o": 2, "ky": 3, "kx": 2, "y": 5, "x": 6, "p": 2, "q": 2,
    "r": 2, "s": 4, "d": 2, "i": 4, "j": 3, "k": 5, "g": 2, "cy": 5, "cx": 5,
}  # fmt: skip
OWN = {
    "as_groups": {"c": 8}, "pixel_shuffle": {"c": 4}, "trisolve": {"j": 4}, "em_routing_lifted": {"x": 1, "y": 2},
    "normalise": {"y": 2, "x": 2, "ky": 3, "kx": 3, "i": 2}, "conv_lifted_twice": {"x": 4}, "lu": {"j": 4},
    "lu_by_name": {"j": 4}, "cholesky": {"j": 4}, "floyd_warshall": {"j": 4},
}  # fmt: skip
SMOOTH = [n for n in ZOO if not n.startswith("gemm_")]


def drawn(name, dims):
    shape = [(SIZES | OWN.get(name, {}))[d] for d in dims]
    return RNG.uniform(0.5, 1.5, shape) * RNG.choice([-1, 1], shape)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_programs_of_the_language(name):
    case = ZOO[name]
    arrays = {n: spec.split()[1:] for n, spec in case.arguments.items() if spec != "size"}
    values = {n: drawn(name, dims) for n, dims in arrays.items()}
    if "a" in values:
        values["a"] = abs(values["a"])
    if name in ("cholesky", "lu", "lu_by_name"):
        values["A"] = values["A"] @ values["A"].T + 4 * np.eye(4)
    axes = {n: " ".join(dims) for n, dims in arrays.items()}
    wrt = ("C",) if name == "nearest" else ()
    steps = {n: 3 for n in case.arguments if n == "steps"}
    held(case.function, axes, values, steps, wrt, inout=" ".join(case.inout), tol=1e-5)


# --- functions of functions ------------------------------------------------------------------------------------------


@ph.function(X="c y x", W="o c ky kx")
def conv_strided(X, W):
    return (X[2 * y + ky, 2 * x + kx] * W).sum(c, ky, kx)


@ph.function(X="c y x", W="o c ky kx", T="o y x")
def loss(X, W, T):
    Y = ph.relu(conv_strided(X, W))
    return ((Y - T) ** 2).sum(o, y, x)


@ph.function(A="i k", B="k j")
def square(A, B):
    return ((A * B).sum(k) ** 2).sum(i, j)


def test_value_and_gradient_of_a_convolution():
    X, W, T = RNG.standard_normal((2, 5, 7)), RNG.standard_normal((3, 2, 3, 3)), RNG.standard_normal((3, 2, 3))
    value, dW = ph.value_and_grad(loss, wrt="W")(X, W, T)
    _, (dW2, dX) = ph.value_and_grad(loss, wrt="W X")(X, W, T)
    np.testing.assert_allclose(np.asarray(value), np.asarray(loss(X, W, T)))
    np.testing.assert_array_equal(np.asarray(dW), np.asarray(dW2))
    for given, got in ((W, dW), (X, dX)):
        v = RNG.standard_normal(given.shape)
        move = [np.asarray(loss(**{"X": X, "W": W, "T": T} | {n: given + h * v})) for n in ("W" if given is W else "X",)
                for h in (1e-6, -1e-6)]  # fmt: skip
        assert np.asarray(got).shape == given.shape
        np.testing.assert_allclose((move[0] - move[1]) / 2e-6, (np.asarray(got) * v).sum(), rtol=1e-5)


def test_a_batch_gives_the_gradient_of_each_example():
    A, B = RNG.standard_normal((3, 2, 4)), RNG.standard_normal((4, 3))
    value, (dA, dB) = ph.value_and_grad(square, wrt="A B")(ph.array(A, "n i k"), B)
    assert (value.dims, dA.dims, dB.dims) == ({"n"}, {"n", "i", "k"}, {"n", "k", "j"})
    for n in range(3):
        np.testing.assert_allclose(dA.order("n i k")[n], 2 * A[n] @ B @ B.T)
        np.testing.assert_allclose(dB.order("n k j")[n], 2 * A[n].T @ A[n] @ B)


def test_gradients_of_gradients():
    @ph.function(A="i k", B="k j", V="i k", returns="i k")
    def product_with_hessian(A, B, V):
        return ph.grad((ph.grad(square(A, B), A) * V).sum(i, k), A)

    @ph.function(A="i")
    def cube(A):
        return (A**3).sum(i)

    @ph.function(A="i", returns="i")
    def diagonal(A):
        return ph.grad(ph.grad(cube, wrt="A")(A).sum(i), A)

    A, B, V = RNG.standard_normal((2, 4)), RNG.standard_normal((4, 3)), RNG.standard_normal((2, 4))
    np.testing.assert_allclose(np.asarray(product_with_hessian(A, B, V)), 2 * V @ B @ B.T)
    np.testing.assert_allclose(np.asarray(diagonal(A[0])), 6 * A[0])
    bent = ph.value_and_grad(ph.function(A="i")(lambda A: (ph.grad(cube, wrt="A")(A) ** 2).sum(i)), wrt="A")
    np.testing.assert_allclose(np.asarray(bent(A[0])[1]), 36 * A[0] ** 3)


def test_forward_mode():
    @ph.function(A="i k", B="k j", V="i k", U="k j", returns="i j")
    def along(A, B, V, U):
        return ph.jvp(ph.exp((A * B).sum(k)), (A, B), (V, U))

    A, B, V, U = (RNG.standard_normal(shape) for shape in ((2, 4), (4, 3), (2, 4), (4, 3)))
    np.testing.assert_allclose(np.asarray(along(A, B, V, U)), np.exp(A @ B) * (V @ B + A @ U))


def test_many_cotangents_for_the_same_output():
    @ph.function(A="i k", B="k j", dC="i j", returns="i k")
    def back(A, B, dC):
        return ph.vjp((A * B).sum(k), A, dC)

    A, B, dC = RNG.standard_normal((2, 4)), RNG.standard_normal((4, 3)), RNG.standard_normal((5, 2, 3))
    np.testing.assert_allclose(back(A, B, ph.array(dC, "n i j")).order("n i k"), dC @ B.T)


def test_a_function_that_was_differentiated_is_bound_and_printed():
    step = ph.grad(square, wrt="A").bind(B=np.eye(2))
    A = RNG.standard_normal((3, 2))
    np.testing.assert_allclose(np.asarray(step(A)), 2 * A)
    assert ph.parse(str(ph.grad(square, wrt="A"))) == ph.grad(square, wrt="A").trace().program


# --- one winner, all other factors, data-dependent reads -------------------------------------------------------------


def test_a_maximum_has_one_winner_the_first():
    top = ph.grad(ph.function(A="i j")(lambda A: A.max(i, j)), wrt="A")
    np.testing.assert_array_equal(np.asarray(top(np.array([[1.0, 3.0], [3.0, 2.0]]))), [[0, 1], [0, 0]])
    np.testing.assert_array_equal(np.asarray(top(np.full((2, 2), 7.0))), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(np.asarray(top(np.array([[1.0, np.nan], [np.nan, 2.0]]))), [[0, 1], [0, 0]])
    flat = ph.grad(ph.function(A="i")(lambda A: ph.relu(A).sum(i)), wrt="A")
    np.testing.assert_array_equal(np.asarray(flat(np.array([-1.0, 0.0, -0.0, 2.0]))), [0, 0, 0, 1])


def test_a_product_with_zeros():
    A = RNG.standard_normal((4, 3))
    A[1, 1] = A[1, 2] = A[3, 2] = 0
    got = np.asarray(ph.grad(ph.function(A="i j")(lambda A: A.prod(i).sum(j)), wrt="A")(A))
    np.testing.assert_allclose(got, [[np.prod(np.delete(A[:, b], a)) for b in range(3)] for a in range(4)])


def test_reads_through_data_are_summed_where_they_went():
    @ph.function(A="i", at="m")
    def gathered(A, at):
        return (A(i=at) ** 2).sum(m)

    got = np.asarray(ph.grad(gathered, wrt="A")(np.arange(5.0), np.array([1, 1, 3])))
    np.testing.assert_array_equal(got, [0, 4, 0, 6, 0])


def test_what_is_slow_by_nature_is_said():
    def remarks(python, **axes):
        return [str(r) for r in ph.grad(ph.function(**axes)(python), wrt="A").trace().checked.remarks]

    assert remarks(lambda A: (A * A).sum(i), A="i") == []
    (product,) = remarks(lambda A: A.prod(i), A="i")
    assert "multiplies all pairs of factors" in product
    at = ph.function(A="i", at="m")(lambda A, at: A(i=at).sum(m))
    (search,) = ph.grad(at, wrt="A").lower(A="f32[i:4]", at="i64[m:3]").remarks[:1]
    assert "the derivative by A tests every read of loss for each cell" in str(search)
    assert "nothing is scattered" in search.because


def test_a_branch_that_is_not_taken_adds_nothing():
    safe = ph.grad(ph.function(A="i")(lambda A: ph.where(A > 0, ph.log(A), 0).sum(i)), wrt="A")
    np.testing.assert_array_equal(np.asarray(safe(np.array([2.0, 0.0, -1.0]))), [0.5, 0, 0])


# --- what is gathered ------------------------------------------------------------------------------------------------


def test_the_adjoint_of_a_strided_padded_dilated_window_is_one_gather():
    @ph.function(X="c y x", W="o c ky kx", dY="o y x")
    def back(X, W, dY):
        Y = (X.pad(y=2, x=2)[2 * y + 2 * ky - 2, 2 * x + 3 * kx - 2] * W).sum(c, ky, kx)
        return ph.vjp(Y, X, dY)

    text = str(back)
    (gather,) = [s for s in back.trace().program.statements if s.write.array == "dX"]
    assert gather.op == "sum"
    assert text.endswith(
        "    dX = sum[o < W.o, x_1 < (X.x - 3*W.kx)//2 + 4, y_1 < (X.y + 1)//2 - W.ky + 3, ky < W.ky, kx < W.kx "
        "if y + 2 == 2*ky + 2*y_1 and x + 2 == 3*kx + 2*x_1] dY(y=y_1, x=x_1) * W\n"
    ), text
    source = back.lower(X="f32[c:2, y:9, x:9]", W="f32[o:2, c:2, ky:3, kx:3]", dY="f32[o:2, y:5, x:4]").source()
    assert "atomic" not in source


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(f, *args):
    with pytest.raises(ph.PolyhedralError) as caught:
        f(*args)
    return caught.value


def test_a_loss_with_dims_left():
    error = refused(ph.grad(ph.function(A="i j")(lambda A: A.sum(i)), wrt="A"), np.ones((2, 3)))
    assert error.code == "PH050"
    assert error.dim == "j"
    assert "grad needs a scalar loss; loss still has dimensions {j}: reduce them, e.g. .sum(j)" in error.message


def test_nothing_smooth_leads_there():
    chosen = ph.function(A="i")(lambda A: A.argmax(i) * 1.0)
    error = refused(ph.grad(chosen, wrt="A"), np.ones(3))
    assert error.code == "PH051"
    assert "argmax" in error.message
    rounded = ph.function(A="i")(lambda A: ph.floor(A).sum(i))
    assert "floor" in refused(ph.grad(rounded, wrt="A"), np.ones(3)).message
    cast = ph.function(A="i")(lambda A: A.astype(ph.i32).sum(i) * 1.0)
    assert "a conversion to i64" in refused(ph.grad(cast, wrt="A"), np.ones(3)).message
    assert refused(ph.grad(ph.function(A="i")(lambda A: (A > 0).sum(i)), wrt="A"), np.ones(3)).code == "PH051"


def test_arguments_that_cannot_be_differentiated_by():
    assert refused(ph.grad, square, "C").code == "PH052"
    assert refused(ph.grad, square, "").code == "PH052"
    assert refused(ph.grad, square, ["A", "A"]).code == "PH052"
    by_index = ph.function(A="i", n="j")(lambda A, n: (A.sum(i) * n).sum(j))
    assert refused(ph.grad(by_index, wrt="n"), np.ones(2), np.arange(3)).code == "PH052"
    computed = ph.function(A="i")(lambda A: ph.grad((A * 2).sum(i), A * 2))
    assert refused(computed, np.ones(2)).code == "PH052"
    several = ph.function(A="i")(lambda A: (A.sum(i), A.max(i)))
    assert refused(ph.grad(several, wrt="A"), np.ones(2)).code == "PH050"


def test_what_the_loss_does_not_depend_on_has_a_gradient_of_zero():
    apart = ph.function(A="i", B="i")(lambda A, B: (A**2).sum(i))
    np.testing.assert_array_equal(np.asarray(ph.grad(apart, wrt="B")(np.ones(3), np.ones(3))), np.zeros(3))
