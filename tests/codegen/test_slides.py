# SPDX-License-Identifier: MIT
"""Slides: each lane of a vector made of two is the cell that it would have loaded, and none beyond a row is touched."""

from __future__ import annotations

import random

import pytest

from codegen.slides import slides
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import f32

LANE = "x\0lane"


def load(start: int, y: str = "y") -> ex.Load:
    return ex.Load("X", (("y", aff.var(y)), ("x", aff.var(LANE) + start)), f32)


def cells(e: ex.Expr, count: int) -> list[int]:
    assert isinstance(e, ex.Load)
    return [aff.evaluate(aff.substitute(dict(e.index)["x"], {LANE: aff.const(i)}), {}, {}) for i in range(count)]


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize("turn", range(20))
def test_lanes_are_what_they_were(lanes: int, turn: int):
    rng = random.Random(turn)
    valid = rng.randint(1, lanes)
    starts = sorted(rng.sample(range(-20, 40), rng.randint(1, 12)))
    made = slides(((load(s), LANE, valid) for s in starts), lanes)
    touched = {c for s in starts for c in cells(load(s), valid)}
    for e, s in made.items():
        first, then = cells(s.first, s.valid), cells(s.then, s.more)
        assert min(touched) <= first[0]
        assert max([*first, *then]) <= max(touched)
        both = [*first, *[None] * (lanes - len(first)), *then]
        assert both[s.by : s.by + valid] == cells(e, valid)
    loads = {(s.first, 0) for s in made.values()} | {(s.then, 1) for s in made.values() if s.by}
    assert not made or len({e for e, _ in loads}) < len(made)


def test_rows_are_apart():
    """Three vectors of one row pay; two of one and two of another do not."""
    assert not slides(((load(s, y), LANE, 8) for s in (0, 1) for y in ("y", "z")), 8)
    assert len(slides(((load(s), LANE, 8) for s in (0, 1, 2)), 8)) == 3


def test_other_steps_are_left_alone():
    """Every other cell, and an index that is data."""
    two = [ex.Load("X", (("x", aff.var(LANE) * 2 + s),), f32) for s in range(5)]
    data = [ex.Load("X", (("x", load(s)),), f32) for s in range(5)]
    assert not slides(((e, LANE, 8) for e in (*two, *data)), 8)
