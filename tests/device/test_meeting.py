# SPDX-License-Identifier: MIT
"""Loops that would keep some threads of a block from where the others wait are refused before they are printed."""

from __future__ import annotations

import pytest

from codegen import loops as lp
from codegen.meeting import misplaced
from polyhedral.devices.plan import BlockNest, BlockPlan
from polyhedral.ir import affine as aff
from polyhedral.ir.tree import Run

NEST = BlockNest("S", BlockPlan((), ()), ("b",), (("t", 8),), (), (), (), ("k", 4))
COPY = lp.Staged("A", (), lp.Exec("S0", ()))


def loop(name: str, hi: aff.Affine | int, run: Run, body: lp.Node) -> lp.Node:
    return lp.For(name, aff.const(0), aff.const(hi) if isinstance(hi, int) else hi, 1, run, body)


TEAM = lp.Promoted("s", loop("k", 2, Run.TEAM, lp.Exec("S0", ())))


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (loop("t", 7, Run.THREAD, COPY), None),
        (loop("t", 6, Run.THREAD, COPY), "the range of t"),
        (loop("b", aff.var("t"), Run.SERIAL, COPY), "the range of b"),
        (loop("t", 7, Run.THREAD, lp.If(aff.at_least(aff.var("b"), 1), COPY)), None),
        (loop("t", 7, Run.THREAD, lp.If(aff.at_least(aff.var("t"), 1), COPY)), "condition "),
        (lp.If(aff.at_least(aff.var("k"), 1), TEAM), "condition "),
        (TEAM, None),
        (loop("t", 6, Run.THREAD, lp.Exec("S0", ())), None),
    ],
)
def test_all_threads_reach_what_they_wait_for(node: lp.Node, why: str | None):
    found = misplaced(node, NEST, {"S0": "S"})
    assert found is None if why is None else found is not None and found.startswith(why)
