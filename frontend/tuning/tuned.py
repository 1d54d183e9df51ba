# SPDX-License-Identifier: MIT
"""Tuned: the fastest kernel that a search found, callable, with all that was tried on the way.

A value that shows itself; how it is found is `frontend.tuning.tune`'s.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frontend.lowering.trials import Trial, Verdict, about
from frontend.pictures.svg import bundle, escaped, headed
from frontend.stages.executable import Executable
from frontend.stages.module import Specialised
from frontend.units import cycles, shown_seconds
from polyhedral.errors import Remark
from polyhedral.plans.preferences import Preferences

_COLUMNS = ("statement", "what", "predicted", "median", "spread", "against", "verdict")


@dataclass(frozen=True, eq=False)
class Tuned:
    """The kernel that won, called as an executable is.

    `trials` begin with the predicted plan; `gain` is the share of its time that the winner saves, 0 where it won
    itself; `plans` are what was changed, `remarks` what is to be known of the search; `complete` says that nothing was
    left to try.
    """

    executable: Executable
    plans: Preferences
    trials: tuple[Trial, ...]
    gain: float
    remarks: tuple[Remark, ...] = ()
    complete: bool = False

    def __call__(self, *arrays: Any, out: Any = None, **named: Any) -> Any:
        return self.executable(*arrays, out=out, **named)

    @property
    def lowered(self) -> Specialised:
        return self.executable.lowered

    @property
    def findings(self) -> tuple[Trial, ...]:
        """Trials that show a mistake of the compiler: please report them."""
        return tuple(t for t in self.trials if t.verdict.finding)

    def warn(self) -> None:
        """A RuntimeWarning where a plan gave another result: it was not kept, but one of two plans is wrong."""
        wrong = [t for t in self.trials if t.verdict is Verdict.WRONG]
        if wrong:
            shown = f"{len(wrong)} of the plans tried, such as {wrong[0].what}: {wrong[0].note}"
            name = self.lowered.program.name
            warnings.warn(f"{name} had another result with {shown}; please report it", RuntimeWarning, stacklevel=3)

    def __repr__(self) -> str:
        measured = sum(t.seconds is not None for t in self.trials) - 1
        tried = f"{measured} other plan{'' if measured == 1 else 's'} measured"
        won = f"{self.gain:.1%} less time than predicted" if self.plans else "the predicted plan is kept"
        wrong = f", {len(self.findings)} FINDINGS" if self.findings else ""
        return f"<Tuned {self.lowered.program.name}: {won}, {tried}{wrong}>"

    def __str__(self) -> str:
        return "\n".join([repr(self), table(self.trials), *map(str, self.remarks)])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """One line, and the trials as a table."""
        head = "".join(f"<th>{c}</th>" for c in _COLUMNS)
        rows = "".join(f"<tr>{''.join(f'<td>{escaped(c)}</td>' for c in _row(t))}</tr>" for t in self.trials)
        page = headed(repr(self), f"<table><tr>{head}</tr>{rows}</table>")
        return bundle({"text/plain": str(self), "text/html": page}, include, exclude)

    def to_json(self) -> dict[str, Any]:
        """What was found, with stable keys."""
        return {
            "schema": "polyhedral.tune/1",
            "program": self.lowered.program.name,
            "gain": self.gain,
            "changes": [{"statement": about(x), "what": str(x)} for x in self.plans.changes],
            "trials": [t.to_json() for t in self.trials],
            "complete": self.complete,
            "remarks": [str(r) for r in self.remarks],
        }


def table(trials: Sequence[Trial]) -> str:
    """The trials in columns."""
    rows = [_COLUMNS, *map(_row, trials)]
    widths = [max(len(r[n]) for r in rows) for n in range(len(_COLUMNS))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def _row(t: Trial) -> tuple[str, ...]:
    times = ("" if s is None else shown_seconds(s) for s in (t.seconds, t.spread, t.against))
    verdict = f"{t.verdict}: {t.note}" if t.note and t.verdict is not Verdict.FIRST else str(t.verdict)
    return (t.statement, t.what, "" if t.predicted is None else cycles(t.predicted), *times, verdict)
