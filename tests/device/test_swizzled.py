# SPDX-License-Identifier: MIT
"""Swizzled boxes in shared memory: kernels agree with the interpreter whichever swizzle a box has, as CUDA text on a
processor and on OpenCL; and one is chosen where a block has no room for padding.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from codegen import staging
from codegen.dialect import CUDA
from codegen.kernels import emit_device
from codegen.runtime.cache import Cache
from codegen.runtime.nvcc import compile_cuda, find_nvcc, resources
from frontend.environment.session import Session
from polyhedral.devices.swizzles import DENSE, Addressing, swizzles
from polyhedral.errors import ToolchainError
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import specialise
from polyhedral.machine.device import A100, H100
from polyhedral.pipeline import map_onto
from tests.device.on_host import executed, lowered, run_on_host
from tests.device.on_opencl import run_opencl
from tests.programs import CASES
from tests.running import agree
from tests.strategies import inputs_for

SHAPES: Mapping[str, Mapping[str, int]] = {
    "matmul": {"A.i": 67, "A.k": 35, "B.j": 70},
    "matmul aligned": {"A.i": 68, "A.k": 48, "B.j": 72},
    "matmul_i8": {"A.i": 40, "A.k": 64, "B.j": 48},
    "conv_strided": {"X.c": 4, "X.y": 17, "X.x": 19, "W.o": 16, "W.ky": 3, "W.kx": 3},
    "capsule_conv": {"P.ci": 3, "P.y": 9, "P.x": 9, "P.p": 4, "P.q": 4, "W.co": 9, "W.ky": 3, "W.kx": 3, "W.r": 4},
}


def any_swizzle(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Every box that can be swizzled is, at random."""
    rng = random.Random(seed)

    def drawn(accesses: object, axes: Sequence[tuple[str, int]], item: int, pads: object, width: int) -> Addressing:
        able = list(swizzles(axes, item, width))
        return Addressing(0, rng.choice(able)) if able else DENSE

    monkeypatch.setattr(staging, "addressing", drawn)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SHAPES)
def test_any_swizzle_computes_the_same(name: str, seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path):
    any_swizzle(monkeypatch, seed)
    case = CASES[name.split()[0]]
    sizes = {**case.sizes, **SHAPES[name]}
    inputs = inputs_for(case.program, sizes)
    want = run(case.program, inputs, sizes)
    got, built = run_on_host(case.program, inputs, sizes, tmp_path)
    assert " ^ " in built.source.text
    agree(case.program, got, want, inputs)
    got, built = run_opencl(case.program, inputs, sizes)
    assert " ^ " in built.source.text
    agree(case.program, got, want, inputs)


def test_one_is_chosen_where_there_is_no_room_for_padding(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """And it is needed: read as if it were dense, the box gives other cells."""
    small = replace(A100, units=8, shared_block=8192)
    monkeypatch.setattr(Session, "device", lambda session, options: small)
    program, sizes = CASES["matmul"].program, {"A.i": 256, "A.k": 64, "B.j": 256}
    inputs = inputs_for(program, sizes)
    want = run(program, inputs, sizes)
    built = lowered(program, sizes, "cuda:sm_80")
    text = built.source.text
    assert re.search(r"float A_block\[\d+\];", text)
    agree(program, executed(built, inputs, sizes, tmp_path), want, inputs)
    dense = re.sub(r"fmaf\(A_block\[\(([^^]*) \^ [^<]*<< \d\)", r"fmaf(A_block[(\1)", text)
    assert dense != text
    other = tmp_path / "dense"
    other.mkdir()
    with pytest.raises(AssertionError):
        agree(program, executed(built, inputs, sizes, other, dense), want, inputs)


def test_vectors_of_a_grain_are_read_at_once(tmp_path):
    try:
        nvcc = find_nvcc(os.environ)
    except ToolchainError:
        pytest.skip("no nvcc here")
    p = specialise(CASES["matmul"].program, {"A.i": 1000, "A.k": 1024, "B.j": 1000})
    mapped = map_onto(p, {}, replace(H100, shared_block=8192))
    made = mapped.scheduled
    source, _ = emit_device(made.analyzed.frame, made.schedule.tree, made.layouts, mapped.nests, CUDA, mapped.device)
    assert " ^ " in source.text
    cache = Cache(tmp_path)
    text = compile_cuda(source.text, nvcc, "sm_90", cache, "ptx").path.read_text()
    assert len(re.findall(r"ld\.shared\.v4\.f32", text)) >= 2
    assert "ld.shared.f32" not in text
    said = compile_cuda(source.text, nvcc, "sm_90", cache).said
    assert [r.spilled for r in resources(said, [k.symbol for k in source.launches])] == [0]
