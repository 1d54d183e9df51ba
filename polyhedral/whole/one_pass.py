# SPDX-License-Identifier: MIT
"""Long rows in one pass over tiles, where they would leave the caches between a maximum and the sums relative to it.

A block of rows of scores that fits the second cache is best reduced whole: nothing is rescaled.  A few rows of 32 768
scores do not fit; tiles of them do, for partial results that are stored and combined.  The law is left to
`polyhedral.rewrites.relative`, the rewriting to `polyhedral.rewrites.online`, and common loops to
`polyhedral.plans.blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from polyhedral.errors import Remark
from polyhedral.ir import expr as ex
from polyhedral.ir.counts import array_bytes, instances
from polyhedral.ir.program import Array, Program, Role, Statement
from polyhedral.machine.prices import rate, work
from polyhedral.machine.target import Target
from polyhedral.plans.block_loops import LEAST, room
from polyhedral.rewrites.online import Online, online
from polyhedral.rewrites.relative import Family, family
from polyhedral.rewrites.tiled import held

WORTH = 50_000
"""Instances of a maximum from which on it is asked."""
ROWS = 32
"""Rows of a block that a tile leaves room for: what is read with them is then used so often."""
SHORTEST = 64
"""Elements of the shortest tile: shorter ones leave too many partial results."""
GAIN = 0.9
"""What one pass must take at most of the cycles for what moves: both are estimates."""


@dataclass(frozen=True)
class _Tiling:
    """A program in one pass over tiles along a dim, and the cycles for what moves before and after."""

    program: Program
    dim: str
    size: int
    before: float
    after: float
    near: frozenset[str]


@dataclass(frozen=True)
class OnePass:
    """A program, why, and its temporaries in tiles, which pay only where they lie in memory of a core."""

    program: Program
    remarks: tuple[Remark, ...] = ()
    near: frozenset[str] = frozenset()


def one_pass(p: Program, target: Target, worth: int = WORTH, *, whole: bool = False) -> OnePass:
    """The program with every family of sums relative to a maximum in tiles, where that moves less; none where rows are
    to stay `whole` after all.
    """
    remarks: list[Remark] = []
    near: set[str] = set()
    for s in p.statements:
        if s.op not in ("max", "min") or instances(s) < worth or p.sizes:
            continue
        f = family(p, s.name)
        if f is None:
            continue
        found = _tiled(p, f, target)
        if isinstance(found, str):
            remarks.append(Remark("not in one pass over tiles", found, s.name))
            continue
        if whole:
            because = "its tiles would not run in common blocks"
            remarks.append(Remark("not in one pass over tiles", because, s.name))
            continue
        p = found.program
        near |= found.near
        price = f"what moves takes {found.after:.3g} cycles, with whole rows {found.before:.3g}"
        about = " and ".join((s.name, *(r.statement.name for r in f.sums)))
        remarks.append(Remark(f"in one pass over tiles of {found.size} along {found.dim}", price, about))
    return OnePass(p, tuple(remarks), frozenset(near))


def _tiled(p: Program, f: Family, target: Target) -> _Tiling | str:
    """One pass along the longest dim, or why not."""
    top = f.maximum
    extents = {r.dim: r.hi.const for r in top.domain.ranges}
    dim = max(top.reduced, key=lambda d: extents[d])
    rows = prod(extents[d] for d in top.kept)
    q = f.program
    aligned = {r.statement.name: r.statement for r in f.sums}
    members = dict.fromkeys((top.name, *aligned), dim)
    own = held(_with(q, aligned), members, frozenset(top.kept)).arrays
    if not own:
        return "nothing of its rows' length is stored"
    values = [q.array(n) for n in own]
    exponentials = instances(top) * ex.dtype_of(top.value).bits / 8
    row = (sum(map(array_bytes, values)) + exponentials) / rows
    if min(rows, LEAST) * row <= room(target):
        return "its rows stay in the second cache"
    most = int(room(target) / (min(rows, ROWS) * row / extents[dim]))
    size = next((n for n in range(min(most, extents[dim] // 2), SHORTEST - 1, -1) if extents[dim] % n == 0), None)
    if size is None:
        return f"{dim} has no divisor between {SHORTEST} and {most}"
    made = online(f, dim, size)
    if made is None:
        return "its guard hides which tiles have terms"
    between = [a for a in p.with_role(Role.TEMPORARY) if a.name in own or a not in q.arrays]
    before = sum(_moved(p, a, target) for a in between)
    after = _left(made, target) + sum(_moved(p, a, target, near=True) for a in values)
    after += 3 * exponentials / target.near[1]
    if after >= GAIN * before:
        return "that moves no less"
    return _Tiling(made.program, dim, size, before, after, frozenset(own))


def _with(p: Program, statements: dict[str, Statement]) -> Program:
    """The program with other statements of the same names."""
    return replace(p, statements=tuple(statements.get(s.name, s) for s in p.statements))


def _moved(p: Program, a: Array, target: Target, *, near: bool = False) -> float:
    """Cycles to store an array and read it as often as it has readers."""
    size = array_bytes(a)
    return len(p.users[a.name]) * size / (target.near[1] if near else rate(size, target))


def _left(made: Online, target: Target) -> float:
    """Cycles to store partial results, and to combine them."""
    p = made.program
    moved = sum(_moved(p, p.array(n), target) for n in made.partial)
    combined = map(p.statement, made.combined)
    return moved + sum(instances(s) * work(s.value) for s in combined) / target.fma_per_cycle
