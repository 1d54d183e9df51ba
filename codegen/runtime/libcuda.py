# SPDX-License-Identifier: MIT
"""CUDA's driver library itself, called as cuda-python does: every function gives its status and then what it made.

For machines that have NVIDIA's driver and no package that speaks to it.  Only what `codegen.runtime.cuda` asks for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_ubyte, c_uint, c_void_p
from enum import IntEnum
from typing import Any

NAME = "libcuda.so.1"


class CUdevice_attribute(IntEnum):  # noqa: N801
    """Numbers of `cuda.h`."""

    CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81


class CUpointer_attribute(IntEnum):  # noqa: N801
    CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9


class Status(int):
    """What a call said, with its name."""

    name: str

    def __new__(cls, value: int, name: str) -> Status:
        made = super().__new__(cls, value)
        made.name = name
        return made


def load(open_library: Callable[[str], Any] = ctypes.CDLL) -> LibCuda:
    """The library of this machine; OSError where there is none."""
    return LibCuda(open_library(NAME))


class LibCuda:
    """The functions by the names that `cuda.bindings.driver` gives them."""

    CUdevice_attribute = CUdevice_attribute
    CUpointer_attribute = CUpointer_attribute

    def __init__(self, library: Any) -> None:
        self._library = library

    def _call(self, name: str, *arguments: Any) -> Status:
        value = int(getattr(self._library, name)(*arguments))
        if value == 0:
            return Status(0, "CUDA_SUCCESS")
        text = c_char_p()
        self._library.cuGetErrorName(c_int(value), byref(text))
        return Status(value, (text.value or b"an unknown error").decode())

    def _made(self, kind: Any, name: str, *arguments: Any) -> tuple[Status, Any]:
        found = kind()
        status = self._call(name, byref(found), *arguments)
        return status, found.value

    # The names and the order of arguments are the library's.

    def cuInit(self, flags: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuInit", c_uint(flags)),)

    def cuDeviceGet(self, ordinal: int) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_int, "cuDeviceGet", c_int(ordinal))

    def cuDeviceGetName(self, length: int, device: int) -> tuple[Status, bytes]:  # noqa: N802
        text = ctypes.create_string_buffer(length)
        return self._call("cuDeviceGetName", text, c_int(length), c_int(device)), text.value

    def cuDeviceGetAttribute(self, which: int, device: int) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_int, "cuDeviceGetAttribute", c_int(which), c_int(device))

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_void_p, "cuDevicePrimaryCtxRetain", c_int(device))

    def cuCtxSetCurrent(self, context: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuCtxSetCurrent", c_void_p(context)),)

    def cuCtxSynchronize(self) -> tuple[Status]:  # noqa: N802
        return (self._call("cuCtxSynchronize"),)

    def cuModuleLoadData(self, image: int) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_void_p, "cuModuleLoadData", c_void_p(image))

    def cuModuleGetFunction(self, module: int, name: bytes) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_void_p, "cuModuleGetFunction", c_void_p(module), c_char_p(name))

    def cuMemGetInfo(self) -> tuple[Status, int, int]:  # noqa: N802
        free, total = c_size_t(), c_size_t()
        status = self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return status, free.value, total.value

    def cuMemAlloc(self, size: int) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_void_p, "cuMemAlloc_v2", c_size_t(size))

    def cuMemFree(self, at: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuMemFree_v2", c_void_p(at)),)

    def cuMemcpyHtoD(self, to: int, source: int, size: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuMemcpyHtoD_v2", c_void_p(to), c_void_p(source), c_size_t(size)),)

    def cuMemcpyDtoH(self, to: int, source: int, size: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuMemcpyDtoH_v2", c_void_p(to), c_void_p(source), c_size_t(size)),)

    def cuMemsetD8(self, to: int, value: int, size: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuMemsetD8_v2", c_void_p(to), c_ubyte(value), c_size_t(size)),)

    def cuPointerGetAttribute(self, which: int, at: int) -> tuple[Status, Any]:  # noqa: N802
        found = c_int()
        status = self._call("cuPointerGetAttribute", byref(found), c_int(which), c_void_p(at))
        return status, found.value

    def cuLaunchKernel(  # noqa: N802
        self, kernel: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int, stream: int,
        arguments: int, extra: int,
    ) -> tuple[Status]:  # fmt: skip
        numbers = (c_uint(n) for n in (gx, gy, gz, bx, by, bz, shared))
        pointers = (c_void_p(n) for n in (stream, arguments, extra))
        return (self._call("cuLaunchKernel", c_void_p(kernel), *numbers, *pointers),)

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuStreamWaitEvent", c_void_p(stream), c_void_p(event), c_uint(flags)),)

    def cuEventCreate(self, flags: int) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_void_p, "cuEventCreate", c_uint(flags))

    def cuEventRecord(self, event: int, stream: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuEventRecord", c_void_p(event), c_void_p(stream)),)

    def cuEventSynchronize(self, event: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuEventSynchronize", c_void_p(event)),)

    def cuEventElapsedTime(self, begin: int, end: int) -> tuple[Status, Any]:  # noqa: N802
        return self._made(c_float, "cuEventElapsedTime", c_void_p(begin), c_void_p(end))

    def cuEventDestroy(self, event: int) -> tuple[Status]:  # noqa: N802
        return (self._call("cuEventDestroy_v2", c_void_p(event)),)
