# SPDX-License-Identifier: MIT
"""The oracle on random programs: every tree that it accepts runs as the interpreter's trace demands, every tree that it
refuses breaks a pair of instances found by enumeration.  And a starved isl never breaks a schedule.
"""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from codegen.loops import Node
from codegen.lower import lower
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Tree, render
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze, plan
from polyhedral.scheduling.schedule import Options
from polyhedral.text.printer import to_text
from tests.executor import Executor
from tests.properties.batch import reassociates, same
from tests.properties.enumerated import broken_pair, disagreement
from tests.properties.schedules import Proposals
from tests.strategies import inputs_for, programs

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "300")) // 2
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))


def search(count: int):  # type: ignore[no-untyped-def]
    """Reproducible draws, without shrinking or a data base."""
    chosen = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(SEED)(chosen(test))


def problem(p: Program, loops: Node, salt: int, ways: tuple[str, ...]) -> str | None:
    """What executing the loops gets wrong: values, the trace's order, or a race."""
    inputs = inputs_for(p, {}, salt)
    trace: list = []
    want = run(p, inputs, trace=trace)
    for way in ways:
        executor = Executor(p, {}, way, salt)
        got = executor.run(loops, inputs)
        if executor.races:
            return f"{way}: race at {executor.races[0]}"
        wrong = disagreement(p, {}, trace, executor.order)
        if wrong is not None:
            return f"{way}: {wrong}"
        if not reassociates(p) and not all(same(got[n], w) for n, w in want.items()):
            return f"{way}: values"
    return None


def shown(p: Program, tree: Tree) -> str:
    return f"{to_text(p)}\n{render(tree, {})}"


@search(EXAMPLES)
@given(programs(), st.integers(0, 1 << 30))
def test_the_oracle_is_right(p: Program, salt: int):
    """Accepted trees run right in any order of their parallel loops; refused ones break a pair."""
    rng = random.Random(salt)
    proposals = Proposals(p, rng)
    found = proposals.legal(steps=6)
    assert found is not None, to_text(p)
    loops = lower(proposals.analyzed.frame, found[1])
    wrong = problem(p, loops, salt, ("forward", "backward", "shuffled", "snapshot"))
    assert wrong is None, f"{wrong}\n{shown(p, found[1])}"
    assert broken_pair(p, {}, found[1]) is None
    for what, tree, why in proposals.refused:
        assert broken_pair(p, {}, tree) is not None, f"{what}: {why}\n{shown(p, tree)}"


@search(EXAMPLES)
@given(programs(), st.integers(0, 1 << 30))
def test_a_starved_isl_only_costs_a_rung(p: Program, salt: int):
    """Any budget gives a legal tree; what was skipped is a remark."""
    rng = random.Random(salt)
    operations = int(10 ** rng.uniform(0, 4.5))
    analyzed = analyze(p)
    layouts = {a.name: row_major(a) for a in p.arrays}
    schedule = plan(analyzed, layouts, Options(tile=rng.choice((0, 2, 32)), operations=operations)).schedule
    assert violation(p, schedule.tree) is None
    wrong = problem(p, lower(analyzed.frame, schedule.tree), salt, ("forward", "snapshot"))
    assert wrong is None, f"{wrong}\n{shown(p, schedule.tree)}"
    assert all(r.because for r in schedule.remarks)
