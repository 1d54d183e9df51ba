# SPDX-License-Identifier: MIT
"""DLPack capsules of memory on a CUDA device: read, and made (dlpack.h, versions 0.8 to 1.1).

NumPy does the same for memory of the host.  Streams are the caller's: a capsule says nothing of them.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from polyhedral.ir import dtypes

CUDA, CUDA_MANAGED = 2, 13
_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}
_NAMED = {(4, 16): "bf16", (10, 8): "f8e4m3", (12, 8): "f8e5m2"}
_READ_ONLY = 1


class _Tensor(Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("offset", c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, c_void_p)


class _Managed(Structure):
    _fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", _Deleter))


class _Versioned(Structure):
    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", _Deleter),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    )


_NAME, _NEW_NAME = b"dltensor", b"dltensor_versioned"
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(c_void_p, ctypes.py_object, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_valid_at = ctypes.PYFUNCTYPE(ctypes.c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer_at = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_Destructor = ctypes.PYFUNCTYPE(None, c_void_p)
_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, c_char_p, _Destructor)(("PyCapsule_New", ctypes.pythonapi))


@dataclass(frozen=True)
class Memory:
    """What a capsule says: strides in bytes; `dtype` None for a type that NumPy and we have no name for."""

    address: int
    device: tuple[int, int]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any] | None
    shown: str
    read_only: bool


def read(capsule: Any) -> Memory:
    """The memory of a capsule, which owns it for as long as it lives: it is not consumed.  ValueError for another."""
    if _is_valid(capsule, _NEW_NAME):
        new = _Versioned.from_address(_pointer(capsule, _NEW_NAME))
        if new.major != 1:
            raise ValueError(f"DLPack version {new.major}.{new.minor}")
        return _memory(new.tensor, bool(new.flags & _READ_ONLY))
    if not _is_valid(capsule, _NAME):
        raise ValueError("no capsule of DLPack, or one that was consumed")
    return _memory(_Managed.from_address(_pointer(capsule, _NAME)).tensor, False)


def _memory(t: _Tensor, read_only: bool) -> Memory:
    shape = tuple(t.shape[k] for k in range(t.ndim))
    dense = tuple(prod(shape[k + 1 :]) for k in range(t.ndim))
    steps = tuple(t.strides[k] for k in range(t.ndim)) if t.strides else dense
    item = -(-t.bits * t.lanes // 8)
    dtype = _dtype(t.code, t.bits) if t.lanes == 1 else None
    shown = f"DLPack type {t.code} of {t.bits} bits" + (f", {t.lanes} at once" if t.lanes != 1 else "")
    address = (t.data or 0) + t.offset
    return Memory(address, (t.device_type, t.device), shape, tuple(s * item for s in steps), dtype, shown, read_only)


def _dtype(code: int, bits: int) -> np.dtype[Any] | None:
    if (code, bits) in _NAMED:
        return dtypes.BY_NAME[_NAMED[code, bits]].numpy
    kind = _KINDS.get(code)
    try:
        return None if kind is None or bits % 8 else np.dtype(f"{kind}{bits // 8}")
    except TypeError:
        return None


_LIVE: dict[int, tuple[Any, ...]] = {}
"""What exported capsules hold, by the address of their struct, until whoever took them says that it is done."""


def _done(at: int) -> None:
    _LIVE.pop(at, None)


_done_with = _Deleter(_done)


def _dropped(capsule: int) -> None:
    """A capsule that nobody took."""
    if _valid_at(capsule, _NAME):
        _done(_pointer_at(capsule, _NAME))


_on_drop = _Destructor(_dropped)


def made(
    address: int, device: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any], keep: Any
) -> Any:
    """A capsule of memory on a CUDA device, which `keep` keeps; strides in bytes.  BufferError for types without a
    code.
    """
    code, bits = _code(dtype)
    extents = (c_int64 * max(len(shape), 1))(*shape)
    steps = (c_int64 * max(len(shape), 1))(*(s // dtype.itemsize for s in strides))
    tensor = _Tensor(address, CUDA, device, len(shape), code, bits, 1, extents, steps, 0)
    managed = _Managed(tensor, None, _done_with)
    at = ctypes.addressof(managed)
    _LIVE[at] = (managed, extents, steps, keep)
    return _capsule(at, _NAME, _on_drop)


def _code(dtype: np.dtype[Any]) -> tuple[int, int]:
    named = dtypes.from_numpy(dtype)
    for (code, bits), name in _NAMED.items():
        if named is not None and named.name == name:
            return code, bits
    for code, kind in _KINDS.items():
        if dtype.kind == kind:
            return code, dtype.itemsize * 8
    raise BufferError(f"DLPack has no code for {dtype}")
