# SPDX-License-Identifier: MIT
"""The zoo on an OpenCL device: blocks, threads, shared memory and barriers agree with the interpreter.

A processor does through PoCL; the tile plans of contractions, whose threads meet, are asked for at sizes of several
blocks that do not divide.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from codegen.launch import DeviceSource
from polyhedral.ir.interpreter import run
from tests.device.on_opencl import run_opencl
from tests.programs import CASES
from tests.running import agree
from tests.strategies import inputs_for

SHAPES: Mapping[str, Mapping[str, int]] = {
    "matmul": {"A.i": 67, "A.k": 35, "B.j": 70},
    "matmul aligned": {"A.i": 68, "A.k": 48, "B.j": 72},
    "max_plus": {"A.i": 67, "A.k": 35, "B.j": 70},
    "matmul_i8": {"A.i": 67, "A.k": 35, "B.j": 70},
    "conv_strided": {"X.c": 5, "X.y": 17, "X.x": 19, "W.o": 33, "W.ky": 3, "W.kx": 3},
    "capsule_conv": {"P.ci": 3, "P.y": 9, "P.x": 9, "P.p": 4, "P.q": 4, "W.co": 9, "W.ky": 3, "W.kx": 3, "W.r": 4},
    "softmax": {"X.i": 5, "X.k": 300},
    "two_outputs": {"X.i": 3000},
}
"""Sizes at which operands are staged, or teams reduce."""


@pytest.mark.parametrize("name", CASES)
def test_compiled_is_interpreted(name: str):
    case = CASES[name]
    inputs = inputs_for(case.program, case.sizes)
    expected = run(case.program, inputs, case.sizes)
    agree(case.program, run_opencl(case.program, inputs, case.sizes)[0], expected, inputs)


@pytest.mark.parametrize("name", ["matmul", "softmax", "jacobi2d", "lu", "conv_padded", "gather", "prefix_sum"])
def test_symbolic_sizes(name: str):
    case = CASES[name]
    inputs = inputs_for(case.program, case.sizes)
    expected = run(case.program, inputs, case.sizes)
    agree(case.program, run_opencl(case.program, inputs, case.sizes, symbolic=True)[0], expected, inputs)


@pytest.mark.parametrize("name", SHAPES)
def test_threads_that_meet(name: str):
    """Tiles in registers and shared memory, edges left out at loads and stores, teams combined."""
    case = CASES[name.split()[0]]
    program, sizes = case.program, {**case.sizes, **SHAPES[name]}
    inputs = inputs_for(program, sizes)
    got, built = run_opencl(program, inputs, sizes)
    source = built.source
    assert isinstance(source, DeviceSource)
    assert any(k.shared for k in source.launches)
    agree(program, got, run(program, inputs, sizes), inputs)
