# SPDX-License-Identifier: MIT
"""Floors made shorter by ranges have the same value at every point of the box, and some are gone."""

from __future__ import annotations

import random
from itertools import product

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Floor
from polyhedral.ir.floors import within


def floors(e: Affine) -> int:
    return sum(1 + floors(t.arg) for t, _ in e.terms if isinstance(t, Floor))


def test_a_panel_of_a_fused_pair_needs_its_own_counter_only():
    e = (aff.var("jo") * 16 + aff.var("ji")) // 32
    assert within(e, {"jo": (0, 7), "ji": (0, 15)}) == aff.var("jo") // 2
    assert within(e, {"jo": (0, 7), "ji": (0, 16)}) == e, "16 would carry"
    assert within(e, {"jo": (0, 7), "ji": (-1, 15)}) == e, "-1 would borrow"
    assert within(e, {"jo": (0, 7)}) == e


def test_every_value_stays():
    rng = random.Random(0)
    shorter = 0
    for _ in range(2000):
        ranges = {d: (lo, lo + rng.randrange(1, 9)) for d in "abc" for lo in (rng.randrange(-3, 4),)}

        def sum_of(rng: random.Random = rng) -> Affine:
            every = (aff.var(d) * rng.choice((0, 1, 2, 4, 8, 12, -1, -4)) for d in "abc")
            return sum(every, aff.const(rng.randrange(-9, 10)))

        e = (sum_of() // rng.choice((2, 3, 4, 8)) * rng.choice((1, 2, 4)) + sum_of()) // rng.choice((1, 2, 4, 6, 16))
        made = within(e, ranges)
        for point in product(*(range(lo, hi + 1) for lo, hi in ranges.values())):
            at = dict(zip(ranges, point, strict=True))
            assert aff.evaluate(made, at, {}) == aff.evaluate(e, at, {}), (str(e), str(made), at)
        shorter += floors(made) < floors(e)
    assert shorter > 20
