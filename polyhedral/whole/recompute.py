# SPDX-License-Identifier: MIT
"""Materialise or recompute: which temporaries are worth the memory that they move.

Storing a value costs the bytes that are written and read back; recomputing it costs its operations at every use.  Votes
of capsules take two operations for each byte they would move and are not stored.  Between the two, statements that can
run block by block have a temporary of their own, which no cache of a core gives away: it is made once for each such
company.  The rewriting is left to `polyhedral.rewrites`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyhedral.errors import Remark
from polyhedral.ir import expr as ex
from polyhedral.ir.counts import array_bytes, instances
from polyhedral.ir.program import Program, Role
from polyhedral.machine.prices import BARRIER, LOAD, rate, work
from polyhedral.machine.target import Target
from polyhedral.plans.blocks import companies
from polyhedral.rewrites.clone import clone
from polyhedral.rewrites.inline import inlinable, inline
from polyhedral.whole.opened import opened

WORTH = 50_000
"""Cells from which on it is asked whether to store a temporary."""
GAIN = 0.9
"""What making a temporary block by block must take at most of what the better of the others takes: all three are
estimates, and that one binds more statements together.
"""


AGAIN = 1.3
"""What an operation takes where it is done at each use, over one that is done once: readers have fewer registers left
for their own tiles.
"""


@dataclass(frozen=True)
class Price:
    """Cycles of all cores for one temporary: to make it once, move it and read it; to make it at every use; or once for
    each company of its readers, in blocks.
    """

    stored: float
    recomputed: float
    apart: float


@dataclass(frozen=True)
class Recomputed:
    """A program, why, and its temporaries that are worth their memory only where they lie in that of a core."""

    program: Program
    remarks: tuple[Remark, ...] = ()
    apart: frozenset[str] = frozenset()


def recompute(p: Program, target: Target, worth: int = WORTH, *, never: frozenset[str] = frozenset()) -> Recomputed:
    """The program without the temporaries that cost more to move than to compute again, producers first; `never` are
    those that a company of statements could not have of its own after all.
    """
    p, said = opened(p, target, never)
    remarks = list(said)
    own: set[str] = set()
    for s in p.statements:
        name = s.write.array
        if p.array(name).role is not Role.TEMPORARY or instances(s, s.kept) < worth or inlinable(p, name):
            continue
        groups = companies(p, name, target) if array_bytes(p.array(name)) > target.l3 else ()
        near = {r.name for r in p.users[name]}
        cost = price(p, name, target, [len(g & near) for g in groups])
        either = f"storing {name} takes {cost.stored:.3g} cycles, recomputing it {cost.recomputed:.3g}"
        if cost.apart < GAIN * min(cost.recomputed, cost.stored):
            other, names = clone(p, name, groups)
            if cost.stored <= cost.recomputed and not never.isdisjoint(names):
                continue  # neither in blocks nor at each use
            p = other
            own |= {*names} - never
            why = f"{either}, making it block by block {cost.apart:.3g}"
            remarks.append(Remark(f"made {len(groups)} times, in blocks", why, s.name))
            for lost in (n for n in names if n in never):
                remarks.append(Remark("recomputed at each use", "its readers do not run in common blocks", lost))
                p = inline(p, lost)
        elif cost.recomputed < cost.stored:
            remarks.append(Remark("recomputed at each use", either, s.name))
            p = inline(p, name)
    return Recomputed(p, tuple(remarks), frozenset(own))


def price(p: Program, name: str, target: Target, companies: Sequence[int] = ()) -> Price:
    """What a temporary costs; the arithmetic of its readers is the same and left out.  `companies` are the numbers of
    readers that could have it of their own.
    """
    s = next(s for s in p.users[name] if s.write.array == name)
    readers = [r for r in p.users[name] if r is not s]
    lanes = target.lanes(ex.dtype_of(s.value).bits // 8)
    size = instances(s, s.kept) * p.array(name).dtype.numpy.itemsize
    once = instances(s) * work(s.value) / lanes / target.fma_per_cycle
    moved = (2 + len(readers)) * size / rate(size, target)
    used = sum(instances(r) for r in readers) / lanes
    again = AGAIN * used * work(s.value) * instances(s) / max(instances(s, s.kept), 1) / target.fma_per_cycle
    near = (len(companies) + sum(companies)) * size / target.near[1]
    apart = len(companies) * once + near + used * LOAD if companies else float("inf")
    return Price(once + BARRIER * target.cores + moved + used * LOAD, again, apart)
