# SPDX-License-Identifier: MIT
"""The order of loops where a copy's sides lie crosswise: what memory sees of it, counted cell by cell."""

from __future__ import annotations

from itertools import product, starmap
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.scheduling.crossing import Strides, _apart, crossing
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

PADDED = """
program padded
  input P: f32[n: 3, y: 5, x: 6, c: 4, i: 4, k: 4]
  output out: f32[y: 6, c: 4, k: 4, n: 3, i: 4, x: 7]
  S0: for n < 3, y < 6, x < 7, c < 4, i < 4, k < 4:
    out = where(x > 0 and y > 0, P(x=x - 1, y=y - 1), 0.0)
"""


def dense(*extents: tuple[str, int]) -> dict[str, int]:
    """Strides of an array whose dims lie in this order, the first slowest."""
    return {d: prod(n for _, n in extents[at + 1 :]) for at, (d, _) in enumerate(extents)}


def test_a_copy_reads_whole_lines_where_the_second_cache_holds_what_it_writes():
    n, y, x, c, i, k = sizes = (("n", 16), ("y", 17), ("x", 17), ("c", 32), ("i", 4), ("k", 4))
    there, here = dense(n, y, x, c, i, k), dense(y, c, k, n, i, x)
    order = crossing([d for d, _ in sizes], dict(sizes), [there, here], 1 << 14)
    assert order == ("y", "n", "x", "c", "i", "k")


def test_loops_that_fit_no_cache_are_in_the_order_of_what_is_written():
    sizes = {"a": 100, "b": 200, "c": 3}
    there, here = {"a": 1, "b": 100, "c": 20_000}, {"a": 600, "b": 3, "c": 1}
    assert crossing("abc", sizes, [there, here], 1) == ("a", "b", "c")


strides = st.fixed_dictionaries({d: st.integers(0, 12) for d in "abc"})


@given(st.fixed_dictionaries({d: st.integers(1, 4) for d in "abc"}), strides)
def test_pieces_are_never_fewer_than_runs_of_cells(extents: dict[str, int], side: Strides):
    """Where cells of one loop overlap in part with those of another, a piece may be counted twice."""
    cells = {
        sum(side[d] * at for d, at in zip("abc", p, strict=True)) for p in product(*(range(extents[d]) for d in "abc"))
    }
    runs = sum(1 for x in cells if x - 1 not in cells)
    assert _apart("abc", extents, side) >= runs


@given(st.permutations("abcd"), st.permutations("abcd"), st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_pieces_of_dense_arrays_are_counted(one: list[str], other: list[str], sizes: list[int]):
    extents = dict(zip("abcd", sizes, strict=True))
    there, here = (dense(*((d, extents[d]) for d in order)) for order in (one, other))
    order = crossing("abcd", extents, [there, here], 64)
    assert sorted(order) == list("abcd")
    inner = one[2:]
    cells = {sum(starmap(lambda d, at: there[d] * at, zip(inner, p, strict=True)))
             for p in product(*(range(extents[d]) for d in inner))}  # fmt: skip
    assert _apart(inner, extents, there) == sum(1 for x in cells if x - 1 not in cells) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_is_interpreted(threads: int):
    p = parse(PADDED)
    inputs = inputs_for(p, {})
    agree(p, run_c(p, inputs, {}, Options(threads=threads)), run(p, inputs), inputs)
