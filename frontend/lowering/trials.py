# SPDX-License-Identifier: MIT
"""Trials: what a search changed, what that was predicted and measured to take, and what became of it; as JSON too.

Data alone: `frontend.tuning.tune` makes it, `frontend.lowering.tunings` keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, cast

from frontend.environment.options import LAYOUTS
from frontend.lowering.given import SCHEMA
from polyhedral.plans.preferences import Change, Lying, Preferences, Preferred, Together

_KINDS = {Preferred: "plan", Together: "blocks", Lying: "layouts"}
"""What a change is called in JSON."""


class Verdict(StrEnum):
    """What became of a trial."""

    FIRST = "the predicted plan"
    KEPT = "kept"
    SLOWER = "slower"
    NOISE = "no gain beyond the noise"
    SAME = "the same code as before"
    FAILED = "failed"
    STOPPED = "the C compiler was stopped"
    WRONG = "another result"
    BEGUN = "begun, then killed or crashed"
    OTHER = "planned otherwise"

    @property
    def finding(self) -> bool:
        """Whether it shows a mistake of the compiler."""
        return self in (Verdict.FAILED, Verdict.WRONG, Verdict.BEGUN)


@dataclass(frozen=True)
class Trial:
    """One change tried, None for the predicted plans: of which statement, in words, the cycles that all that is planned
    is predicted to take with it, the median of seconds a call and their spread, and the median of what it was measured
    against in the same turns; None where it was not measured.
    """

    statement: str
    what: str
    change: Change | None
    predicted: float | None
    verdict: Verdict
    seconds: float | None = None
    spread: float | None = None
    against: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        change = None if self.change is None else {"kind": _KINDS[type(self.change)], **asdict(self.change)}
        return {**asdict(self), "verdict": self.verdict.name, "change": change}


def about(change: Change) -> str | None:
    """The statements that a change is about; None for the whole program."""
    match change:
        case Preferred():
            return change.statement
        case Together():
            return " and ".join(change.members)
        case Lying():
            return None


@dataclass(frozen=True)
class Record:
    """What a search found: the plans, the share of time that they save, and all trials.  `complete` says that nothing
    was left to try.
    """

    program: str
    date: str
    plans: Preferences
    gain: float
    trials: tuple[Trial, ...]
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        trials = [t.to_json() for t in self.trials]
        return {"schema": SCHEMA, **asdict(self), "trials": trials}


def record_of(value: object) -> Record | None:
    """The record that a JSON value states, or None: a file may hold anything."""
    try:
        found = _object(value)
        if found["schema"] != SCHEMA:
            return None
        trials = tuple(_trial(_object(t)) for t in _list(found["trials"]))
        complete = found["complete"] is True
        plans, gain = _preferences(found["plans"]), _number(found["gain"])
        return Record(_text(found["program"]), _text(found["date"]), plans, gain, trials, complete)
    except (KeyError, TypeError, ValueError):
        return None


def _trial(t: Mapping[str, object]) -> Trial:
    seconds, spread, against = (None if t[n] is None else _number(t[n]) for n in ("seconds", "spread", "against"))
    change = None if t["change"] is None else _change(_object(t["change"]))
    predicted = None if t["predicted"] is None else _number(t["predicted"])
    named = _text(t["statement"]), _text(t["what"]), change, predicted
    return Trial(*named, Verdict[_text(t["verdict"])], seconds, spread, against, _text(t["note"]))


def _preferences(value: object) -> Preferences:
    found = _object(value)
    plans = tuple(_plan(_object(x)) for x in _list(found["plans"]))
    blocks = tuple(_together(_object(x)) for x in _list(found["blocks"]))
    return Preferences(plans, blocks, None if found["layouts"] is None else _lying(_object(found["layouts"])))


def _change(x: Mapping[str, object]) -> Change:
    kind = _text(x["kind"])
    return _plan(x) if kind == "plan" else _together(x) if kind == "blocks" else _lying(x)


def _together(x: Mapping[str, object]) -> Together:
    if type(x["blocked"]) is not bool:
        raise TypeError("neither true nor false")
    return Together(_texts(x["members"]), x["blocked"])


def _lying(x: Mapping[str, object]) -> Lying:
    if x["how"] not in LAYOUTS:
        raise ValueError("no way to choose layouts")
    return Lying(_text(x["how"]))


def _plan(x: Mapping[str, object]) -> Preferred:
    return Preferred(
        statement=_text(x["statement"]),
        whole=_texts(x["whole"]),
        vector=_text(x["vector"]),
        width=_whole(x["width"]),
        rows=_counts(x["rows"]),
        order=_texts(x["order"]),
        loops=_counts(x["loops"]),
        written=_texts(x["written"]),
        relaid=tuple((_text(a), _text(d), _whole(n)) for a, d, n in map(_list, _list(x["relaid"]))),
    )


def _counts(value: object) -> tuple[tuple[str, int], ...]:
    return tuple((_text(d), _whole(n)) for d, n in map(_list, _list(value)))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return cast("Mapping[str, object]", value)


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return cast("Sequence[object]", value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float):
        raise TypeError("not a number")
    return float(cast("float", value))
