# SPDX-License-Identifier: MIT
"""What work and traffic cost, roughly and for any statement: cycles for its operations, and for bytes that move.

The cycles of one plan are found more exactly by `polyhedral.plans.cycles`; these decide what is not a plan's to decide.
"""

from __future__ import annotations

from polyhedral.ir import expr as ex
from polyhedral.machine.target import Target

BARRIER = 4000.0
"""Cycles that every core waits at the end of a loop nest of its own."""
SLOW = {"/": 8.0, "**": 24.0, "//": 8.0, "%": 8.0, "sqrt": 10.0, "muladd": 1.0}
CALL = 20.0
"""Multiply-adds that an operation takes: divisions, and functions that are called."""
LOAD = 0.25
"""Multiply-adds that go by while an operand is loaded, about: registers and tiles share them."""
TRANSPOSE, WOVEN = 2.5, 1.0
"""Cycles to move one cell of an array to another order: one by one, and in squares of vectors through registers."""
UNEVEN = 10.0
"""Cycles to move a cell whose place a division tells."""
KEPT = (0.5, 0.3)
"""The part of the second and of the last cache that one array may take and be found there by the next statement: other
arrays are touched between, and the last is shared with whatever else the machine does.
"""
FOLD = 24.0
"""Cycles to combine the lanes of one result."""


def rate(size: float, target: Target) -> float:
    """Bytes a cycle from where so many are kept between statements."""
    _, l2, l3 = target.near
    mine, shared = (part * held for part, held in zip(KEPT, (target.l2, target.l3), strict=True))
    return target.bytes_per_cycle if size > shared else l3 if size > mine else l2


def work(e: ex.Expr) -> float:
    """Multiply-adds that one evaluation takes, loads included."""
    return sum(_weight(n) for n in set(ex.walk(e)))


def dear(e: ex.Expr) -> float:
    """The part of its work that divisions, powers and functions take."""
    slow = (n for n in set(ex.walk(e)) if isinstance(n, (ex.Call, ex.Binary)))
    return sum(w for w in map(_weight, slow) if w > 1.0)


def _weight(n: ex.Expr) -> float:
    match n:
        case ex.Load():
            return LOAD
        case ex.Binary(op, _, _):
            return SLOW.get(op, 1.0)
        case ex.Call(fn, _) if fn in (*ex.PARTS, "conj"):
            return 1.0
        case ex.Call(fn, _):
            return SLOW.get(fn, CALL)
        case ex.Unary() | ex.Select() | ex.Cast():
            return 1.0
        case _:
            return 0.0
