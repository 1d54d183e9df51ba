# SPDX-License-Identifier: MIT
"""Tuning: other plans than the predicted ones are compiled, checked and measured against the best so far.

    trial 0, as predicted --> next candidate --> lowered, compiled --> same result? --> duel --> kept, or not --.
                                    ^                                                                            |
                                    '----------------------------------------------------------------------------'

Which plans there are is `frontend.tuning.search`'s, who is faster `frontend.measuring.duel`'s, what is kept on disk
`frontend.lowering.tunings`'.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, replace
from random import Random
from typing import Any, cast

from frontend.environment import logs, session
from frontend.lowering import driver
from frontend.lowering.built import UNTIMED, Built
from frontend.lowering.given import Given
from frontend.lowering.trials import Record, Trial, Verdict
from frontend.lowering.tunings import Tunings
from frontend.measuring.agreement import Data, apart, gathered, tolerance, updated
from frontend.measuring.duel import MOST, Duel, Measure, Runner, duel, measured
from frontend.running import loading
from frontend.stages.executable import Executable
from frontend.stages.lowered import Lowered
from frontend.tuning.search import Candidate, Queue, Step, queues, steps, structure
from frontend.tuning.tuned import Tuned
from frontend.units import in_seconds
from polyhedral.errors import ArgumentError, PolyhedralError, Remark, ToolchainError
from polyhedral.plans.preferences import NO_PREFERENCES, Preferences, unused

SEARCH = 0.9
"""The part of the budget that is searched in; the rest is for the winner against the predicted plan."""
ROUNDING = 8.0
"""How much further than the plain nest a result may lie from the predicted plan's."""
_ISL = threading.Lock()
"""isl has one context, which threads of an executor take in turn."""


@dataclass(frozen=True)
class Effort:
    """How long is searched, and how: seconds; other plans than the predicted ones that are measured at most; who
    compiles; where the result is kept; what decides who begins a turn; whether an earlier search is gone on with; what
    measures; and who hears of each trial.
    """

    budget: float
    trials: int | None = None
    executor: Executor | None = None
    place: Tunings | None = None
    seed: int = 0
    resume: bool = False
    measure: Measure = measured
    hear: Callable[[Trial], object] = lambda _: None


@dataclass(frozen=True)
class Failure:
    """Why there is no kernel for a change, or no result of it."""

    why: str
    verdict: Verdict


def effort(
    budget: float | str,
    trials: int | None,
    executor: Executor | None,
    place: Tunings | None,
    seed: int,
    *,
    resume: bool,
    measure: Measure | None,
    hear: Callable[[Trial], object] | None,
) -> Effort:
    """The effort that a user asked for; ArgumentError PH506 where it is none."""
    if trials is not None and (type(trials) is not int or trials < 1):
        raise ArgumentError(
            "PH506", f"trials={trials!r} tries nothing", hints=("trials=20, or None for as many as the budget allows",)
        )
    if not isinstance(cast("object", executor), Executor | None):
        raise ArgumentError(
            "PH506",
            f"executor={executor!r} is no concurrent.futures.Executor",
            hints=("executor=ProcessPoolExecutor(2)", "leave executor= out"),
        )
    if type(seed) is not int:
        raise ArgumentError("PH506", f"seed={seed!r} is no whole number", hints=("seed=0",))
    seconds = in_seconds(budget)
    return Effort(seconds, trials, executor, place, seed, resume, measure or measured, hear or (lambda _: None))


def tune(low: Lowered, arguments: Mapping[str, Any], how: Effort) -> Tuned:
    """The best kernel found for a program as it is predicted to be best, measured on arguments by name.

    What the program updates in place is copied first.  Interrupted, it keeps what it has and passes that on.
    """
    search = _Search(low, arguments, how)
    try:
        search.run()
        return search.confirmed()
    except KeyboardInterrupt:
        search.keep()
        raise


