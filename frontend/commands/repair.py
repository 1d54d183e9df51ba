# SPDX-License-Identifier: MIT
"""`polyhedral doctor --fix`: what can be set right without asking anybody, and what is left to the user.

Only files of the cache that are ours are touched, and only those whose names this project gives; edited texts, tuning
records and sound kernels stay.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from codegen.runtime.cache import FOLDER, Cache, make_private, read_json, unsafe
from codegen.runtime.cc import find_compiler
from polyhedral.errors import ToolchainError

STALE = 3600.0
"""Seconds after which a lock that nobody holds, or a file that nobody finished, is a leftover."""


@dataclass(frozen=True)
class Repair:
    """One thing that was set right; or, where it was not `done`, what its user must do."""

    done: bool
    what: str

    def __str__(self) -> str:
        return f"{'fixed' if self.done else 'you  '} {self.what}"

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def repair(env: Mapping[str, str], root: Path) -> tuple[Repair, ...]:
    """Everything that was done, and what could not be."""
    return tuple(_all(env, root))


def _all(env: Mapping[str, str], root: Path) -> Iterator[Repair]:
    usable = True
    for r in _folders(root):
        usable = usable and r.done
        yield r
    if usable:
        yield from _leftovers(Cache(root))
        yield from _remembered(root)
    yield from _compiler(env)


def _folders(root: Path) -> Iterator[Repair]:
    """The cache folder made, or closed to others, where it is ours."""
    for folder in (root, root / FOLDER):
        try:
            at = folder.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Repair(False, f"{folder} cannot be looked at ({error.strerror}): set POLYHEDRAL_CACHE_DIR")
            return
        if not stat.S_ISDIR(at.st_mode) or at.st_uid != os.geteuid():
            why = "belongs to another user" if at.st_uid != os.geteuid() else "is not a folder"
            yield Repair(False, f"{folder} {why}: set POLYHEDRAL_CACHE_DIR to a folder of yours, or move it away")
            return
        if at.st_mode & 0o022 or (at.st_mode & 0o700) != 0o700:
            folder.chmod((stat.S_IMODE(at.st_mode) | 0o700) & ~0o022)
            yield Repair(
                True, f"{folder} was open to others, or closed to you: now {stat.S_IMODE(folder.stat().st_mode):04o}"
            )
    if not (root / FOLDER).is_dir():
        try:
            make_private(root / FOLDER)
        except OSError as error:
            yield Repair(
                False, f"{root} cannot be made ({error.strerror}): set POLYHEDRAL_CACHE_DIR to a folder of yours"
            )
            return
        yield Repair(True, f"the cache folder {root} was made")
    refusal = unsafe(root)
    if refusal is not None:
        yield Repair(False, f"{root} {refusal}: set POLYHEDRAL_CACHE_DIR to a folder of yours")


def _leftovers(cache: Cache) -> Iterator[Repair]:
    swept = cache.sweep(STALE)
    for count, what in (
        (swept.broken, "broken kernels"),
        (swept.locks, "stale locks"),
        (swept.unfinished, "unfinished files"),
    ):
        if count:
            yield Repair(True, f"{count} {what} removed from {cache.folder}")


def _remembered(root: Path) -> Iterator[Repair]:
    """What is remembered of compilers, where that cannot be read; it is found out again."""
    file = root / FOLDER / "compilers.json"
    try:
        ours = stat.S_ISREG(file.lstat().st_mode) and file.lstat().st_uid == os.geteuid()
    except OSError:
        return
    if ours and read_json(file) is None:
        file.unlink()
        yield Repair(True, f"{file} could not be read: removed, compilers are looked for again")


def _compiler(env: Mapping[str, str]) -> Iterator[Repair]:
    """A compiler is the user's to choose; whether another one than $CC works is said."""
    try:
        find_compiler(env)
        return
    except ToolchainError:
        pass
    without = {k: v for k, v in env.items() if k != "CC"}
    try:
        found = find_compiler(without) if "CC" in env else None
    except ToolchainError:
        found = None
    if found is not None:
        yield Repair(
            False, f"CC={env['CC']} does not compile with OpenMP, and {found.path} does: unset CC, or set it to that"
        )
    else:
        yield Repair(False, "no C compiler links OpenMP: install gcc (apt-get install gcc, conda install gcc)")
