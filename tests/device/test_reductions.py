# SPDX-License-Identifier: MIT
"""Long reductions to few results: teams of threads, and parts on other blocks, in several types and operators.

On OpenCL, and as CUDA text on a processor, whose threads run in a shuffled order.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import polyhedral as ph
from frontend.inference.assemble import assemble
from frontend.inference.settling import settle
from polyhedral.dim import i, j, k
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, specialise
from polyhedral.machine.device import H100
from polyhedral.pipeline import map_onto
from tests.device.on_host import run_on_host
from tests.device.on_opencl import run_opencl
from tests.running import agree
from tests.strategies import inputs_for
from tests.zoo_language import Case, record


def reduced(X, N, H, D):
    return X.sum(k), X.max(k), N.sum(k), H.min(k), D.max(k), (D * D).sum(k)


def moments(X):
    return X.sum(i, k), (X * X).sum(i, k), X.max(i, k)


def rows(X):
    return X.sum(k)


def product(A, B):
    return (A * B).sum(k)


def within_blocks(X):
    return ph.softmax(X, k, where=k // 5 == i // 5), X.max(k, where=(k <= i) & (i - k < 5))


def triangle(A, B):
    """Sums of which only some exist: threads of the others would wait for ever."""
    return ph.softmax((A * B).sum(k), j, where=j <= i)


FEW = {"X": "f32 r k", "N": "i32 r k", "H": "f16 r k", "D": "f64 k"}
PROGRAMS = {
    "few": Case(reduced, FEW),
    "moments": Case(moments, {"X": "f32 i k"}),
    "rows": Case(rows, {"X": "f32 r k"}),
    "product": Case(product, {"A": "f32 i k", "B": "f32 k j"}),
    "triangle": Case(triangle, {"A": "f32 i k", "B": "f32 j k"}),
    "within blocks": Case(within_blocks, {"X": "f32 i k"}),
}


def program(name: str, extents: Mapping[str, int]) -> Program:
    p = assemble(record(PROGRAMS[name], settle, name)[0])
    return specialise(p, {size: extents[size.rpartition(".")[2]] for size in p.sizes})


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("few", {"r": 3, "k": 100}),
        ("few", {"r": 1, "k": 4099}),
        ("moments", {"i": 7, "k": 1501}),
        ("product", {"i": 9, "k": 1300, "j": 5}),
        ("triangle", {"i": 21, "k": 40, "j": 21}),
        ("within blocks", {"i": 17, "k": 17}),
        ("within blocks", {"i": 40, "k": 40}),
    ],
)
def test_teams_and_parts(name: str, sizes: Mapping[str, int], tmp_path):
    p = program(name, sizes)
    inputs = inputs_for(p, {})
    want = run(p, inputs, {})
    agree(p, run_on_host(p, inputs, {}, tmp_path)[0], want, inputs)
    agree(p, run_opencl(p, inputs, {})[0], want, inputs)


@pytest.mark.parametrize(
    ("name", "sizes", "parts"),
    [
        ("moments", {"i": 1000, "k": 20_000}, True),
        ("product", {"i": 64, "k": 1 << 20, "j": 64}, True),
        ("product", {"i": 2048, "k": 2048, "j": 2048}, False),
        ("rows", {"r": 100_000, "k": 64}, False),
        ("moments", {"i": 10, "k": 10}, False),
    ],
)
def test_parts_where_the_results_leave_the_device_idle(name: str, sizes: Mapping[str, int], *, parts: bool):
    said = map_onto(program(name, sizes), {}, H100).scheduled.schedule.remarks
    assert any("parts by other blocks" in r.what for r in said) == parts
