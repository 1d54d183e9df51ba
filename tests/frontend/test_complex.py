# SPDX-License-Identifier: MIT
"""Complex numbers: parts, lengths and conjugates are NumPy's, what they do not have is refused, nothing is dropped."""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k

RANDOM = np.random.default_rng(19)


def numbers(*shape, dtype="c8"):
    return (RANDOM.normal(size=shape) + 1j * RANDOM.normal(size=shape)).astype(dtype)


VALUES = {
    "abs": (ph.abs, np.abs),
    "python's abs": (abs, np.abs),
    "numpy's abs": (np.abs, np.abs),
    "real": (lambda Z: Z.real, np.real),
    "imag": (lambda Z: Z.imag, np.imag),
    "numpy's parts": (lambda Z: np.real(Z) * np.imag(Z), lambda Z: np.real(Z) * np.imag(Z)),
    "conj": (ph.conj, np.conj),
    "conj of a method": (lambda Z: Z.conj() * Z, lambda Z: Z.conj() * Z),
    "numpy's conj": (np.conj, np.conj),
    "angle": (lambda Z: ph.atan2(Z.imag, Z.real), np.angle),
    "of a product": (lambda Z: ph.abs(Z * (2 - 1j) + 1) ** 2, lambda Z: np.abs(Z * (2 - 1j) + 1) ** 2),
    "there and back": (lambda Z: Z.real + 1j * Z.imag, lambda Z: Z),
    "no complex array": (lambda Z: ph.abs(Z.real * 1j + 2), lambda Z: np.abs(Z.real * 1j + 2)),
    "a choice": (lambda Z: ph.where(Z.real > Z.imag, Z, Z.conj()), lambda Z: np.where(Z.real > Z.imag, Z, Z.conj())),
    "a real number": (lambda Z: Z.real.real + ph.conj(Z.real), lambda Z: 2 * Z.real),
    "truth": (lambda Z: Z.astype(ph.bool), lambda Z: Z.astype(bool)),
    "wider": (lambda Z: Z.astype(ph.c128).imag, lambda Z: Z.astype("c16").imag),
}


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("name", VALUES)
def test_values_are_numpys(name, dtype):
    ours, theirs = VALUES[name]
    f = ph.function(Z="i k", returns="i k")(lambda Z: ours(Z))
    Z = numbers(3, 7, dtype=dtype)
    found, want = np.asarray(f(Z)), theirs(Z)
    assert found.dtype == want.dtype
    np.testing.assert_allclose(found, want, rtol=1e-5 if dtype == "c8" else 1e-13)
    program = f.trace(Z=f"{'c64' if dtype == 'c8' else 'c128'}[i, k]").program
    np.testing.assert_allclose(ph.interpret(program, {"Z": Z})["out"], want, rtol=1e-5 if dtype == "c8" else 1e-13)
    assert ph.to_text(ph.parse(ph.to_text(program))) == ph.to_text(program)


def test_reductions_and_accumulators():
    @ph.function(Z="i k", returns=("i", "i", "i", "i"))
    def reduced(Z):
        h = ph.let(Z * Z.conj(), "h")
        return h.real.sum(k), Z.imag.sum(k, acc=ph.f64), ph.abs(Z).max(k), ph.scan("max", Z.real, k)(k=4)

    Z = numbers(4, 9)
    energy, wide, longest, running = map(np.asarray, reduced(Z))
    assert (energy.dtype, wide.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(energy, (np.abs(Z) ** 2).sum(1), rtol=1e-5)
    np.testing.assert_allclose(wide, Z.imag.astype("f8").sum(1), rtol=1e-12)
    np.testing.assert_allclose(longest, np.abs(Z).max(1), rtol=1e-6)
    np.testing.assert_allclose(running, Z.real[:, :5].max(1))


def test_a_discrete_fourier_transform_and_its_power():
    n, f = ph.dims("n f")

    @ph.function(X="n", returns="f")
    def power(X):
        turn = ph.exp(-2j * ph.pi * n.astype(ph.f64) * f / X.size(n))
        return ph.abs((X * turn).over(f=X.size(n)).sum(n)) ** 2

    X = RANDOM.normal(size=12)
    np.testing.assert_allclose(np.asarray(power(X)), np.abs(np.fft.fft(X)) ** 2, rtol=1e-9, atol=1e-9)


REFUSED = {
    "f32": (lambda Z: Z.astype(ph.f32), "would lose its imaginary part"),
    "i32": (lambda Z: Z.astype("i32"), "would lose its imaginary part"),
    "narrow": (lambda Z: Z.sum(i, acc=ph.f32), "do not fit the accumulator"),
    "less": (lambda Z: Z < 1, "< of complex numbers, c64: they have no order"),
    "maximum": (lambda Z: ph.maximum(Z, 0), "they have no order"),
    "relu": (ph.relu, "they have no order"),
    "clip": (lambda Z: ph.clip(Z, 0, 1), "they have no order"),
    "max": (lambda Z: Z.max(i), "max of complex numbers"),
    "argmin": (lambda Z: Z.argmin(i), "min of complex numbers"),
    "softmax": (lambda Z: ph.softmax(Z, i), "max of complex numbers"),
    "scan": (lambda Z: ph.scan("max", Z, i), "max of complex numbers"),
    "floor": (ph.floor, "floor of complex numbers, c64: it wants real ones"),
    "floordiv": (lambda Z: Z // 2, "// of complex numbers, c64: it wants real ones"),
    "erf": (ph.erf, "erf of complex numbers"),
    "isnan": (ph.isnan, "isnan of complex numbers"),
    "imag of a real": (lambda Z: Z.real.imag, "the imaginary part of f32"),
    "cotangent": (lambda Z: ph.vjp(Z.real * 2, ph.let(Z.real), Z), "would lose its imaginary part"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_complex_numbers_do_not_have_is_refused_where_it_stands(name):
    f = ph.function(Z="i")(lambda Z: REFUSED[name][0](Z))
    with pytest.raises(ph.DtypeError, match="PH301") as caught:
        f(numbers(3))
    assert REFUSED[name][1] in caught.value.message
    assert caught.value.location is not None
    assert caught.value.hints


@pytest.mark.parametrize(
    "loss",
    [
        lambda X: ph.abs(X * (1 + 2j)).sum(i),
        lambda X: (X * X + ph.let(X * (1 + 2j), "Z").imag).sum(i),
        lambda X: (X * X + ph.let(X * (1 + 2j), "Z").real.sum(i)).sum(i),
    ],
)
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_no_way_of_a_derivative_through_complex_numbers_is_left_out(loss, mode):
    @ph.function(X="i")
    def derived(X):
        value = loss(X)
        return ph.grad(value, X) if mode == "reverse" else ph.jvp(value, X, X * 0 + 1)

    with pytest.raises(ph.DtypeError, match=r"PH051.*through complex numbers"):
        derived(np.ones(3, "f4"))


def test_complex_constants_of_a_derivative_are_constants():
    Z = numbers(3)

    @ph.function(X="i", Z="i", returns="i")
    def derived(X, Z):
        held = ph.stop_gradient((X * 1j).imag)
        return ph.grad((X * X * ph.abs(Z) + held * X).sum(i), X)

    X = RANDOM.normal(size=3).astype("f4")
    np.testing.assert_allclose(np.asarray(derived(X, Z)), 2 * X * np.abs(Z) + X, rtol=1e-5)
