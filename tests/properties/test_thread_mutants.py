# SPDX-License-Identifier: MIT
"""Loops over blocks and threads nested across a sequence: every tree that races is refused, each thread walked by hand.

Trees are all of a kind: what is around a sequence, what its parts run on, and where threads wait in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from polyhedral.ir import affine as aff
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import Band, Cells, Filter, Fold, Leaf, Local, Member, Promote, Run, Stage, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.machine.device import H100
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import map_onto
from polyhedral.text.reader import parse
from tests.programs import CASES
from tests.properties.test_local_mutants import CHAIN
from tests.properties.threads import raced

MIRROR = parse("""
program mirror
  input X: i32[i: 3, j: 3]
  temporary t: i32[i: 3, j: 3]
  output out: i32[i: 3, j: 3]
  S0: for i < 3, j < 3:  t = X * 3
  S1: for i < 3, j < 3:  out = t(j=2 - j) + X
""")
SAME = parse("""
program same
  input X: i32[i: 3, j: 3]
  temporary t: i32[i: 3, j: 3]
  output out: i32[i: 3, j: 3]
  S0: for i < 3, j < 3:  t = X * 3
  S1: for i < 3, j < 3:  out = t + X
""")
TURNS = parse("""
program turns
  inout A: i32[j: 3]
  inout B: i32[j: 3]
  S0: for i < 3, j < 3 at (i, 0, j):  B = A(j=2 - j) + 1
  S1: for i < 3, j < 3 at (i, 1, j):  A = B + 2
""")
SHIFTED = parse("""
program shifted
  inout A: i32[j: 4]
  inout B: i32[j: 4]
  S0: for i < 3, j < 4 at (i, 0, j):  B = A
  S1: for i < 3, j < 4 at (i, 1, j):  A = B * 2
