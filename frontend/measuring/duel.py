# SPDX-License-Identifier: MIT
"""Which of two kernels is faster, measured turn by turn so that noise meets both alike; only a gain beyond it counts.

How long one turn takes is asked of a function, so that tests decide who wins; what is done with the answer is
`frontend.tuning.tune`'s.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from random import Random
from typing import Any

import numpy as np

from codegen.runtime.native import address
from frontend.arrays.memory import ALIGNED, Strided
from frontend.arrays.named import Array
from frontend.measuring import timing
from frontend.measuring.timing import Contestant, Times
from frontend.stages.executable import Executable

FEW, MOST = 5, 15
"""Turns of each: after the first number of them a duel may end, after the second it does."""
PARTS = 5
"""Parts of a turn, the quickest of which counts."""
HOPELESS = 1.1
"""A kernel that takes so many times as long in each of three turns has lost."""
LEAST = 0.01
"""The least share of the time that is worth another plan."""
WIDTHS = 3.0
"""How many standard errors of the median a gain must exceed, about."""


class Runner:
    """A kernel with the arguments that it is measured on: what it updates is its own copy, with the same strides."""

    def __init__(self, exe: Executable, arguments: Mapping[str, Any], updated: frozenset[str]) -> None:
        self.exe = exe
        self._given = {n: arguments[n] for n in updated}
        self._own = {n: _like(a) if n in updated else a for n, a in arguments.items()}
        self._repeats = 0
        self._last: Any = None

    def run(self) -> object:
        """One call."""
        self._last = self.exe(**self._own)
        return self._last

    def reset(self) -> object:
        """Undo what calls have updated."""
        for n, a in self._given.items():
            self._own[n].data[...] = a.data
        return None

    def once(self) -> tuple[Any, dict[str, Any]]:
        """The result of one call on the given arguments, and what it updated."""
        self.reset()
        result = self.run()
        return result, {n: self._own[n] for n in self._given}

    def turn(self) -> float:
        """Seconds of a call, in the middle of others."""
        c = Contestant("", self.run, reset=self.reset if self._given else None)
        self._repeats = self._repeats or timing.repeats(c)
        return timing.turn(c, self._repeats, parts=PARTS)


Measure = Callable[[Runner], float]
"""Seconds that a call takes, measured once."""


def measured(r: Runner) -> float:
    """What a duel measures unless it is told otherwise."""
    return r.turn()


@dataclass(frozen=True)
class Duel:
    """Seconds of both in the turns that they took, one after the other."""

    incumbent: Times
    challenger: Times

    @property
    def gain(self) -> float:
        """The share of the incumbent's time that the challenger saves, by the median of turns."""
        return 1 - statistics.median(self._ratios)

    @property
    def noise(self) -> float:
        """What the gain may be by chance."""
        return WIDTHS * Times(tuple(self._ratios)).iqr / sqrt(len(self._ratios))

    @property
    def won(self) -> bool:
        return self.gain > max(self.noise, LEAST)

    @property
    def hopeless(self) -> bool:
        return min(self._ratios) > HOPELESS

    @property
    def _ratios(self) -> list[float]:
        return [c / i for i, c in zip(self.incumbent.seconds, self.challenger.seconds, strict=True)]


def duel(
    incumbent: Runner,
    challenger: Runner,
    measure: Measure,
    rng: Random,
    end: float,
    turns: int = MOST,
    few: int = FEW,
) -> Duel:
    """Turns until it is clear who is faster, at most `turns` of each, or until the clock shows `end` after three of
    them; who begins is drawn each time.
    """
    times: dict[Runner, list[float]] = {incumbent: [], challenger: []}
    while True:
        pair = [incumbent, challenger]
        rng.shuffle(pair)
        for r in pair:
            times[r].append(max(measure(r), 1e-12))
        found = Duel(Times(tuple(times[incumbent])), Times(tuple(times[challenger])))
        done = len(found.incumbent.seconds)
        if done < min(3, turns):
            continue
        late = time.perf_counter() > end
        clear = done >= few and (found.won or found.gain < LEAST)
        if late or clear or found.hopeless or done >= turns:
            return found


def _like(a: Array) -> Array:
    """A copy with the same strides, as far from the beginning of a line."""
    data = a.data
    reach = [s * (n - 1) for s, n in zip(data.strides, data.shape, strict=True) if n > 1]
    below, above = -sum(min(x, 0) for x in reach), sum(max(x, 0) for x in reach)
    memory = np.empty(below + above + data.itemsize + ALIGNED, np.uint8)
    first = below + (address(data) - address(memory) - below) % ALIGNED
    made: Strided = np.ndarray(data.shape, data.dtype, memory, first, data.strides)
    made[...] = data
    return Array(made, a.axes, a.dtype)
