# SPDX-License-Identifier: MIT
"""`POLYHEDRAL_TRACE=dir` on disk: one folder a process, with events for Perfetto and texts, bounded in their bytes.

What is written of a program is `frontend.stages.traced`'s; nothing that goes wrong here stops a program, or changes a
result.

    <dir>/<date>-<pid>[-n]/process.json          what ran, and what was left out
                           trace.json            Chrome's trace events, whole JSON at any time
                           calls.json            calls of each kernel: how many, seconds in all, least, most
                           001-<program>/...     what became of one program
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = "polyhedral.trace/1"
RUN = re.compile(r"\d{8}T\d{6}-\d+(-\d+)?")
"""Names of the folders of processes."""
_TAIL = b"\n]\n"


@dataclass(frozen=True)
class Bounds:
    """How much one process writes at most, and how many processes a folder holds."""

    runs: int = 100
    programs: int = 200
    events: int = 20_000
    text: int = 1 << 20
    whole: int = 32 << 20
    pause: float = 1.0
    """Seconds for which calls are gathered before they are written."""


class Tracer:
    """Writes what one process did.  Made from the environment; its folder appears with the first thing to say."""

    def __init__(self, folder: Path, bounds: Bounds = Bounds()) -> None:
        self._given = folder
        self._bounds = bounds
        self._lock = threading.RLock()
        self._reset()
        atexit.register(self.flush)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """As at first: a forked child has a folder of its own, and a lock that nobody holds."""
        self._lock = threading.RLock()
        self._off = False
        self._run: Path | None = None
        self._pending: list[dict[str, Any]] = []
        self._calls: dict[str, dict[str, Any]] = {}
        self._left_out: dict[str, int] = {}
        self._programs = self._events = self._bytes = self._end = 0
        self._written = time.perf_counter()
        self._origin = time.time() - time.perf_counter()

    @property
    def run(self) -> Path | None:
        """The folder of this process, where anything was written."""
        return self._run

    # --- what is said ------------------------------------------------------------------------------------------------

    def event(self, name: str, kind: str, start: float, seconds: float, **data: Any) -> None:
        """Something that took so many seconds from `start` on, a value of `time.perf_counter`; `flush` writes it."""
        with self._lock:
            self._note(name, kind, start, seconds, data)

    def call(self, name: str, key: str, start: float, seconds: float, failed: bool = False) -> None:
        """One call of a kernel; many are gathered before they are written."""
        with self._lock:
            known = self._calls.setdefault(
                key, {"program": name, "calls": 0, "failed": 0, "seconds": 0.0, "least": seconds, "most": seconds}
            )
            known["calls"] += 1
            known["failed"] += failed
            known["seconds"] += seconds
            known["least"], known["most"] = min(known["least"], seconds), max(known["most"], seconds)
            self._note(name, "call", start, seconds, {"key": key, **({"failed": True} if failed else {})})
            if time.perf_counter() - self._written > self._bounds.pause:
                self.flush()

    def program(self, name: str, texts: Callable[[], Mapping[str, str]]) -> Path | None:
        """A folder with what became of one program, file by file; None where there is no room for it."""
        with self._lock:
            if self._programs >= self._bounds.programs or self._bytes >= self._bounds.whole:
                self._leave_out("programs")
                return None
            run = self._opened()
            if run is None:
                return None
            self._programs += 1
            folder = run / f"{self._programs:03}-{_plain(name)}"
            if self._guarded(folder.mkdir) is None:
                return None
            for file, text in texts().items():
                self.write(folder, file, text)
            return folder

    def write(self, folder: Path, file: str, text: str) -> None:
        """One file, cut where it is long."""
        with self._lock:
            raw = text.encode("utf-8", "replace")
            if len(raw) > self._bounds.text and not file.endswith(".json"):
                raw = raw[: self._bounds.text] + b"\n... cut here\n"
            if len(raw) > self._bounds.text + 99 or self._bytes + len(raw) > self._bounds.whole:
                self._leave_out("files")
                return
            self._bytes += len(raw)
            self._guarded(lambda: _replace(folder / file, raw))

    def flush(self) -> None:
        """Write what is gathered."""
        with self._lock:
            self._written = time.perf_counter()
            if not (self._pending or self._calls or self._left_out) or self._off:
                return
            run = self._opened()
            if run is None:
                return
            pending, self._pending = self._pending, []
            if pending:
                self._guarded(lambda: self._append(run / "trace.json", pending))
            if self._calls:
                raw = json.dumps({"schema": SCHEMA, "calls": self._calls}).encode()
                self._guarded(lambda: _replace(run / "calls.json", raw))
            if self._left_out:
                self._guarded(lambda: _replace(run / "process.json", self._about()))

    # --- how it is kept ----------------------------------------------------------------------------------------------

    def _note(self, name: str, kind: str, start: float, seconds: float, data: Mapping[str, Any]) -> None:
        if self._events >= self._bounds.events or self._bytes >= self._bounds.whole:
            self._leave_out("events")
            return
        self._events += 1
        self._pending.append(
            {
                "name": name,
                "cat": kind,
                "ph": "X",
                "ts": round((self._origin + start) * 1e6, 3),
                "dur": round(seconds * 1e6, 3),
                "pid": os.getpid(),
                "tid": threading.get_native_id(),
                "args": dict(data),
            }
        )

    def _append(self, file: Path, events: list[dict[str, Any]]) -> None:
        """More events in place of the closing bracket, in one write, so that the file is JSON at any time."""
        body = ",\n".join(map(json.dumps, events)).encode() + _TAIL
        raw = (b",\n" if self._end else b"[\n") + body
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        with os.fdopen(fd, "wb", buffering=0) as f:
            f.seek(self._end)
            f.write(raw)
        self._end += len(raw) - len(_TAIL)
        self._bytes += len(raw)

    def _opened(self) -> Path | None:
        """The folder of this process, made at the first need."""
        if self._run is None and not self._off:
            self._guarded(self._open)
        return None if self._off else self._run

    def _open(self) -> None:
        self._given.mkdir(parents=True, exist_ok=True)
        if sum(RUN.fullmatch(f.name) is not None for f in self._given.iterdir()) >= self._bounds.runs:
            raise OSError(0, f"it holds {self._bounds.runs} processes already; empty it, or name another folder")
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        for n in range(1000):
            run = self._given / (f"{now}-{os.getpid()}" + (f"-{n}" if n else ""))
            with contextlib.suppress(FileExistsError):
                run.mkdir()
                _replace(run / "process.json", self._about())
                self._run = run
                return
        raise OSError(0, "no name for a folder is free")

    def _about(self) -> bytes:
        started = datetime.datetime.fromtimestamp(self._origin + time.perf_counter(), datetime.UTC)
        name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
        about = {"schema": SCHEMA, "pid": os.getpid(), "command": name, "python": sys.version.split()[0]}
        return json.dumps({**about, "date": started.isoformat(timespec="seconds"), "left_out": self._left_out}).encode()

    def _leave_out(self, what: str) -> None:
        self._left_out[what] = self._left_out.get(what, 0) + 1

    def _guarded(self, action: Callable[[], object]) -> bool | None:
        """True where it was done; else nothing is traced from now on, which is said once."""
        if self._off:
            return None
        try:
            action()
        except OSError as error:
            self._off = True
            with contextlib.suppress(Warning):
                warnings.warn(
                    f"POLYHEDRAL_TRACE={self._given}: nothing is traced any more: {error.strerror or error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return None
        return True


def _plain(name: str) -> str:
    """A name as it may stand in a path."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:60] or "program"


def _replace(file: Path, raw: bytes) -> None:
    """Whole or not at all, for those who read meanwhile."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_bytes(raw)
    fresh.replace(file)
