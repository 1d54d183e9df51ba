# SPDX-License-Identifier: MIT
"""What a device must be able to do, whoever drives it; and the errors that all drivers share.

Arrays, grids and the order of kernels are the front end's; a driver compiles text, holds memory and starts kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from codegen.runtime.build import BuildInfo
from codegen.runtime.cache import Cache
from polyhedral.errors import ToolchainError
from polyhedral.machine.device import Device

Memory = Any
"""A buffer on a device, as its driver has it."""
Loaded = Any
"""A kernel that can be started, as its driver has it."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: registers of a thread, bytes of shared memory of a block, bytes spilled by a thread."""

    symbol: str
    registers: int | None = None
    shared: int | None = None
    spilled: int | None = None

    def __str__(self) -> str:
        known = [
            f"{n} {what}"
            for n, what in (
                (self.registers, "registers"),
                (self.shared, "bytes shared"),
                (self.spilled, "bytes spilled"),
            )
            if n is not None
        ]
        return f"{self.symbol}: {', '.join(known) or 'unknown'}"


class Driver(Protocol):
    """One device of this process."""

    device: Device
    language: str

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Loaded], BuildInfo]:
        """Kernels by symbol, from the cache where they are."""
        ...

    def allocate(self, size: int) -> Memory: ...

    def release(self, memory: Memory) -> None: ...

    def upload(self, memory: Memory, data: np.ndarray[Any, Any]) -> None: ...

    def download(self, memory: Memory, data: np.ndarray[Any, Any]) -> None: ...

    def launch(
        self, kernel: Loaded, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None: ...

    def finish(self) -> None: ...

    def seconds(self, work: Callable[[], None]) -> float:
        """How long the device takes for the kernels that are started, by its own clock where it has one."""
        ...


def no_device(what: str, why: str, hint: str) -> ToolchainError:
    """PH520: the target has nothing to run on here."""
    return ToolchainError("PH520", f"target={what!r} has no device here: {why}", hints=(hint,))


def out_of_memory(size: int, held: int, device: Device) -> ToolchainError:
    """PH521: the device has not enough memory; what was taken is given back."""
    return ToolchainError(
        "PH521",
        f"{device.name} has no {size} bytes more; this call held {held}, which it gave back",
        hints=("smaller sizes, or target='cpu'",),
    )
