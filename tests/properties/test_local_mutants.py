# SPDX-License-Identifier: MIT
"""Planted faults in shared loops and in memory of its own: each is refused by the oracle, and shown wrong by execution.

The legal tree that each was made from is accepted, and runs right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from codegen.lower import lower
from polyhedral.errors import InternalError
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Band, Filter, Fold, Leaf, Local, Member, Run, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.oracle.legality import violation
from polyhedral.sets.isl_schedule import frame
from polyhedral.text.reader import parse
from tests.properties.test_mutants import shown_wrong

CHAIN = parse("""
program chain
  input X: i32[i: 12, j: 4]
  temporary t: i32[i: 12, j: 4]
  output out: i32[i: 12, j: 4]
  S0: for i < 12, j < 4:  t = X * 3
  S1: for i < 12, j < 4:  out = t + X
""")
BLUR = parse("""
program blur
  input X: i32[i: 12, j: 4]
  temporary t: i32[i: 12, j: 4]
  output out: i32[i: 12, j: 4]
  S0: for i < 12, j < 4:  t = X * 3
  S1: for i < 12, j < 4:  out = t + where([1 <= i], t(i=i - 1), 0)
""")
AHEAD = parse("""
program ahead
  input X: i32[i: 12, j: 4]
  temporary t: i32[i: 12, j: 4]
  output out: i32[i: 12, j: 4]
  S0: for i < 12, j < 4:  t = X * 3
  S1: for i < 12, j < 4:  out = t + where([i < 8], t(i=i + 4), 0)
""")
SEEN = parse("""
program seen
  input X: i32[i: 12, j: 4]
  temporary t: i32[i: 12, j: 4]
  output u: i32[i: 12, j: 4]
  output out: i32[i: 12, j: 4]
  S0: for i < 12, j < 4:  t = X * 3
  S1: for i < 12, j < 4:  u = t + X
  S2: for i < 12, j < 4:  out = t - X
""")
RETURNED = parse("""
program returned
  input X: i32[i: 12, j: 4]
  output t: i32[i: 12, j: 4]
  output out: i32[i: 12, j: 4]
  S0: for i < 12, j < 4:  t = X * 3
  S1: for i < 12, j < 4:  out = t + X
""")
AGAIN = parse("""
program again
  input X: i32[i: 12]
  temporary t: i32[i: 12]
  output out: i32[i: 12, k: 5]
  S0: for i < 12:  t = X * 3
  S1: for i < 12, k < 5:  out = t + k
