# SPDX-License-Identifier: MIT
"""`libcuda.so.1` as ctypes has it, on `tests.device.fake.cuda_python`: C's calls, results through pointers."""

from __future__ import annotations

from typing import Any

from tests.device.fake import cuda_python as cu
from tests.device.fake.gpu import NAMES, Gpu

_HANDLES = {
    "cuModuleGetFunction": cu.CUmodule, "cuCtxSetCurrent": cu.CUcontext, "cuDeviceGetAttribute": cu.CUdevice,
    "cuDevicePrimaryCtxRetain": cu.CUdevice,
}  # fmt: skip
_MAKES = (
    "cuDeviceGet", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuModuleLoadData", "cuModuleGetFunction",
    "cuMemAlloc", "cuPointerGetAttribute", "cuEventCreate", "cuEventElapsedTime",
)  # fmt: skip


class Library:
    """What `ctypes.CDLL` gives; a name that the real library has not is none here."""

    def __init__(self, gpu: Gpu) -> None:
        self.driver = cu.Driver(gpu)

    def __getattr__(self, name: str) -> Any:
        plain = name.removesuffix("_v2")
        if (name != plain) != (
            plain
            in (
                "cuMemGetInfo",
                "cuMemAlloc",
                "cuMemFree",
                "cuMemcpyHtoD",
                "cuMemcpyDtoH",
                "cuMemsetD8",
                "cuEventDestroy",
            )
        ):
            raise AttributeError(name)

        def call(*given: Any) -> int:
            if plain == "cuGetErrorName":
                given[1]._obj.value = NAMES[given[0].value].encode()
                return 0
            if plain == "cuMemGetInfo":
                status, *found = self.driver.cuMemGetInfo()
                for g, f in zip(given, found, strict=True):
                    g._obj.value = f
                return int(status)
            if plain == "cuDeviceGetName":
                given[0].value = b"A processor"
                return 0
            out, rest = (given[0], given[1:]) if plain in _MAKES else (None, given)
            values = [g.value if g.value is not None else 0 for g in rest]
            values = [
                _HANDLES[plain](v)
                if plain in _HANDLES and k == len(values) - 1 - (plain == "cuModuleGetFunction")
                else v
                for k, v in enumerate(values)
            ]
            status, *found = getattr(self.driver, plain)(*values)
            if out is not None and int(status) == 0:
                out._obj.value = found[0] if isinstance(found[0], float) else int(found[0])
            return int(status)

        return call
