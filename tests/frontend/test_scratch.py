# SPDX-License-Identifier: MIT
"""The memory of intermediate results as users meet it: what `cost` says, what `memory=` allows, calls at many sizes.

Where they lie is tested in `tests.polyhedral.test_storage`.
"""

import numpy as np
import pytest

import polyhedral as ph
from frontend.environment.options import resolve
from frontend.units import in_bytes
from polyhedral.dim import m
from polyhedral.errors import ArgumentError

RNG = np.random.default_rng(5)


def chain():
    """A function of its own: five squares, each of all that came before, so that none goes on in blocks."""

    @ph.function(X="i k", returns="i k")
    def chain(X):
        t = X
        for _ in range(5):
            t = ph.let((t(k=m) * t(i=m)).sum(m))
        return t + X

    return chain


def expected(X):
    t = X
    for _ in range(5):
        t = t @ t
    return t + X


def matrix(n):
    return RNG.random((n, n)) * 2 / n


def test_cost_tells_what_sharing_saves():
    exe = chain().lower(X=matrix(40)).compile()
    cost = exe.cost()
    one = 40 * 40 * 8 + 64
    assert cost.unshared == 4 * one
    assert cost.temporary == 2 * one
    assert "0.02573 MB temporary (0.05146 MB without sharing)" in str(cost)
    X = matrix(40)
    np.testing.assert_allclose(np.asarray(exe(X)), expected(X), rtol=1e-9)


def test_one_block_serves_many_sizes():
    f = chain()
    for n in (3, 17, 4, 17, 40, 3, 1):
        X = matrix(n)
        np.testing.assert_allclose(np.asarray(f(X)), expected(X), rtol=1e-9)


def test_too_little_memory_is_refused_with_the_least_that_does():
    f, X = chain(), matrix(40)
    with pytest.raises(ArgumentError) as caught:
        f.lower(X=X, memory="20kB")
    assert caught.value.code == "PH320"
    assert "25728 bytes" in caught.value.message
    assert "12.86 kB" in caught.value.details[0]
    assert "51.46 kB" in caught.value.details[1]
    assert caught.value.hints[0] == "memory=25728 is the least that this program can do with"
    np.testing.assert_allclose(np.asarray(f.lower(X=X, memory=25728).compile()(X)), expected(X), rtol=1e-9)
    with ph.options(memory=25727), pytest.raises(ArgumentError, match="PH320"):
        f(X)


def test_symbolic_sizes_are_held_against_memory_at_the_call():
    exe = chain().lower(X="f64[i, k]", memory="10kB").compile()
    X = matrix(10)
    np.testing.assert_allclose(np.asarray(exe(X)), expected(X), rtol=1e-9)
    with pytest.raises(ArgumentError, match="PH320"):
        exe(matrix(40))


def test_what_constants_need_is_held_against_memory():
    f, X = chain(), matrix(40)
    with ph.options(memory="20kB"), pytest.raises(ArgumentError, match="PH320"):
        f.bind(X=X)()


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512_000_000), ("1GiB", 1 << 30), (" 1.5 kb", 1500), ("7", 7), (7, 7), ("2tib", 2 << 40), ("0", 0)],
)
def test_memory_is_read_as_bytes(text, size):
    assert in_bytes(text) == size


@pytest.mark.parametrize("wrong", ["much", "-1", "1 PB", "1,5GB", -3, "", "1e9"])
def test_memory_that_is_none_is_refused(wrong):
    with pytest.raises(ArgumentError, match="PH506"):
        chain().lower(X=matrix(3), memory=wrong)


@pytest.mark.parametrize("wrong", [1.5, True, [1]])
def test_memory_of_another_type_is_refused(wrong):
    with pytest.raises(ArgumentError, match="PH506"), ph.options(memory=wrong):
        pytest.fail("the block was entered")


def test_memory_from_the_environment():
    assert resolve({"POLYHEDRAL_MEMORY": "1kB"}, {}, {}).budget == 1000
    assert resolve({"POLYHEDRAL_MEMORY": "1kB"}, {"memory": 12}, {}).budget == 12
    assert resolve({}, {}, {}).budget is None
