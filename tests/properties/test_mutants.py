# SPDX-License-Identifier: MIT
"""Mutants: planted faults in trees, dependences and loops, each refused by the oracle or shown wrong by execution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from codegen.loops import Node
from codegen.lower import lower
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import Tree, map_bands
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze
from polyhedral.scheduling.schedule import original
from polyhedral.sets.dependences import Why
from polyhedral.sets.isl_schedule import Frame, frame, isl_schedule, union_map
from polyhedral.text.reader import parse
from polyhedral.transforms.parallel import parallelise
from polyhedral.transforms.tile import tile
from tests.executor import Executor, OutOfBoundsError
from tests.programs import CASES
from tests.properties.enumerated import disagreement
from tests.properties.mutants import Fault, broken_loops, crafted, general
from tests.strategies import inputs_for

WAYS = ("forward", "backward", "shuffled", "snapshot")


def shown_wrong(p: Program, sizes: Mapping[str, int], loops: Node, tries: int = 2, order: bool = True) -> str | None:
    """How executing the loops differs from the interpreter: by values, by a race, or (`order`) by its trace alone."""
    for seed in range(tries):
        inputs = inputs_for(p, sizes, seed, "real" if seed else "whole")
        trace: list = []
        want = run(p, inputs, sizes, trace=trace)
        for way in WAYS:
            executor = Executor(p, sizes, way, seed)
            try:
                got = executor.run(loops, inputs)
            except (OutOfBoundsError, KeyError) as error:
                return str(error)
            if any(not _close(got[n], w) for n, w in want.items()):
                return "values"
            if executor.races:
                return f"race at {executor.races[0]}"
            wrong = disagreement(p, sizes, trace, executor.order) if order else None
            if wrong is not None:
                return wrong
    return None


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind not in "fVc":
        return bool(np.array_equal(a, b))
    return np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-5, atol=1e-6, equal_nan=True)


CRAFTED = list(crafted())


@pytest.mark.parametrize("fault", CRAFTED, ids=lambda f: f.name)
def test_an_illegal_tree_is_refused_and_wrong(fault: Fault):
    assert violation(fault.program, fault.tree) is not None
    assert shown_wrong(fault.program, fault.sizes, lower(frame(fault.program), fault.tree)) is not None


def test_the_oracle_is_exact_on_the_zoo():
    """Ten changes of each program's written order: refused exactly when executing them goes wrong."""
    refused = 0
    for fault in general():
        why = violation(fault.program, fault.tree)
        wrong = shown_wrong(fault.program, fault.sizes, lower(frame(fault.program), fault.tree), tries=1)
        assert (why is None) == (wrong is None), f"{fault.name}: oracle {why}, execution {wrong}"
        refused += why is not None
    assert refused >= 60


# --- dropped dependences ---------------------------------------------------------------------------------------------

MEMORY = """
program memory
  inout A: f64[i: 6]
  inout B: f64[i: 6]
  output out: f64[i: 6]
  S0: for i < 5 at (0):  B = A(i=i + 1)
  S1: for i < 6 at (1):  A = 2.0 * B
  S2: for i < 6 at (2):  A = 7.0 - B(i=5 - i)
  S3: for i < 6 at (3):  out = sum[k < 6] A(i=k) * B
  S4: for t < 3, i < 5 at (4, t, 0, i, 0):  B(i=i + 1) = B + A
"""


def programs_with_dependences() -> list[tuple[Program, Mapping[str, int]]]:
    zoo = [(specialise(c.program, c.sizes), c.sizes) for c in CASES.values()]
    return [*zoo, (parse(MEMORY), {})]


def scheduled_without(fr: Frame, dropped: Why | None, p: Program) -> Tree | None:
    """isl's schedule, tiled and parallel, when the analysis forgets one class of dependences."""
    every = [d for d in analyze(p).dependences.all if d.why is not dropped]
    validity = union_map([d.relation for d in every if d.why is not Why.RELAXED])
    coincidence = union_map([d.relation for d in every])
    tree = isl_schedule(fr, fr.families, validity, coincidence, None)
    if tree is None:
        return None
    tiled = map_bands(tree, lambda b: tile(b, [2] * len(b.members)) if b.permutable and len(b.members) > 1 else b)
    return parallelise(tiled)


@pytest.mark.parametrize("dropped", Why)
def test_a_dropped_class_of_dependences_is_found(dropped: Why):
    caught = 0
    for p, sizes in programs_with_dependences():
        fr = frame(p)
        tree = scheduled_without(fr, dropped, p)
        if tree is None:
            continue
        refused = violation(p, tree) is not None
        wrong = shown_wrong(p, sizes, lower(fr, tree)) is not None
        assert refused == wrong, f"{p.name} without {dropped.value}: refused {refused}, wrong {wrong}"
        caught += refused
    assert caught >= 1


def test_nothing_is_found_when_nothing_is_dropped():
    for p, sizes in programs_with_dependences():
        tree = scheduled_without(frame(p), None, p)
        if tree is not None:
            assert violation(p, tree) is None
            assert shown_wrong(p, sizes, lower(frame(p), tree)) is None


# --- broken loops ----------------------------------------------------------------------------------------------------


def test_faults_in_the_loops_are_found():
    """Mistakes of a faulty lowering: at least 95 of 100 change a value, an order or an access.

    Those left over are equivalent: an iteration more where a guard excludes it, the step of a loop that runs once.
    """
    found, planted, missed = 0, 0, []
    for name, case in CASES.items():
        p = specialise(case.program, case.sizes)
        fr = frame(p)
        start = original(fr.families)
        tiled = map_bands(start, lambda b: tile(b, [2] * len(b.members)))
        legal = [t for t in (tiled, start) if violation(p, t) is None]
        for tree in legal[:1]:
            for what, loops in broken_loops(lower(fr, tree), p):
                planted += 1
                if shown_wrong(p, case.sizes, loops, tries=1) is not None:
                    found += 1
                else:
                    missed.append(f"{name}: {what}")
    assert planted >= 300
    assert found >= 0.95 * planted, f"{found} of {planted}; missed {missed}"
