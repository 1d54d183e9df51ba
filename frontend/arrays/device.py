# SPDX-License-Identifier: MIT
"""Arrays in the memory of a CUDA device: those of other libraries, taken in place, and our results, given to them.

In by DLPack or by the CUDA array interface; out by both.  Streams (CUDA array interface, version 3, and DLPack): what
another library has started is waited for, on our default stream, before kernels read; results are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np

from frontend.arrays import dlpack
from polyhedral.errors import ArgumentError, DtypeError
from polyhedral.ir.dtypes import BY_NAME

DEFAULT_STREAM = 1
"""The legacy default stream, in the words of both protocols."""
ANY_STREAM = -1
"""A producer that does not say on which stream it works: all are waited for."""


@dataclass(frozen=True)
class Flags:
    """What NumPy says of memory, as far as anybody asks."""

    writeable: bool
    aligned: bool
    c_contiguous: bool


class DeviceView:
    """A strided view of memory on a CUDA device; what is asked of NumPy's arrays before a call, and both protocols."""

    __slots__ = ("_download", "address", "device", "dtype", "owner", "shape", "stream", "strides", "writeable")

    def __init__(
        self,
        address: int,
        shape: Sequence[int],
        strides: Sequence[int],
        dtype: np.dtype[Any],
        *,
        device: int | None,
        owner: Any,
        writeable: bool = True,
        stream: int | None = None,
        download: Callable[[DeviceView], np.ndarray[Any, Any]] | None = None,
    ) -> None:
        self.address = address
        self.shape = tuple(shape)
        self.strides = tuple(strides)
        self.dtype = dtype
        self.device = device
        self.owner = owner
        self.writeable = writeable
        self.stream = stream
        self._download = download

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def flags(self) -> Flags:
        aligned = self.address % self.itemsize == 0
        dense = tuple(prod(self.shape[k + 1 :]) * self.itemsize for k in range(self.ndim))
        steps = zip(self.shape, self.strides, dense, strict=True)
        return Flags(self.writeable, aligned, all(n <= 1 or s == d for n, s, d in steps) or not self.size)

    def transpose(self, order: Sequence[int]) -> DeviceView:
        shape, strides = ([x[k] for k in order] for x in (self.shape, self.strides))
        return DeviceView(
            self.address, shape, strides, self.dtype, device=self.device, owner=self.owner, writeable=self.writeable,
            stream=self.stream, download=self._download,
        )  # fmt: skip

    def span(self) -> tuple[int, int]:
        """From the first byte to behind the last."""
        reach = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
        return (self.address + low, self.address + high + self.itemsize) if self.size else (self.address, self.address)

    # --- to other libraries, and to the host -------------------------------------------------------------------------

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; no stream, since calls end when their results are complete."""
        if self.dtype.isbuiltin != 1:  # bf16 and f8 have no letter; DLPack has codes for them
            raise AttributeError("__cuda_array_interface__")
        return {
            "shape": self.shape,
            "strides": None if self.flags.c_contiguous else self.strides,
            "typestr": self.dtype.str,
            "data": (self.address if self.size else 0, not self.writeable),
            "version": 3,
            "stream": self.stream if self.stream != ANY_STREAM else None,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.device or 0

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule; there is nothing to wait for on any stream."""
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("this memory is given as it is, without a copy")
        if not self.writeable:
            raise BufferError("this memory is read-only, which a capsule of this version does not say")
        return dlpack.made(self.address, self.device or 0, self.shape, self.strides, self.dtype, self)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy on the host.  ArgumentError PH314 for memory of another library."""
        if self._download is None:
            raise ArgumentError(
                "PH314",
                "this array lies on a device, in memory of another library",
                hints=("let that library copy it: .cpu() in PyTorch, .get() in CuPy",),
            )
        return self._download(self)

    def item(self) -> Any:
        return self.numpy().item()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        raise ArgumentError(
            "PH314",
            "this array lies on a device; nothing copies it to the host silently",
            hints=(".numpy() copies a result", "target='cuda' computes where it lies"),
        )

    def __getitem__(self, index: Any) -> Any:
        return self.numpy()[index]

    def __len__(self) -> int:
        return self.shape[0]


def on_device(a: Any) -> bool:
    """Whether an object says that its memory is on a CUDA device."""
    device = getattr(a, "__dlpack_device__", None)
    try:
        if device is not None and device()[0] in (dlpack.CUDA, dlpack.CUDA_MANAGED):
            return True
        return getattr(a, "__cuda_array_interface__", None) is not None
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False


def view(a: Any, name: str) -> DeviceView:
    """The memory of another library's array in place, after what that library has started on it.

    ArgumentError PH316 where it cannot be read so, DtypeError PH304 for types that the language lacks.
    """
    if isinstance(a, DeviceView):
        return a
    if hasattr(a, "__dlpack__"):
        return _from_dlpack(a, name)
    return _from_interface(a, name)


def _from_dlpack(a: Any, name: str) -> DeviceView:
    """Our stream is told to the producer, which has it wait for its own."""
    try:
        try:
            capsule = a.__dlpack__(stream=DEFAULT_STREAM, max_version=(1, 0))
        except TypeError:
            capsule = a.__dlpack__(stream=DEFAULT_STREAM)
        found = dlpack.read(capsule)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise _unreadable(name, "DLPack", error) from error
    if found.dtype is None:
        raise _no_type(name, found.shown)
    return DeviceView(
        found.address, found.shape, found.strides, found.dtype, device=found.device[1], owner=(capsule, a),
        writeable=not found.read_only,
    )  # fmt: skip


def _from_interface(a: Any, name: str) -> DeviceView:
    try:
        said = cast("dict[str, Any]", a.__cuda_array_interface__)
        dtype, shape = np.dtype(said["typestr"]), tuple(map(int, said["shape"]))
        address, read_only = said["data"]
        given = said.get("strides")
        strides = tuple(map(int, given)) if given is not None else None
        version, stream = int(said["version"]), said.get("stream")
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _unreadable(name, "the CUDA array interface", error) from error
    if said.get("mask") is not None:
        raise ArgumentError("PH315", f"{name} is a masked array", hints=("say what masked cells hold",))
    if stream == 0:
        why = "stream 0, which does not say which default stream is meant"
        raise _unreadable(name, "the CUDA array interface", why)
    dense = tuple(prod(shape[k + 1 :]) * dtype.itemsize for k in range(len(shape)))
    stream = stream if version >= 3 else ANY_STREAM
    return DeviceView(
        int(address or 0), shape, dense if strides is None else strides, dtype, device=None, owner=a,
        writeable=not read_only, stream=None if stream is None else int(stream),
    )  # fmt: skip


def _unreadable(name: str, protocol: str, error: object) -> ArgumentError:
    return ArgumentError(
        "PH316",
        f"{name} lies on a device and cannot be read through {protocol}: {error}",
        hints=("a tensor with a gradient: .detach()", "an array of its own, dense: .contiguous() or .copy()"),
    )


def _no_type(name: str, shown: str) -> DtypeError:
    return DtypeError("PH304", f"{name} has elements of {shown}", hints=(f"use one of {', '.join(BY_NAME)}",))
