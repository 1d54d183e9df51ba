# SPDX-License-Identifier: MIT
"""`polyhedral bench`: a suite or a target against the machine's ceilings, turn by turn in one run.

Suites and their peers are in the `benchmarks` folder of a checkout; a target is measured against itself without plans
and in the order as written.  What is written down is `frontend.measuring.ledger`'.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from codegen.runtime.roof import Meter
from frontend.commands.progress import progress
from frontend.commands.run import generated, sized
from frontend.commands.targets import Target, load
from frontend.environment.options import options
from frontend.inspection.cost import cost
from frontend.lowering import driver
from frontend.measuring import charts, ledger, tables, timing
from frontend.measuring.agreement import Data, apart, gathered, tolerance, updated
from frontend.measuring.ledger import OURS, Record, Work, changes, circumstances, regressions
from frontend.measuring.timing import Contestant
from frontend.peers.contestants import contestants, known
from frontend.stages.executable import Executable
from frontend.stages.lowered import Lowered
from frontend.usage import UsageError
from polyhedral.errors import PolyhedralError
from polyhedral.ir.program import Role, specialise

SCHEMA = "polyhedral.bench/1"
WITHOUT, WRITTEN = "without plans", "C -O3, order as written"

Tick = Callable[[float], object]
Job = Callable[[Tick], list[Record]]
"""A measurement that says meanwhile how far it is."""


@dataclass(frozen=True)
class Request:
    """What is measured, against what, for how long, and what is made of it."""

    what: tuple[str, ...] = ()
    peers: tuple[str, ...] | None = None
    threads: int = 1
    seconds: float = 3.0
    flush: bool = False
    small: bool = False
    seed: int = 0
    output: Path | None = None
    compare: Path | None = None
    fail_over: float = 0.05
    roofline: Path | None = None
    bars: Path | None = None
    events: bool = False
    progress: str = "auto"
    command: str = "polyhedral bench"
    sizes: dict[str, int | None] = field(default_factory=dict[str, int | None])
    dtype: str | None = None

    def say(self, text: str) -> None:
        """Progress, on stderr."""


@dataclass(frozen=True)
class Outcome:
    """`failed` counts cases that stopped with an error or gave a wrong result; `slower` those over the threshold."""

    records: tuple[Record, ...]
    failed: int
    slower: int


def bench(request: Request) -> Outcome:
    """Measure, print a table (or events) as results arrive, then compare and draw."""
    base = ledger.load(request.compare) if request.compare else None
    for picture in filter(None, (request.roofline, request.bars)):
        charts.ready(picture)
    with options(threads=request.threads):
        jobs = _jobs(request)
        _event(request, "start", cases=[name for name, _ in jobs], **circumstances(request.command, request.threads))
        records, failed = _measured(request, jobs)
    for path, draw in ((request.roofline, charts.roofline), (request.bars, charts.bars)):
        if path is not None and records:
            charts.save(draw(records), path)
    slower = _compared(request, base, records) if base is not None else 0
    _event(request, "end", failed=failed, slower=slower)
    return Outcome(tuple(records), failed, slower)


def _event(request: Request, event: str, **data: Any) -> None:
    if request.events:
        sys.stdout.write(json.dumps({"schema": SCHEMA, "event": event, **data}) + "\n")
        sys.stdout.flush()


def _measured(request: Request, jobs: Sequence[tuple[str, Job]]) -> tuple[list[Record], int]:
    """All records, kept and shown case by case, so that an interrupted run keeps what it has."""
    every: list[Record] = []
    failed = 0
    with progress(len(jobs), request.progress) as bar:
        for name, job in jobs:
            bar.begin(name)
            try:
                made = job(bar.at)
            except PolyhedralError as error:
                failed += 1
                _event(request, "error", case=name, **error.to_json())
                sys.stderr.write(f"{name}: {error}\n")
                continue
            about = circumstances(request.command, request.threads)
            made = [{**about, "flushed": request.flush, "small": request.small, **r} for r in made]
            failed += any(r["error"] > r["tolerance"] for r in made)
            every += made
            if request.output is not None:
                ledger.append(request.output, made)
            for r in made:
                _event(request, "record", **r)
            if not request.events:
                tables.show(made)
    return every, failed


def _compared(request: Request, base: Sequence[Record], records: Sequence[Record]) -> int:
    found = changes(base, records)
    if not found:
        sys.stderr.write(f"{request.compare} measures none of these cases in this way\n")
    for c in found:
        _event(request, "compared", **c.to_json(request.fail_over))
    if found and not request.events:
        tables.show_changes(found, request.fail_over)
    return len(regressions(found, request.fail_over))


# --- what is measured ------------------------------------------------------------------------------------------------


def is_target(word: str) -> bool:
    """`file.py:fn`, `pkg.mod:fn` or `prog.poly`; suites and cases have neither a colon nor a suffix."""
    return ":" in word or word.endswith(".poly")


def _jobs(request: Request) -> list[tuple[str, Job]]:
    targets = [w for w in request.what if is_target(w)]
    if not targets:
        return _suite(request)
    if len(targets) < len(request.what):
        raise UsageError("name either targets or cases of suites, not both")
    known(request.peers or ())
    meter = timing.meter()

    def job(target: Target) -> Job:
        return lambda tick: target_records(target, request, meter, tick)

    return [(w, job(load(w))) for w in targets]


def _suite(request: Request) -> list[tuple[str, Job]]:
    made: list[tuple[str, Job]] = _suites().jobs(request)
    return made


def _suites() -> Any:
    """`benchmarks.run` of the checkout that this is part of."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "run.py").is_file():
        raise UsageError(
            "suites are in the benchmarks folder of a checkout, and this is an installed package; "
            "name a target such as file.py:fn, or run from a checkout"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return import_module("benchmarks.run")


def listed() -> str:
    """Suites and their cases."""
    return "\n".join(f"{suite}: {' '.join(names)}" for suite, names in _suites().SUITES.items())


def target_records(target: Target, request: Request, meter: Meter, tick: Tick) -> list[Record]:
    """A program with plans, without them, in the order as written, and as its peers, on the same random inputs."""
    low, sizes = sized(target, request, None)
    with options(plan_above=-1):
        plain, _ = sized(target, request, None)
    inputs = generated(low, sizes, None, request.seed)
    every = [_contestant(OURS, low.compile(), inputs), _contestant(WITHOUT, plain.compile(), inputs)]
    written = driver.as_written(plain.built)
    if written is not None:
        as_written = copy(plain)
        as_written.built = written
        every.append(_contestant(WRITTEN, as_written.compile(), inputs))
    reference = every[-1]
    results = {c.name: _once(c) for c in every}
    notes = [] if written is not None else ["the order as written is not legal as it stands"]
    for c in _peers(low, inputs, request, notes):
        try:
            results[c.name] = _once(c)
        except Exception as error:  # of a library that knows nothing of us
            notes.append(f"{c.name}: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}")
            continue
        every.append(c)
    flush = timing.flusher() if request.flush else None
    times, roofs = timing.interleave(
        every,
        lambda: meter(request.threads, seconds=0.02),
        seconds=request.seconds,
        flush=flush,
        tick=tick,
    )
    work, roof = work_of(low), timing.middle(roofs)
    off = {c.name: apart(results[c.name], results[reference.name]) for c in every}
    made = (ledger.record(work, c.name, times[c.name], roof, off[c.name], c.note) for c in every)
    return [{**r, "absent": notes} for r in made]


def _peers(low: Lowered, inputs: Data, request: Request, notes: list[str]) -> Iterator[Contestant]:
    """The peers that were asked for; what is to be said of others goes to the notes."""
    program = specialise(low.module.program, low.sizes)
    orders = {n: [low.specs[n].axes.index(d) for d in program.array(n).dim_names] for n in inputs}
    made, why = contestants(
        program, {n: v.transpose(orders[n]) for n, v in inputs.items()}, request.peers or (), request.threads
    )
    notes += why
    yield from (replace(c, result=partial(_flat, c.result)) for c in made if c.result is not None)


def _flat(result: Callable[[], Data]) -> np.ndarray[Any, Any]:
    """All results one after another, by name."""
    made = result()
    return np.concatenate([made[n].reshape(-1) for n in sorted(made)])


def work_of(low: Lowered) -> Work:
    """What a call of the program costs at least, as its statements say it."""
    program = low.module.program
    found = cost(program, low.sizes, low.built.placement(low.sizes))
    kinds = [a.dtype for a in program.with_role(Role.OUTPUT, Role.INOUT)]
    bits = max((d.bits for d in kinds), default=32)
    return Work(program.name, found.flops, found.bytes, 64 if bits >= 64 else 32, tolerance(kinds))


def _contestant(name: str, exe: Executable, inputs: Data) -> Contestant:
    """Updates in place start from a fresh copy, which is not timed."""
    low: Any = exe.lowered
    mine = {n: v.copy() for n, v in inputs.items()}
    changed = [a.name for a in updated(low)]
    last: list[Any] = [None]

    def run() -> object:
        last[0] = exe(**mine)
        return last[0]

    def reset() -> object:
        for n in changed:
            mine[n][...] = inputs[n]
        return None

    def result() -> np.ndarray[Any, Any]:
        return _flat(lambda: gathered(low, last[0], mine))

    return Contestant(name, run, result, reset if changed else None)


def _once(c: Contestant) -> np.ndarray[Any, Any]:
    if c.reset is not None:
        c.reset()
    c.run()
    assert c.result is not None
    return c.result()


def percent(text: str) -> float:
    """`5%` or `0.05` as a share.  UsageError for anything else."""
    number, sign = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if sign else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--fail-over {text}: write a share of the time, such as 5% or 0.05")
    return share
