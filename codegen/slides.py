# SPDX-License-Identifier: MIT
"""Slides: a vector that begins between two others that are loaded is made of both, in registers.

    X[x - 1 .. x + 14], X[x .. x + 15], X[x + 1 .. x + 16]    ->    two loads, and two slides by 1 and 2 lanes

Steps of a window along the lanes read the same cells again, each time from another lane on, and most of such loads lie
in two lines.  Which steps stand side by side is decided in `polyhedral.plans.written`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codegen.lanes import affine_index
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex

LEAST = 3
"""Vectors of one row from which on slides pay."""


@dataclass(frozen=True)
class Slide:
    """A vector as the lanes from `by` on of two that are loaded, of which so many lanes count."""

    first: ex.Expr
    valid: int
    then: ex.Expr
    more: int
    by: int


def slides(reads: Iterable[tuple[ex.Expr, str, int]], lanes: int) -> dict[ex.Expr, Slide]:
    """Operands that are to be made of others, given all that are read side by side, each along a lane of which so many
    values count.
    """
    rows: dict[tuple[ex.Expr, str, int], list[int]] = {}
    for e, lane, valid in dict.fromkeys(reads):
        start = _start(e, lane)
        if start is not None:
            rows.setdefault((_moved(e, lane, -start), lane, valid), []).append(start)
    found: dict[ex.Expr, Slide] = {}
    for (row, lane, valid), starts in rows.items():
        found |= _row(row, lane, valid, sorted(starts), lanes)
    return found


def _row(row: ex.Expr, lane: str, valid: int, starts: Sequence[int], lanes: int) -> dict[ex.Expr, Slide]:
    """The vectors of one row, made of those at every `lanes`-th cell from the first on."""
    places: dict[int, list[int]] = {}
    for start in starts:
        at = starts[0] + (start - starts[0]) // lanes * lanes
        places.setdefault(at, []).append(start - at)
    loaded = {x for at, by in places.items() for x in ((at, at + lanes) if max(by) else (at,))}
    if len(starts) < LEAST or len(loaded) >= len(starts):
        return {}
    found: dict[ex.Expr, Slide] = {}
    for at, every in places.items():
        reach = valid + max(every)
        first, then = _moved(row, lane, at), _moved(row, lane, at + lanes)
        for by in every:
            found[_moved(row, lane, at + by)] = Slide(first, min(reach, lanes), then, max(reach - lanes, 0), by)
    return found


def _start(e: ex.Expr, lane: str) -> int | None:
    """How far from its lane a load, guarded or not, reads along the one dim in which it moves by cells; else None."""
    load = e.then if isinstance(e, ex.Select) and isinstance(e.cond, ex.Test) else e
    if not isinstance(load, ex.Load):
        return None
    index = affine_index(load)
    moving = [i for _, i in index if lane in aff.dims_of(i)]
    if len(index) < len(load.index) or len(moving) != 1 or moving[0].coefficient(aff.Var(lane)) != 1:
        return None
    return moving[0].const


def _moved(e: ex.Expr, lane: str, cells: int) -> ex.Expr:
    return ex.substitute(e, {lane: aff.var(lane) + cells})
