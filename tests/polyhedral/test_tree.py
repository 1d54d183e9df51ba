# SPDX-License-Identifier: MIT
"""The schedule tree: its own operations, and the round trip through isl's trees against isl's own answers."""

from __future__ import annotations

import islpy as isl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyhedral.ir import affine as aff
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import (
    Band,
    Filter,
    Leaf,
    Member,
    Promote,
    Run,
    Sequence,
    bands,
    families_of,
    held,
    map_bands,
    members_of,
    regions,
    render,
    times,
)  # fmt: skip
from polyhedral.pipeline import analyze
from polyhedral.scheduling.schedule import original
from polyhedral.sets.instances import families
from polyhedral.sets.isl_schedule import frame, from_isl, isl_schedule, to_isl
from tests.programs import CASES
from tests.properties.schedules import Proposals, transformed
from tests.strategies import programs

AT_I, AT_K = aff.var("i"), aff.var("k")
REDUCTION = Band(
    (Member("i", (("S0i", AT_I), ("S0", AT_I)), True, Run.PARALLEL),),
    Promote("out", Sequence((
        Filter(("S0i",), Leaf()),
        Filter(("S0",), Band((Member("k", (("S0", AT_K),)),), Leaf())),
    ))),
)  # fmt: skip


def test_times_run_through_bands_and_sequences():
    at = times(REDUCTION, ("S0i", "S0"))
    assert at["S0i"] == ((AT_I, Run.PARALLEL), (aff.const(0), Run.SERIAL))
    assert at["S0"] == ((AT_I, Run.PARALLEL), (aff.const(1), Run.SERIAL), (AT_K, Run.SERIAL))


def test_walking():
    assert families_of(REDUCTION) == ("S0i", "S0")
    assert [[m.name for m in b.members] for b in bands(REDUCTION)] == [["i"], ["k"]]
    assert [m.name for m in members_of(REDUCTION, "S0")] == ["i", "k"]
    assert [m.name for m in members_of(REDUCTION, "S0i")] == ["i"]
    assert [(at, n.array) for at, n in held(REDUCTION, "S0")] == [(1, "out")]
    assert [(p.array, inside, depth) for p, inside, depth in regions(REDUCTION)] == [("out", ("S0i", "S0"), 1)]


def test_map_bands_goes_innermost_first():
    seen = []

    def note(b: Band) -> Band:
        seen.append(b.members[0].name)
        return b

    assert map_bands(REDUCTION, note) == REDUCTION
    assert seen == ["k", "i"]


def test_rendering():
    assert render(REDUCTION, {"S0": "out", "S0i": "out.init"}).splitlines() == [
        "band i: parallel",
        "  in registers: out",
        "    sequence",
        "    - 0: out.init",
        "        out.init[i]",
        "    - 1: out",
        "        band k: serial",
        "          out[i, k]",
    ]


def same_order(p: Program, tree, other) -> None:  # type: ignore[no-untyped-def]
    """Two trees put the same instances before the same others (as isl sees it)."""
    fr = frame(p)
    domain = fr.domains(fr.families)
    a, b = (to_isl(fr, t, fr.families).get_map().intersect_domain(domain) for t in (tree, other))
    assert a.lex_lt_union_map(a).is_equal(b.lex_lt_union_map(b))


@pytest.mark.parametrize("name", CASES)
def test_the_zoo_round_trips_through_isl(name: str):
    p = specialise(CASES[name].program, CASES[name].sizes)
    fr = frame(p)
    tree = original(families(p))
    back = from_isl(fr, to_isl(fr, tree, fr.families), fr.families)
    same_order(p, tree, back)
    found = times(back, tuple(f.id for f in fr.families))
    assert found.keys() == {f.id for f in fr.families}


@given(programs(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_random_trees_round_trip_through_isl(p: Program, rng):  # type: ignore[no-untyped-def]
    fr = frame(p)
    tree = Proposals(p, rng).legal()[1]  # type: ignore[index]
    _, tree = transformed(tree, rng)
    text = str(to_isl(fr, tree, fr.families))
    assert isl.Schedule(text).plain_is_equal(isl.Schedule(text))
    same_order(p, tree, from_isl(fr, to_isl(fr, tree, fr.families), fr.families))


def test_coincident_and_permutable_come_back():
    p = specialise(CASES["gauss_seidel"].program, CASES["gauss_seidel"].sizes)
    a = analyze(p)
    deps = a.dependences
    tree = isl_schedule(a.frame, a.frame.families, deps.validity, deps.coincidence, deps.proximity)
    assert isinstance(tree, Band)
    assert tree.permutable
    assert len(tree.members) == 3
    assert not tree.members[0].coincident
    back = from_isl(a.frame, to_isl(a.frame, tree, a.frame.families), a.frame.families)
    assert isinstance(back, Band)
    assert [m.coincident for m in back.members] == [m.coincident for m in tree.members]
    assert back.permutable
