# SPDX-License-Identifier: MIT
"""From C text to a callable: look in the cache, else compile under a lock, keep, load.

What the text computes and how it is called is left to the caller; failures are those of `cc`, `cache` and `native`.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegen.runtime.cache import Cache, Stored, key_of
from codegen.runtime.cc import Compiler, compile_shared, machine_identity, patience
from codegen.runtime.native import Native, Team, load
from polyhedral.errors import Remark, ToolchainError

ABI = "buffers-sizes-threads/1"


@dataclass(frozen=True)
class BuildInfo:
    """How a kernel came about: cache key, where it lies, whether it was there, and seconds in the C compiler."""

    key: str
    path: Path
    hit: bool
    seconds: float
    remark: Remark | None = None


def build_key(source: str, compiler: Compiler, extra: Sequence[str] = (), parts: Sequence[str] = ()) -> str:
    """Everything that the machine code depends on: text, flags, compiler, CPU, package version, and the caller's."""
    flags = (*compiler.flags, *extra)
    identity = (compiler.path, compiler.kind, compiler.version, str(len(flags)), *flags)
    return key_of(ABI, package_version(), machine_identity(), *identity, source, *parts)


def build(
    source: str,
    symbol: str,
    compiler: Compiler,
    cache: Cache,
    extra_key_parts: Sequence[str] = (),
    *,
    units: int = 1,
    extra: tuple[str, ...] = (),
    timeout: float | None = None,
    team: Team | None = None,
) -> tuple[Native, BuildInfo]:
    """A callable for `symbol` of `source`, which is in so many `units`.  `extra` are compiler flags, `extra_key_parts`
    only distinguish entries.
    """
    key = build_key(source, compiler, extra, (*extra_key_parts, *([f"{units} units"] if units > 1 else [])))
    found = _load_cached(key, symbol, cache, team)
    if found is not None:
        return found, BuildInfo(key, found.path, hit=True, seconds=0.0)
    with cache.lock(key, timeout=2 * (patience(source) if timeout is None else timeout)):
        found = _load_cached(key, symbol, cache, team)
        if found is not None:
            return found, BuildInfo(key, found.path, hit=True, seconds=0.0)
        begin = time.perf_counter()
        library = compile_shared(source, compiler, units=units, timeout=timeout, extra=extra)
        seconds = time.perf_counter() - begin
        stored = _keep(cache, key, library, symbol, compiler, seconds)
    return load(stored.path, symbol, team), BuildInfo(key, stored.path, False, seconds, stored.remark)


def package_version() -> str:
    """The installed version of this distribution, or "0" in a source tree that was not installed."""
    try:
        return importlib.metadata.version("polyhedral-loops")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _load_cached(key: str, symbol: str, cache: Cache, team: Team | None) -> Native | None:
    """A sound entry that does not load here (another libc, say) is forgotten and compiled again."""
    path = cache.lookup(key)
    if path is None:
        return None
    try:
        return load(path, symbol, team)
    except ToolchainError:
        cache.discard(key)
        return None


def _keep(cache: Cache, key: str, library: bytes, symbol: str, compiler: Compiler, seconds: float) -> Stored:
    meta = {"symbol": symbol, "compiler": compiler.version, "flags": list(compiler.flags), "seconds": round(seconds, 3)}
    return cache.store(key, library, meta)
