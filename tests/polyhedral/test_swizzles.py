# SPDX-License-Identifier: MIT
"""Boxes of shared memory: a swizzle moves every cell to one place, asks the banks as often as an enumeration says, and
is taken where padding cannot serve.
"""

from __future__ import annotations

import random
from math import prod

import pytest

from codegen.scalar import Scalar
from codegen.swizzled import swizzled
from polyhedral.devices.banks import Access, asked, digits_of, ideal, strides_of
from polyhedral.devices.swizzles import DENSE, INSTRUCTION, WORTH, Addressing, Swizzle, addressing, price, swizzles
from polyhedral.ir import affine as aff

SQUARE = (("r", 32), ("c", 32))
"""A tile of 32 rows of 32 floats."""


def lanes(*threads: tuple[str, int], **steps: int) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Where the lanes of a warp are whose digits are so many, a step of each so many cells."""
    found = (digits_of(lane, threads) for lane in range(32))
    return tuple(tuple((d, n * steps.get(d, 1)) for d, n in at.items()) for at in found)


@pytest.mark.parametrize("axes", [SQUARE, (("r", 6), ("c", 64)), (("z", 3), ("r", 5), ("c", 8)), (("r", 9), ("c", 20))])
@pytest.mark.parametrize("item", [2, 4, 8])
def test_every_cell_has_one_place_and_grains_stay_whole(axes: tuple[tuple[str, int], ...], item: int):
    cells = prod(n for _, n in axes)
    for s in swizzles(axes, item, 1):
        places = [s.place(c) for c in range(cells)]
        assert sorted(places) == list(range(cells))
        assert all(places[c] == places[c - c % s.grain] + c % s.grain for c in range(cells))
        assert [s.place(c) for c in places] == list(range(cells))  # turned twice is where it was


def test_there_is_none_where_blocks_would_leave_the_box():
    assert list(swizzles((("r", 3), ("c", 5)), 4, 1)) == []
    assert all((4 * 24) % (s.grain * s.ways) == 0 for s in swizzles((("r", 4), ("c", 24)), 4, 4))


def test_rows_of_a_square_tile_read_by_vectors():
    """Eight lanes read 16 bytes each of eight rows that begin in one bank: 8 times as often as banks could give it."""
    read = Access(lanes(("c", 1), ("r", 32)), run=4)
    strides = strides_of(SQUARE, 0)
    assert asked(read, strides, 4) == (1, 32)
    assert asked(read, strides, 4, Swizzle(4, 8, 32).place, 4) == (1, 4)
    assert ideal(read, strides, 4, INSTRUCTION) == INSTRUCTION + 4


def test_a_transposed_tile_where_padding_cannot_serve():
    """Written by columns, read by float4 along rows: in padded rows where there is room, else swizzled."""
    written = Access(lanes(("c", 1), ("r", 32)), times=32)
    read = Access(lanes(("r", 4), ("c", 8), c=4), run=4, times=8, bases=tuple((("r", 4 * n),) for n in range(8)))
    both = written, read
    dense = sum(price(a, SQUARE, DENSE, 4) for a in both)
    roomy = addressing(both, SQUARE, 4, tuple(range(33)), 1)
    assert roomy.swizzle is None
    assert roomy.pad > 0
    full = addressing(both, SQUARE, 4, (0,), 4)
    assert full.swizzle is not None
    assert full.swizzle.grain == 4
    assert [asked(a, strides_of(SQUARE, 0), 4)[1] for a in both] == [32, 4]
    turned = [asked(a, strides_of(SQUARE, 0), 4, full.swizzle.place, full.swizzle.grain)[1] for a in both]
    assert turned == [4, 4]
    assert sum(price(a, SQUARE, full, 4) for a in both) < dense / 4


def test_of_equals_a_dense_box_is_best_and_a_padded_one_before_a_swizzled_one():
    along = Access(lanes(("r", 4), ("c", 8), c=4), run=4)
    assert addressing((along,), SQUARE, 4, tuple(range(0, 33, 4)), 4) == DENSE
    across = Access(lanes(("c", 1), ("r", 32)), run=4)
    assert addressing((across,), SQUARE, 4, tuple(range(0, 33, 4)), 4) == Addressing(4)
    assert addressing((across,), SQUARE, 4, (0,), 4).swizzle is not None


def test_no_other_addressing_takes_fewer():
    """Random boxes and accesses: whatever is chosen, nothing among all paddings and swizzles is cheaper."""
    rng = random.Random(5)
    for _ in range(25):
        axes = (("r", rng.choice((4, 8, 16, 32))), ("c", rng.choice((4, 8, 16, 64, 96))))
        fast = rng.choice((2, 4, 8, 16))
        threads = [("c", fast), ("r", 32 // fast)]
        rng.shuffle(threads)
        run, item = rng.choice((1, 2, 4)), rng.choice((2, 4, 8))
        read = Access(lanes(*threads, c=run), run, rng.choice((1, 8)), tuple((("c", run * n),) for n in range(3)))
        copied = Access(tuple((("r", lane % axes[0][1]), ("c", lane // axes[0][1])) for lane in range(32)))
        pads = tuple(range(0, rng.choice((1, 5, 33))))
        chosen = addressing((read, copied), axes, item, pads, 1)
        paid = price(read, axes, chosen, item) + price(copied, axes, chosen, item)
        every = [*map(Addressing, pads), *(Addressing(0, s) for s in swizzles(axes, item, 1))]
        assert paid * WORTH <= min(price(read, axes, a, item) + price(copied, axes, a, item) for a in every)
        assert chosen.swizzle or paid == min(
            price(read, axes, a, item) + price(copied, axes, a, item) for a in map(Addressing, pads)
        )


def test_the_text_of_an_address_is_the_place():
    """Random addresses of random swizzles: what is printed evaluates to where the swizzle says."""
    rng, scalar = random.Random(3), Scalar(str, lambda e, s: "")
    for _ in range(200):
        grain, ways = rng.choice((1, 2, 4, 8)), rng.choice((2, 4, 8))
        s = Swizzle(grain, ways, grain * ways * rng.choice((1, 2, 3, 5, 8)))
        width = rng.choice((grain * ways, s.every, 7, 12))
        run = rng.choice((1, 2, 3, 4))
        cell = aff.var("row") * width + aff.var("column") * run + aff.var("digit") + rng.choice((0, 1, 2, grain, width))
        ends = {"row": 9, "column": 4, "digit": run - 1}

        def span(e: aff.Affine, ends: dict[str, int] = ends) -> tuple[int, int]:
            high = sum(c * ends[t.name] for t, c in e.terms if isinstance(t, aff.Var))
            return e.const, e.const + high

        text = swizzled(s, cell, {"digit": run}, scalar, span if rng.random() < 0.8 else lambda e: None)
        for _ in range(10):
            at = {d: rng.randint(0, n) for d, n in ends.items()}
            want = s.place(aff.evaluate(cell, at, {}))
            assert eval(text.replace("/", "//"), {}, at) == want, text  # our own text, of numbers and names
