# SPDX-License-Identifier: MIT
"""How far a long command is, on stderr: a bar in a terminal, a line a step elsewhere, or nothing.

Knows steps and fractions; what is done in a step is the caller's.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """Says nothing: what the other two do, silently."""

    def begin(self, step: str) -> None:
        """A step begins; the one before is done."""

    def at(self, fraction: float) -> None:
        """So much of the step is done."""


class Lines(Progress):
    """One line for each step."""

    def __init__(self, total: int) -> None:
        self._total, self._step = total, 0

    def begin(self, step: str) -> None:
        self._step += 1
        sys.stderr.write(f"[{self._step}/{self._total}] {step}\n")


class Bar(Progress):
    """One bar over all steps."""

    def __init__(self, bars: Bars, total: int) -> None:
        self._bars, self._begun = bars, 0
        self._task = bars.add_task("", total=total)

    def begin(self, step: str) -> None:
        self._bars.update(self._task, description=step, completed=self._begun)
        self._begun += 1

    def at(self, fraction: float) -> None:
        self._bars.update(self._task, completed=self._begun - 1 + min(fraction, 1.0))


@contextmanager
def progress(total: int, how: str = "auto") -> Generator[Progress]:
    """`auto` is a bar where stderr is a terminal and lines elsewhere; `plain` is lines; `none` is nothing."""
    if how == "none":
        yield Progress()
    elif how == "plain" or not sys.stderr.isatty():
        yield Lines(total)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            yield Bar(bars, total)
