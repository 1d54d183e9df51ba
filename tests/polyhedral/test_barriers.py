# SPDX-License-Identifier: MIT
"""Barriers are enough, and as few as can be: held against all choices of places, executed step by step."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from polyhedral.devices.barriers import Step, place

ROUNDS = 4


def told_apart(steps: list[Step], copies: int, barriers: tuple[int, ...]) -> bool:
    """By execution: no two steps with no barrier between them touch one copy of a place, unless both only read it."""
    since: list[tuple[set[tuple[str, int]], set[tuple[str, int]]]] = []
    for turn in range(ROUNDS):
        for i, s in enumerate(steps):
            reads = {(p, (turn + ahead) % copies) for p, ahead in s.reads}
            writes = {(p, (turn + ahead) % copies) for p, ahead in s.writes}
            for before, wrote in since:
                if wrote & (reads | writes) or before & writes:
                    return False
            since.append((reads, writes))
            if i in barriers:
                since = []
    return True


def drawn(rng: random.Random) -> tuple[list[Step], int]:
    copies = rng.choice((1, 1, 2, 3))

    def places(most: int) -> tuple[tuple[str, int], ...]:
        return tuple({rng.choice("ABC"): rng.randrange(copies) for _ in range(rng.randint(0, most))}.items())

    return [Step(places(2), places(1)) for _ in range(rng.randint(1, 5))], copies


def own_races(steps: list[Step], copies: int) -> bool:
    """A step that reads and writes one copy of a place races with itself, whatever the barriers."""
    return any({(p, a % copies) for p, a in s.reads} & {(p, a % copies) for p, a in s.writes} for s in steps)


@pytest.mark.parametrize("seed", range(150))
def test_fewest_that_are_enough(seed: int):
    steps, copies = drawn(random.Random(seed))
    if own_races(steps, copies):
        steps = [Step(s.reads, ()) if s.reads else s for s in steps]
    chosen = place(steps, copies)
    every = range(len(steps))
    enough = [c for n in range(len(steps) + 1) for c in combinations(every, n) if told_apart(steps, copies, c)]
    assert told_apart(steps, copies, chosen)
    assert len(chosen) == min(map(len, enough))


def test_two_copies_save_a_barrier():
    used = Step(reads=(("A", 0), ("B", 0)))
    assert place([Step(writes=(("A", 0), ("B", 0))), used]) == (0, 1)
    assert place([Step(writes=(("A", 1), ("B", 1))), used], copies=2) == (1,)
