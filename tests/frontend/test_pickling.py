# SPDX-License-Identifier: MIT
"""What crosses processes: errors whole, functions by name, kernels as what they were compiled from."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, k


@ph.function(A="i k", B="k j", returns="i j")
def product(A, B, scale=1.0):
    return (A * B).sum(k) * scale


def _plain(A):
    return A.sum(i)


total = ph.function(A="i")(_plain)
A, B = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)


def sent(what):
    return pickle.loads(pickle.dumps(what))


def test_functions_are_pickled_by_name():
    product(A, B)  # what was compiled stays here
    assert sent(product) is product
    assert copy.deepcopy(product) is product
    assert copy.copy(product) is product
    assert float(sent(total)(A[0])) == A[0].sum()


def test_what_is_bound_goes_along():
    bound = sent(product.bind(B=B, scale=2.0))
    np.testing.assert_allclose(bound(A), 2 * A @ B)


def test_functions_without_a_name_say_so():
    with pytest.raises(ph.ArgumentError, match=r"PH049.*_squares cannot be pickled: no module has it"):
        pickle.dumps(_squares())
    f = copy.deepcopy(_squares())
    assert float(f(A[0])) == 5


def _squares():
    def _squares(X):
        return (X * X).sum(i)

    return ph.function(X="i")(_squares)


def test_kernels_are_loaded_anew():
    executable = product.lower(A=A, B=B).compile()
    np.testing.assert_allclose(sent(executable)(A, B), A @ B)
    np.testing.assert_allclose(copy.deepcopy(executable)(A, B), A @ B)
    np.testing.assert_allclose(sent(executable.lowered).compile()(A, B), A @ B)


def test_errors_are_read_back_whole():
    with pytest.raises(ph.DimError) as raised:
        product(A, A)
    error = raised.value
    error.add_note("in worker 3")
    back = sent(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.to_json() == error.to_json()
    assert back.__notes__ == ["in worker 3"]


def test_errors_of_workers():
    """An error that cannot be read back takes the pool with it, and says nothing of why."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        error = pool.submit(ph.parse, "nonsense").exception()
        assert isinstance(error, ph.SyntaxProblem)
        assert error.hints
        assert pool.submit(abs, -1).result() == 1
