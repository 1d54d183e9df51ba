# SPDX-License-Identifier: MIT
"""`pycuda.driver` as pycuda 2026.1 has it, on `tests.device.fake.gpu`: packed arguments, a stack of contexts a thread.

Names, and what a kernel takes as an argument, were read off its sources (`driver.py`, `wrap_cudadrv.cpp`).
"""

from __future__ import annotations

import struct
import threading
from functools import partial
from typing import Any

import numpy as np

from tests.device.fake.gpu import FailedError, Gpu


class Error(Exception): ...


class MemoryError(Error): ...


class LaunchError(Error): ...


class LogicError(Error): ...


class DeviceAllocation:
    def __init__(self, gpu: Gpu, address: int) -> None:
        self._gpu, self._address = gpu, address

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._gpu.free(self._address)


class Device:
    def __init__(self, driver: Driver, ordinal: int) -> None:
        self.driver = driver
        if ordinal >= driver.gpu.devices:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    def name(self) -> str:
        return "A processor"

    def compute_capability(self) -> tuple[int, int]:
        return self.driver.gpu.capability

    def get_attribute(self, which: int) -> int:
        return {16: 4, 13: 1_410_000, 81: 100 << 10}[which]

    def retain_primary_context(self) -> Context:
        return self.driver.Context


class Context:
    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def push(self) -> None:
        self.driver.stack.append(self)

    def pop(self) -> None:
        self.driver.stack.pop()

    def synchronize(self) -> None:
        self.driver.do(self.driver.gpu.synchronize)


class Event:
    def __init__(self, driver: Driver, flags: int = 0) -> None:
        self.driver, self.handle = driver, driver.gpu.event()

    def record(self, stream: Any = None) -> Event:
        self.driver.gpu.record(self.handle, 0)
        return self

    def synchronize(self) -> Event:
        self.driver.do(self.driver.gpu.synchronize)
        return self

    def time_till(self, other: Event) -> float:
        events = self.driver.gpu.events
        return (events[other.handle].at - events[self.handle].at) * 1e3


class Driver:
    """What is imported."""

    Error, MemoryError, LaunchError, LogicError = Error, MemoryError, LaunchError, LogicError
    DeviceAllocation = DeviceAllocation

    class device_attribute:  # noqa: N801
        MULTIPROCESSOR_COUNT, CLOCK_RATE, MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 16, 13, 81

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.stacks = threading.local()
        self.Device = partial(Device, self)
        self.Context = Context(self)
        self.Event = partial(Event, self)

    @property
    def stack(self) -> list[Any]:
        if not hasattr(self.stacks, "made"):
            self.stacks.made = []
        return self.stacks.made

    def do(self, call: Any, *given: Any) -> Any:
        if not self.stack:
            raise LogicError("invalid device context - no currently active context?")
        try:
            return call(*given)
        except FailedError as error:
            raise {2: MemoryError, 700: LaunchError}.get(error.code, LogicError)(str(error)) from error

    def init(self, flags: int = 0) -> None:
        if not self.gpu.devices:
            raise Error("cuInit failed: no CUDA-capable device is detected")

    def memset_d8(self, dest: int, data: int, size: int) -> None:
        self.do(self.gpu.memory, dest, size).fill(data)

    def mem_get_info(self) -> tuple[int, int]:
        return self.gpu.capacity - self.gpu.used, self.gpu.capacity

    def mem_alloc(self, bytes: int) -> DeviceAllocation:
        return DeviceAllocation(self.gpu, self.do(self.gpu.allocate, bytes))

    def memcpy_htod(self, dest: int, src: Any) -> None:
        self.do(self.gpu.put, int(dest), np.frombuffer(memoryview(src).cast("B"), np.uint8))

    def memcpy_dtoh(self, dest: Any, src: int) -> None:
        self.do(self.gpu.get, int(src), np.frombuffer(memoryview(dest).cast("B"), np.uint8))

    def module_from_buffer(self, buffer: bytes, options: Any = (), message_handler: Any = None) -> Any:
        return _Module(self, self.do(self.gpu.load, buffer))


class _Module:
    def __init__(self, driver: Driver, handle: int) -> None:
        self.driver, self.handle = driver, handle

    def get_function(self, name: str) -> Any:
        handle = self.driver.do(self.driver.gpu.function, self.handle, name)

        def call(
            *arguments: Any, grid: tuple = (1, 1), block: tuple | None = None, stream: Any = None, shared: int = 0
        ) -> None:
            assert block is not None
            values: list[bytes] = []
            for k, a in enumerate(arguments):
                if isinstance(a, np.number):
                    values.append(struct.pack(a.dtype.char, a.item()))
                elif isinstance(a, DeviceAllocation):
                    values.append(struct.pack("P", int(a)))
                else:
                    raise TypeError(f"invalid type on parameter #{k} (0-based)")
            self.driver.do(self.driver.gpu.launch, handle, grid, block, values)

        return call
