# SPDX-License-Identifier: MIT
"""Spans, overlaps and fresh arrays against NumPy's own answers; the pool's blocks.

The driver's use of them is tested with the driver.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from frontend.arrays.memory import View, check_written, element_span, empty, meets_itself, overlapping, views
from polyhedral.errors import ArgumentError


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5,), (64, 64), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["u1", "f4", "c16"])
def test_empty_is_aligned_and_writable(shape: tuple[int, ...], dtype: str):
    a = empty(shape, np.dtype(dtype))
    a[...] = 1
    assert (a.shape, a.dtype, a.ctypes.data % 64) == (shape, np.dtype(dtype), 0)
    assert a.flags.c_contiguous


def test_a_result_ties_up_little_more_than_itself():
    """A huge page for each small result would be most of the memory of whoever keeps many."""
    kept = [empty((25_000,), np.dtype("f4")) for _ in range(50)]
    for a in kept:
        owner = a
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        assert owner.nbytes < 2 * a.nbytes
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(kept[:5], 2))


def test_arrays_of_one_block_share_nothing():
    shapes = [((4096,), np.dtype("f4")), ((3, 7), np.dtype("f8")), ((0,), np.dtype("f4")), ((1 << 20,), np.dtype("u1"))]
    starts = (0, 4096 * 4, 4096 * 4 + 192, 4096 * 4 + 256)
    wanted = [View(*s, at) for s, at in zip(shapes, starts, strict=True)]
    made = views(starts[-1] + (1 << 20), wanted)
    for n, a in enumerate(made):
        a[...] = n
    assert [(a.shape, a.dtype) for a in made] == shapes
    assert all((a == n).all() and a.ctypes.data % 64 == 0 for n, a in enumerate(made))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-6, 6)), max_size=3))
def test_spans_and_self_overlap_agree_with_enumeration(axes: list[tuple[int, int]]):
    base = np.zeros(200, "i2")
    shape = tuple(n for n, _ in axes)
    view = as_strided(base[100:], shape, tuple(2 * s for _, s in axes))
    assert element_span(view) == byte_bounds(view)
    points = [sum(s * i for (_, s), i in zip(axes, at, strict=True)) for at in itertools.product(*map(range, shape))]
    assert meets_itself(view) == (len(set(points)) < len(points))


def test_an_empty_array_spans_nothing():
    lo, hi = element_span(np.zeros((3, 0)))
    assert lo == hi


def test_overlap_names_both_and_the_bytes():
    base = np.zeros(200)
    for pair, message in (
        ((base[:100], base[:100]), "arguments u and out share memory (bytes 0..799)"),
        ((base[:100], base[50:]), "arguments u and out share memory (bytes 400..799)"),
        ((base[:100][::-1], base[99:]), "arguments u and out share memory (bytes 792..799)"),
    ):
        with pytest.raises(ArgumentError) as caught:
            overlapping(tuple(zip(("u", "out"), pair, strict=True)), {"out"})
        assert caught.value.code == "PH311"
        assert caught.value.message == message


def test_what_does_not_overlap():
    base = np.zeros((20, 20))
    overlapping([("a", base), ("b", base)], set())
    overlapping([("a", base[:10]), ("b", base[10:])], {"a", "b"})
    overlapping([("even", base[:, ::2]), ("odd", base[:, 1::2])], {"odd"})
    overlapping([("a", base[:0]), ("b", base)], {"a"})


def test_an_overlap_too_dear_to_decide_counts():
    base = np.zeros(1 << 20, np.int8)
    views = [as_strided(base[k:], (14, 15, 16, 17, 18), (3 * 7919, 2 * 7919 + 1, 4441, 2221, 1109)) for k in (0, 1)]
    with pytest.raises(ArgumentError):
        overlapping([("a", views[0]), ("b", views[1])], {"b"})


def test_a_read_only_output():
    a = np.zeros(3)
    a.flags.writeable = False
    with pytest.raises(ArgumentError, match="out is written but read-only") as caught:
        check_written([("out", a)])
    assert caught.value.code == "PH312"


@pytest.mark.parametrize(
    "view",
    [
        as_strided(np.zeros(3), (2, 3), (0, 8)),
        sliding_window_view(np.zeros(9), 3, writeable=True),
        as_strided(np.zeros(8), (4,), (4,)),
    ],
)
def test_an_output_that_meets_itself(view: np.ndarray):
    with pytest.raises(ArgumentError, match="several of its elements") as caught:
        check_written([("out", view)])
    assert caught.value.code == "PH313"


def test_outputs_of_unusual_but_sound_strides():
    base = np.zeros((4, 5, 6))
    views = (base, base.T, base[::-1, :, ::2], as_strided(base, (1, 4), (0, 8)), as_strided(base, (2, 3), (24, 16)))
    check_written([(str(i), v) for i, v in enumerate(views)])
