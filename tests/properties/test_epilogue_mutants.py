# SPDX-License-Identifier: MIT
"""Planted faults in register tiles with an epilogue: each is refused by the oracle, which accepts the tree it is made
from.

Executing the loops shows nothing of registers, so that faults in them are judged by the oracle and by codegen alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from polyhedral.ir import affine as aff
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Promote, Sequence, Tree
from polyhedral.oracle.legality import violation
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.scheduling.register_nest import register_nest
from polyhedral.sets.isl_schedule import frame
from polyhedral.text.reader import parse

PLAN = RegisterPlan(
    "j", 4, (("i", 2),), ("k",), (Loop("i", 2), Loop("j", 4)), epilogue=("B", "C"), only=frozenset("TB")
)
TEXT = """
program after
  input X: i32[i: 4, k: 3]
  input Y: i32[k: 3, j: 8]
  input Z: i32[i: 4, j: 8]
  temporary T: i32[i: 4, j: 8]
  temporary B: i32[i: 4, j: 8]
  output C: i32[i: 4, j: 8]
  T: for i < 4, j < 8:  T = sum[k < 3] X * Y
  B: for i < 4, j < 8:  B = max(T + Z, 0)
  C: for i < 4, j < 8:  C = B * T
"""
PORTIONS = replace(PLAN, loops=(Loop("i", 2), Loop("k", 2), Loop("j", 4)), only=frozenset("B"))


def program(*changes: tuple[str, str]) -> Program:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


def nest(p: Program, plan: RegisterPlan = PLAN) -> Tree:
    return register_nest(frame(p).families, plan)


def rewritten(tree: Tree, f: Callable[[Tree], Tree]) -> Tree:
    """Every node of a tree, the inner ones first."""
    match tree:
        case Leaf():
            return f(tree)
        case Sequence(children):
            return f(Sequence(tuple(Filter(c.families, rewritten(c.child, f)) for c in children)))
        case Filter(_, child) | Promote(_, child) | Band(_, child):
            return f(replace(tree, child=rewritten(child, f)))
        case _:
            raise AssertionError(tree)


def timed(family: str, dim: str, change: Callable[[aff.Affine], aff.Affine], inside: bool) -> Callable[[Tree], Tree]:
    """Another time for a family along a dim, in the tile or in the loops around it."""

    def member(m: Member) -> Member:
        times = tuple((f, change(t) if f == family else t) for f, t in m.times)
        return replace(m, times=times) if m.name == dim else m

    def one(tree: Tree) -> Tree:
        if isinstance(tree, Band) and isinstance(tree.child, Leaf) == inside:
            return replace(tree, members=tuple(map(member, tree.members)))
        return tree

    return one


def swapped(tree: Tree) -> Tree:
    """The epilogue's statements in the other order."""
    return Sequence((*tree.children[:2], *tree.children[:1:-1])) if isinstance(tree, Sequence) else tree


def early(tree: Tree) -> Tree:
    """A statement of the epilogue before the sum is complete."""
    if not isinstance(tree, Sequence):
        return tree
    init, update, *rest = tree.children
    return Sequence((init, rest[0], update, *rest[1:]))


def unstored(array: str) -> Callable[[Tree], Tree]:
    return lambda t: replace(t, stored=False) if isinstance(t, Promote) and t.array == array else t


@pytest.mark.parametrize("plan", [PLAN, PORTIONS], ids=["whole", "portions"])
def test_an_epilogue_reads_registers(plan: RegisterPlan):
    p = program()
    assert violation(p, nest(p, plan)) is None


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("the order of the epilogue", swapped),
        ("an unfinished sum", early),
        ("rows the other way round", timed("S1", "i", lambda t: -t, inside=True)),
        ("lanes shifted", timed("S2", "j", lambda t: t + 1, inside=True)),
        ("another tile's registers", timed("S1", "i_tile", lambda t: t + 1, inside=False)),
        ("a result that is not stored", unstored("C")),
    ],
)
def test_faults_are_refused(what: str, fault: Callable[[Tree], Tree]):
    p = program()
    tree = nest(p)
    wrong = rewritten(tree, fault)
    assert wrong != tree, what
    assert violation(p, wrong) is not None, what


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a neighbour's cell", ("B = max(T + Z, 0)", "B = where([i < 3], T(i=i + 1), 0) + Z")),
        ("the cells of another row", ("B = max(T + Z, 0)", "B = T(i=3 - i) + Z")),
        ("memory that others update", ("temporary T", "inout T")),
    ],
)
def test_other_cells_are_refused(what: str, change: tuple[str, str]):
    p = program(change)
    assert violation(p, nest(p)) is not None, what


def test_an_array_in_registers_alone_is_read_nowhere_else():
    p = program(
        ("  C: for", "  D: for i < 4, j < 8:  D = T\n  C: for"), ("output C", "output D: i32[i: 4, j: 8]\n  output C")
    )
    fs = [f for f in frame(p).families if f.statement.name != "D"]
    last = next(f for f in frame(p).families if f.statement.name == "D")
    own = Band(tuple(Member(d, ((last.id, aff.var(d)),)) for d in "ij"), Leaf())

    def whole(plan: RegisterPlan) -> Tree:
        return Sequence((Filter(tuple(f.id for f in fs), register_nest(fs, plan)), Filter((last.id,), own)))

    assert violation(p, whole(replace(PLAN, only=frozenset("B")))) is None
    wrong = violation(p, whole(PLAN))
    assert wrong is not None
    assert "not stored" in wrong.why


def test_portions_leave_their_results_in_memory():
    p = program()
    wrong = violation(p, nest(p, replace(PORTIONS, only=frozenset("TB"))))
    assert wrong is not None
    assert "not stored" in wrong.why
