# SPDX-License-Identifier: MIT
"""The legality oracle: its obligations against enumeration, and what it says of trees that break one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from polyhedral.ir import affine as aff
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Promote, Run, Sequence
from polyhedral.oracle.legality import PRIME, Pairs, obligations, violation
from polyhedral.rewrites.fold_storage import fold_storage
from polyhedral.scheduling.schedule import original
from polyhedral.sets.instances import families
from polyhedral.sets.isl_schedule import frame
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from tests.polyhedral.test_dependences import HARD
from tests.programs import CASES
from tests.properties.enumerated import Instance, broken_pair, instances_of, ordered_pairs
from tests.strategies import programs

SMALL = [n for n in CASES if n not in ("capsule_conv", "conv_strided")]


def listed(pairs: Pairs) -> set[tuple[Instance, Instance]]:
    """The points of a set, by testing its condition at every pair of instances."""
    first, then = instances_of(pairs.first, {}), instances_of(pairs.then, {})
    if not first or not then:
        return set()
    at = {d: column[:, None] for d, column in zip(pairs.first.dims, np.array(first, np.int64).T, strict=True)}
    at |= {d + PRIME: column for d, column in zip(pairs.then.dims, np.array(then, np.int64).T, strict=True)}
    holds = np.broadcast_to(aff.holds(pairs.points.condition(), at, {}), (len(first), len(then)))
    return {((pairs.first.id, first[a]), (pairs.then.id, then[b])) for a, b in np.argwhere(holds).tolist()}


def agree(p: Program) -> None:
    want = ordered_pairs(p, {})
    got: dict[str, set] = {"ordered": set(), "relaxed": set()}
    for pairs in obligations(p):
        got["relaxed" if pairs.relaxed else "ordered"] |= listed(pairs)
    for why in ("ordered", "relaxed"):
        assert {(a, b) for a, b in got[why] if a != b} == {(a, b) for a, b in want[why] if a != b}, (
            f"{why}: {to_text(p)}"
        )


@given(programs())
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_obligations_of_random_programs(p: Program):
    agree(p)


@pytest.mark.parametrize("name", SMALL)
def test_obligations_of_the_zoo(name: str):
    agree(specialise(CASES[name].program, CASES[name].sizes))


@pytest.mark.parametrize("what", HARD)
def test_obligations_of_hard_cases(what: str):
    agree(parse(HARD[what]))


def test_reused_storage_orders_readers_before_the_next_writer():
    p = fold_storage(specialise(CASES["jacobi2d"].program, {"u0.y": 4, "u0.x": 4, "steps": 3}))
    assert p.array("u").planes == (("t", 2),)
    agree(p)
    tree = original(families(p))
    assert violation(p, tree) is None
    assert broken_pair(p, {}, tree) is None
    inside = Sequence((
        Filter(("S0",), _band("S0", "y", "x")),
        Filter(("S1",), _band("S1", "y", "x", "t")),
        Filter(("S2",), _band("S2", "y", "x")),
    ))  # fmt: skip
    assert violation(p, inside) is not None
    assert broken_pair(p, {}, inside) is not None


def _band(family: str, *dims: str, run: Run = Run.SERIAL) -> Band:
    return Band(tuple(Member(d, ((family, aff.var(d)),), False, run) for d in dims), Leaf(), True)


def test_a_violation_names_the_pair_and_the_reason():
    p = CASES["prefix_sum"].program
    backwards = Band((Member("i", (("S0", aff.var("i") * -1),)),), Leaf())
    assert str(violation(p, backwards)) == (
        "S0(i=0) and S0(i=1) both touch out: the first must come before the second, but is scheduled after it"
    )
    assert str(violation(p, _band("S0", "i", run=Run.PARALLEL))) == (
        "S0(i=0) and S0(i=1) both touch out: they run at the same time, in parallel iterations"
    )
    assert str(violation(p, Leaf())) == (
        "S0(i=0) and S0(i=1) both touch out: the first must come before the second, but nothing orders them"
    )


def test_different_times_of_a_parallel_loop_order_nothing():
    p = parse("program p\n output A: i32[]\n output B: i32[]\n S0: A = 1\n S1: B = A")
    member = Member("c", (("S0", aff.const(0)), ("S1", aff.const(1))))
    assert violation(p, Band((member,), Leaf())) is None
    for run in (Run.PARALLEL, Run.VECTOR):
        tree = Band((Member(member.name, member.times, False, run),), Leaf())
        assert violation(p, tree) is not None
        assert broken_pair(p, {}, tree) is not None


def test_registers_hold_what_one_reduction_sets_and_updates():
    p = specialise(CASES["matmul"].program, CASES["matmul"].sizes)
    whole = Sequence((Filter(("S0i",), _band("S0i", "i", "j")), Filter(("S0",), _band_over_k())))
    assert violation(p, Promote("out", whole)) is None
    portions = Sequence((Filter(("S0i",), Promote("out", _band("S0i", "i", "j"))), Filter(("S0",), _band_over_k())))
    assert violation(p, portions) is None  # each execution of a region leaves its cells in memory and finds them there


def test_registers_are_not_read_from_memory():
    p = parse("""
    program p
      output A: i32[i: 4]
      output B: i32[i: 4]
      S0: for i < 4:  A = i32(i)
      S1: for i < 4:  B = A
    """)
    both = Band((Member("i", (("S0", aff.var("i")), ("S1", aff.var("i")))),), Sequence((
        Filter(("S0",), Leaf()),
        Filter(("S1",), Leaf()),
    )))  # fmt: skip
    assert violation(p, both) is None
    wrong = violation(p, Promote("A", both))
    assert wrong is not None
    assert "held in registers" in wrong.why


def _band_over_k() -> Band:
    k = Member("k", (("S0", aff.var("k")),))
    return Band((k,), Promote("out", _band("S0", "i", "j")))


def test_symbolic_sizes_give_a_witness_with_sizes():
    p = CASES["scan2d"].program
    wrong = violation(
        p, Band((Member("j", (("S0", aff.var("j")),)), Member("i", (("S0", aff.var("i") * -1),))), Leaf())
    )
    assert wrong is not None
    assert dict(wrong.then_at)["i"] == dict(wrong.first_at)["i"] + 1


@pytest.mark.parametrize("name", SMALL)
def test_the_written_order_is_legal_or_refused_alike(name: str):
    p = specialise(CASES[name].program, CASES[name].sizes)
    tree = original(families(p))
    assert (violation(p, tree) is None) == (broken_pair(p, CASES[name].sizes, tree) is None)
    assert frame(p).families == families(p)
