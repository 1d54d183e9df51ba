# SPDX-License-Identifier: MIT
"""Each transform: the tree it makes, every instance exactly once, and legal exactly where it should be."""

from __future__ import annotations

import pytest

from codegen.lower import lower
from polyhedral.ir import affine as aff
from polyhedral.ir.program import specialise
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Promote, Run, Sequence, bands, map_bands
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze
from polyhedral.scheduling.schedule import original
from polyhedral.sets.instances import families
from polyhedral.sets.isl_schedule import frame, isl_schedule
from polyhedral.transforms.parallel import parallelise
from polyhedral.transforms.tile import tile
from polyhedral.transforms.wavefront import wavefront
from tests.executor import Executor
from tests.programs import CASES
from tests.properties.enumerated import broken_pair, instances_of
from tests.strategies import inputs_for

AT_I, AT_J = aff.var("i"), aff.var("j")


def band(*times: aff.Affine, coincident: bool = False) -> Band:
    members = tuple(Member(f"c{k}", (("S0", t),), coincident) for k, t in enumerate(times))
    return Band(members, Leaf(), True)


def test_tile_shows_its_picture():
    tiled = tile(band(AT_I, AT_J, coincident=True), [8, 4])
    assert [[str(m.time("S0")) for m in b.members] for b in bands(tiled)] == [["i//8", "j//4"], ["i", "j"]]
    assert [m.name for m in tiled.members] == ["c0_tile", "c1_tile"]
    assert tiled.permutable
    assert all(m.coincident for b in bands(tiled) for m in b.members)


def test_a_tile_size_of_zero_leaves_the_member_among_the_points():
    tiled = tile(band(AT_I, AT_J), [0, 4])
    assert [[str(m.time("S0")) for m in b.members] for b in bands(tiled)] == [["j//4"], ["i", "j"]]
    assert tile(band(AT_I, AT_J), [0, 0]) == band(AT_I, AT_J)


def test_tile_takes_the_run_of_the_loop_to_its_tiles():
    marked = Band((Member("i", (("S0", AT_I),), True, Run.PARALLEL),), Leaf())
    tiled = tile(marked, [4])
    assert [m.run for b in bands(tiled) for m in b.members] == [Run.PARALLEL, Run.SERIAL]


def test_wavefront_shows_its_picture():
    skewed = wavefront(band(AT_I, AT_J))
    assert [(m.name, str(m.time("S0")), m.coincident) for m in skewed.members] == [
        ("wave", "i + j", False),
        ("c1", "j", True),
    ]


def test_parallelise_marks_the_first_coincident_member_on_each_path():
    free = band(AT_I, AT_J, coincident=True)
    bound = band(AT_I)
    tree = Sequence((Filter(("S0",), Promote("out", free)), Filter(("S1",), Band(bound.members, free))))
    marked = parallelise(tree)
    assert [[m.run.value for m in b.members] for b in bands(marked)] == [
        ["parallel", "serial"],
        ["serial"],
        ["parallel", "serial"],
    ]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_tiles_run_every_instance_once(name: str, size: int):
    case = CASES[name]
    p = specialise(case.program, case.sizes)
    fr = frame(p)
    tree = map_bands(original(families(p)), lambda b: tile(b, [size] * len(b.members)))
    executor = Executor(p, case.sizes)
    executor.run(lower(fr, tree), inputs_for(p, case.sizes))
    assert sorted(executor.order) == sorted((f.id, q) for f in fr.families for q in instances_of(f, case.sizes))


@pytest.mark.parametrize("name", ["gauss_seidel", "scan2d", "jacobi2d", "trisolve", "floyd_warshall"])
def test_wave_tiles_of_isl_bands_are_legal(name: str):
    """Tiling a permutable band and running the others of a wave in parallel is legal: the oracle agrees."""
    p = specialise(CASES[name].program, CASES[name].sizes)
    a = analyze(p)
    deps = a.dependences
    tree = isl_schedule(a.frame, a.frame.families, deps.validity, deps.coincidence, deps.proximity)
    assert tree is not None

    def polished(b: Band) -> Band:
        if not b.permutable or len(b.members) < 2:
            return b
        tiled = tile(b, [2] * len(b.members))
        return tiled if tiled.members[0].coincident else wavefront(tiled)

    tree = parallelise(map_bands(tree, polished))
    assert violation(p, tree) is None
    assert broken_pair(p, CASES[name].sizes, tree) is None
