# SPDX-License-Identifier: MIT
"""In which order plans are tried: statement by statement, the dearest first, and of each what is predicted to be next
best, other register tiles before other loops around one.

Knows predictions alone; what a trial takes, and whether it won, is told by `frontend.tuning.tune`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from polyhedral.plans.candidates import Asked, Choice
from polyhedral.plans.preferences import Change, Lying, Preferred, Together, alternatives

FAR = 3.0
"""Plans that are predicted to take so many times the best are not tried."""
PATIENCE = 6
"""Trials of a statement without a gain before the next statement has its turn."""


@dataclass(frozen=True)
class Candidate:
    """A change to be tried, and the cycles that the statements which it is about are predicted to take with it, all
    that are alike; None where nothing says.
    """

    change: Change
    predicted: float | None


@dataclass(frozen=True)
class Queue:
    """What may be tried for one statement, or several that are alike, which take so many `cycles` as predicted."""

    statement: str
    alike: int
    cycles: float
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


def structure(blocks: Mapping[tuple[str, ...], bool], statements: int, layouts: str) -> list[Queue]:
    """What is tried before plans, since these depend on it: statements in common blocks or not, and layouts chosen one
    by one where all at once is what is predicted to be best.
    """
    found = [Queue(" and ".join(m), 1, 0.0, (Candidate(Together(m, not now), None),)) for m, now in blocks.items()]
    lying = [Queue("", 1, 0.0, (Candidate(Lying("greedy"), None),))] if layouts == "global" and statements > 1 else []
    return [*found, *lying]


def _queue(asked: Asked, choices: Sequence[Choice]) -> Queue:
    found = alternatives(asked)
    cycles = sum(c.prediction.total for c in choices)
    times = cycles / max(found[0][1].prediction.total, 1.0)  # more than there are statements where they run in blocks
    return Queue(asked.statement.name, len(choices), cycles, _ordered(found, times))


def _ordered(found: Sequence[tuple[Preferred, Choice]], times: float) -> tuple[Candidate, ...]:
    """All but the first, which is the one chosen without measuring, and but those that are far from it: the best of
    each tile, then the second of each.
    """
    seen: dict[object, int] = {}
    place: dict[Candidate, tuple[int, float]] = {}
    least = found[0][1].prediction.total
    for plan, choice in found:
        seen[plan.tile] = seen.get(plan.tile, 0) + 1
        cycles = choice.prediction.total
        place[Candidate(plan, times * cycles)] = seen[plan.tile], cycles
    near = [c for c, (_, cycles) in place.items() if cycles <= FAR * least]
    return tuple(sorted(near[1:], key=lambda c: place[c]))


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
