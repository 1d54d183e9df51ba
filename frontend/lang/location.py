# SPDX-License-Identifier: MIT
"""Where in the user's source the program is being written: the innermost frame outside our packages and NumPy.

Only looks; recording places and raising errors are left to the callers.
"""

from __future__ import annotations

import inspect
import linecache
from dataclasses import dataclass
from itertools import islice
from types import CodeType

from polyhedral.errors import Location

BETWEEN = ("frontend", "polyhedral", "codegen", "contextlib", "numpy")
"""Packages through which a line of the user's comes to us."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in running code, cheap to take; `locate` turns it into something to show."""

    code: CodeType
    instruction: int
    line: int


def mark() -> Mark | None:
    """The point that the user's code has reached, or None without a frame of the user's."""
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in BETWEEN:
        frame = frame.f_back
    return None if frame is None else Mark(frame.f_code, frame.f_lasti, frame.f_lineno)


def here() -> Location | None:
    """The expression that the user's code is evaluating now."""
    return locate(mark())


def locate(point: Mark | None) -> Location | None:
    if point is None:
        return None
    code = point.code
    positions = islice(code.co_positions(), point.instruction // 2, None)
    line, stop_line, start, stop = next(positions, (point.line, None, None, None))
    line = line or point.line
    text = linecache.getline(code.co_filename, line).rstrip("\n")
    if start is None or stop is None or not text:
        return Location(code.co_filename, line, text)
    end = stop if stop_line == line else len(text.encode())
    return Location(code.co_filename, line, text, (_column(text, start), _column(text, end)))


def _column(text: str, byte: int) -> int:
    """Python counts columns in bytes, readers in characters."""
    return len(text.encode()[:byte].decode(errors="replace"))
