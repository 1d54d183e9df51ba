# SPDX-License-Identifier: MIT
"""A device in numbers: what the plans for its blocks of threads are computed from.

Figures of GPUs are their makers' (NVIDIA's white papers and tuning guides for Ampere, 2020, and Hopper, 2022); an
OpenCL device says some of its own, which `codegen.runtime.opencl` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyhedral.machine.target import Target


@dataclass(frozen=True)
class Device:
    """`units` run blocks on their own (streaming multiprocessors); of each: `lanes` multiply-adds in f32 a cycle,
    `threads` at most at once, `registers` of 4 bytes, and bytes of `shared` memory, of which a block may take
    `shared_block`.  A block has at most `block` threads, which run in groups of `warp`.  Rates in 1e9: cycles a second,
    bytes of memory a second; `cache` in bytes; `ratio64` f64 per f32; `grid` the most blocks along x, and along y and
    z.  `asynchronous` copies to shared memory bypass registers.  `matrix`: multiply-adds of
    f16 that the matrix units of one do a cycle, 0 without; `tf32` whether f32 may be rounded to 10 bits for them.
    """

    name: str = "generic"
    units: int = 80
    lanes: int = 128
    clock: float = 1.4
    bandwidth: float = 900.0
    cache: int = 6 << 20
    threads: int = 1536
    registers: int = 65536
    shared: int = 100 << 10
    shared_block: int = 48 << 10
    block: int = 1024
    warp: int = 32
    ratio64: float = 1 / 32
    grid: tuple[int, int] = ((1 << 31) - 1, 65535)
    asynchronous: bool = False
    architecture: str = "sm_80"
    matrix: float = 0.0
    tf32: bool = False

    @property
    def peak(self) -> float:
        """1e9 f32 operations a second, a multiply-add being two."""
        return 2 * self.units * self.lanes * self.clock

    def as_target(self) -> Target:
        """In the words of processors, for prices that ask for no more than operations and bytes a cycle."""
        rate = self.bandwidth / self.clock / self.units
        return Target(
            self.name, 4 * self.warp, 64, self.lanes / self.warp, 1.0, 4, self.shared, self.cache, self.cache,
            bytes_per_cycle=rate, cores=self.units, near=(128.0, 3 * rate, 3 * rate),
        )  # fmt: skip


GENERIC = Device()
A100 = Device(
    "A100", 108, 64, 1.41, 1555, 40 << 20, 2048, shared=164 << 10, ratio64=1 / 2, asynchronous=True, matrix=1024
)
H100 = Device(
    "H100", 132, 128, 1.98, 3350, 50 << 20, 2048, shared=228 << 10, ratio64=1 / 2, asynchronous=True,
    architecture="sm_90", matrix=1280,
)  # fmt: skip
H200 = Device(
    "H200", 132, 128, 1.98, 4800, 50 << 20, 2048, shared=228 << 10, ratio64=1 / 2, asynchronous=True,
    architecture="sm_90", matrix=1280,
)  # fmt: skip
"""Warp-level matrix instructions reach about 62% of what Hopper's units can do (Luo et al. 2024, arXiv:2402.13499)."""
BY_ARCHITECTURE: Mapping[str, Device] = {"sm_80": A100, "sm_90": H100}
"""The device that a plan for an architecture assumes."""
