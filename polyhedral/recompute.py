# SPDX-License-Identifier: MIT
"""Materialise or recompute: which temporaries are worth the memory that they move.

Storing a value costs the bytes that are written and read back; recomputing it costs its operations at every use.  Votes
of capsules take two operations for each byte they would move and are not stored.  The rewriting is left to
`polyhedral.rewrites.inline`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import Affine, And, Compare
from polyhedral.errors import Remark
from polyhedral.program import Program, Role, Statement, reads
from polyhedral.rewrites.inline import inlinable, inline
from polyhedral.target import Target

WORTH = 50_000
"""Cells from which on it is asked whether to store a temporary."""
SIZE = 128
"""What a size that is only known at a call is taken for."""
BARRIER = 4000.0
"""Cycles that every core waits at the end of a loop nest of its own."""
SLOW = {"/": 8.0, "**": 24.0, "//": 8.0, "%": 8.0, "sqrt": 10.0, "muladd": 1.0}
CALL = 20.0
"""Multiply-adds that an operation takes: divisions, and functions that are called."""
LOAD = 0.25


@dataclass(frozen=True)
class Price:
    """Cycles of all cores for one temporary: to make it once, move it and read it, or to make it at every use."""

    stored: float
    recomputed: float


def recompute(p: Program, target: Target, worth: int = WORTH) -> tuple[Program, tuple[Remark, ...]]:
    """The program without the temporaries that cost more to move than to compute again, producers first."""
    remarks: list[Remark] = []
    for s in p.statements:
        name = s.write.array
        if p.array(name).role is not Role.TEMPORARY or instances(s, s.kept) < worth or inlinable(p, name):
            continue
        cost = price(p, name, target)
        if cost.recomputed < cost.stored:
            remarks.append(
                Remark(
                    "recomputed at each use",
                    f"storing {name} takes {cost.stored:.3g} cycles, recomputing it {cost.recomputed:.3g}",
                    s.name,
                )
            )
            p = inline(p, name)
    return p, tuple(remarks)


def price(p: Program, name: str, target: Target) -> Price:
    """What a temporary costs either way; the arithmetic of its readers is the same and left out."""
    s = next(s for s in p.statements if s.write.array == name)
    readers = [r for r in p.statements if any(load.array == name for load in reads(r))]
    lanes = target.lanes(ex.dtype_of(s.value).bits // 8)
    size = instances(s, s.kept) * p.array(name).dtype.numpy.itemsize
    once = instances(s) * work(s.value) / lanes / target.fma_per_cycle
    moved = (2 + len(readers)) * size / _rate(size, target)
    used = sum(instances(r) for r in readers) / lanes
    again = used * work(s.value) * instances(s) / max(instances(s, s.kept), 1) / target.fma_per_cycle
    return Price(once + BARRIER * target.cores + moved + used * LOAD, again)


def _rate(size: float, target: Target) -> float:
    """Bytes a cycle from where so many are kept between statements."""
    _, l2, l3 = target.near
    return target.bytes_per_cycle if 2 * size > target.l3 else l3 if 2 * size > target.l2 else l2


def work(e: ex.Expr) -> float:
    """Multiply-adds that one evaluation takes, loads included."""
    return sum(_weight(n) for n in set(ex.walk(e)))


def _weight(n: ex.Expr) -> float:
    match n:
        case ex.Load():
            return LOAD
        case ex.Binary(op, _, _):
            return SLOW.get(op, 1.0)
        case ex.Call(fn, _):
            return SLOW.get(fn, CALL)
        case ex.Unary() | ex.Select() | ex.Cast():
            return 1.0
        case _:
            return 0.0


def instances(s: Statement, dims: tuple[str, ...] | None = None) -> float:
    """About how many instances a statement has, or how many values its `dims` take; each equation of the guard fixes
    one dim.
    """
    extents = {r.dim: _extent(r.hi - r.lo) for r in s.domain.ranges if dims is None or r.dim in dims}
    parts = s.domain.guard.args if isinstance(s.domain.guard, And) else (s.domain.guard,)
    for e in (c.expr for c in parts if isinstance(c, Compare) and c.equal):
        fixed = [d for d in aff.dims_of(e) if extents.get(d, 1) > 1]
        if fixed and aff.dims_of(e) <= extents.keys():
            extents[max(fixed, key=lambda d: extents[d])] = 1
    return float(prod(extents.values()))


def _extent(span: Affine) -> int:
    return max(span.const, 0) if span.is_const else SIZE
