# SPDX-License-Identifier: MIT
"""Call a compiled C function with the least that ctypes allows, and refuse where the OpenMP runtime would hang.

Knows addresses and sizes; which array goes where, and whether they may overlap, is checked above.

    int32_t NAME(void *const *buffers, const int64_t *sizes, int32_t threads);
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polyhedral.errors import ToolchainError

_HEADER = object.__basicsize__
_pointer_at = ctypes.c_void_p.from_address


def address(array: np.ndarray[Any, Any]) -> int:
    """Where element zero lies.  The first field of the C struct behind an ndarray (NumPy's ABI, `PyArray_DATA`): a
    tenth of a microsecond, where `array.ctypes.data` takes a whole one."""
    return _pointer_at(id(array) + _HEADER).value or 0


@dataclass
class Team:
    """Which process started OpenMP's threads.  They do not survive fork, and a kernel that waits for them in the
    child would wait for ever; so kernels of one process share one team, and a child's are refused.

    The one mutable thing of a call: `owner` is set by the first kernel that runs on several threads.
    """

    owner: int | None = None

    def refuse(self) -> RuntimeError:
        return RuntimeError(
            f"this process ({os.getpid()}) was forked from {self.owner} after a kernel ran there on several threads; "
            "OpenMP would hang. Use threads=1 here, or start processes with the 'spawn' method"
        )


class Native:
    """A loaded function.  It keeps its library loaded for the life of the process: OpenMP's threads may stand in it."""

    __slots__ = ("_function", "path", "symbol", "team")

    def __init__(self, path: Path, symbol: str, function: Any, team: Team) -> None:
        self.path = path
        self.symbol = symbol
        self.team = team
        self._function = function

    def __call__(self, addresses: Sequence[int], sizes: Sequence[int] = (), threads: int = 1) -> int:
        """Run once; gives what the C function returned.  The GIL is released meanwhile, and the caller keeps the
        arrays alive.  RuntimeError in a process forked after threads ran."""
        return self.prepare(len(addresses), sizes, threads)(*addresses)

    def prepare(self, n_buffers: int, sizes: Sequence[int] = (), threads: int = 1) -> Prepared:
        """Everything that is the same for each call done once: `prepare(2, (n,), 4)(a, b)` with addresses a, b."""
        return Prepared(self._function, self.team, n_buffers, sizes, threads)


class Prepared:
    """A function with its sizes and threads.  It may be called from several Python threads at once: each call brings
    its own array of pointers."""

    __slots__ = ("_function", "_pointers", "_single", "_sizes", "_team", "_threads")

    def __init__(self, function: Any, team: Team, n_buffers: int, sizes: Sequence[int], threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self._function = function
        self._team = team
        self._pointers = ctypes.c_void_p * n_buffers
        self._sizes = (ctypes.c_int64 * len(sizes))(*sizes)
        self._threads = ctypes.c_int32(threads)
        self._single = threads == 1

    def __call__(self, *addresses: int) -> int:
        if not self._single:
            team = self._team
            pid = os.getpid()
            if team.owner != pid:
                if team.owner is not None:
                    raise team.refuse()
                team.owner = pid
        pointers = self._pointers(*addresses)
        if len(addresses) != len(pointers):
            raise TypeError(f"{len(pointers)} buffers wanted, {len(addresses)} given")
        return self._function(pointers, self._sizes, self._threads)


def load(path: Path, symbol: str, team: Team | None = None) -> Native:
    """Load the library at `path` itself and find `symbol` in it.  Kernels of one process should share one `team`.

    The caller has checked the file's owner and digest.  ToolchainError PH505 when it does not load or lacks `symbol`.
    """
    try:
        library = ctypes.CDLL(os.fspath(path), mode=ctypes.RTLD_LOCAL | os.RTLD_NOW)
        function = getattr(library, symbol)
    except (OSError, AttributeError) as error:
        raise ToolchainError(
            "PH505",
            f"a compiled kernel cannot be loaded: {error}",
            hints=("is the cache on a file system mounted noexec? point POLYHEDRAL_CACHE_DIR elsewhere",),
        ) from error
    function.restype = ctypes.c_int32
    return Native(path, symbol, function, Team() if team is None else team)
