# SPDX-License-Identifier: MIT
"""What a device must be able to do, whoever drives it; and the errors that all drivers share.

Arrays, grids and the order of kernels are the front end's; a driver compiles text, holds memory and starts kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """What one kernel takes: registers of a thread, bytes of shared memory of a block, bytes spilled by a thread; and
    which share of a unit's threads that leaves running at once.
    """

    symbol: str
    registers: int | None = None
    shared: int | None = None
    spilled: int | None = None
    occupancy: float | None = None

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
        if self.occupancy is not None:
            known.append(f"occupancy {self.occupancy:.0%}")
        return f"{self.symbol}: {', '.join(known) or 'unknown'}"


class Driver(Protocol):
    """One device of this process."""

    device: Device
    language: str
    ordinal: int
    """Which of the devices of its kind."""

    def begin(self) -> None:
        """Called in whatever thread a call is made from, before anything else is."""
        ...

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Loaded], BuildInfo]:
        """Kernels by symbol, from the cache where they are."""
        ...

    def free(self) -> int | None:
        """Bytes of its memory that nobody has, where it says so."""
        ...

    def allocate(self, size: int) -> Memory: ...

    def borrowed(self, address: int, size: int) -> Memory:
        """Memory of another library on the same device."""
        ...

    def address(self, memory: Memory) -> int: ...

    def release(self, memory: Memory) -> None: ...

    def upload(self, memory: Memory, data: np.ndarray[Any, Any]) -> None: ...

    def download(self, memory: Memory, data: np.ndarray[Any, Any]) -> None: ...

    def launch(
        self, kernel: Loaded, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None: ...

    def finish(self) -> None: ...

    def wait_for(self, stream: int) -> None:
        """What is started from here on waits for what another library has started on a stream of its own."""
        ...

    def where(self, address: int) -> int | None:
        """The ordinal of the device that has an address; None where nobody knows."""
        ...

    def seconds(self, work: Callable[[], object], launches: int = 1) -> float:
        """How long the device takes for the kernels, so many, that are started; by its own clock where it has one, and
        then with nothing of them in its cache, and without waiting for the host to ask.
        """
        ...


def no_device(what: str, why: str, hint: str) -> ToolchainError:
    """PH520: the target has nothing to run on here."""
    return ToolchainError("PH520", f"target={what!r} has no device here: {why}", hints=(hint,))


def out_of_memory(size: int, held: int, device: Device) -> ToolchainError:
    """PH521: the device has not enough memory for one more array."""
    return ToolchainError(
        "PH521",
        f"{device.name} has no {size} bytes more; {held} are held here",
        hints=("smaller sizes, or target='cpu'",),
    )


def not_all_fit(needed: Mapping[str, int], free: int | None, device: Device) -> ToolchainError:
    """PH521: what a call needs in all, array by array, the largest first; what it took is given back."""
    largest = sorted(needed.items(), key=lambda n: -n[1])[:4]
    shown = ", ".join(f"{name}: {size:,}" for name, size in largest)
    more = f" and {len(needed) - len(largest)} more" if len(needed) > len(largest) else ""
    left = "" if free is None else f", of which {free:,} were free"
    return ToolchainError(
        "PH521",
        f"this call needs {sum(needed.values()):,} bytes on {device.name}{left}; what it took was given back",
        details=(f"bytes of {shown}{more}",),
        hints=("smaller sizes, or target='cpu'", "arrays that are on the device already are taken where they lie"),
    )
