# SPDX-License-Identifier: MIT
"""XLA's foreign function interface in ctypes: a handler that sees operands and results where they lie in memory.

Only as much of its C structures as a call on the host takes; what a handler computes is its maker's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any, cast

import numpy as np

from frontend.arrays.memory import Strided
from polyhedral.ir.dtypes import DType

_METADATA, _EXECUTE, _INTERNAL = 1, 3, 13
_CODES = {
    "bool": 1, "i8": 2, "i16": 3, "i32": 4, "i64": 5, "u8": 6, "u16": 7, "u32": 8, "u64": 9, "f16": 10, "f32": 11,
    "f64": 12, "c64": 15, "bf16": 16, "c128": 18, "f8e5m2": 19, "f8e4m3": 20,
}  # fmt: skip

Expected = tuple[tuple[int, ...], DType]
"""The shape and the type of one array."""
Run = Callable[[list[Strided], list[Strided]], None]
"""What is done with operands and results."""


class _Extension(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("type", c_int), ("next", c_void_p))


class _Version(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("extension", c_void_p), ("major", c_int), ("minor", c_int))


class _Metadata(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("version", _Version), ("traits", c_uint32), ("state", c_int64))


class _MetadataExtension(ctypes.Structure):
    _fields_ = (("base", _Extension), ("metadata", POINTER(_Metadata)))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("extension", c_void_p), ("dtype", c_int), ("data", c_void_p), ("rank", c_int64),
        ("dims", POINTER(c_int64)),
    )  # fmt: skip


class _Buffers(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("extension", c_void_p), ("size", c_int64), ("types", POINTER(c_int)),
        ("buffers", POINTER(POINTER(_Buffer))),
    )  # fmt: skip


class _Scalar(ctypes.Structure):
    _fields_ = (("dtype", c_int), ("value", POINTER(c_int64)))


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("extension", c_void_p), ("size", c_int64), ("types", POINTER(c_int)),
        ("names", c_void_p), ("values", POINTER(POINTER(_Scalar))),
    )  # fmt: skip


class _ErrorArguments(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("extension", c_void_p), ("message", c_char_p), ("code", c_int))


class _Api(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("extension", c_void_p), ("version", _Version), ("internal", c_void_p),
        ("error", ctypes.CFUNCTYPE(c_void_p, POINTER(_ErrorArguments))),
    )  # fmt: skip


class _Frame(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("extension", POINTER(_Extension)), ("api", POINTER(_Api)), ("context", c_void_p),
        ("stage", c_int), ("operands", _Buffers), ("results", _Buffers), ("attributes", _Attributes),
    )  # fmt: skip


_HANDLER = ctypes.CFUNCTYPE(c_void_p, POINTER(_Frame))


class Kernel:
    """What one call site runs, with what it was made for: memory of another shape or type is refused."""

    def __init__(self, run: Run, operands: Sequence[Expected], results: Sequence[Expected]) -> None:
        self.run = run
        self.operands = tuple(operands)
        self.results = tuple(results)


def handler(kernels: Sequence[Kernel]) -> Any:
    """A function for XLA that runs the kernel whose number is the call's only attribute.

    XLA calls it for as long as the process lives, so it is never freed.
    """

    def call(pointer: Any) -> int | None:
        frame = pointer.contents
        if frame.extension and frame.extension.contents.type == _METADATA:
            _describe(frame)
            return None
        if frame.stage != _EXECUTE:
            return None
        try:
            kernel = kernels[int(frame.attributes.values[0].contents.value[0])]
            kernel.run(_arrays(frame.operands, kernel.operands), _arrays(frame.results, kernel.results))
        except BaseException as error:  # nothing may pass through XLA's frames: it becomes the call's error
            message = f"{type(error).__name__}: {error}".encode()
            made = _ErrorArguments(ctypes.sizeof(_ErrorArguments), None, message, _INTERNAL)
            return frame.api.contents.error(ctypes.byref(made))
        return None

    made = _HANDLER(call)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    return made


def _describe(frame: Any) -> None:
    """XLA asks which version of the interface this is for: its own, whose fields used here have not moved since 0.0."""
    extension = ctypes.cast(frame.extension, POINTER(_MetadataExtension)).contents
    told = extension.metadata.contents
    told.version.major = frame.api.contents.version.major
    told.version.minor = frame.api.contents.version.minor
    told.traits = 0
    if told.struct_size >= ctypes.sizeof(_Metadata):
        told.state = 0


def _arrays(buffers: Any, expected: Sequence[Expected]) -> list[Strided]:
    """Views of XLA's memory, in C order."""
    if buffers.size != len(expected):
        raise ValueError(f"{len(expected)} arrays wanted, {buffers.size} given")
    return [_array(buffers.buffers[i].contents, shape, dtype) for i, (shape, dtype) in enumerate(expected)]


def _array(b: Any, shape: tuple[int, ...], dtype: DType) -> Strided:
    given = tuple(b.dims[k] for k in range(b.rank))
    if given != shape or b.dtype != _CODES[dtype.name]:
        raise ValueError(f"{dtype}{list(shape)} wanted, XLA's type {b.dtype} of {list(given)} given")
    count = int(np.prod(shape)) * dtype.numpy.itemsize
    if not count:
        return np.empty(shape, dtype.numpy)
    return np.ndarray(shape, dtype.numpy, cast("Any", (ctypes.c_char * count).from_address(b.data)))
