# SPDX-License-Identifier: MIT
"""Hints: legal ones shape the schedule and keep the meaning, illegal ones are refused with a witness and a remedy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import polyhedral as ph
from frontend.lowering.hints import Hints, hints
from frontend.stages.lowered import Lowered, lower
from polyhedral.dim import i, j, t, x
from polyhedral.errors import ArgumentError, DimError, LegalityError
from polyhedral.ir.interpreter import run
from polyhedral.ir.tree import Run, bands
from tests.programs import CASES
from tests.running import agree
from tests.strategies import inputs_for

JACOBI = {"u0.y": 13, "u0.x": 17, "steps": 7}
GEMM = {"A.i": 13, "A.k": 9, "B.j": 21}
CHAIN = {"X.i": 13, "X.k": 9, "W.j": 21}


def lowered(name: str, chosen: Hints, sizes: Mapping[str, int] | None = None) -> Lowered:
    case = CASES[name]
    return lower(case.program, sizes or case.sizes, hints=chosen)


def keeps_the_meaning(name: str, chosen: Hints, sizes: Mapping[str, int] | None = None) -> Lowered:
    """Compile with hints, run, and hold the result against the interpreter."""
    case = CASES[name]
    low = lowered(name, chosen, sizes)
    inputs = inputs_for(case.program, sizes or case.sizes)
    expected = run(case.program, inputs, sizes or case.sizes)
    data = {n: v.copy() for n, v in inputs.items()}
    result = low.compile()(**data)
    returned = low.module.returned
    got = {n: data[n] for n in expected if n in data}
    if isinstance(returned, str):
        got[returned] = np.asarray(result.order(*case.program.array(returned).dim_names))
    agree(case.program, got, expected, inputs)
    return low


def test_a_tile_that_needs_a_skew():
    with pytest.raises(LegalityError) as refused:
        lowered("jacobi2d", hints().tile("u", t=2, y=4, x=4), JACOBI)
    assert refused.value.code == "PH401"
    assert 'skew("u", y=t, x=t)' in refused.value.hints[0]
    assert any(d.startswith("witness: S1(") for d in refused.value.details)
    low = keeps_the_meaning("jacobi2d", hints().skew("u", y=t, x=t).tile("u", t=2, y=4, x=4), JACOBI)
    assert "S1[t//2, (t + y)//4, (t + x)//4, t, t + y, t + x]" in low.schedule()


CASES_OF_HINTS = {
    "space tiles": ("jacobi2d", hints().tile("u", y=4, x=4).parallel("y"), JACOBI),
    "gauss-seidel": (
        "gauss_seidel",
        hints().skew("u", y="t", x=t).tile("u", t=2, y=4, x=4),
        {"u.y": 13, "u.x": 11, "steps": 5},
    ),
    "all dims of a product": ("matmul", hints().tile("out", i=4, j=8, k=4), GEMM),
    "one dim of a product": ("matmul", hints().tile("out", k=4).parallel(j), GEMM),
    "order in memory": ("matmul", hints().layout("out", "j i"), GEMM),
    "fused": ("relu_chain", hints().fuse("S0", "S1"), CHAIN),
    "fused at one dim": ("relu_chain", hints().fuse("h", "out", at=i), CHAIN),
    "fused in tiles": ("relu_chain", hints().fuse("S0", "S1").tile("S0", i=4, j=4, k=2).parallel("i"), CHAIN),
    "four in one": (
        "softmax",
        hints().fuse("S0", "S1").fuse("S1", "S2").fuse("S2", "S3").parallel("i"),
        {"X.i": 9, "X.k": 7},
    ),
    "two and two": ("softmax", hints().fuse("S0", "S1").fuse("S2", "S3"), {"X.i": 9, "X.k": 7}),
    "inside a cycle": ("lu", hints().tile("S1", j=2), {"A.i": 9}),
    "scan": ("scan2d", hints().tile("out", i=2, j=3), {"X.i": 7, "X.j": 8}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES_OF_HINTS.values(), ids=CASES_OF_HINTS)
def test_hinted_is_interpreted(case: tuple[str, Hints, Mapping[str, int]]):
    keeps_the_meaning(*case)


def test_a_parallel_hint_is_followed():
    low = keeps_the_meaning("matmul", hints().parallel(j), GEMM)
    outer = next(bands(low.tree)).members[0]
    assert (outer.name, outer.run) == ("j", Run.PARALLEL)


def test_a_reduced_dim_is_not_parallel():
    with pytest.raises(LegalityError, match="k is reduced"):
        lowered("matmul", hints().parallel("k"), GEMM)


def test_a_fusion_that_is_not_legal():
    with pytest.raises(LegalityError, match="fusing S0 and S3"):
        lowered("softmax", hints().fuse("S0", "S3"))


def test_layouts_of_results_and_inputs():
    low = lowered("matmul", hints().layout("out", "j i"), GEMM)
    assert low.layouts["out"].order == ("j", "i")
    with pytest.raises(ArgumentError, match="inputs keep the caller's strides"):
        lowered("matmul", hints().layout("A", "k i"), GEMM)
    with pytest.raises(ArgumentError, match=r"has \{i, j\}"):
        lowered("matmul", hints().layout("out", "j k"), GEMM)
    with pytest.raises(ArgumentError, match="no tensor 'Z'"):
        lowered("matmul", hints().layout("Z", "j k"), GEMM)


def test_hints_of_a_function():
    @ph.function(u0="x")
    def jacobi(u0, steps: ph.Size):
        u = ph.var("u", like=u0, t=steps + 1)
        u(t=0)[...] = u0
        u[t + 1] = ph.orelse(0.25 * (u[x - 1] + 2 * u + u[x + 1]), u)
        return u(t=steps)

    with pytest.raises(LegalityError, match=r"distance \(1,-1\)"):
        jacobi.lower(hints=hints().tile("u", t=4, x=8))
    low = jacobi.lower(u0="f64[x:40]", sizes={"steps": 9}, hints=hints().skew("u", x=t).tile("u", t=4, x=8))
    start = np.arange(40.0) % 7
    got = low.compile()(start)
    want = start.copy()
    for _ in range(9):
        want[1:-1] = 0.25 * (want[:-2] + 2 * want[1:-1] + want[2:])
    np.testing.assert_allclose(got.order("x"), want, rtol=1e-12)


def test_hints_are_values():
    one = hints().tile("u", x=8)
    assert one == hints().tile("u", x=8)
    assert hash(one) == hash(hints().tile("u", x=8))
    assert one != one.parallel("x")
    assert not hints()
    assert str(one.fuse("a", "b", at="y x").skew("u", x=2 * t).layout("Y", "y x")) == (
        "ph.hints().fuse('a', 'b', at='y x').tile('u', x=8).skew('u', x=2*t).layout('Y', 'y x')"
    )


def test_what_is_no_hint():
    with pytest.raises(ArgumentError, match="names no dims"):
        hints().tile("u")
    with pytest.raises(ArgumentError, match="not an index"):
        hints().skew("u", x="t*t")
    with pytest.raises(ArgumentError, match="no statement 'v'"):
        lowered("jacobi2d", hints().tile("v", x=2))
    with pytest.raises(DimError, match="no dimension named 'z'"):
        lowered("jacobi2d", hints().skew("u", x="z"))


def test_what_a_layout_is_asked_for_is_stored():
    """Votes would be recomputed; a hint names them."""

    @ph.function(P="k r", W="k o r")
    def votes(P, W):
        V = ph.let((P * W).sum("r"), "V")
        return V.sum("k"), (V * V).sum("k")

    shapes = {"P": "f32[k:3000, r:4]", "W": "f32[k:3000, o:600, r:4]"}
    assert "V" not in {a.name for a in votes.lower(**shapes).program.arrays}
    low = votes.lower(**shapes, hints=ph.hints().layout("V", "o k"))
    assert low.layouts["V"].order == ("o", "k")
