# SPDX-License-Identifier: MIT
"""CUDA's driver through pycuda, cuda-python, or the driver's library alone: the first device's primary context.

Implements `codegen.runtime.device.Driver`; text is compiled by `codegen.runtime.nvcc`.  All work is on the default
stream, which other streams are waited for on; contexts are current in one thread, so each call makes its own so.
"""

from __future__ import annotations

import atexit
import importlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.runtime import libcuda
from codegen.runtime.build import BuildInfo
from codegen.runtime.cache import Cache
from codegen.runtime.device import Driver, Memory, no_device, out_of_memory
from codegen.runtime.nvcc import compile_cuda, compiled_before, find_nvcc
from polyhedral.errors import ToolchainError
from polyhedral.machine.device import BY_ARCHITECTURE, GENERIC, Device

_HINT = "NVIDIA's driver (nvidia-smi says whether it runs); target='opencl' runs on processors"
ASKED = 20e-6
"""Seconds that the host takes to start a kernel."""
_NO_TIMING = 2
"""Events that only order streams."""


def open_device(env: Mapping[str, str], architecture: str | None = None) -> Driver:
    """The first CUDA device; ToolchainError PH520 where there is none, or no driver, and where it is not of the
    architecture that is asked for.
    """
    opened = _opened(env)
    if architecture is not None and opened.device.architecture != architecture.rstrip("a"):
        found = f"{opened.device.name} is {opened.device.architecture}"
        raise no_device(f"cuda:{architecture}", found, f"target='cuda:{opened.device.architecture}'")
    return opened


def _opened(env: Mapping[str, str]) -> Driver:
    """Through the first of the packages that loads; a package that does not is as good as none."""
    for name, driver in (("pycuda.driver", PyCuda), ("cuda.bindings.driver", CudaPython), ("cuda.cuda", CudaPython)):
        try:
            api: Any = importlib.import_module(name)
        except (ImportError, OSError):
            continue
        return driver(api, env)
    try:
        return CudaPython(libcuda.load(), env)
    except OSError as error:
        raise no_device("cuda", f"NVIDIA's driver is not here ({error})", _HINT) from error


@dataclass(frozen=True)
class Held:
    """Memory on the device: where it begins, how much it is, and what keeps it."""

    address: int
    size: int
    of: Any = None


def described(name: str, major: int, minor: int, units: int, clock: float, shared: int) -> Device:
    """A device as the driver tells, with the figures of its architecture for all else; drivers may keep the clock to
    themselves and say 0.
    """
    architecture = f"sm_{major}{minor}"
    base = BY_ARCHITECTURE.get(architecture, GENERIC)
    return Device(
        name, units, base.lanes, clock or base.clock, base.bandwidth, base.cache, base.threads, base.registers, shared,
        base.shared_block, base.block, base.warp, base.ratio64, base.grid, major >= 8, architecture, base.matrix,
    )  # fmt: skip


class _Shared:
    """What both do alike."""

    language = "cuda"
    ordinal = 0
    device: Device

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._process = os.getpid()
        self.held = 0
        self._scratch: Held | None = None

    def _same_process(self) -> None:
        """PH520 in a process that was forked: a context does not outlive that."""
        if os.getpid() != self._process:
            why = f"process {os.getpid()} was forked from {self._process}, which has the device open"
            raise no_device("cuda", why, "start processes with the 'spawn' method")

    def _cubin(self, text: str, cache: Cache) -> tuple[bytes, BuildInfo]:
        try:
            made = compile_cuda(text, find_nvcc(self._env), self.device.architecture, cache)
        except ToolchainError as error:
            before = compiled_before(text, self.device.architecture, cache) if error.code == "PH525" else None
            if before is None:
                raise
            made = before
        return made.path.read_bytes(), made.info

    def _fill(self, launches: int, fill: Callable[[int, int], None]) -> None:
        """Other bytes through the cache, long enough for the host to ask for so many kernels meanwhile."""
        other = self._scratch
        if other is None:
            size = max(4 * self.device.cache, 64 << 20)
            free = self.free()
            if free is None or free < 4 * size:
                return
            other = self._scratch = self.allocate(size)
            self.held -= size
        each = other.size / self.device.bandwidth / 1e9
        for _ in range(1 + min(int(launches * ASKED / each), 50)):
            fill(other.address, other.size)

    def free(self) -> int | None:
        raise NotImplementedError

    def allocate(self, size: int) -> Memory:
        raise NotImplementedError

    def borrowed(self, address: int, size: int) -> Memory:
        """Memory of somebody else on the same device, to be taken where it is."""
        return Held(address, size)

    def address(self, memory: Memory) -> int:
        return memory.address


