# SPDX-License-Identifier: MIT
"""Updates at one position, or at a position that others continue, were not ordered: the oracle took any order of them.

The interpreter runs them in the order of the text, a position before those that continue it.
"""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from polyhedral.ir import affine as aff
from polyhedral.ir.interpreter import run
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Sequence
from polyhedral.oracle.legality import violation
from polyhedral.scheduling.schedule import original
from polyhedral.sets.instances import families
from polyhedral.text.reader import parse
from tests.running import run_c

SAME = """
program same
  inout A: i32[i: 3]
  S0: for i < 3 at (0):  A = 1
  S1: for i < 3 at (0):  A = A * 5
"""
PREFIX = """
program prefix
  inout A: i32[i: 3]
  S0: for t < 2, i < 3 at (0, t, 0):  A = A * 5
  S1: for i < 3 at (0):  A = 1
"""


@pytest.mark.parametrize(("text", "first", "value"), [(SAME, "S0", 5), (PREFIX, "S1", 25)])
def test_the_order_is_that_of_the_interpreter(text: str, first: str, value: int):
    p = parse(text)
    A = np.array([7, 8, 9], np.int32)
    assert run(p, {"A": A})["A"].tolist() == [value] * 3
    assert run_c(p, {"A": A}, {}, Options(threads=1))["A"].tolist() == [value] * 3
    assert violation(p, original(families(p))) is None

    def part(f: str) -> Filter:
        dims = next(g.dims for g in families(p) if g.id == f)
        return Filter((f,), Band(tuple(Member(d, ((f, aff.var(d)),)) for d in dims), Leaf()))

    second = "S1" if first == "S0" else "S0"
    assert violation(p, Sequence((part(first), part(second)))) is None
    assert violation(p, Sequence((part(second), part(first)))) is not None
