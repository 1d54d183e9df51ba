# SPDX-License-Identifier: MIT
"""Two statements at different constant times of a parallel loop were taken to be ordered by it."""

from __future__ import annotations

import pytest

from polyhedral.ir import affine as aff
from polyhedral.ir.tree import Band, Leaf, Member, Run
from polyhedral.oracle.legality import violation
from polyhedral.text.reader import parse


@pytest.mark.parametrize("run", [Run.PARALLEL, Run.VECTOR])
def test_a_parallel_loop_orders_nothing(run: Run):
    p = parse("program p\n output A: i32[]\n output B: i32[]\n S0: A = 1\n S1: B = A")
    times = (("S0", aff.const(0)), ("S1", aff.const(1)))
    assert violation(p, Band((Member("c", times),), Leaf())) is None
    assert violation(p, Band((Member("c", times, False, run),), Leaf())) is not None