def _failed(what: str, why: object) -> ToolchainError:
    """PH522: what a device did not do."""
    return ToolchainError(
        "PH522",
        f"{what}: {why}",
        hints=("start a new process: after a failed kernel, a context does nothing more", "checked=True tests indices"),
    )


_TOO_NEW = "is nvcc newer than the driver? nvidia-smi says which CUDA the driver knows"


class PyCuda(_Shared):
    """pycuda on the primary context, which other libraries of the process share."""

    def __init__(self, api: Any, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self._api = api
        try:
            api.init()
            device = api.Device(self.ordinal)
            a = api.device_attribute
            major, minor = device.compute_capability()
            self.device = described(
                device.name(), major, minor, device.get_attribute(a.MULTIPROCESSOR_COUNT),
                device.get_attribute(a.CLOCK_RATE) / 1e6, device.get_attribute(a.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
            )  # fmt: skip
            self._context = device.retain_primary_context()
        except api.Error as error:
            raise no_device("cuda", str(error), _HINT) from error
        self._threads = threading.local()
        self._modules: list[Any] = []
        self.begin()

    def begin(self) -> None:
        """The context is on the stack of this thread; the one that imported pycuda must find it empty in the end."""
        self._same_process()
        if not getattr(self._threads, "pushed", False):
            self._context.push()
            self._threads.pushed = True
            if threading.current_thread() is threading.main_thread():
                atexit.register(self._context.pop)

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Any], BuildInfo]:
        binary, info = self._cubin(text, cache)
        self.begin()
        try:
            module = self._api.module_from_buffer(binary)
            kernels = {s: (s, module.get_function(s)) for s in symbols}
        except self._api.Error as error:
            raise ToolchainError("PH523", f"the driver does not load a cubin: {error}", hints=(_TOO_NEW,)) from error
        self._modules.append(module)
        return kernels, info

    def free(self) -> int:
        return int(self._api.mem_get_info()[0])

    def allocate(self, size: int) -> Memory:
        try:
            memory = self._api.mem_alloc(max(size, 1))
        except self._api.MemoryError as error:
            raise out_of_memory(size, self.held, self.device) from error
        self.held += size
        return Held(int(memory), size, memory)

    def release(self, memory: Memory) -> None:
        self.begin()
        memory.of.free()
        self.held -= memory.size

    def upload(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        if data.nbytes:
            self._try("a copy to the device failed", self._api.memcpy_htod, memory.address, _bytes(data))

    def download(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        if data.nbytes:
            self._try("a copy from the device failed", self._api.memcpy_dtoh, _bytes(data), memory.address)

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        name, function = kernel
        given = [np.uintp(a.address) if isinstance(a, Held) else a for a in arguments]
        self._try(f"kernel {name} did not start", function, *given, grid=grid, block=block)

    def finish(self) -> None:
        self._try("a kernel failed", self._api.Context.synchronize)

    def wait_for(self, stream: int) -> None:
        """pycuda knows no streams of others, so that all of them are waited for."""
        self.finish()

    def where(self, address: int) -> int | None:
        """Which device has this address; pycuda does not say."""
        return None

    def seconds(self, work: Callable[[], object], launches: int = 1) -> float:
        begin, end = self._api.Event(), self._api.Event()
        self._fill(launches, lambda to, size: self._api.memset_d8(to, 0, size))
        begin.record()
        work()
        end.record()
        self._try("a kernel failed", end.synchronize)
        return begin.time_till(end) / 1e3

    def _try(self, what: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        try:
            call(*arguments, **named)
        except self._api.Error as error:
            raise _failed(what, error) from error


class CudaPython(_Shared):
    """cuda-python on the primary context, or what speaks as it does."""

    def __init__(self, api: Any, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self._api = api
        try:
            self._do("no driver", api.cuInit(0))
            device = self._do("no device", api.cuDeviceGet(self.ordinal))
            a = api.CUdevice_attribute

            def number(which: Any) -> int:
                return int(self._do("no device", api.cuDeviceGetAttribute(which, device)))

            name = bytes(self._do("no device", api.cuDeviceGetName(100, device))).split(b"\0")[0].decode()
            self.device = described(
                name,
                number(a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                number(a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
                number(a.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
                number(a.CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1e6,
                number(a.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
            )
            self._context = self._do("no context", api.cuDevicePrimaryCtxRetain(device))
        except (ToolchainError, RuntimeError) as error:
            why = error.message if isinstance(error, ToolchainError) else str(error)
            raise no_device("cuda", why, _HINT) from error
        self.begin()

    def _do(self, what: str, answer: tuple[Any, ...]) -> Any:
        """What a call gave; its error as one of ours."""
        status, *values = answer
        if int(status) != 0:
            raise _failed(what, f"CUDA says {status.name}")
        return values[0] if values else None

    def begin(self) -> None:
        """The context is that of this thread, whatever others made current since."""
        self._same_process()
        self._do("no context", self._api.cuCtxSetCurrent(self._context))

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Any], BuildInfo]:
        binary, info = self._cubin(text, cache)
        self.begin()
        image = np.frombuffer(binary, np.uint8)
        try:
            module = self._do("the driver does not load a cubin", self._api.cuModuleLoadData(image.ctypes.data))
            found = {s: self._do(f"no kernel {s}", self._api.cuModuleGetFunction(module, s.encode())) for s in symbols}
        except ToolchainError as error:
            raise ToolchainError("PH523", error.message, hints=(_TOO_NEW,)) from error
        return {s: (s, f) for s, f in found.items()}, info

    def free(self) -> int:
        return int(self._do("no memory", self._api.cuMemGetInfo()))

    def allocate(self, size: int) -> Memory:
        try:
            memory = self._do("no memory", self._api.cuMemAlloc(max(size, 1)))
        except ToolchainError as error:
            if "OUT_OF_MEMORY" not in error.message:
                raise
            raise out_of_memory(size, self.held, self.device) from error
        self.held += size
        return Held(int(memory), size)

    def release(self, memory: Memory) -> None:
        self.begin()
        self._do("memory was not freed", self._api.cuMemFree(memory.address))
        self.held -= memory.size

    def upload(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        if data.nbytes:
            call = self._api.cuMemcpyHtoD(memory.address, data.ctypes.data, data.nbytes)
            self._do("a copy to the device failed", call)

    def download(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        if data.nbytes:
            call = self._api.cuMemcpyDtoH(data.ctypes.data, memory.address, data.nbytes)
            self._do("a copy from the device failed", call)

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        name, function = kernel
        held = [np.array(a.address, np.uint64) if isinstance(a, Held) else np.asarray(a) for a in arguments]
        pointers = np.array([h.ctypes.data for h in held], np.uint64)
        call = self._api.cuLaunchKernel(function, *grid, *block, 0, 0, pointers.ctypes.data, 0)
        self._do(f"kernel {name} did not start", call)

    def finish(self) -> None:
        self._do("a kernel failed", self._api.cuCtxSynchronize())

    def wait_for(self, stream: int) -> None:
        """What comes next on the default stream waits for all that was asked of another until now."""
        event = self._do("no event", self._api.cuEventCreate(_NO_TIMING))
        try:
            self._do(f"stream {stream} is none", self._api.cuEventRecord(event, stream))
            self._do(f"stream {stream} is none", self._api.cuStreamWaitEvent(0, event, 0))
        finally:
            self._do("no event", self._api.cuEventDestroy(event))

    def where(self, address: int) -> int | None:
        """Which device has this address; None where none does."""
        which = self._api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, *found = self._api.cuPointerGetAttribute(which, address)
        return int(found[0]) if int(status) == 0 else None

    def seconds(self, work: Callable[[], object], launches: int = 1) -> float:
        self._fill(launches, lambda to, size: self._do("no memory", self._api.cuMemsetD8(to, 0, size)))
        begin, end = (self._do("no event", self._api.cuEventCreate(0)) for _ in range(2))
        try:
            self._do("no event", self._api.cuEventRecord(begin, 0))
            work()
            self._do("no event", self._api.cuEventRecord(end, 0))
            self._do("a kernel failed", self._api.cuEventSynchronize(end))
            return float(self._do("no event", self._api.cuEventElapsedTime(begin, end))) / 1e3
        finally:
            for event in (begin, end):
                self._api.cuEventDestroy(event)


def _bytes(data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The memory of a dense array; types that NumPy has no letter for are no buffers."""
    return data.reshape(-1).view(np.uint8)
