# SPDX-License-Identifier: MIT
"""`cuda.bindings.driver` as cuda-bindings 13.5 has it, on `tests.device.fake.gpu`: status first, handles as objects.

Names and the order of arguments were read off the package's own documentation.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np

from tests.device.fake.gpu import NAMES, NO_DEVICE, FailedError, Gpu

CUresult = IntEnum("CUresult", {name: code for code, name in NAMES.items()})


class _Handle:
    """Handles are no numbers, but can be asked for theirs."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value


class CUdeviceptr(_Handle): ...


class CUcontext(_Handle): ...


class CUmodule(_Handle): ...


class CUfunction(_Handle): ...


class CUevent(_Handle): ...


class CUdevice(_Handle): ...


def _answer(call: Callable[[], Any]) -> tuple[Any, ...]:
    try:
        made = call()
    except FailedError as error:
        return (CUresult(error.code), None)
    return (CUresult(0),) if made is None else (CUresult(0), *(made if isinstance(made, tuple) else (made,)))


class Driver:
    """What is imported."""

    class CUdevice_attribute(IntEnum):  # noqa: N801
        CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81

    class CUpointer_attribute(IntEnum):  # noqa: N801
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.current = False

    def cuInit(self, Flags: int) -> tuple:  # noqa: N802
        return (CUresult(0 if self.gpu.devices else NO_DEVICE),)

    def cuDeviceGet(self, ordinal: int) -> tuple:  # noqa: N802
        return CUresult(0), CUdevice(ordinal)

    def cuDeviceGetName(self, length: int, dev: CUdevice) -> tuple:  # noqa: N802
        return CUresult(0), b"A processor".ljust(length, b"\0")

    def cuDeviceGetAttribute(self, attrib: Any, dev: CUdevice) -> tuple:  # noqa: N802
        assert isinstance(dev, CUdevice)
        known = {13: 1_410_000, 16: 4, 75: self.gpu.capability[0], 76: self.gpu.capability[1], 81: 100 << 10}
        return CUresult(0), known[int(self.CUdevice_attribute(attrib))]

    def cuDevicePrimaryCtxRetain(self, dev: CUdevice) -> tuple:  # noqa: N802
        return CUresult(0), CUcontext(1)

    def cuCtxSetCurrent(self, ctx: CUcontext) -> tuple:  # noqa: N802
        assert isinstance(ctx, CUcontext)
        self.current = True
        return (CUresult(0),)

    def cuCtxSynchronize(self) -> tuple:  # noqa: N802
        return _answer(self.gpu.synchronize)

    def cuModuleLoadData(self, image: int) -> tuple:  # noqa: N802
        assert self.current
        return _answer(lambda: CUmodule(self.gpu.load(_elf(int(image)))))

    def cuModuleGetFunction(self, hmod: CUmodule, name: bytes) -> tuple:  # noqa: N802
        assert isinstance(name, bytes)
        return _answer(lambda: CUfunction(self.gpu.function(int(hmod), name.decode())))

    def cuMemGetInfo(self) -> tuple:  # noqa: N802
        return CUresult(0), self.gpu.capacity - self.gpu.used, self.gpu.capacity

    def cuMemAlloc(self, bytesize: int) -> tuple:  # noqa: N802
        assert bytesize > 0
        return _answer(lambda: CUdeviceptr(self.gpu.allocate(bytesize)))

    def cuMemFree(self, dptr: int) -> tuple:  # noqa: N802
        return _answer(lambda: self.gpu.free(int(dptr)))

    def cuMemcpyHtoD(self, dstDevice: int, srcHost: int, ByteCount: int) -> tuple:  # noqa: N802
        return _answer(lambda: self.gpu.put(int(dstDevice), _host(srcHost, ByteCount)))

    def cuMemcpyDtoH(self, dstHost: int, srcDevice: int, ByteCount: int) -> tuple:  # noqa: N802
        return _answer(lambda: self.gpu.get(int(srcDevice), _host(dstHost, ByteCount)))

    def cuMemsetD8(self, dstDevice: int, uc: int, N: int) -> tuple:  # noqa: N802
        return _answer(lambda: self.gpu.memory(int(dstDevice), N).fill(uc))

    def cuPointerGetAttribute(self, attribute: Any, ptr: int) -> tuple:  # noqa: N802
        assert int(attribute) == 9
        if int(ptr) in self.gpu.elsewhere:
            return CUresult(0), self.gpu.elsewhere[int(ptr)]
        return _answer(lambda: self.gpu.memory(int(ptr)) is None or 0)

    def cuLaunchKernel(self, f, gx, gy, gz, bx, by, bz, sharedMemBytes, hStream, kernelParams, extra) -> tuple:  # noqa: N802
        assert (sharedMemBytes, hStream, extra) == (0, 0, 0)
        count = len(self.gpu.kinds(int(f)))
        at = (ctypes.c_void_p * count).from_address(kernelParams) if count else ()
        sizes = [4 if k == "i" else 8 for k in self.gpu.kinds(int(f))]
        values = [ctypes.string_at(p, n) for p, n in zip(at, sizes, strict=True)]
        return _answer(lambda: self.gpu.launch(int(f), (gx, gy, gz), (bx, by, bz), values))

    def cuStreamWaitEvent(self, hStream: int, hEvent: CUevent, Flags: int) -> tuple:  # noqa: N802
        return _answer(lambda: self.gpu.wait(int(hStream), int(hEvent)))

    def cuEventCreate(self, Flags: int) -> tuple:  # noqa: N802
        return _answer(lambda: CUevent(self.gpu.event()))

    def cuEventRecord(self, hEvent: CUevent, hStream: int) -> tuple:  # noqa: N802
        return _answer(lambda: self.gpu.record(int(hEvent), int(hStream)))

    def cuEventSynchronize(self, hEvent: CUevent) -> tuple:  # noqa: N802
        return _answer(self.gpu.synchronize)

    def cuEventElapsedTime(self, hStart: CUevent, hEnd: CUevent) -> tuple:  # noqa: N802
        begin, end = (self.gpu.events[int(e)].at for e in (hStart, hEnd))
        return CUresult(0), (end - begin) * 1e3

    def cuEventDestroy(self, hEvent: CUevent) -> tuple:  # noqa: N802
        return _answer(lambda: self.gpu.events.pop(int(hEvent)) is None or None)


def _host(address: int, size: int) -> np.ndarray:
    assert isinstance(address, int)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def _elf(address: int) -> bytes:
    """An image without its length, as a driver has to take it: up to the end of its section headers."""
    if ctypes.string_at(address, 4) != b"\x7fELF":
        return b""
    head = ctypes.string_at(address, 64)
    start, (size, count) = (
        int.from_bytes(head[40:48], "little"),
        (int.from_bytes(head[k : k + 2], "little") for k in (58, 60)),
    )
    return ctypes.string_at(address, start + size * count)
