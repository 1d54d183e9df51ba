# SPDX-License-Identifier: MIT
"""`polyhedral tune`: a target of the command line tuned on random inputs, trial by trial as it goes.

The search is `frontend.tune`'s; this makes its inputs and its processes, and says what is found.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Generator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frontend import session, tune, tunings
from frontend.arrays import Array, array
from frontend.duel import measured
from frontend.execute import generated, sized
from frontend.options import options
from frontend.staged import Lowered
from frontend.targets import load
from frontend.trials import Trial, Verdict
from frontend.tune import effort
from frontend.tuned import Tuned
from frontend.units import in_seconds, shown_seconds

SCHEMA = "polyhedral.tune/1"
MEASURE = measured
"""What says how long a call takes."""
GRACE = 0.3
"""Seconds that processes have to end their compilers."""


@dataclass(frozen=True)
class Request:
    """What is tuned, for how long, and how that is shown."""

    target: str
    budget: str = "60s"
    trials: int | None = None
    jobs: int = 1
    resume: bool = False
    seed: int = 0
    threads: int | None = None
    db: Path | None = None
    events: bool = False
    quiet: bool = False
    sizes: dict[str, int | None] = field(default_factory=dict[str, int | None])
    dtype: str | None = None

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        if not self.quiet:
            sys.stderr.write(text + "\n")

    def event(self, event: str, **data: Any) -> None:
        """One line of JSON on stdout, where they are asked for."""
        if self.events:
            sys.stdout.write(json.dumps({"schema": SCHEMA, "event": event, **data}) + "\n")
            sys.stdout.flush()


def tune_target(request: Request) -> bool:
    """Tune, and say what was found; whether all plans gave the same result."""
    in_seconds(request.budget)
    where = "auto" if request.db is None else str(request.db)
    chosen = {} if request.threads is None else {"threads": request.threads}
    with options(tuned="off", **chosen):
        low, sizes = sized(load(request.target), request, None)
        inputs = generated(low, sizes, None, request.seed)
        place = tunings.opened(where, session.current().cache(low.options))
        request.event("start", program=low.module.program.name, sizes=sizes, budget=in_seconds(request.budget))
        request.say(f"tuning for {', '.join(f'{n}={v}' for n, v in sizes.items()) or 'fixed sizes'}")
        arguments = {n: array(v, low.specs[n].axes) for n, v in inputs.items()}
        found = _tuned(request, low, arguments, place)
    request.event("end", **{n: v for n, v in found.to_json().items() if n not in ("schema", "trials")})
    if not request.events:
        sys.stdout.write(f"{found}\n")
    return all(t.verdict is not Verdict.WRONG for t in found.trials)


def _tuned(request: Request, low: Lowered, arguments: dict[str, Array], place: tunings.Tunings | None) -> Tuned:
    begin = time.perf_counter()

    def hear(t: Trial) -> None:
        took = "" if t.seconds is None else f" {shown_seconds(t.seconds)}"
        beside = "" if t.against is None else f", the best so far {shown_seconds(t.against)}"
        name = f"{t.statement}: {t.what}" if t.statement else t.what
        request.event("trial", **t.to_json())
        verdict = f"{t.verdict}: {t.note}" if t.note else str(t.verdict)
        request.say(f"[{time.perf_counter() - begin:.0f} s] {name}:{took}{beside}; {verdict}")

    with _processes(request.jobs) as executor:
        r = request
        how = effort(r.budget, r.trials, executor, place, r.seed, resume=r.resume, measure=MEASURE, hear=hear)
        try:
            return tune.tune(low, arguments, how)
        except KeyboardInterrupt:
            request.event("interrupted")
            request.say("interrupted; what was found so far is kept, --resume goes on with it")
            raise


@contextmanager
def _processes(jobs: int) -> Generator[Executor | None]:
    """So many processes that compile, none of which is left whatever happens; this one compiles where it is one."""
    if jobs == 1:
        yield None
        return
    spawned = multiprocessing.get_context("spawn")  # a child forked after OpenMP ran would hang
    pool = ProcessPoolExecutor(jobs, spawned, initializer=_deaf)
    try:
        yield pool
    except BaseException:
        children = multiprocessing.active_children()
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        time.sleep(GRACE)
        for child in children:
            child.kill()
        raise
    pool.shutdown()


def _deaf() -> None:
    """Ctrl-C is for the parent, which ends this process so that it ends its compilers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)
