# SPDX-License-Identifier: MIT
"""Scratch: the memory of temporaries, held against the oracle and against what a caller allows.

Where they lie is planned in `polyhedral.whole.storage`; the memory itself comes from `frontend.arrays.memory`.
"""

from __future__ import annotations

from collections.abc import Mapping

from frontend.units import readable
from polyhedral.errors import ArgumentError, InternalError
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Tree
from polyhedral.oracle.sharing import Conflict, conflict, together
from polyhedral.whole.storage import Placement, Sharing, shortage


def judge(p: Program, tree: Tree, shared: Sharing) -> None:
    """InternalError where temporaries that may share memory are needed at once."""
    _refuse(p, together(p, tree, shared))


def judged(p: Program, tree: Tree, placement: Placement, sizes: Mapping[str, int]) -> Placement:
    """The placement itself, once the oracle has found no two temporaries in each other's way."""
    _refuse(p, conflict(p, tree, placement, sizes))
    return placement


def require_memory(p: Program, placement: Placement, budget: int | None) -> None:
    """ArgumentError PH320 where the temporaries need more than is allowed, with the least that they can do with."""
    short = shortage(placement, budget)
    if short is None:
        return
    fullest = sorted(placement.fullest(), key=lambda s: -s.size)
    shown = ", ".join(f"{s.array} ({readable(s.size)})" for s in fullest[:6])
    more = f" and {len(fullest) - 6} more" if len(fullest) > 6 else ""
    exact = "this program can do with" if placement.peak == placement.least else "was found for this program"
    raise ArgumentError(
        "PH320",
        f"the intermediate results of {p.name} need {placement.peak} bytes; memory={short.budget} allows fewer",
        details=(
            f"needed at once: {shown}{more}, {readable(placement.least)} together",
            f"without sharing memory they would take {readable(placement.apart)}",
        ),
        hints=(
            f"memory={placement.peak} is the least that {exact}",
            "smaller sizes, or fewer values kept with ph.let",
        ),
    )


def _refuse(p: Program, found: Conflict | None) -> None:
    if found is not None:
        raise InternalError("PH999", f"temporaries of {p.name} lie in each other's way: {found}")
