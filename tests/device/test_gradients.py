# SPDX-License-Identifier: MIT
"""Gradients on a device: sums over the inverse of strided windows fall apart into tiled phases there too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import backward
from benchmarks.case import Case
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program
from polyhedral.machine.device import H100
from polyhedral.pipeline import map_onto
from tests.device.on_host import run_on_host
from tests.device.on_opencl import run_opencl
from tests.running import agree
from tests.strategies import inputs_for

CASES: dict[str, Callable[[], Case]] = {
    "capsules, stride 2": lambda: backward.capsule("capsules", 2, 5, 3, 2, 3, 2, 1),
    "convolution": lambda: backward.conv2d("conv", 2, 3, 8, 5, 3, 1),
    "convolution, stride 2": lambda: backward.conv2d("conv", 2, 3, 9, 4, 3, 2),
    "convolution, steps wider than the window": lambda: backward.conv2d("conv", 1, 3, 8, 4, 1, 2),
    "routing": lambda: backward.em("routing", 2, 6, 2, 3, 3, 2),
}


def program(c: Case) -> Program:
    return c.function.lower(**c.inputs(), **c.sizes).given.program


@pytest.mark.parametrize("name", CASES)
def test_cuda_is_interpreted(name: str, tmp_path: Path):
    p = program(CASES[name]())
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_on_host(p, inputs, {}, tmp_path)[0], run(p, inputs), inputs)


@pytest.mark.parametrize("name", CASES)
def test_opencl_is_interpreted(name: str):
    p = program(CASES[name]())
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_opencl(p, inputs, {})[0], run(p, inputs), inputs)


@pytest.mark.parametrize("stride", [1, 2])
def test_no_derivative_of_a_window_is_left_without_tiles(stride: int):
    """Whatever shares no operands between threads takes most of the time."""
    c = backward.conv2d("conv", 16, 64, 28, 64, 3, stride)
    mapped = map_onto(program(c), {}, H100)
    sums = {s.name for s in mapped.scheduled.analyzed.program.statements if s.op == "sum"}
    assert sums
    assert all(nest.plan.staged for name, nest in mapped.nests.items() if name in sums)
