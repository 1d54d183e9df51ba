# SPDX-License-Identifier: MIT
"""A GPU that is a processor: memory with an end, streams that run late, events, kernels made by a stand-in for nvcc.

Work waits in its stream until somebody waits for it, so that what nobody waits for is seen; memory that is not there
is an error that stays.  The three drivers beside this file are faces of it.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

OUT_OF_MEMORY, INVALID, NO_DEVICE, NO_BINARY, NOT_FOUND, ILLEGAL = 2, 1, 100, 209, 500, 700
NAMES = {
    0: "CUDA_SUCCESS", 2: "CUDA_ERROR_OUT_OF_MEMORY", 1: "CUDA_ERROR_INVALID_VALUE", 100: "CUDA_ERROR_NO_DEVICE",
    209: "CUDA_ERROR_NO_BINARY_FOR_GPU", 500: "CUDA_ERROR_NOT_FOUND", 700: "CUDA_ERROR_ILLEGAL_ADDRESS",
}  # fmt: skip


class FailedError(Exception):
    """What a call says that did not work."""

    def __init__(self, code: int) -> None:
        super().__init__(NAMES[code])
        self.code = code


@dataclass
class Kernel:
    name: str
    run: Callable[..., int]
    kinds: str


@dataclass
class Event:
    stream: int = 0
    done: int = 0
    at: float = 0.0


@dataclass
class Gpu:
    """`capacity` bytes of memory; `devices` how many there are; addresses of others are on `elsewhere`."""

    capacity: int = 64 << 20
    devices: int = 1
    capability: tuple[int, int] = (8, 0)
    blocks: dict[int, np.ndarray] = field(default_factory=dict)
    elsewhere: dict[int, int] = field(default_factory=dict)
    modules: dict[int, ctypes.CDLL] = field(default_factory=dict)
    kernels: dict[int, Kernel] = field(default_factory=dict)
    events: dict[int, Event] = field(default_factory=dict)
    pending: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    ran: dict[int, int] = field(default_factory=dict)
    launches: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    sticky: int = 0
    made: int = 1000

    def handle(self) -> int:
        self.made += 1
        return self.made

    # --- memory ------------------------------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        return sum(b.nbytes for b in self.blocks.values())

    def allocate(self, size: int) -> int:
        if self.used + size > self.capacity:
            raise FailedError(OUT_OF_MEMORY)
        room = np.full(size + 512, 0xFF, np.uint8)
        block = room[-room.ctypes.data % 256 :][:size]
        self.blocks[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        self.drain()
        if self.blocks.pop(address, None) is None:
            raise FailedError(INVALID)

    def memory(self, address: int, size: int = 1) -> np.ndarray:
        for start, block in self.blocks.items():
            if start <= address and address + size <= start + block.nbytes:
                return block[address - start :][:size]
        raise FailedError(ILLEGAL)

    def put(self, address: int, data: np.ndarray) -> None:
        self.drain(0)
        self.memory(address, data.nbytes)[:] = data.reshape(-1).view(np.uint8)

    def get(self, address: int, data: np.ndarray) -> None:
        self.drain(0)
        data.reshape(-1).view(np.uint8)[:] = self.memory(address, data.nbytes)

    # --- streams and events ------------------------------------------------------------------------------------------

    def start(self, stream: int, work: Callable[[], None]) -> None:
        self.pending.setdefault(_default(stream), []).append(work)

    def drain(self, stream: int | None = None, until: int | None = None) -> None:
        """Run what waits in a stream, or in all of them."""
        for s in [*self.pending] if stream is None else [_default(stream)]:
            while self.pending.get(s) and (until is None or self.ran.get(s, 0) < until):
                work = self.pending[s].pop(0)
                self.ran[s] = self.ran.get(s, 0) + 1
                work()

    def synchronize(self) -> None:
        self.drain()
        if self.sticky:
            raise FailedError(self.sticky)

    def event(self) -> int:
        made = self.handle()
        self.events[made] = Event()
        return made

    def record(self, event: int, stream: int) -> None:
        e = self.events[event]
        e.stream, s = _default(stream), _default(stream)
        e.done = self.ran.get(s, 0) + len(self.pending.get(s, ())) + 1
        self.start(s, lambda: setattr(e, "at", time.perf_counter()))

    def wait(self, stream: int, event: int) -> None:
        e = Event(**vars(self.events[event]))
        self.start(stream, lambda: self.drain(e.stream, e.done))

    # --- kernels -----------------------------------------------------------------------------------------------------

    def load(self, image: bytes) -> int:
        if not image.startswith(b"\x7fELF"):
            raise FailedError(NO_BINARY)
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            Path(file.name).write_bytes(image)
            library = ctypes.CDLL(file.name)
        made = self.handle()
        self.modules[made] = library
        return made

    def function(self, module: int, name: str) -> int:
        library = self.modules[module]
        try:
            run, kinds = library[f"run_{name}"], library[f"kinds_{name}"]
        except AttributeError as error:
            raise FailedError(NOT_FOUND) from error
        kinds.restype = ctypes.c_char_p
        made = self.handle()
        self.kernels[made] = Kernel(name, run, kinds().decode())
        return made

    def launch(self, kernel: int, grid: tuple[int, ...], block: tuple[int, ...], values: list[bytes]) -> None:
        """`values` as they are packed, eight bytes or four each."""
        k = self.kernels[kernel]
        if len(values) != len(k.kinds) or not 0 < grid[0] < 1 << 31 or not all(0 < g < 65536 for g in grid[1:]):
            raise FailedError(INVALID)
        self.launches.append((k.name, grid, block))

        def go() -> None:
            held = [ctypes.create_string_buffer(v, 8) for v in values]
            for kind, v in zip(k.kinds, held, strict=True):
                try:
                    if kind == "p":
                        self.memory(int.from_bytes(v.raw, "little"))
                except FailedError as error:
                    self.sticky = error.code
                    return
            pointers = (ctypes.c_void_p * max(len(held), 1))(*map(ctypes.addressof, held))
            if k.run(pointers, (ctypes.c_int * 6)(*grid, *block), 0):
                self.sticky = ILLEGAL

        self.start(0, go)

    def kinds(self, kernel: int) -> str:
        return self.kernels[kernel].kinds


def _default(stream: int) -> int:
    return 0 if stream == 1 else stream
