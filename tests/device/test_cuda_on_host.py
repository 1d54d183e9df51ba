# SPDX-License-Identifier: MIT
"""CUDA text, run thread by thread on a processor, agrees with the interpreter: indices, barriers, shuffles, copies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from frontend.environment.session import Session
from polyhedral.errors import ToolchainError
from polyhedral.ir.interpreter import run
from polyhedral.machine.device import A100
from tests.device.on_host import executed, lowered, run_on_host
from tests.programs import CASES
from tests.running import agree
from tests.strategies import inputs_for

SHAPES: Mapping[str, Mapping[str, int]] = {
    "matmul": {"A.i": 67, "A.k": 35, "B.j": 70},
    "matmul aligned": {"A.i": 68, "A.k": 48, "B.j": 72},
    "softmax": {"X.i": 5, "X.k": 300},
    "capsule_conv": {"P.ci": 3, "P.y": 9, "P.x": 9, "P.p": 4, "P.q": 4, "W.co": 9, "W.ky": 3, "W.kx": 3, "W.r": 4},
    "gather": {},
    "brain_floats": {},
}


@pytest.mark.parametrize("name", SHAPES)
def test_cuda_is_interpreted(name: str, tmp_path):
    case = CASES[name.split()[0]]
    program, sizes = case.program, {**case.sizes, **SHAPES[name]}
    inputs = inputs_for(program, sizes)
    got, _ = run_on_host(program, inputs, sizes, tmp_path)
    agree(program, got, run(program, inputs, sizes), inputs)


@pytest.mark.parametrize("grid", [(3, 2), (1, 1)])
@pytest.mark.parametrize("name", ["matmul", "softmax", "two_outputs"])
def test_a_grid_that_is_too_small(name: str, grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Blocks take turns where there are fewer than iterations, and what they share is free again when they do."""
    small = replace(A100, grid=grid)
    monkeypatch.setattr(Session, "device", lambda session, options: small)
    program, sizes = CASES[name].program, {**CASES[name].sizes, **SHAPES.get(name, {"X.i": 3000})}
    inputs = inputs_for(program, sizes)
    got, _ = run_on_host(program, inputs, sizes, tmp_path)
    agree(program, got, run(program, inputs, sizes), inputs)


def test_what_waits_is_needed(tmp_path):
    """Without any one of its barriers, or the wait for its copies, a kernel is wrong here: the host sees what a GPU
    may hide.
    """
    program, sizes = CASES["matmul"].program, SHAPES["matmul aligned"]
    inputs = inputs_for(program, sizes)
    built = lowered(program, sizes, "cuda:sm_80")
    text, want = built.source.text, run(program, inputs, sizes)
    assert "__pipeline_memcpy_async" in text
    assert "*(const uint4 *)" in text
    waits = [m.span() for m in re.finditer(r"(__syncthreads|__pipeline_wait_prior)\(0?\);", text)]
    assert len(waits) == 4
    for n, (start, end) in enumerate(waits):
        folder = tmp_path / str(n)
        folder.mkdir()
        try:
            got = executed(built, inputs, sizes, folder, text[:start] + text[end:])
        except ToolchainError:
            continue
        with pytest.raises(AssertionError):
            agree(program, got, want, inputs)
