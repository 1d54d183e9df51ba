# SPDX-License-Identifier: MIT
"""Digits change no value, mapped trees are legal, and the oracle refuses marks and copies that are not.

Which kernels come of it, and that they compute the right thing, is asked in `tests/device`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from polyhedral.devices.mapping import divide_statement
from polyhedral.devices.nest import block_nest
from polyhedral.devices.plan import BlockNest, BlockPlan, Cut
from polyhedral.ir import affine as aff
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import choose
from polyhedral.ir.program import Program, Statement, specialise
from polyhedral.ir.tree import Band, Cells, Filter, Leaf, Member, Promote, Run, Sequence, Stage, Tree
from polyhedral.machine.device import GENERIC, H100
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import map_onto
from polyhedral.sets.instances import families
from tests.programs import CASES
from tests.strategies import inputs_for

NAMES = ["matmul", "conv_strided", "capsule_conv", "softmax", "max_plus", "accumulation", "gather", "pixel_shuffle"]


def drawn(s: Statement, rng: random.Random) -> BlockPlan:
    """Any cuts; portions of some reduced dims."""
    cuts = tuple(Cut(d, rng.choice((1, 2, 4)), rng.choice((1, 2)), rng.choice((1, 2, 3))) for d in s.kept)
    portions = tuple((d, rng.choice((0, 1, 2, 3))) for d in s.reduced)
    return BlockPlan(cuts, tuple(s.kept), portions)


@pytest.mark.parametrize("name", NAMES)
def test_digits_change_no_value(name: str):
    """Each statement in digits drawn at random, at sizes that they do not divide."""
    case, rng = CASES[name], random.Random(name)
    p = specialise(case.program, case.sizes)
    statements = [divide_statement(p, s, drawn(s, rng), GENERIC)[0][0] for s in p.statements]
    cut = replace(p, statements=tuple(statements))
    inputs = inputs_for(case.program, case.sizes)
    for got, want in zip(run(cut, inputs, {}).values(), run(p, inputs, {}).values(), strict=True):
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in CASES if n != "empty"])
def test_mapped_trees_are_legal(name: str):
    case = CASES[name]
    p = specialise(case.program, case.sizes)
    mapped = map_onto(p, {}, H100)
    scheduled = mapped.scheduled
    assert violation(scheduled.analyzed.program, scheduled.schedule.tree) is None


def contraction() -> tuple[Program, BlockNest, Tree]:
    p = specialise(CASES["matmul"].program, {"A.i": 20, "A.k": 7, "B.j": 10})
    plan = BlockPlan((Cut("i", 4, 1, 2), Cut("j", 2, 2, 2)), ("i", "j"), (("k", 4),), ("A", "B"))
    (s,), nest, _ = divide_statement(p, p.statements[0], plan, GENERIC)
    p = replace(p, statements=(s,))
    return p, nest, block_nest(families(p), nest)


def changed(tree: Tree, f: Callable[[Tree], Tree]) -> Tree:
    """A tree with every node rewritten, the innermost first."""
    match tree:
        case Leaf():
            return f(tree)
        case Sequence(children):
            return f(Sequence(tuple(Filter(c.families, changed(c.child, f)) for c in children)))
        case _:
            return f(replace(tree, child=changed(tree.child, f)))


def restaged(array: str, f: Callable[[Cells], Cells]) -> Callable[[Tree], Tree]:
    def go(node: Tree) -> Tree:
        if isinstance(node, Stage) and node.array == array:
            return replace(node, cells=tuple(map(f, node.cells)))
        return node

    return go


def marked(name: str, run: Run) -> Callable[[Tree], Tree]:
    def go(node: Tree) -> Tree:
        if not isinstance(node, Band):
            return node
        return replace(node, members=tuple(replace(m, run=run) if m.name == name else m for m in node.members))

    return go


MUTANTS: dict[str, Callable[[Tree], Tree]] = {
    "a box one cell short": restaged("A", lambda c: replace(c, size=c.size - 1)),
    "a box that begins one cell late": restaged("B", lambda c: replace(c, first=c.first + 1)),
    "a box that differs by thread": restaged("A", lambda c: replace(c, first=c.first + aff.var("i_thread"), size=99)),
    "a box in terms of what is inside": restaged("A", lambda c: replace(c, first=aff.var("k_in"))),
    "portions on blocks": marked("k_part", Run.BLOCK),
    "steps of a sum on threads": marked("k_in", Run.THREAD),
    "the result is a copy": lambda n: Stage("out", (), n.child) if isinstance(n, Promote) else n,
}


def test_a_nest_is_legal_and_says_what_is_staged():
    p, nest, tree = contraction()
    assert violation(p, tree) is None
    assert nest.meets
    assert [(a, [(c.axis, str(c.first), c.size) for c in box]) for a, box in nest.staged] == [
        ("A", [("i", "8*i_block", 8), ("k", "4*k_part", 4)]),
        ("B", [("k", "4*k_part", 4), ("j", "8*j_block", 8)]),
    ]


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_is_refused(mutant: Callable[[Tree], Tree]):
    p, _, tree = contraction()
    assert violation(p, changed(tree, mutant)) is not None


def test_a_team_may_share_out_a_relaxed_sum_but_no_strict_one():
    for strict in (False, True):
        p = specialise(CASES["matmul"].program, {"A.i": 3, "A.k": 64, "B.j": 2})
        s = replace(p.statements[0], strict=strict)
        plan = BlockPlan((Cut("i"), Cut("j")), ("i", "j"), (("k", 0),), team=("k", 16))
        (s,), nest, _ = divide_statement(p, s, plan, GENERIC)
        q = replace(p, statements=(s,))
        assert (violation(q, block_nest(families(q), nest)) is not None) is strict


def test_a_recurrence_runs_on_no_blocks():
    p = specialise(CASES["prefix_sum"].program, CASES["prefix_sum"].sizes)
    for f in families(p):
        for d in f.dims:
            tree: Tree = Band((Member(d, ((f.id, aff.var(d)),), True, Run.BLOCK),), Leaf())
            others = [g for g in families(p) if g.id != f.id]
            parts = [Filter((g.id,), Leaf()) for g in others]
            assert violation(p, Sequence((*parts, Filter((f.id,), tree)))) is not None or len(f.dims) > 1


def test_what_does_not_fit_in_shared_memory_stays_out():
    p = specialise(CASES["matmul"].program, {"A.i": 200, "A.k": 70, "B.j": 100})
    plan = BlockPlan((Cut("i", 16, 2, 4), Cut("j", 16, 2, 4)), ("i", "j"), (("k", 16),), ("A", "B"))
    small = replace(GENERIC, shared_block=9000)
    _, nest, remarks = divide_statement(p, p.statements[0], plan, small)
    assert [a for a, _ in nest.staged] == ["A"]
    assert "that takes 8192 bytes of shared memory, and 808 are left" in str(remarks[0])


def test_a_large_product_gets_tiles():
    p = specialise(CASES["matmul"].program, {"A.i": 4096, "A.k": 4096, "B.j": 4096})
    nest = map_onto(p, choose(p, {}), H100).nests["S0"]
    assert nest.plan.rows == 64
    assert nest.plan.staged == ("A", "B")
