# SPDX-License-Identifier: MIT
"""`polyhedral tune`: a target of the command line tuned on random inputs, trial by trial as it goes.

The search is `frontend.tuning.tune`'s; this makes its inputs and its processes, and says what is found.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frontend.arrays.incoming import array
from frontend.arrays.named import Array
from frontend.commands.run import generated, sized
from frontend.commands.targets import load
from frontend.environment import session
from frontend.environment.options import options
from frontend.lowering import tunings
from frontend.lowering.trials import Trial, Verdict
from frontend.measuring.duel import measured
from frontend.stages.lowered import Lowered
from frontend.tuning import tune, workers
from frontend.tuning.tune import effort
from frontend.tuning.tuned import Tuned
from frontend.tuning.workers import Workers
from frontend.units import in_seconds, shown_seconds

SCHEMA = "polyhedral.tune/1"
MEASURE = measured
"""What says how long a call takes."""


@dataclass(frozen=True)
class Request:
    """What is tuned, for how long, and how that is shown."""

    target: str
    budget: str = "60s"
    trials: int | None = None
    jobs: int = 1
    executor: str | None = None
    hosts: str | None = None
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
    wanted = workers.asked(request.executor, request.hosts, request.jobs)
    where = "auto" if request.db is None else str(request.db)
    chosen = {} if request.threads is None else {"threads": request.threads}
    with options(tuned="off", **chosen):
        low, sizes = sized(load(request.target), request, None)
        inputs = generated(low, sizes, None, request.seed)
        place = tunings.opened(where, session.current().cache(low.options))
        request.event("start", program=low.module.program.name, sizes=sizes, budget=in_seconds(request.budget))
        request.say(f"tuning for {', '.join(f'{n}={v}' for n, v in sizes.items()) or 'fixed sizes'}")
        arguments = {n: array(v, low.specs[n].axes) for n, v in inputs.items()}
        found = _tuned(request, low, arguments, place, wanted)
    request.event("end", **{n: v for n, v in found.to_json().items() if n not in ("schema", "trials")})
    if not request.events:
        sys.stdout.write(f"{found}\n")
    return all(t.verdict is not Verdict.WRONG for t in found.trials)


def _tuned(
    request: Request, low: Lowered, arguments: dict[str, Array], place: tunings.Tunings | None, wanted: Workers
) -> Tuned:
    begin = time.perf_counter()

    def hear(t: Trial) -> None:
        took = "" if t.seconds is None else f" {shown_seconds(t.seconds)}"
        beside = "" if t.against is None else f", the best so far {shown_seconds(t.against)}"
        name = f"{t.statement}: {t.what}" if t.statement else t.what
        request.event("trial", **t.to_json())
        verdict = f"{t.verdict}: {t.note}" if t.note else str(t.verdict)
        request.say(f"[{time.perf_counter() - begin:.0f} s] {name}:{took}{beside}; {verdict}")

    with wanted.started(low.built.options) as executor:
        r = request
        how = effort(r.budget, r.trials, executor, place, r.seed, resume=r.resume, measure=MEASURE, hear=hear)
        try:
            return tune.tune(low, arguments, how)
        except KeyboardInterrupt:
            request.event("interrupted")
            request.say("interrupted; what was found so far is kept, --resume goes on with it")
            raise
