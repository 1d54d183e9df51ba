# SPDX-License-Identifier: MIT
"""Interleaved timing: contestants and the machine's ceilings take turns, so that noise meets all of them alike.

Reports times, not judgements; ratios within one run are what may be compared.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.runtime.build import build
from codegen.runtime.native import Native
from codegen.runtime.roof import Meter, Roof
from frontend.environment import session

TURN = 4e-2
"""Seconds that a contestant's turn should take at least: short calls are repeated within it."""
WARM = 2e-2
"""Seconds of calls before a turn counts: a core that has slept is slower for a while."""
PAUSE, LONGEST = 5e-3, 0.3
"""Seconds for which no thread may be busy before a turn, and for how long that is waited for at most: the idle threads
of a library keep a core busy for up to a tenth of a second."""


@dataclass(frozen=True)
class Contestant:
    """`run` is what is timed; `reset` is not; `result` gives the last result, or several, in the case's own layout, and
    is None where there is none.
    """

    name: str
    run: Callable[[], object]
    result: Callable[[], Any] | None = None
    reset: Callable[[], object] | None = None
    note: str = ""


@dataclass(frozen=True)
class Times:
    """Seconds per call, one entry a turn."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def iqr(self) -> float:
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return high - low


def native(text: str, symbol: str, flags: tuple[str, ...] = ()) -> Native:
    """C text through the compiler and cache that kernels use."""
    here = session.current()
    options = here.options()
    return build(text, symbol, here.compiler(options), here.cache(options), extra=flags, team=here.team)[0]


def meter() -> Meter:
    """The machine's ceilings, with vectors as wide as plans assume."""
    here = session.current()
    return Meter(native, here.target(here.options()).vector)


def interleave(
    contestants: Sequence[Contestant],
    sample: Callable[[], Roof],
    *,
    seconds: float = 3.0,
    rounds: int = 25,
    least: int = 3,
    flush: Callable[[], object] | None = None,
    tick: Callable[[float], object] = lambda _: None,
) -> tuple[dict[str, Times], tuple[Roof, ...]]:
    """Rounds of one turn each, within a budget of seconds; a ceiling is sampled in every third round.  `tick` hears
    what share of the rounds is done.
    """
    calls = {c.name: repeats(c, flush) for c in contestants}
    times: dict[str, list[float]] = {c.name: [] for c in contestants}
    roofs = [sample()]
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for c in contestants:
                times[c.name].append(turn(c, calls[c.name], flush))
            if number % 3 == 2:
                _asleep()
                roofs.append(sample())
            left = end - time.perf_counter()
            tick(max((number + 1) / rounds, 1 - left / seconds if seconds else 1.0))
            if number + 1 >= least and left < 0:
                break
    finally:
        gc.enable()
    return {n: Times(tuple(t)) for n, t in times.items()}, tuple(roofs)


def turn(c: Contestant, calls: int, flush: Callable[[], object] | None = None, parts: int = 1) -> float:
    """Seconds of a call, of so many in a row, once the cores are at rest and then warm; in the quickest of some parts
    of them, where others that use the machine are not to count.
    """
    _settle(c, flush)
    parts = min(parts, calls)
    return min(_turn(c, calls // parts, flush) for _ in range(parts))


def repeats(c: Contestant, flush: Callable[[], object] | None = None) -> int:
    """Two warm-up calls; then as many calls as fill a turn (one where each needs a reset or cold caches)."""
    _turn(c, 1, flush)
    once = _turn(c, 1, flush)
    return 1 if c.reset is not None or flush is not None else max(1, min(1000, int(TURN / max(once, 1e-7))))


def _asleep() -> None:
    """Wait until no thread of this process is busy."""
    end = time.perf_counter() + LONGEST
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - before < PAUSE / 5:
            break


def _settle(c: Contestant, flush: Callable[[], object] | None) -> None:
    """Let the threads of the one before fall asleep, and wake those of this one and the cores."""
    _asleep()
    if c.reset is None and flush is None:
        end = time.perf_counter() + WARM
        while True:
            c.run()
            if time.perf_counter() > end:
                break


def _turn(c: Contestant, repeats: int, flush: Callable[[], object] | None) -> float:
    if c.reset is not None:
        c.reset()
    if flush is not None:
        flush()
    start = time.perf_counter()
    for _ in range(repeats):
        c.run()
    return (time.perf_counter() - start) / repeats


def middle(roofs: Sequence[Roof]) -> Roof:
    """The median of each ceiling over a run."""

    def of(pick: Callable[[Roof], float]) -> float:
        return statistics.median(pick(r) for r in roofs)

    return Roof(
        roofs[0].threads, of(lambda r: r.fma_f32), of(lambda r: r.fma_f64), of(lambda r: r.triad), of(lambda r: r.fill)
    )


def flusher(megabytes: int = 96) -> Callable[[], object]:
    """Walks over more memory than the caches hold."""
    block = np.zeros(megabytes << 18, np.float32)

    def flush() -> object:
        np.add(block, 1.0, out=block)
        return None

    return flush


def ratios(times: Mapping[str, Times], base: str) -> dict[str, float]:
    """How many times faster each is than `base`, by medians."""
    return {n: times[base].median / t.median for n, t in times.items()}
