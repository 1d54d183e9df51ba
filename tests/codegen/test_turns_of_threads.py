# SPDX-License-Identifier: MIT
"""Copies in turns: the digits of what threads copy, and how often loops are written out."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen import loops as lp
from codegen.turns import digit
from codegen.unrolled import times, trips, written
from polyhedral.ir import affine as aff
from polyhedral.ir.tree import Run


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.sampled_from([32, 48, 64, 96, 128, 256]))
def test_turns_reach_every_cell_once(sizes: list[int], threads: int):
    total, below, texts = prod(sizes), 1, list[str]()
    for n in reversed(sizes):
        texts.append(digit("thread", threads, below, n, total).replace("/", "//"))
        below *= n
    found = [
        tuple(eval(t, {"thread": cell % threads, "turn": cell // threads}) for t in reversed(texts))
        for cell in range(total)
    ]
    assert len(set(found)) == total
    assert all(0 <= k < n for at in found for k, n in zip(at, sizes, strict=True))


def test_a_digit_is_apart_from_the_turn_where_threads_are_whole_rows():
    assert digit("thread", 256, 1, 64, 1024) == "thread % 64"
    assert digit("thread", 256, 64, 16, 1024) == "thread / 64 + 4 * turn"
    assert "turn" not in digit("thread", 256, 4, 64, 256)


def serial(many: int, body: lp.Node, run: Run = Run.SERIAL) -> lp.For:
    return lp.For("k", aff.const(0), aff.const(many - 1), 1, run, body)


@pytest.mark.parametrize(
    ("many", "results", "expected"),
    [(16, 64, 8), (128, 64, 8), (7, 64, 7), (11, 64, 1), (16, 1024, 1), (32, 1, 32), (33, 1, 1)],
)
def test_loops_are_written_out_as_long_as_they_are_short(many: int, results: int, expected: int):
    tile = serial(results, lp.Exec("s", ()), Run.UNROLL)
    assert trips(serial(many, tile)) == many
    assert times(serial(many, tile)) == expected


def test_a_loop_around_one_that_stays_is_not_written_out():
    inner = serial(16, serial(64, lp.Exec("s", ()), Run.UNROLL))
    assert written(inner) is None
    assert times(serial(2, inner)) == 1
    assert times(lp.For("k", aff.const(0), aff.size("n"), 1, Run.SERIAL, lp.Exec("s", ()))) == 1
