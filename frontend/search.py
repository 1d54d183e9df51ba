# SPDX-License-Identifier: MIT
"""In which order plans are tried: statement by statement, the dearest first, and of each what is predicted to be next
best, other register tiles before other loops around one.

Knows predictions alone; what a trial takes, and whether it won, is told by `frontend.tune`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from polyhedral.plans.candidates import Asked, Choice
from polyhedral.plans.preferences import Preferred, alternatives

FAR = 3.0
"""Plans that are predicted to take so many times the best are not tried."""
PATIENCE = 6
"""Trials of a statement without a gain before the next statement has its turn."""


@dataclass(frozen=True)
class Candidate:
    """A plan to be tried, and the cycles that it is predicted to take, in all statements that are alike."""

    plan: Preferred
    predicted: float


@dataclass(frozen=True)
class Queue:
    """What may be tried for one statement, or several that are alike, which take so many `cycles` as predicted."""

    statement: str
    alike: int
    cycles: float
    chosen: Candidate
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Step:
    """What is to be tried now, and of the same statement next if nothing is gained."""

    candidate: Candidate
    queue: Queue
    following: tuple[Candidate, ...]


def queues(choices: Mapping[str, Choice]) -> list[Queue]:
    """Those of a program whose statements are planned by these choices, the dearest first; like ones share one."""
    groups: dict[int, list[Choice]] = {}
    asked: dict[int, Asked] = {}
    for choice in choices.values():
        if choice.asked is not None:
            groups.setdefault(id(choice.asked), []).append(choice)
            asked[id(choice.asked)] = choice.asked
    found = [_queue(asked[n], choices) for n, choices in groups.items()]
    return sorted((q for q in found if q.candidates), key=lambda q: -q.cycles)


def _queue(asked: Asked, choices: Sequence[Choice]) -> Queue:
    found = alternatives(asked)
    cycles = sum(c.prediction.total for c in choices)
    times = cycles / max(found[0][1].prediction.total, 1.0)  # more than there are statements where they run in blocks
    every = [Candidate(plan, times * choice.prediction.total) for plan, choice in found]
    return Queue(asked.statement.name, len(choices), cycles, every[0], _ordered(every))


def _ordered(every: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """All but the first, which is the one chosen without measuring, and but those that are far from it: the best of
    each tile, then the second of each.
    """
    seen: dict[object, int] = {}
    place: dict[Candidate, tuple[int, float]] = {}
    for c in every:
        seen[c.plan.tile] = seen.get(c.plan.tile, 0) + 1
        place[c] = seen[c.plan.tile], c.predicted
    near = [c for c in every[1:] if c.predicted <= FAR * every[0].predicted]
    return tuple(sorted(near, key=lambda c: place[c]))


def steps(queues: Sequence[Queue]) -> Generator[Step, bool, None]:
    """Every candidate, once; the answer to each step is whether it gained anything."""
    at = dict.fromkeys(range(len(queues)), 0)
    while any(at[n] < len(q.candidates) for n, q in enumerate(queues)):
        for n, q in enumerate(queues):
            misses = 0
            while at[n] < len(q.candidates) and misses < PATIENCE:
                ahead = q.candidates[at[n] : at[n] + PATIENCE - misses]
                at[n] += 1
                won = yield Step(ahead[0], q, ahead[1:])
                misses = 0 if won else misses + 1
