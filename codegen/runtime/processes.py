# SPDX-License-Identifier: MIT
"""Run compilers as processes: several at once, in a private folder, and nothing left running afterwards.

Which commands these are, and what comes of their files, is left to `cc`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from polyhedral.errors import ToolchainError

Command = tuple[str, ...]

_PAUSE = 0.002
"""Seconds between two looks at what runs; `Popen.wait` would sleep for up to 50 ms."""
_LINES = 8
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_FULL_PHRASES = ("No space left on device", "Disk quota exceeded", "Read-only file system", "File size limit exceeded")
_DEADLY = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGXCPU)


@dataclass(frozen=True)
class _Running:
    """A process, the leader of a group of its own, and where it writes its complaints."""

    command: Command
    process: subprocess.Popen[bytes]
    log: IO[bytes]


@dataclass(frozen=True)
class _Wait:
    """Whether to stop, and when, after how many seconds."""

    stop: threading.Event
    end: float
    timeout: float


def cores() -> int:
    """How many processes can run at once."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextlib.contextmanager
def private_folder() -> Generator[Path]:
    """A 0700 folder that is gone afterwards, whatever happened."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="polyhedral-cc-"))
    except OSError as error:
        raise cannot_write(error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def execute(
    commands: Sequence[Command],
    folder: Path,
    env: Mapping[str, str],
    timeout: float,
    memory_limit: int | None,
    at_once: int = 1,
) -> list[str]:
    """Run commands in `folder`, so many at once, each as a process group of its own, and give what each wrote to
    stderr.  Where one fails, on time-out and on interruption all groups die.

    A thread does it: Ctrl-C interrupts the main one alone, never between a process and knowing of it.
    """
    stop, done = threading.Event(), Future[list[str]]()
    wait = _Wait(stop, time.monotonic() + timeout, timeout)
    own = {**env, "TMPDIR": str(folder)}

    def work() -> None:
        try:
            done.set_result(_executed(commands, folder, own, memory_limit, at_once, wait))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=work)
    try:
        thread.start()
        return done.result()
    except BaseException:
        stop.set()
        if thread.ident is not None:
            thread.join()
        raise


def _executed(
    commands: Sequence[Command],
    folder: Path,
    env: Mapping[str, str],
    memory_limit: int | None,
    at_once: int,
    wait: _Wait,
) -> list[str]:
    said = [""] * len(commands)
    running: dict[int, _Running] = {}
    with ExitStack() as logs:
        try:
            for n, command in enumerate(commands):
                if len(running) == at_once:
                    _end_one(running, said, wait)
                running[n] = _started(command, folder, env, memory_limit, logs.enter_context(_log()))
            while running:
                _end_one(running, said, wait)
        except BaseException:
            _kill_groups([r.process for r in running.values()])
            raise
    return said


def failure(code: str, what: str, command: Command, said: str, hint: str = "") -> ToolchainError:
    """The command as it can be typed, what became of it and the first lines that it wrote to stderr."""
    lines = [line for line in said.splitlines() if line.strip()]
    shown = tuple(f"stderr: {line[:200]}" for line in lines[:_LINES])
    more = (f"stderr: ... {len(lines) - _LINES} more lines",) if len(lines) > _LINES else ()
    return ToolchainError(
        code,
        f"the C compiler {what}",
        details=(f"command: {shlex.join(command)}", *shown, *more),
        hints=(hint,) * bool(hint) + ('run "polyhedral doctor"',),
    )


def cannot_write(error: OSError) -> ToolchainError:
    return ToolchainError(
        "PH504",
        f"cannot write a file for the C compiler: {error.strerror or error}",
        hints=("free some disk space, or set TMPDIR to a folder with space",),
    )


def head(file: IO[bytes], limit: int = 1 << 16) -> str:
    """The beginning of a file that may be endless, or no text."""
    return os.pread(file.fileno(), limit, 0).decode(errors="replace")


def _started(
    command: Command, folder: Path, env: Mapping[str, str], memory_limit: int | None, log: IO[bytes]
) -> _Running:
    try:
        with (folder / "stdout").open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=folder,
                env=env,
                start_new_session=True,
            )
    except OSError as error:
        if error.errno in _FULL:
            raise cannot_write(error) from error
        raise failure("PH501", f"cannot be started: {error.strerror or error}", command, "") from error
    _limit_memory(process.pid, memory_limit)
    return _Running(command, process, log)


def _end_one(running: dict[int, _Running], said: list[str], wait: _Wait) -> None:
    """Wait until one of several has ended, and take what it said."""
    while (done := next((n for n, r in running.items() if r.process.poll() is not None), None)) is None:
        first = next(iter(running.values()))
        if time.monotonic() >= wait.end:
            raise failure("PH502", f"was stopped after {wait.timeout:g} seconds", first.command, head(first.log))
        if wait.stop.wait(_PAUSE):
            raise failure("PH503", "was interrupted", first.command, head(first.log))
    ended = running.pop(done)
    said[done] = head(ended.log)
    if ended.process.returncode != 0:
        raise _diagnose(ended.process.returncode, ended.command, said[done])


def _log() -> IO[bytes]:
    """In memory where that exists, so that a compiler can still say that the disk is full."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def _kill_groups(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """SIGTERM, so that gcc removes its files, then SIGKILL: SIGTERM to the driver alone leaves cc1 running.  Leaders
    are reaped last, so that the numbers of groups cannot be given to others in between."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        if processes and number == signal.SIGTERM:
            time.sleep(0.05)
    for process in processes:
        process.wait()


def _limit_memory(pid: int, memory_limit: int | None) -> None:
    """Set from outside: a function between fork and exec would not be safe in a process with threads."""
    if memory_limit is not None and sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_AS, (memory_limit, memory_limit))


def _diagnose(status: int, command: tuple[str, ...], said: str) -> ToolchainError:
    """Tell a full disk and a killed compiler from a compiler that says no."""
    if any(phrase in said for phrase in _FULL_PHRASES):
        return failure("PH504", "had nowhere to write", command, said, "free some disk space or set TMPDIR")
    number = -status if status < 0 else status - 128
    if status < 0 or (status > 128 and number in _DEADLY):
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return failure("PH503", f"was killed by {name}", command, said, "is the machine out of memory?")
    if "signal terminated program" in said:
        return failure("PH503", "had a part of it killed", command, said, "is the machine out of memory?")
    return failure("PH501", f"failed with exit code {status}", command, said)
