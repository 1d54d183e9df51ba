# SPDX-License-Identifier: MIT
"""OpenCL through pyopencl: the first GPU that a platform has, else any device, a processor through PoCL for one.

Implements `codegen.runtime.device.Driver`; binaries are kept in our cache, and none elsewhere.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.runtime.build import BuildInfo, package_version
from codegen.runtime.cache import Cache, key_of
from codegen.runtime.device import Memory, no_device, out_of_memory
from polyhedral.errors import ToolchainError
from polyhedral.machine.device import Device

ABI = "opencl/1"
_OPTIONS = ("-cl-std=CL1.2", "-w")
_PROCESSOR = "-cl-opt-disable"
"""A processor stands in for a GPU, and PoCL takes minutes to optimise threads with large tiles."""
_UNKNOWN = "pthread-x86_64-unknown-linux-gnu-generic"
"""How PoCL ends the version of a processor that its LLVM does not know: clang then refuses to build anything."""


def open_device() -> OpenCL:
    """The device of this process; ToolchainError PH520 where there is no pyopencl or no device to build for."""
    try:
        cl: Any = importlib.import_module("pyopencl")
    except ImportError as error:
        raise no_device(
            "opencl", f"pyopencl does not load ({error})", "pip install 'polyhedral-loops[opencl]'"
        ) from error
    try:
        devices = [d for p in cl.get_platforms() for d in p.get_devices()]
    except cl.Error as error:
        raise no_device("opencl", f"no platform ({error})", "pip install pocl-binary-distribution") from error
    if not devices:
        raise no_device("opencl", "no platform has a device", "pip install pocl-binary-distribution")
    usable = [d for d in devices if not d.version.rstrip().endswith(_UNKNOWN)]
    if not usable:
        why = f"the compiler of {devices[0].platform.name} is older than this processor and builds nothing for it"
        raise no_device("opencl", why, "a newer PoCL, or target='cpu'")
    gpus = [d for d in usable if d.type & cl.device_type.GPU]
    return OpenCL(cl, (gpus or usable)[0])


class OpenCL:
    """One device with a context and a queue of its own."""

    language = "opencl"
    ordinal = 0

    def __init__(self, cl: Any, device: Any) -> None:
        self._cl = cl
        self._device = device
        self._context = cl.Context([device])
        self._queue = cl.CommandQueue(self._context)
        exact = device.single_fp_config & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT
        self._flags = [
            *_OPTIONS,
            *(["-cl-fp32-correctly-rounded-divide-sqrt"] if exact else []),
            *([] if device.type & cl.device_type.GPU else [_PROCESSOR]),
        ]
        self.device = Device(
            name=device.name.strip(),
            units=device.max_compute_units,
            clock=(device.max_clock_frequency or 1000) / 1000,
            threads=max(device.max_work_group_size, 256),
            shared=device.local_mem_size,
            shared_block=min(device.local_mem_size, 48 << 10),
            block=min(device.max_work_group_size, 1024),
            ratio64=1 / 2 if "cl_khr_fp64" in device.extensions else 0.0,
        )
        self.held = 0

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Any], BuildInfo]:
        d = self._device
        identity = (d.platform.version, d.name, d.version, d.driver_version, *self._flags)
        key = key_of(ABI, package_version(), *identity, text)
        path = cache.lookup(key)
        if path is not None:
            try:
                program = self._cl.Program(self._context, [d], [path.read_bytes()]).build(self._flags, cache_dir=False)
                return self._kernels(program, symbols), BuildInfo(key, path, True, 0.0)
            except (self._cl.Error, OSError):
                cache.discard(key)
        begin = time.perf_counter()
        try:
            program = self._cl.Program(self._context, text).build(self._flags, cache_dir=False)
        except self._cl.Error as error:
            raise ToolchainError("PH523", f"the OpenCL compiler of {d.name.strip()} failed: {error}") from error
        seconds = time.perf_counter() - begin
        binary = program.get_info(self._cl.program_info.BINARIES)[0]
        meta = {"symbol": ",".join(symbols), "compiler": d.version, "seconds": round(seconds, 3)}
        stored = cache.store(key, binary, meta, ".clb")
        return self._kernels(program, symbols), BuildInfo(key, stored.path, False, seconds, stored.remark)

    def _kernels(self, program: Any, symbols: Sequence[str]) -> dict[str, Any]:
        return {s: self._cl.Kernel(program, s) for s in symbols}

    def begin(self) -> None:
        """Nothing: a queue is the same in every thread."""

    def free(self) -> int | None:
        """OpenCL does not say."""
        return None

    def borrowed(self, address: int, size: int) -> Memory:
        raise ToolchainError("PH527", "OpenCL takes no memory of other libraries", hints=("target='cuda'",))

    def address(self, memory: Memory) -> int:
        raise ToolchainError("PH527", "OpenCL gives no addresses", hints=("target='cuda'",))

    def wait_for(self, stream: int) -> None:
        """There are no streams of others."""

    def where(self, address: int) -> int | None:
        return None

    def allocate(self, size: int) -> Memory:
        try:
            memory = self._cl.Buffer(self._context, self._cl.mem_flags.READ_WRITE, max(size, 1))
        except self._cl.Error as error:
            raise out_of_memory(size, self.held, self.device) from error
        self.held += size
        return memory

    def release(self, memory: Memory) -> None:
        self.held -= memory.size
        memory.release()

    def upload(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        self._cl.enqueue_copy(self._queue, memory, data.view(np.uint8))

    def download(self, memory: Memory, data: np.ndarray[Any, Any]) -> None:
        self._cl.enqueue_copy(self._queue, data.view(np.uint8), memory)

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> None:
        every = tuple(g * b for g, b in zip(grid, block, strict=True))
        try:
            kernel(self._queue, every, block, *arguments)
        except self._cl.Error as error:
            name = kernel.get_info(self._cl.kernel_info.FUNCTION_NAME)
            raise ToolchainError("PH522", f"kernel {name} did not start: {error}") from error

    def finish(self) -> None:
        self._queue.finish()

    def seconds(self, work: Callable[[], object], launches: int = 1) -> float:
        self.finish()
        begin = time.perf_counter()
        work()
        self.finish()
        return time.perf_counter() - begin
