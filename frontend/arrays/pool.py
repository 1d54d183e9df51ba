# SPDX-License-Identifier: MIT
"""Memory of results and scratch: blocks, used again once nobody refers to them, on huge pages where there are any.

A fresh page costs a fault, and a kernel that walks many small ones waits for their addresses.  What lies in a block is
left to `frontend.arrays.memory`.
"""

from __future__ import annotations

import mmap
import sys
import threading
from contextlib import suppress
from typing import Any, cast

import numpy as np

from codegen.runtime.native import address

HUGE = 2 << 20
"""Bytes of a huge page."""
KEPT = 256 << 20
"""Bytes of blocks that are kept for later; what is more goes back to the system."""
_BYTES = np.dtype(np.uint8)
_Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class _Block:
    """Bytes that return to their pool when the last array over them is gone."""

    def __init__(self, pool: Pool, memory: _Bytes) -> None:
        self.pool, self.memory = pool, memory

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.memory.__array_interface__

    def __del__(self) -> None:
        self.pool.give(self.memory)


class Pool:
    """Blocks by size; safe to use from several threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._free: list[_Bytes] = []
        self._lock = threading.RLock()  # a block may return while one is taken: collection runs anywhere

    def take(self, size: int) -> _Bytes:
        """At least `size` bytes of undefined values, on a multiple of 64; it ties up twice as many or one huge page at
        most.
        """
        with self._lock:
            fits = [m for m in self._free if size <= m.nbytes <= max(2 * size, HUGE)]
            memory = min(fits, key=lambda m: m.nbytes, default=None)
            if memory is not None:
                self._free = [m for m in self._free if m is not memory]
        block = _Block(self, _mapped(size) if memory is None else memory)
        return np.asarray(cast("Any", block))

    def give(self, memory: _Bytes) -> None:
        """Keep a block for later; the oldest go where there are too many bytes."""
        with self._lock:
            self._free.append(memory)
            while sum(m.nbytes for m in self._free) > self._kept:
                del self._free[0]


def _mapped(size: int) -> _Bytes:
    """Whole huge pages, private to this process."""
    size = -(-size // HUGE) * HUGE
    if sys.platform != "linux":
        raw = np.empty(size + 64, _BYTES)
        return raw[-address(raw) % 64 :][:size]
    pages = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        pages.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(pages, _BYTES)
    return raw[-address(raw) % HUGE :][:size]
