# SPDX-License-Identifier: MIT
"""Contractions on matrix units: the CUDA text, with warps and tiles on a processor, agrees with the interpreter.

Which cell of a tile lies in which thread's registers is the hardware's business; here every thread has the whole tile.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest

from codegen.launch import DeviceSource
from codegen.runtime.cache import Cache
from codegen.runtime.nvcc import compile_cuda, find_nvcc, resources
from frontend import lang as ph
from frontend.inference.assemble import assemble
from frontend.inference.settling import settle
from polyhedral.dim import c, k, kx, ky, q, x, y
from polyhedral.errors import ToolchainError
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, specialise
from polyhedral.ir.tree import Band, Run, map_bands, render
from polyhedral.machine.device import H100
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import map_onto
from tests.device.on_host import executed, lowered
from tests.running import agree
from tests.strategies import inputs_for
from tests.zoo_language import Case, record


def product(A, B):
    return (A * B).sum(k)


def layer(A, B, b):
    return ph.relu((A * B).sum(k) + b).astype(ph.bf16)


def convolution(X, W):
    return (X[2 * y + ky, x + kx] * W).sum(ky, kx, c)


def capsules(P, W):
    return (P * W).sum(c, q)


CASES = {
    "bf16": (Case(layer, {"A": "bf16 i k", "B": "bf16 k j", "b": "f32 j"}), {"i": 40, "k": 64, "j": 72}),
    "f16": (Case(product, {"A": "f16 n k i", "B": "f16 n j k"}), {"n": 2, "i": 48, "k": 16, "j": 33}),
    "windows": (
        Case(convolution, {"X": "bf16 y x c", "W": "bf16 ky kx o c"}),
        {"y": 7, "x": 21, "ky": 3, "kx": 2, "c": 32, "o": 24},
    ),
    "capsules": (Case(capsules, {"P": "f16 b q c", "W": "f16 q c o"}), {"b": 32, "q": 4, "c": 16, "o": 16}),
    "tf32": (Case(product, {"A": "f32 i k", "B": "f32 k j"}), {"i": 33, "k": 24, "j": 34}),
}


def traced(name: str) -> Program:
    case, extents = CASES[name]
    p = assemble(record(case, settle, name)[0])
    return specialise(p, {size: extents[size.rpartition(".")[2]] for size in p.sizes})


@pytest.mark.parametrize("name", CASES)
def test_tiles_of_matrix_units(name: str, tmp_path):
    p = traced(name)
    inputs = inputs_for(p, {})
    built = lowered(p, {}, "cuda:sm_80", tf32=name == "tf32")
    assert "mma_sync" in built.source.text
    agree(p, executed(built, inputs, {}, tmp_path), run(p, inputs, {}), inputs)


def test_f32_is_rounded_only_where_that_is_asked_for():
    assert "mma_sync" not in lowered(traced("tf32"), {}, "cuda:sm_80").source.text


@pytest.mark.parametrize(("architecture", "name"), [("sm_80", "bf16"), ("sm_90", "windows"), ("sm_90", "tf32")])
def test_nvcc_makes_matrix_instructions_of_them(architecture: str, name: str, tmp_path):
    try:
        nvcc = find_nvcc(os.environ)
    except ToolchainError:
        pytest.skip("no nvcc here")
    built = lowered(traced(name), {}, f"cuda:{architecture}", tf32=True)
    source = built.source
    assert isinstance(source, DeviceSource)
    made = compile_cuda(source.text, nvcc, architecture, Cache(tmp_path))
    assert [r.spilled for r in resources(made.said, [k.symbol for k in source.launches])] == [0]
    ptx = compile_cuda(source.text, nvcc, architecture, Cache(tmp_path), "ptx").path.read_text()
    assert re.search(r"wmma\.mma\.sync", ptx)


def test_the_oracle_knows_what_an_instruction_combines():
    """Terms of one result on threads of their own would overwrite each other; in a matrix instruction they do not."""
    mapped = map_onto(traced("bf16"), {}, H100)
    p, tree = mapped.scheduled.analyzed.program, mapped.scheduled.schedule.tree
    assert "matrix" in render(tree, {})
    assert violation(p, tree) is None

    def on_threads(b: Band) -> Band:
        return replace(b, members=tuple(replace(m, run=Run.THREAD) if m.run is Run.MATRIX else m for m in b.members))

    assert violation(p, map_bands(tree, on_threads)) is not None
