# SPDX-License-Identifier: MIT
"""What is computed in one kernel of a device: epilogues on the results that a thread holds, in random programs too."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from codegen.launch import DeviceSource
from frontend import lang as ph
from frontend.assemble import assemble
from frontend.infer import settle
from polyhedral.dim import k
from polyhedral.interpreter import run
from polyhedral.program import Program, specialise
from tests.device.on_host import run_on_host
from tests.running import agree
from tests.strategies import inputs_for
from tests.zoo_language import Case, record

pytest.importorskip("pyopencl")
from tests.device.test_opencl import run_opencl


def traced(case: Case, extents: Mapping[str, int]) -> Program:
    p = assemble(record(case, settle)[0])
    return specialise(p, {size: extents[size.rpartition(".")[2]] for size in p.sizes})


def dense_layer(A, B, b, R):
    return ph.relu((A * B).sum(k) + b) * 2 + R


def two_results(A, B, b):
    total = (A * B).sum(k)
    return total, ph.exp(-ph.abs(total + b))


def narrow(A, B, b):
    return ((A * B).sum(k).astype(ph.f32) * b).astype(ph.bf16)


GEMM = {"A": "f32 i k", "B": "f32 k j", "b": "f32 j"}
CASES = {
    "dense_layer": Case(dense_layer, GEMM | {"R": "f32 i j"}),
    "two_results": Case(two_results, GEMM),
    "narrow": Case(narrow, GEMM | {"A": "bf16 i k", "B": "bf16 k j"}),
}
SHAPES = ({"i": 67, "k": 35, "j": 70}, {"i": 5, "k": 3, "j": 4})


@pytest.mark.parametrize("shape", range(2))
@pytest.mark.parametrize("name", CASES)
def test_epilogues(name: str, shape: int):
    p = traced(CASES[name], SHAPES[shape])
    inputs = inputs_for(p, {})
    got, built = run_opencl(p, inputs, {})
    assert isinstance(built.source, DeviceSource)
    assert len(built.source.launches) == 1
    agree(p, got, run(p, inputs, {}), inputs)


def test_cuda_text_with_an_epilogue(tmp_path):
    p = traced(CASES["dense_layer"], SHAPES[0])
    inputs = inputs_for(p, {})
    got, built = run_on_host(p, inputs, {}, tmp_path)
    assert "sum0" not in built.source.buffers  # it is in registers and nowhere else
    agree(p, got, run(p, inputs, {}), inputs)