""")
BOTH = ("S0", "S1")
AROUND = (Run.SERIAL, Run.BLOCK, Run.THREAD, None)
INSIDE = ((Run.SERIAL, "j"), (Run.THREAD, "j"), (Run.THREAD, "j2"), (Run.BLOCK, "j"))
WAITS = ((), (0,), (1,), (0, 1))


def member(name: str, dim: str, run: Run, ids: tuple[str, ...]) -> Member:
    return Member(name, tuple((f, aff.var(dim)) for f in ids), run is not Run.SERIAL, run)


def trees() -> Iterator[tuple[str, Tree]]:
    """All of the kind; a kernel of its own for each part where there is nothing around, unless a loop is."""
    for around, one, other, waits in product(AROUND, INSIDE, INSIDE, WAITS):
        parts: list[Filter] = []
        for f, (run, name) in zip(BOTH, (one, other), strict=True):
            dims = [member(name, "j", run, (f,))]
            dims = [member("i", "i", Run.SERIAL, (f,)), *dims] if around is None else dims
            parts.append(Filter((f,), Band(tuple(dims), Leaf())))
        tree: Tree = InOrder(tuple(parts), waits)
        tree = tree if around is None else Band((member("i", "i", around, BOTH),), tree)
        yield f"{around} around {one} and {other}, waits {waits}", tree


@pytest.mark.parametrize("p", [MIRROR, TURNS, SHIFTED], ids=lambda p: p.name)
def test_every_race_is_refused(p: Program):
    """And what is refused without one has blocks within, or digits that one of the two parts has not."""
    counts = {"raced": 0, "accepted": 0}
    for what, tree in trees():
        wrong, why = raced(p, {}, tree), violation(p, tree)
        counts["raced"] += wrong is not None
        counts["accepted"] += why is None
        assert wrong is None or why is not None, f"{what}: {wrong} is not seen"
        if why is not None and wrong is None:
            assert "Run.BLOCK: 'block'>, 'j'" in what or "j2" in what or "(<Run.SERIAL" in what, f"{what}: {why}"
    assert counts["raced"] >= 60
    assert counts["accepted"] >= 8


def rows() -> tuple[Program, Tree]:
    """Softmax as a device runs it: statements one after another on the rows of a block, by teams."""
    p = specialise(CASES["softmax"].program, {**CASES["softmax"].sizes, "X.i": 5, "X.k": 300})
    scheduled = map_onto(p, {}, H100).scheduled
    return scheduled.analyzed.program, scheduled.schedule.tree


def sequences(tree: Tree) -> Iterator[InOrder]:
    match tree:
        case Leaf():
            return
        case InOrder(children):
            yield tree
            for c in children:
                yield from sequences(c.child)
        case _:
            yield from sequences(tree.child)


def rebuilt(tree: Tree, old: Tree, new: Tree) -> Tree:
    match tree:
        case _ if tree is old:
            return new
        case Leaf():
            return tree
        case InOrder(children):
            return replace(tree, children=tuple(Filter(c.families, rebuilt(c.child, old, new)) for c in children))
        case _:
            return replace(tree, child=rebuilt(tree.child, old, new))


def test_no_wait_of_a_row_nest_can_be_left_out():
    p, tree = rows()
    assert violation(p, tree) is None
    waiting = next(s for s in sequences(tree) if s.waits)
    assert len(waiting.waits) >= 2
    for w in waiting.waits:
        less = replace(waiting, waits=tuple(x for x in waiting.waits if x != w))
        found = violation(p, rebuilt(tree, waiting, less))
        assert found is not None
        assert "no wait is between them" in found.why


def reduced(names: tuple[str, str], run: Run, *, held: bool) -> Tree:
    """A sum whose initialisation and updates are on digits of these names."""
    parts: list[Filter] = []
    for f, name in zip(("S0i", "S0"), names, strict=True):
        dims = [member(name, "j", Run.THREAD, (f,))]
        dims += [member("k", "k", run, (f,))] if f == "S0" else []
        parts.append(Filter((f,), Band(tuple(dims), Leaf())))
    body = InOrder(tuple(parts), (0,))
    return Band((member("i", "i", Run.BLOCK, ("S0i", "S0")),), Promote("out", body) if held else body)


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (reduced(("j", "j"), Run.SERIAL, held=True), None),
        (reduced(("j", "j2"), Run.SERIAL, held=True), "out is held in registers of different threads"),
        (reduced(("j", "j"), Run.TEAM, held=True), None),
        (reduced(("j", "j"), Run.TEAM, held=False), "each thread has a partial result, which no registers hold"),
    ],
)
def test_registers_are_of_one_thread(tree: Tree, why: str | None):
    found = violation(specialise(CASES["matmul"].program, {"A.i": 3, "A.k": 4, "B.j": 3}), tree)
    assert (found.why if found else None) == why


def test_memory_of_a_block_begins_outside_its_threads():
    def nest(first: Run) -> Tree:
        parts = tuple(Filter((f,), Band((member("j", "j", Run.SERIAL, (f,)),), Leaf())) for f in BOTH)
        inside = Local("t", (Fold("i", 1, 1),), InOrder(parts))
        return Band((member("i", "i", first, BOTH),), inside)

    assert violation(CHAIN, nest(Run.BLOCK)) is None
    found = violation(CHAIN, nest(Run.THREAD))
    assert found is not None
    assert "whose threads all have the same" in found.why


def test_a_copy_is_made_by_all_threads():
    """What a block copies was written by others before: they must have met."""

    def nest(waits: tuple[int, ...], staged: bool) -> Tree:
        parts: list[Filter] = []
        for f in BOTH:
            tree: Tree = Band((member("j", "j", Run.THREAD, (f,)),), Leaf())
            if f == "S1" and staged:
                tree = Stage("t", (Cells("i", aff.var("i"), 1), Cells("j", aff.const(0), 3)), tree)
            parts.append(Filter((f,), tree))
        return Band((member("i", "i", Run.BLOCK, BOTH),), InOrder(tuple(parts), waits))

    assert violation(SAME, nest((), False)) is None
    assert violation(SAME, nest((0,), True)) is None
    assert violation(SAME, nest((), True)) is not None
