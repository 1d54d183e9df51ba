# SPDX-License-Identifier: MIT
"""`polyhedral report`: what POLYHEDRAL_TRACE wrote, read back from all processes of a folder.

Files may be cut, foreign or missing: what cannot be read is left out and counted.  The page is
`frontend.commands.report_page`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from frontend.commands.report_page import page
from frontend.environment.trace_files import RUN, SCHEMA
from frontend.usage import UsageError

LIMIT = 8 << 20
"""Bytes of a file that are read at most."""
TEXTS = ("program.poly", "schedule.txt", "loops.txt")
SOURCES = ("source.c", "source.cu", "source.cl")

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Compiled:
    """One program: what was written of it, its texts by file name, its kernel and the calls of that."""

    about: Data
    texts: Mapping[str, str]
    kernel: Data | None = None
    calls: Data | None = None


@dataclass(frozen=True)
class Process:
    """One process: what ran, its programs, its events, and how many files could not be read."""

    name: str
    about: Data
    programs: tuple[Compiled, ...]
    events: tuple[Data, ...]
    broken: int = 0


@dataclass
class _Reader:
    """Reads files, and counts those that are not what they should be."""

    broken: int = 0
    found: dict[str, Data] = field(default_factory=dict[str, Data])

    def text(self, file: Path) -> str | None:
        try:
            if file.is_symlink() or not file.is_file():
                return None
            with file.open("rb") as f:
                return f.read(LIMIT).decode("utf-8", "replace")
        except OSError:
            self.broken += 1
            return None

    def data(self, file: Path) -> Any:
        text = self.text(file)
        if text is None:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            self.broken += 1
            return None

    def ours(self, file: Path) -> Data | None:
        """A JSON object of our schema."""
        value = self.data(file)
        if value is None:
            return None
        if not isinstance(value, dict) or cast("Data", value).get("schema") != SCHEMA:
            self.broken += 1
            return None
        return cast("Data", value)


def report(folder: Path, output: Path | None) -> tuple[Path | None, str]:
    """The page for a folder: where it was written and nothing, or nowhere and its text where the output is `-`.

    An output that ends in .json gets the events of all processes, for Perfetto.  UsageError where nothing was traced.
    """
    found = processes(folder)
    to = folder / "report.html" if output is None else output
    if to.suffix == ".json":
        text = json.dumps([e for p in found for e in p.events])
    else:
        text = page(folder.resolve().name, found)
    if str(to) == "-":
        return None, text
    try:
        to.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {to}: {error.strerror or error}") from None
    return to, ""


def processes(folder: Path) -> list[Process]:
    """Every process that left something, in the order in which they began.  UsageError where there is none."""
    try:
        names = sorted(f for f in folder.iterdir() if RUN.fullmatch(f.name) and f.is_dir())
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror or error}") from None
    found = [p for p in map(_process, names) if p is not None]
    if not found:
        raise UsageError(f"{folder} holds no trace: run a program with POLYHEDRAL_TRACE={folder} first")
    return found


def _process(folder: Path) -> Process | None:
    reader = _Reader()
    about = reader.ours(folder / "process.json")
    if about is None:
        return None
    every = reader.ours(folder / "calls.json") or {}
    calls = _object(every.get("calls"))
    events = reader.data(folder / "trace.json")
    programs = tuple(_programs(folder, reader, calls))
    shown = cast("Sequence[object]", events) if isinstance(events, list) else ()
    return Process(folder.name, about, programs, tuple(filter(None, map(_object, shown))), reader.broken)


def _programs(folder: Path, reader: _Reader, calls: Data) -> Iterator[Compiled]:
    for inside in sorted(f for f in folder.iterdir() if f.is_dir() and not f.is_symlink()):
        about = reader.ours(inside / "compilation.json")
        if about is None:
            continue
        texts = {n: t for n in (*TEXTS, *SOURCES) if (t := reader.text(inside / n)) is not None}
        found = reader.data(inside / "kernel.json")
        kernel = _object(found) if found is not None else None
        heard = _object(calls.get(str(kernel.get("key")))) if kernel else None
        yield Compiled(about, texts, kernel, heard or None)


def _object(value: object) -> Data:
    return cast("Data", value) if isinstance(value, dict) else {}
