# SPDX-License-Identifier: MIT
"""What compilations say as they go: a logger for each topic, and `POLYHEDRAL_LOG=schedule,cache` to see them.

Programs that configure `logging` themselves find `polyhedral.schedule` and the others there; what a stage has to show
is that stage's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from codegen.runtime.build import BuildInfo
from polyhedral.errors import ArgumentError

TOPICS = {
    "infer": "the range of each statement, and what sizes must satisfy",
    "deps": "which instances must keep their order",
    "schedule": "the schedule tree, and what was not done, and why",
    "layout": "where the cells of each array lie",
    "codegen": "the seconds that each step took",
    "cache": "whether a kernel was there, and where it lies",
    "tune": "what is measured while tuning",
}


class Shown(Protocol):
    """What of `frontend.stages.lowered.Lowered` matters here."""

    @property
    def domains(self) -> Mapping[str, str]: ...
    @property
    def dependences(self) -> tuple[str, ...]: ...
    @property
    def layouts(self) -> Mapping[str, Any]: ...
    @property
    def module(self) -> Any: ...
    @property
    def program(self) -> Any: ...
    @property
    def remarks(self) -> tuple[Any, ...]: ...
    @property
    def timings(self) -> Any: ...
    def schedule(self, which: str = "final") -> str: ...


def logger(topic: str) -> logging.Logger:
    return logging.getLogger(f"polyhedral.{topic}")


def listen(topics: str) -> None:
    """Print these topics, separated by commas, or `all`, on stderr.  ArgumentError PH506 for a topic there is not."""
    wanted = [t.strip() for t in topics.split(",") if t.strip() and t.strip() not in ("0", "none")]
    unknown = [t for t in wanted if t not in TOPICS and t != "all"]
    if unknown:
        raise ArgumentError(
            "PH506",
            f"POLYHEDRAL_LOG={topics!r}: there is no topic {unknown[0]!r}",
            details=tuple(f"{t}: {what}" for t, what in TOPICS.items()),
            hints=("POLYHEDRAL_LOG=schedule,cache, or all",),
        )
    for topic in TOPICS if "all" in wanted else wanted:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        log = logger(topic)
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        log.propagate = False


def lowered(low: Shown) -> None:
    """Say what became of a program, on the topics that somebody listens to."""
    name = low.program.name
    if _heard("infer"):
        needs = [*low.module.program.assumptions, *(p.condition for p in low.module.checked.preconditions)]
        _say("infer", name, *(f"{s}: {d}" for s, d in low.domains.items()), *(f"needs {n}" for n in needs))
    if _heard("deps"):
        _say("deps", name, *(low.dependences or ("none",)))
    if _heard("schedule"):
        _say("schedule", name, *low.schedule().split("\n"), *map(str, low.remarks))
    if _heard("layout"):
        _say(
            "layout", name, *(f"{n}: {', '.join(f'{d}: {s}' for d, s in at.strides)}" for n, at in low.layouts.items())
        )
    if _heard("codegen"):
        _say("codegen", name, str(low.timings))


def compiled(name: str, info: BuildInfo) -> None:
    """Say where native code came from."""
    if _heard("cache"):
        _say("cache", name, "found" if info.hit else f"compiled in {info.seconds:.2f} s", str(info.path))


def tried(name: str, what: str, verdict: str, seconds: float | None) -> None:
    """Say what became of a trial of tuning."""
    if _heard("tune"):
        _say("tune", name, f"{what}: {verdict}" + ("" if seconds is None else f", {seconds * 1e3:.3f} ms"))


def _heard(topic: str) -> bool:
    return logger(topic).isEnabledFor(logging.INFO)


def _say(topic: str, name: str, *lines: str) -> None:
    logger(topic).info("%s%s", name, "".join(f"\n  {line}" for line in lines))
