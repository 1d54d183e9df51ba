# SPDX-License-Identifier: MIT
"""The page to read first: how a Program becomes a legal schedule.

    Program --check--> Checked --dependences--> Analyzed --schedule--> Scheduled     (then codegen: loops, C, a kernel)

Each arrow is a plain function, each noun a frozen dataclass that contains the stage before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polyhedral.dependences import Dependences, analyse
from polyhedral.isl_schedule import Frame, frame
from polyhedral.layout import Layout
from polyhedral.program import Program
from polyhedral.register_plan import RegisterPlan
from polyhedral.schedule import Options, Schedule, schedule
from polyhedral.target import Target

DEFAULT = Options()


@dataclass(frozen=True, eq=False)
class Analyzed:
    """A program with its instance families and the dependences between them."""

    program: Program
    frame: Frame
    dependences: Dependences


@dataclass(frozen=True, eq=False)
class Scheduled:
    """An analyzed program with the layout of every array and a tree that the oracle accepts."""

    analyzed: Analyzed
    layouts: Mapping[str, Layout]
    schedule: Schedule


def analyze(p: Program) -> Analyzed:
    """Families and dependences."""
    fr = frame(p)
    return Analyzed(p, fr, analyse(fr))


def plan(
    a: Analyzed,
    layouts: Mapping[str, Layout],
    options: Options = DEFAULT,
    plans: Mapping[str, RegisterPlan] | None = None,
    target: Target | None = None,
) -> Scheduled:
    """A legal schedule for given layouts and register tiles; statements share loops where that pays on a target."""
    return Scheduled(a, layouts, schedule(a.frame, a.dependences, layouts, options, plans, target))
