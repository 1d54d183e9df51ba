# SPDX-License-Identifier: MIT
"""Bytes behind arrays: where they lie, whether two share some, whether one may be written, and fresh aligned ones.

Kernels take `restrict` pointers, so this is asked before every call; which arrays are written is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np

from codegen.runtime.native import address
from frontend.arrays.device import DeviceView
from frontend.arrays.pool import HUGE, Pool
from polyhedral.errors import ArgumentError

Strided = np.ndarray[Any, Any]

ALIGNED, LARGE = 64, 64 << 10
"""Bytes of a cache line, and from how many on scratch comes from the pool."""
_POOL = Pool()
_BYTES = np.dtype(np.uint8)
_WORK = 10_000  # candidates that NumPy's exact overlap test may look at before it gives up
_CELLS = 1 << 20  # elements up to which an unusual output is checked for overlapping itself by listing its offsets


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Strided:
    """An array of undefined values, in C order, whose first element lies on a multiple of 64 bytes; on whole huge pages
    where it fills one, since whoever asked may keep it.
    """
    return views(dtype.itemsize * prod(shape) + ALIGNED, [View(shape, dtype, 0)], HUGE)[0]


@dataclass(frozen=True)
class View:
    """An array in C order that begins `start` bytes after the beginning of a block."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int


def views(size: int, wanted: Sequence[View], large: int = LARGE) -> list[Strided]:
    """Arrays of undefined values in one block of `size` bytes that begins on a multiple of 64; from `large` bytes on
    the block is the pool's.
    """
    raw = _POOL.take(size) if size >= large else np.empty(size + ALIGNED, _BYTES)
    first = -address(raw) % ALIGNED
    return [np.ndarray(v.shape, v.dtype, raw, first + v.start) for v in wanted]


def element_span(array: Strided) -> tuple[int, int]:
    """The bytes from the lowest element to the end of the highest, as addresses; (lo, lo) when there are none."""
    if isinstance(array, DeviceView):
        return array.span()
    lo = hi = address(array)
    for extent, stride in zip(array.shape, array.strides, strict=True):
        if extent == 0:
            return address(array), address(array)
        if stride < 0:
            lo += (extent - 1) * stride
        else:
            hi += (extent - 1) * stride
    return lo, hi + array.itemsize


def overlapping(arrays: Sequence[tuple[str, Strided]], writable: Set[str]) -> None:
    """ArgumentError PH311 if an array in `writable` shares memory with another one.

    Interleaved views whose byte ranges cross without a common element pass; where that is too dear to decide, they
    count as overlapping.  Two arrays that are only read may be the same.
    """
    for at, (name, array) in enumerate(arrays):
        for other_name, other in arrays[at + 1 :]:
            written = name in writable or other_name in writable
            if written and _may_share(array, other) and _shares(array, other):
                raise _overlap(name, array, other_name, other)


def check_written(arrays: Sequence[tuple[str, Strided]]) -> None:
    """ArgumentError PH312 for an output that is read-only, PH313 for one with two indices for the same cell."""
    for name, array in arrays:
        flags = array.flags
        if not flags.writeable:
            raise ArgumentError("PH312", f"{name} is written but read-only", hints=(f"give a copy: {name}.copy()",))
        if not flags.c_contiguous and meets_itself(array):
            strides = ", ".join(map(str, array.strides))
            raise ArgumentError(
                "PH313",
                f"{name} is written, but several of its elements lie in the same place (strides {strides} bytes)",
                hints=(f"broadcast and sliding views cannot be outputs; give a copy: {name}.copy()",),
            )


def meets_itself(array: Strided) -> bool:
    """Whether two indices of a strided array lead to a common byte; large views of irregular strides count as such."""
    if array.size < 2:
        return False
    axes = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    reach = array.itemsize
    nested = True
    for stride, extent in axes:
        nested = nested and stride >= reach
        reach += stride * (extent - 1)
    if nested:
        return False
    if axes[0][0] < array.itemsize or array.size > _CELLS:
        return True
    offsets = np.zeros(1, np.int64)
    for stride, extent in axes:
        offsets = np.add.outer(offsets, np.arange(extent, dtype=np.int64) * stride).ravel()
    offsets.sort()
    return bool(np.diff(offsets).min() < array.itemsize)


def _may_share(a: Strided, b: Strided) -> bool:
    """Whether byte ranges meet; what is on a device shares nothing with the host."""
    if isinstance(a, DeviceView) or isinstance(b, DeviceView):
        (lo, hi), (other_lo, other_hi) = element_span(a), element_span(b)
        return isinstance(a, DeviceView) == isinstance(b, DeviceView) and lo < other_hi and other_lo < hi
    return np.may_share_memory(a, b)


def _shares(a: Strided, b: Strided) -> bool:
    if isinstance(a, DeviceView):
        return True  # arrays on a device are dense
    try:
        return np.shares_memory(a, b, max_work=cast("Any", _WORK))
    except (np.exceptions.TooHardError, OverflowError):
        return True


def _overlap(name: str, array: Strided, other_name: str, other: Strided) -> ArgumentError:
    """Bytes are counted from the lowest one of the first array."""
    (lo, hi), (other_lo, other_hi) = element_span(array), element_span(other)
    first, last = max(lo, other_lo) - lo, min(hi, other_hi) - lo - 1
    return ArgumentError(
        "PH311",
        f"arguments {name} and {other_name} share memory (bytes {first}..{last})",
        hints=(f"give a copy: {name}.copy(), or declare one array as inout and pass it once",),
    )
