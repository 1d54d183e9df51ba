# SPDX-License-Identifier: MIT
"""Schedules as files: what `show --stage schedule --format json` writes is read back, judged, and used.

The tree as data is `polyhedral.text.trees`', whether it is legal `polyhedral.questions.proposed`'.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from polyhedral.errors import ArgumentError
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Tree
from polyhedral.pipeline import Scheduled
from polyhedral.questions.proposed import accepted
from polyhedral.text.printer import to_text
from polyhedral.text.trees import data_of, tree_of

SCHEMA = "polyhedral.show/1"
LIMIT = 16 << 20
"""Letters of a file at most."""
SHOWN = 8
"""Lines in which a program differs that are shown."""
_HINT = "polyhedral show TARGET --stage schedule --format json -o FILE writes one"


@dataclass(frozen=True)
class Saved:
    """A schedule that was read: for which program, as its text, at which sizes, and the tree as data."""

    program: str
    text: str
    sizes: Mapping[str, int]
    tree: Any


def to_data(program: Program, sizes: Mapping[str, int], scheduled: Scheduled, tree: Tree) -> dict[str, Any]:
    """What a file says besides other stages: the program whose statements the tree orders, and the tree."""
    return {
        "schema": SCHEMA,
        "program": program.name,
        "sizes": dict(sizes),
        "text": to_text(program),
        "stages": {"schedule": data_of(tree, scheduled.analyzed.frame.families)},
    }


def read(text: str) -> Saved:
    """A schedule from the text of a file.  ArgumentError PH405 where it holds none."""
    if len(text) > LIMIT:
        raise _none(f"it has more than {LIMIT} letters")
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _none(f"it is no JSON: {error}") from None
    data = _object(value)
    stages = _object(data.get("stages"))
    if data.get("schema") != SCHEMA or "schedule" not in stages:
        raise _none("it has no stage 'schedule'")
    name, own, sizes = data.get("program"), data.get("text"), data.get("sizes")
    if not (isinstance(name, str) and isinstance(own, str) and isinstance(sizes, dict)):
        raise _none("it does not say of which program, and at which sizes")
    numbers = {n: v for n, v in _object(cast("object", sizes)).items() if type(v) is int and v >= 0}
    if len(numbers) != len(cast("Mapping[str, object]", sizes)):
        raise _none("its sizes are no numbers")
    return Saved(name, own, numbers, stages["schedule"])


def _object(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _none(why: str) -> ArgumentError:
    return ArgumentError("PH405", f"this is no schedule that can be read: {why}", hints=(_HINT,))


def taken(saved: Saved, scheduled: Scheduled) -> Tree:
    """The tree, once it belongs to the program and the oracle accepts it; errors as of `proposed.accepted`."""
    program = scheduled.analyzed.program
    own = to_text(program)
    if saved.text != own:
        raise _foreign(saved, program.name, own)
    try:
        tree = tree_of(saved.tree, scheduled.analyzed.frame.families, program.sizes)
    except RecursionError:
        raise _none("it is too deep") from None
    return accepted(scheduled.analyzed, scheduled.schedule.tree, tree)


def _foreign(saved: Saved, name: str, own: str) -> ArgumentError:
    """PH404: the statements that the schedule orders are not those of the program, line by line."""
    lines = [
        line
        for line in difflib.unified_diff(saved.text.splitlines(), own.splitlines(), "file", "program", lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    more = (f"... {len(lines) - SHOWN} more",) if len(lines) > SHOWN else ()
    return ArgumentError(
        "PH404",
        f"the schedule is for {saved.program}, whose statements are not those of {name} here (- file, + program)",
        details=(*lines[:SHOWN], *more),
        hints=(
            "the same sizes, types, threads, options and machine make the same statements",
            f"{_HINT} here",
        ),
    )