""")
FOLD = (Fold("i", 4, 1),)
Times = tuple[Affine, ...]


def leaf(ids: tuple[str, ...], dims: str = "ij") -> Filter:
    return Filter(ids, band(ids, [tuple(aff.var(d) for _ in ids) for d in dims], Leaf()))


def band(ids: tuple[str, ...], times: list[Times], child: Tree, run: Run = Run.SERIAL) -> Band:
    members = [
        Member(f"c{k}", tuple(zip(ids, t, strict=True)), False, run if not k else Run.SERIAL)
        for k, t in enumerate(times)
    ]
    return Band(tuple(members), child)


def blocks(
    folds: tuple[Fold, ...] | None = FOLD,
    *,
    run: Run = Run.PARALLEL,
    shift: int = 0,
    late: bool = False,
    between: bool = False,
    twice: bool = False,
) -> Tree:
    """S0 and S1 in blocks of 4 rows; the first block of S1 runs with block `shift` of S0, or S1 is `late` in each."""
    ids = ("S0", "S1")
    parts = (leaf(("S0",)), leaf(("S1",)))
    inside: Tree = InOrder(parts[::-1] if late else parts)
    inside = Local("t", folds, inside) if folds is not None else inside
    i, j = aff.var("i"), aff.var("j")
    if twice:
        inside = band(ids, [(j // 2, j // 2)], inside)
    if between:
        inside = InOrder((Filter(ids, inside),))
    return band(ids, [(i // 4, i // 4 + shift)], inside, run)


def outside(tree: Tree) -> Tree:
    """The nest, and then S2, which reads what lay in memory of its own."""
    return InOrder((Filter(("S0", "S1"), tree), leaf(("S2",))))


MEMORY = "each iteration of the loops around has memory of its own"
GONE = "its memory is gone by then"
CELLS = "its memory has {} cells along {} there"
EARLY = "the first must come before the second, but is scheduled after it"
RACE = "they run at the same time, in parallel iterations"
FAULTS: dict[str, tuple[Program, Tree, str]] = {
    "a flow that crosses iterations": (BLUR, blocks((), run=Run.SERIAL), MEMORY),
    "a flow that crosses iterations, folded": (BLUR, blocks(run=Run.SERIAL), MEMORY),
    "a flow that the loop delays": (CHAIN, blocks((), run=Run.SERIAL, shift=1), MEMORY),
    "a read outside": (SEEN, outside(blocks()), GONE),
    "an output": (RETURNED, blocks(), "only temporaries whose cells all have a place lie in memory of their own"),
    "a fold too small": (CHAIN, blocks((Fold("i", 3, 1),)), CELLS.format(3, "i")),
    "a fold of nothing": (CHAIN, blocks((Fold("i", 0, 1),)), CELLS.format(0, "i")),
    "a fold along the wrong axis": (CHAIN, blocks((Fold("j", 4, 1),)), CELLS.format(4, "j")),
    "a fold at the wrong level": (CHAIN, blocks(FOLD, twice=True), CELLS.format(4, "i")),
    "a consumer before its producer": (CHAIN, blocks(None, late=True), EARLY),
    "a consumer that needs a later block": (AHEAD, blocks(None, run=Run.SERIAL), EARLY),
    "a consumer that needs an earlier block, on all cores": (BLUR, blocks(None), RACE),
    "a producer one block later": (CHAIN, blocks(None, run=Run.SERIAL, shift=-1), EARLY),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_an_illegal_nest_is_refused_and_wrong(name: str):
    p, tree, why = FAULTS[name]
    found = violation(p, tree)
    assert found is not None
    assert found.why == why, str(found)
    assert shown_wrong(p, {}, lower(frame(p), tree)) is not None


LEGAL: dict[str, tuple[Program, Tree]] = {
    "one block": (CHAIN, blocks()),
    "all of it": (CHAIN, blocks(())),
    "the outer of two loops": (CHAIN, blocks((Fold("i", 4, 2),), twice=True)),
    "both loops": (CHAIN, blocks((Fold("i", 4, 2), Fold("j", 2, 1)), twice=True)),
    "a sequence between": (CHAIN, blocks(between=True)),
    "earlier blocks, one after another": (BLUR, blocks(None, run=Run.SERIAL)),
}


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_nest_is_accepted_and_right(name: str):
    p, tree = LEGAL[name]
    assert violation(p, tree) is None
    assert shown_wrong(p, {}, lower(frame(p), tree)) is None


def test_levels_count_loops_and_not_sequences():
    """`up` of a Fold: the loop is found over any sequence between, by the oracle as by the loops."""
    both = blocks((Fold("i", 4, 1),), between=True)
    assert violation(CHAIN, both) is None
    assert violation(CHAIN, blocks((Fold("i", 4, 2),), between=True)) is not None
    assert shown_wrong(CHAIN, {}, lower(frame(CHAIN), both)) is None


def test_memory_without_folds_is_gone_outside_too():
    """A region that holds none of an array's statements."""
    tree = InOrder((leaf(("S0",)), Filter(("S1",), Local("t", (), leaf(("S1",)).child))))
    found = violation(CHAIN, tree)
    assert found is not None
    assert found.why == GONE


def test_memory_of_no_known_size():
    p = parse("""
    program sized
      input X: i32[i, j]
      temporary t: i32[i: X.i, j: X.j]
      output out: i32[i: X.i, j: X.j]
      S0: for i < X.i, j < X.j:  t = X * 3
      S1: for i < X.i, j < X.j:  out = t + X
    """)
    found = violation(p, blocks())
    assert found is not None
    assert "that along j is not a number" in found.why
    folds: Callable[[int], tuple[Fold, ...]] = lambda up: (Fold("i", 4, 2), Fold("j", 2, up))  # noqa: E731
    assert violation(p, blocks(folds(1), twice=True)) is None
    assert violation(p, blocks(folds(2), twice=True)) is not None


def test_memory_that_a_loop_fills_again():
    """Executions that follow each other do not see what the one before left: the value must be made in each."""
    ids = ("S0", "S1")
    inside: Tree = InOrder((Filter(("S0",), Leaf()), Filter(("S1",), Leaf())))
    once = band(
        ids, [(aff.var("i"), aff.var("i")), (aff.const(0), aff.var("k"))], Local("t", (Fold("i", 1, 2),), inside)
    )
    found = violation(AGAIN, once)
    assert found is not None
    assert found.why == MEMORY
    with pytest.raises(InternalError, match="apart"):  # isl peels an iteration off, and memory with it
        lower(frame(AGAIN), once)
    kept = replace(once, child=inside)
    assert violation(AGAIN, kept) is None
    assert shown_wrong(AGAIN, {}, lower(frame(AGAIN), kept)) is None
