# SPDX-License-Identifier: MIT
"""Materialise or recompute: which temporaries are worth the memory that they move.

Storing a value costs the bytes that are written and read back; recomputing it costs its operations at every use.  Votes
of capsules take two operations for each byte they would move and are not stored.  The rewriting is left to
`polyhedral.rewrites.inline`.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyhedral import expr as ex
from polyhedral.errors import Remark
from polyhedral.prices import BARRIER, LOAD, instances, rate, work
from polyhedral.program import Program, Role
from polyhedral.rewrites.inline import inlinable, inline
from polyhedral.target import Target

WORTH = 50_000
"""Cells from which on it is asked whether to store a temporary."""


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
    s = next(s for s in p.users[name] if s.write.array == name)
    readers = [r for r in p.users[name] if r is not s]
    lanes = target.lanes(ex.dtype_of(s.value).bits // 8)
    size = instances(s, s.kept) * p.array(name).dtype.numpy.itemsize
    once = instances(s) * work(s.value) / lanes / target.fma_per_cycle
    moved = (2 + len(readers)) * size / rate(size, target)
    used = sum(instances(r) for r in readers) / lanes
    again = used * work(s.value) * instances(s) / max(instances(s, s.kept), 1) / target.fma_per_cycle
    return Price(once + BARRIER * target.cores + moved + used * LOAD, again)