class _Search:
    """A search under way: the best so far, and what was tried."""

    def __init__(self, low: Lowered, arguments: Mapping[str, Any], how: Effort) -> None:
        self.end = time.perf_counter() + SEARCH * how.budget
        self.last = time.perf_counter() + how.budget
        self.low, self.how, self.executor = low, how, how.executor
        self.arguments = arguments
        self.updated = frozenset(a.name for a in updated(low))
        self.rng = Random(how.seed)
        self.key = low.given.key(low.options.threads or session.current().threads)
        self.pending: dict[Preferences, Future[Built | Failure]] = {}
        self.sources: set[tuple[str, ...]] = set()
        self.remarks: list[Remark] = []
        self.plain: Data | None = None
        self.first = self.best = self._runner(low.compile())
        self.wanted = self._results(self.first)
        self.plans, self.gain, self.complete = NO_PREFERENCES, 0.0, False
        self.trials: list[Trial] = []
        self.tried = 0
        self.predicted = 0.0

    # --- the search --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Candidates until there is none left, or no time or trial for another."""
        self.predicted = sum(q.cycles for q in queues(self.low.built.choices))
        self._begin()
        built, given = self.low.built, self.low.given
        whole = structure(built.blocks, len(built.program.statements), given.options.layouts) if given.tunable else []
        self.complete = self._walked(whole) and self._walked(queues(self.best.exe.lowered.built.choices))
        if self.complete and len(self.trials) == 1:
            self.remarks.append(Remark("nothing to tune", "each of its statements has one plan only"))

    def _walked(self, every: Sequence[Queue]) -> bool:
        """Whether all candidates were tried."""
        before = {t.change for t in self.trials}
        order = steps(every)
        step = next(order, None)
        while step is not None:
            if self._spent():
                return False
            fresh = [c for c in step.following if c.change not in before]
            won = step.candidate.change not in before and self._trial(step, fresh)
            try:
                step = order.send(won)
            except StopIteration:
                step = None
        return True

    def _begin(self) -> None:
        """The predicted plan, measured; and what an earlier search found, where it is gone on with."""
        self.sources.add(_text(self.low.built))
        times = sorted(self.how.measure(self.first) for _ in range(3))
        first = Trial("", "as predicted", None, self.predicted, Verdict.FIRST, times[1], times[2] - times[0])
        self._note(first)
        kept = self.how.place.read(self.key) if self.how.place and self.how.resume else None
        if kept is None:
            return
        if kept.record is None:
            self.remarks += [kept.remark] if kept.remark else []
            return
        self.trials += [t for t in kept.record.trials if t.change is not None and t.verdict is not Verdict.STOPPED]
        built = self._built(kept.record.plans, ())
        if (
            kept.record.plans
            and isinstance(built, Built)
            and not unused(kept.record.plans, built.choices, built.blocks)
        ):
            runner = self._runner(self.low.with_built(built).compile())
            if not self._differs(runner):
                self.best, self.plans, self.gain = runner, kept.record.plans, kept.record.gain
        if kept.record.plans != self.plans:
            self.remarks.append(Remark("begun anew", "the plans found before are none that are weighed now"))

    def _spent(self) -> bool:
        most = self.how.trials
        return time.perf_counter() > self.end or (most is not None and self.tried >= most)

    def _trial(self, step: Step, following: Sequence[Candidate]) -> bool:
        """Whether a candidate is faster than the best so far, and then takes its place."""
        c, plans = step.candidate, self.plans.changed(step.candidate.change)
        cycles = None if c.predicted is None else self.predicted - step.queue.cycles + c.predicted
        t = Trial(step.queue.statement, str(c.change), c.change, cycles, Verdict.BEGUN)
        built = self._built(plans, [self.plans.changed(x.change) for x in following])
        if isinstance(built, Failure):
            return self._note(replace(t, verdict=built.verdict, note=built.why))
        if unused(plans, built.choices, built.blocks):
            return self._note(replace(t, verdict=Verdict.OTHER))
        if _text(built) in self.sources:
            return self._note(replace(t, verdict=Verdict.SAME))
        self.sources.add(_text(built))
        try:
            runner = self._runner(self.low.with_built(built).compile())
            self.keep(t)
            wrong = self._differs(runner)
        except PolyhedralError as error:
            failed = _failure(error)
            return self._note(replace(t, verdict=failed.verdict, note=failed.why))
        if wrong:
            return self._note(replace(t, verdict=Verdict.WRONG, note=wrong))
        found = duel(self.best, runner, self.how.measure, self.rng, self.end)
        t = replace(
            t,
            verdict=Verdict.KEPT if found.won else Verdict.NOISE if found.gain >= -found.noise else Verdict.SLOWER,
            seconds=found.challenger.median,
            spread=found.challenger.iqr,
            against=found.incumbent.median,
        )
        if found.won:
            self.best, self.plans = runner, plans
            self.gain = 1 - (1 - self.gain) * (1 - found.gain)
        self._note(t)
        return found.won

    def _note(self, t: Trial) -> bool:
        self.tried += t.verdict not in (Verdict.FIRST, Verdict.SAME, Verdict.OTHER)
        self.trials.append(t)
        logs.tried(self.low.program.name, t.what, t.verdict, t.seconds)
        self.how.hear(t)
        return False

    def confirmed(self) -> Tuned:
        """The best against the predicted plan once more, which stays where the other does not win; kept."""
        if self.plans:
            found = self._last()
            if found.won:
                self.gain = found.gain
            else:
                self.best, self.plans, self.gain = self.first, NO_PREFERENCES, 0.0
                why = f"{found.gain:.1%} gained in the end, and {found.noise:.1%} may be by chance"
                self.remarks.append(Remark("the predicted plan stays", why))
        self.keep()
        return Tuned(self.best.exe, self.plans, tuple(self.trials), self.gain, tuple(self.remarks), self.complete)

    def _last(self) -> Duel:
        return duel(self.first, self.best, self.how.measure, self.rng, self.last, few=MOST)

    # --- keeping -----------------------------------------------------------------------------------------------------

    def keep(self, begun: Trial | None = None) -> None:
        """What was found so far, on disk; what is `begun` now is found there again if it takes this process with it."""
        if self.how.place is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        trials = (*self.trials, begun) if begun else tuple(self.trials)
        record = Record(self.low.program.name, now, self.plans, self.gain, trials, self.complete)
        remark = self.how.place.write(self.key, record)
        if remark is not None and remark not in self.remarks:
            self.remarks.append(remark)

    # --- compiling ---------------------------------------------------------------------------------------------------

    def _built(self, plans: Preferences, following: Sequence[Preferences]) -> Built | Failure:
        """The program with these plans, or why there is none; an executor makes those that may follow meanwhile.

        All that was asked of it is waited for: nothing else runs while a kernel is measured.
        """
        if self.executor is None:
            return _lowered(self.low.given.preferring(plans))
        if plans not in self.pending:
            self.pending = {}
            try:
                for p in (plans, *following):
                    self.pending[p] = self.executor.submit(compiled, self.low.given.preferring(p))
            except (BrokenExecutor, RuntimeError) as error:
                return self._alone(plans, error)
        try:
            for future in self.pending.values():
                future.exception()
            return self.pending.pop(plans).result()
        except BrokenExecutor as error:
            return self._alone(plans, error)
        except BaseException:
            for future in self.pending.values():
                future.cancel()
            raise

    def _alone(self, plans: Preferences, error: Exception) -> Built | Failure:
        """Without the executor, which is of no use any more; the plan that may have been its end is left out."""
        self.executor, self.pending = None, {}
        why = f"{type(error).__name__}: {error}"
        self.remarks.append(Remark("compiled without the executor", why))
        return Failure(f"the executor broke: {why}", Verdict.FAILED)

    # --- running -----------------------------------------------------------------------------------------------------

    def _runner(self, exe: Executable) -> Runner:
        return Runner(exe, self.arguments, self.updated)

    def _results(self, r: Runner) -> Data:
        return gathered(self.low, *r.once())

    def _differs(self, r: Runner) -> str:
        """How a result differs from the predicted plan's by more than rounding, or nothing."""
        got = self._results(r)
        if not self._apart(got):
            return ""
        if self.plain is None:
            self.plain = self._results(self._runner(self._without_plans()))
        wrong = self._apart(got, self.plain)
        if not wrong:
            return ""
        other = {n: apart(got[n], self.plain[n]) for n in wrong}
        own = {n: apart(self.wanted[n], self.plain[n]) for n in wrong}
        return "; ".join(
            f"{n} differs by {far:.2g} of its largest value (from the plain nest by {other[n]:.2g}, and the predicted "
            f"plan's by {own[n]:.2g})"
            for n, far in wrong.items()
        )

    def _apart(self, got: Data, plain: Data | None = None) -> dict[str, float]:
        """Results that are further from the predicted plan's than these may be, which for floats is as far as the plain
        nest's, several times.
        """
        found: dict[str, float] = {}
        for n, want in self.wanted.items():
            allowed = tolerance([self.low.module.program.array(n).dtype])
            if plain is not None and allowed:
                allowed = max(allowed, ROUNDING * apart(plain[n], want))
            far = apart(got[n], want)
            if not far <= allowed:
                found[n] = far
        return found

    def _without_plans(self) -> Executable:
        given = self.low.given.preferring(NO_PREFERENCES)
        plain = replace(given, options=replace(given.options, plan_above=-1))
        return self.low.with_built(_lower(plain)).compile()


def compiled(given: Given) -> Built | Failure:
    """The program, compiled into the cache; why not as a value, which finds its way back from every process."""
    with _ISL:
        made = _lowered(given)
    try:
        if isinstance(made, Built):
            loading.load(made)
    except Exception as error:
        return _failure(error)
    return made


def _lowered(given: Given) -> Built | Failure:
    """The program with its plans; a mistake of the compiler in one of them is a trial that failed."""
    try:
        return _lower(given)
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> Failure:
    """Why there is no kernel; a compiler that was stopped, or could not write, shows no mistake of ours."""
    stopped = isinstance(error, ToolchainError) and error.code in ("PH502", "PH503", "PH504")
    verdict = Verdict.STOPPED if stopped else Verdict.FAILED
    return Failure(f"{type(error).__name__}: {error}", verdict)


def _text(built: Built) -> tuple[str, ...]:
    """What is compiled, with what is computed only once."""
    return (built.source.text, *((built.once.source.text,) if built.once else ()))


def _lower(g: Given) -> Built:
    return driver.lower(g.program, g.layouts, g.options, UNTIMED, g.hints, g.constants)
