# SPDX-License-Identifier: MIT
"""Everything from a Program to text, as one value, and the seconds that each step of a compilation took.

`frontend.lowering.driver` makes it; what is native is `frontend.running.loading`'s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from codegen.c import Source
from codegen.loops import Node
from frontend.environment.options import Options
from frontend.lowering.scratch import judged
from polyhedral.errors import Remark
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Program
from polyhedral.pipeline import Analyzed, Mapped, Scheduled
from polyhedral.plans.candidates import Choice
from polyhedral.plans.preferences import NO_PREFERENCES, Preferences
from polyhedral.whole.assignment import Assignment
from polyhedral.whole.storage import Life, Placement, place


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each step of a compilation."""

    steps: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in self.steps)

    @property
    def ours(self) -> float:
        return sum(s for name, s in self.steps if name != "C compiler")

    @property
    def total(self) -> float:
        return sum(s for _, s in self.steps)


UNTIMED = Timings()


class Clock:
    """Takes the time of one step after another."""

    def __init__(self, before: Timings) -> None:
        self._steps = list(before.steps)
        self._last = time.perf_counter()

    def lap(self, name: str, less: float = 0.0) -> None:
        now = time.perf_counter()
        self.add(name, max(now - self._last - less, 0.0))
        self._last = now

    def add(self, name: str, seconds: float) -> None:
        self._steps.append((name, seconds))

    def timings(self) -> Timings:
        return Timings(tuple(self._steps))


@dataclass(frozen=True, eq=False)
class Built:
    """Everything from a Program to C text, stage by stage."""

    program: Program
    options: Options
    scheduled: Scheduled
    loops: Node
    source: Source
    timings: Timings
    once: Built | None = None
    """What is computed from constant arguments, the first time only; its outputs are inputs here."""
    choices: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    """What each planned statement's plan was chosen by, by its name before it was split."""
    blocks: Mapping[tuple[str, ...], bool] = field(default_factory=dict[tuple[str, ...], bool])
    """Which statements could run in common blocks, and whether they do."""
    plans: Preferences = NO_PREFERENCES
    """Those that were taken whatever is predicted of them."""
    lives: tuple[Life, ...] = ()
    """When each temporary is needed."""
    assigned: Assignment = field(default_factory=Assignment)
    """The layouts of all arrays as they were chosen before plans, and why."""
    asked: frozenset[str] = frozenset()
    """Arrays whose layout a hint asked for."""
    editable: Path | None = None
    """Where its text lies to be edited, with POLYHEDRAL_EDIT."""
    mapped: Mapped | None = None
    """Which statement runs on which blocks and threads, if on a device."""

    @property
    def analyzed(self) -> Analyzed:
        return self.scheduled.analyzed

    @property
    def layouts(self) -> Mapping[str, Layout]:
        return self.scheduled.layouts

    def saying(self, remarks: tuple[Remark, ...]) -> Built:
        """The same with more remarks."""
        schedule = self.scheduled.schedule
        more = replace(schedule, remarks=(*schedule.remarks, *remarks))
        return replace(self, scheduled=replace(self.scheduled, schedule=more)) if remarks else self

    def placement(self, sizes: Mapping[str, int]) -> Placement:
        """Where the temporaries lie at these sizes, judged by the oracle; sizes that are not given count as 1."""
        return judged(self.program, self.scheduled.schedule.tree, place(self.lives, sizes), sizes)
