# SPDX-License-Identifier: MIT
"""How many blocks a unit runs at once, against figures of NVIDIA's calculator; and that costs of a device say so."""

from __future__ import annotations

import os

import pytest

from codegen.runtime.device import Resources
from codegen.runtime.nvcc import find_nvcc
from codegen.runtime.occupancy import occupancy, resident, with_occupancy
from frontend.running.loading import resources
from polyhedral.errors import ToolchainError
from polyhedral.machine.device import A100, H100
from tests.device.on_host import lowered
from tests.programs import CASES


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "blocks"),
    [
        (32, 0, 256, 8),  # all 2048 threads
        (64, 0, 256, 4),  # 65,536 registers
        (65, 0, 256, 3),  # 65 are given out as 72
        (255, 0, 256, 1),
        (32, 48 << 10, 256, 4),  # 49 KiB each of 228
        (16, 0, 32, 32),  # no more blocks than that
        (255, 0, 1024, 0),
    ],
)
def test_blocks_of_a_unit(registers: int, shared: int, threads: int, blocks: int):
    assert resident(registers, shared, threads, H100) == blocks
    assert occupancy(registers, shared, threads, H100) == blocks * threads / 2048


def test_an_a100_has_less_shared_memory():
    assert resident(32, 48 << 10, 256, A100) == 3


def test_what_is_not_known_stays_so():
    known, unknown = with_occupancy((Resources("a", 64, 0, 0), Resources("b")), {"a": 256, "b": 256}, H100)
    assert str(known) == "a: 64 registers, 0 bytes shared, 0 bytes spilled, occupancy 50%"
    assert str(unknown) == "b: unknown"


def test_the_kernels_of_a_source_have_one():
    try:
        find_nvcc(os.environ)
    except ToolchainError:
        pytest.skip("no nvcc here")
    built = lowered(CASES["matmul"].program, {"A.i": 256, "A.k": 64, "B.j": 256}, "cuda:sm_90")
    (only,) = resources(built)
    assert only.registers
    assert only.occupancy == occupancy(only.registers, only.shared or 0, built.source.launches[0].block[0], H100)
    assert 0 < only.occupancy <= 1
