# SPDX-License-Identifier: MIT
"""Texts that a user may edit: each generated text in a readable place beside the cache, and what stands there now.

Only files in a private folder of ours are read; whether an edited text is right is its editor's to know.

    <cache root>/edited-1/<program>-<16 hex digits of the generated text>.c
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from codegen.runtime.cache import Cache, key_of, make_private, write_private

FOLDER = "edited-1"
ENDINGS = {"c": ".c", "cuda": ".cu", "opencl": ".cl"}
_LIMIT = 64 << 20


@dataclass(frozen=True)
class Edited:
    """The text in force and where it lies; `refused` says why what lies there is not used."""

    text: str
    path: Path | None
    changed: bool = False
    refused: str | None = None


def place(cache: Cache, program: str, text: str, language: str) -> Path:
    """Where a generated text lies: its name says of which program, and its hash that it is this very text."""
    plain = re.sub(r"\W+", "_", program, flags=re.ASCII).strip("_")[:60] or "program"
    return cache.root / FOLDER / f"{plain}-{key_of(language, text)[:16]}{ENDINGS[language]}"


def edited(cache: Cache, program: str, text: str, language: str) -> Edited:
    """What stands in the place of a generated text, which is put there where nothing does."""
    if cache.private:
        return Edited(text, None, refused=f"there is no cache folder to keep it in: {cache.remark}")
    path = place(cache, program, text, language)
    try:
        make_private(path.parent)
        found = _own(path)
        if found is None:
            write_private(path, text.encode())
            return Edited(text, path)
    except OSError as error:
        return Edited(text, None, refused=f"{path}: {error.strerror or error}")
    if isinstance(found, _RefusedFile):
        return Edited(text, path, refused=f"{path} {found.why}")
    return Edited(found, path, changed=found != text)


@dataclass(frozen=True)
class _RefusedFile:
    why: str


def _own(path: Path) -> str | _RefusedFile | None:
    """The text of a file that is ours and that nobody else may write; None where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _RefusedFile(f"cannot be read: {error.strerror}")
    with os.fdopen(fd, "rb") as f:
        at = os.fstat(fd)
        if not stat.S_ISREG(at.st_mode):
            return _RefusedFile("is not a file")
        if at.st_uid != os.geteuid() or at.st_mode & 0o022:
            return _RefusedFile("belongs to another user, or can be written by others")
        if at.st_size > _LIMIT:
            return _RefusedFile(f"has more than {_LIMIT} bytes")
        try:
            return f.read(_LIMIT).decode()
        except UnicodeDecodeError:
            return _RefusedFile("is not text in UTF-8")
