# SPDX-License-Identifier: MIT
"""Occupancy: how many of the threads that a unit can run at once do, with what a kernel takes of its memory.

As NVIDIA's occupancy calculator counts: registers are given out to warps in multiples of 256, shared memory to blocks
in multiples of 128 bytes with 1 KiB for the system, and a unit runs 32 blocks at most (compute capability 8.0 and 9.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from codegen.runtime.device import Resources
from polyhedral.machine.device import Device

REGISTERS = 256
SHARED = 128
SYSTEM = 1024
BLOCKS = 32


def resident(registers: int, shared: int, threads: int, device: Device) -> int:
    """Blocks of so many threads that a unit runs at once."""
    warps = -(-threads // device.warp)
    of_a_warp = _up(max(registers, 1) * device.warp, REGISTERS)
    by_registers = device.registers // of_a_warp // warps
    by_memory = device.shared // _up(shared + SYSTEM, SHARED)
    return max(0, min(by_registers, by_memory, device.threads // (warps * device.warp), BLOCKS))


def occupancy(registers: int, shared: int, threads: int, device: Device) -> float:
    """Threads that a unit runs at once, of those that it could."""
    warps = -(-threads // device.warp)
    return resident(registers, shared, threads, device) * warps * device.warp / device.threads


def with_occupancy(taken: Sequence[Resources], threads: Mapping[str, int], device: Device) -> tuple[Resources, ...]:
    """What kernels take, each of so many threads a block, with what that leaves busy, as far as it is known."""
    return tuple(
        replace(r, occupancy=occupancy(r.registers, r.shared or 0, threads[r.symbol], device)) if r.registers else r
        for r in taken
    )


def _up(n: int, to: int) -> int:
    return -(-n // to) * to
