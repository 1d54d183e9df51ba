# SPDX-License-Identifier: MIT
"""CUDA's driver through pycuda, or through cuda-python where that is what is installed: the device's primary context.

Implements `codegen.runtime.device.Driver`; text is compiled by `codegen.runtime.nvcc`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codegen.runtime.build import BuildInfo
from codegen.runtime.cache import Cache
from codegen.runtime.device import Driver, Memory, no_device, out_of_memory
from codegen.runtime.nvcc import compile_cuda, find_nvcc
from polyhedral.errors import ToolchainError
from polyhedral.machine.device import BY_ARCHITECTURE, GENERIC, Device

_HINT = "pip install 'polyhedral-loops[cuda]', and NVIDIA's driver; target='opencl' runs on processors"


def open_device(env: Mapping[str, str], architecture: str | None = None) -> Driver:
    """The first CUDA device; ToolchainError PH520 where there is none, no driver, or no package that speaks to it, and
    where it is not of the architecture that is asked for.
    """
    try:
        api: Any = importlib.import_module("pycuda.driver")
    except ImportError as first:
        try:
            api = importlib.import_module("cuda.bindings.driver")
        except ImportError:
            raise no_device("cuda", f"neither pycuda nor cuda-python loads ({first})", _HINT) from first
        opened: Driver = CudaPython(api, env)
    else:
        opened = PyCuda(api, env)
    if architecture is not None and opened.device.architecture != architecture.rstrip("a"):
        found = f"{opened.device.name} is {opened.device.architecture}"
        raise no_device(f"cuda:{architecture}", found, f"target='cuda:{opened.device.architecture}'")
    return opened


def described(name: str, major: int, minor: int, units: int, clock: float, shared: int) -> Device:
    """A device as the driver tells, with the figures of its architecture for all else."""
    architecture = f"sm_{major}{minor}"
    base = BY_ARCHITECTURE.get(architecture, GENERIC)
    return Device(
        name, units, base.lanes, clock, base.bandwidth, base.cache, base.threads, base.registers, shared,
        base.shared_block, base.block, base.warp, base.ratio64, base.grid, major >= 8, architecture, base.matrix,
    )  # fmt: skip


class _Compiles:
    """What both drivers do with text."""

    language = "cuda"
    device: Device

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.held = 0

    def cubin(self, text: str, cache: Cache) -> tuple[bytes, BuildInfo]:
        made = compile_cuda(text, find_nvcc(self._env), self.device.architecture, cache)
        return made.path.read_bytes(), made.info


class PyCuda(_Compiles):
    """pycuda on the primary context, which other libraries of the process share."""

    def __init__(self, api: Any, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self._api = api
        try:
            api.init()
            device = api.Device(0)
        except api.Error as error:
            raise no_device("cuda", str(error), _HINT) from error
        a = api.device_attribute
        major, minor = device.compute_capability()
        self.device = described(
            device.name(), major, minor, device.get_attribute(a.MULTIPROCESSOR_COUNT),
            device.get_attribute(a.CLOCK_RATE) / 1e6, device.get_attribute(a.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        )  # fmt: skip
        self._context = device.retain_primary_context()
        self._context.push()

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Any], BuildInfo]:
        binary, info = self.cubin(text, cache)
        module = self._api.module_from_buffer(binary)
        return {s: module.get_function(s) for s in symbols}, info

    def allocate(self, size: int) -> Memory:
        try:
            memory = self._api.mem_alloc(max(size, 1))
        except self._api.MemoryError as error:
            raise out_of_memory(size, self.held, self.device) from error
        self.held += size
        return memory

    def release(self, memory: Memory) -> None:
        memory.free()
        self.held = 0

    def upload(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        self._api.memcpy_htod(memory, data)

    def download(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        self._api.memcpy_dtoh(data, memory)

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        try:
            kernel(*arguments, grid=grid, block=block)
        except self._api.Error as error:
            raise ToolchainError("PH522", f"a kernel did not start: {error}") from error

    def finish(self) -> None:
        try:
            self._api.Context.synchronize()
        except self._api.Error as error:
            raise ToolchainError("PH522", f"a kernel failed: {error}; start a new process") from error

    def seconds(self, work: Callable[[], None]) -> float:
        begin, end = self._api.Event(), self._api.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.time_till(end) / 1e3


class CudaPython(_Compiles):
    """cuda-python on the primary context."""

    def __init__(self, api: Any, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self._api = api
        try:
            self._do(api.cuInit(0))
            device = self._do(api.cuDeviceGet(0))
        except (ToolchainError, RuntimeError) as error:
            raise no_device("cuda", str(error), _HINT) from error
        a = api.CUdevice_attribute

        def number(which: Any) -> int:
            return int(self._do(api.cuDeviceGetAttribute(which, device)))

        name = bytes(self._do(api.cuDeviceGetName(100, device))).split(b"\0")[0].decode()
        self.device = described(
            name,
            number(a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            number(a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            number(a.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            number(a.CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1e6,
            number(a.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        )
        self._do(api.cuCtxSetCurrent(self._do(api.cuDevicePrimaryCtxRetain(device))))

    def _do(self, answer: tuple[Any, ...]) -> Any:
        """What a call gave; its error as one of ours."""
        status, *values = answer
        if int(status) != 0:
            raise ToolchainError("PH522", f"CUDA says {status.name}")
        return values[0] if values else None

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Any], BuildInfo]:
        binary, info = self.cubin(text, cache)
        module = self._do(self._api.cuModuleLoadData(binary))
        return {s: self._do(self._api.cuModuleGetFunction(module, s.encode())) for s in symbols}, info

    def allocate(self, size: int) -> Memory:
        try:
            memory = self._do(self._api.cuMemAlloc(max(size, 1)))
        except ToolchainError as error:
            raise out_of_memory(size, self.held, self.device) from error
        self.held += size
        return memory

    def release(self, memory: Memory) -> None:
        self._do(self._api.cuMemFree(memory))
        self.held = 0

    def upload(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        self._do(self._api.cuMemcpyHtoD(memory, data.ctypes.data, data.nbytes))

    def download(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        self._do(self._api.cuMemcpyDtoH(data.ctypes.data, memory, data.nbytes))

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        held = [np.asarray(a) if hasattr(a, "dtype") else np.array([int(a)], np.uint64) for a in arguments]
        pointers = np.array([h.ctypes.data for h in held], np.uint64)
        self._do(self._api.cuLaunchKernel(kernel, *grid, *block, 0, 0, pointers.ctypes.data, 0))

    def finish(self) -> None:
        self._do(self._api.cuCtxSynchronize())

    def seconds(self, work: Callable[[], None]) -> float:
        begin, end = (self._do(self._api.cuEventCreate(0)) for _ in range(2))
        self._do(self._api.cuEventRecord(begin, 0))
        work()
        self._do(self._api.cuEventRecord(end, 0))
        self._do(self._api.cuEventSynchronize(end))
        milliseconds = self._do(self._api.cuEventElapsedTime(begin, end))
        for event in (begin, end):
            self._do(self._api.cuEventDestroy(event))
        return float(milliseconds) / 1e3
