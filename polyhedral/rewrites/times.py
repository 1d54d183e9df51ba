# SPDX-License-Identifier: MIT
"""Time: which dim of a recurrence, of its arrays and of those that read it later counts its steps.

    u(t=t + 1) = f(u)   du = g(du(t=t + 1), u)   dk = sum[t] du(t=t + 1) * h(u)         t of u, du; t of all three

Found by accesses alone: along a statement, a step stays what it is, up to a fixed distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.cluster import components
from polyhedral.ir.program import Array, Program, Role, Statement

SHORT = 8
"""Steps below which nothing is gained."""


class CannotCutError(Exception):
    """Why time is not cut."""


@dataclass
class Time:
    """Which dim of each array and of each statement is time; `first` are the arrays of the recurrence, in `again` those
    statements that read them later."""

    first: frozenset[str]
    dims: dict[str, str]
    steps: dict[str, str] = field(default_factory=dict[str, str])
    again: list[Statement] = field(default_factory=list[Statement])

    def at(self, s: Statement, array: str, index: Mapping[str, Affine | ex.Expr]) -> int | None:
        """How far an access is from the step of its statement; None where it is at a fixed time."""
        i = index[self.dims[array]]
        apart = i - aff.var(self.steps[s.name]) if isinstance(i, Affine) and s.name in self.steps else i
        if isinstance(apart, Affine) and apart.is_const:
            return apart.const if apart is not i else None
        if isinstance(i, Affine) and i.is_const:
            return None
        raise CannotCutError(f"{s.name} reads {array} at {i}, neither at a fixed time nor at a fixed distance")


def found(p: Program) -> Time | None:
    """The recurrence over most cells that has a time, and is read again at moving steps."""
    if any(s.ordered for s in p.statements):
        raise CannotCutError("memory is updated in the order of loops")
    arrays = [a.name for a in p.arrays if a.role is not Role.INOUT]
    edges = {(r.array, s.write.array) for s in p.statements for r in s.loads if {r.array, s.write.array} <= {*arrays}}
    best: tuple[int, Time] | None = None
    why: CannotCutError | None = None
    for group in components(arrays, edges):
        inside = frozenset(group)
        again = any((a, b) in edges for a in inside for b in inside)
        if not again or any(p.array(n).role is not Role.TEMPORARY for n in inside):
            continue
        try:
            time = next(filter(None, (_along(p, inside, group[0], d) for d in p.array(group[0]).dim_names)), None)
        except CannotCutError as error:
            why = error
            continue
        size = sum(_cells(p.array(n)) for n in inside)
        if time is not None and (best is None or size > best[0]):
            best = size, time
    if best is None and why is not None:
        raise why
    return None if best is None else best[1]


def _along(p: Program, inside: frozenset[str], array: str, dim: str) -> Time | None:
    """Time, if it runs along this dim of an array of the recurrence and someone reads its steps later."""
    time = Time(inside, {array: dim})
    if not (_spread(p, time) and _looks_back(p, time)):
        return None
    _later(p, time)
    return time if time.again else None


def _cells(a: Array) -> int:
    total = 1
    for _, e in a.dims:
        total *= max(e.const, 0) if e.is_const else 0
    return total


def _spread(p: Program, time: Time) -> bool:
    """Time of the whole recurrence, from that of one array: along a statement, a dim stays what it is."""
    while True:
        before = len(time.dims) + len(time.steps)
        for s in p.statements:
            if s.write.array in time.first and any(r.array in time.first for r in s.loads) and not _step(s, time):
                return False
        if len(time.dims) + len(time.steps) == before:
            writers = [s for s in p.statements if s.write.array in time.first]
            moving = [s for s in writers if s.name in time.steps]
            fixed = [s for s in writers if s.name not in time.steps]
            return (
                time.dims.keys() >= time.first
                and bool(moving)
                and not any(r.array in time.first for s in fixed for r in s.loads)
            )


def _step(s: Statement, time: Time) -> bool:
    """The dim of a statement that is time, by what it reads or writes, and then the dim of the array that it writes."""
    known = [dict(r.index)[time.dims[r.array]] for r in s.loads if r.array in time.dims]
    if s.write.array in time.dims:
        known.append(dict(s.write.index)[time.dims[s.write.array]])
    moving = {d for i in known if isinstance(i, Affine) for d in aff.dims_of(i)}
    if len(moving) > 1 or (moving and time.steps.setdefault(s.name, min(moving)) not in moving):
        return False
    if s.name in time.steps and s.write.array not in time.dims:
        along = [d for d, i in s.write.index if (i - aff.var(time.steps[s.name])).is_const]
        if len(along) == 1:
            time.dims[s.write.array] = along[0]
    return True


def _looks_back(p: Program, time: Time) -> bool:
    """Every step of the recurrence reads earlier steps, or others of its own."""
    for s in p.statements:
        if s.write.array in time.first and s.name in time.steps:
            wrote = time.at(s, s.write.array, dict(s.write.index))
            read = [time.at(s, r.array, dict(r.index)) for r in s.loads if r.array in time.first]
            if wrote is None or s.strict or any(c is None or c > wrote for c in read):
                return False
            steps = next(r for r in s.domain.ranges if r.dim == time.steps[s.name])
            if not (steps.lo.is_const and steps.hi.is_const and steps.hi.const - steps.lo.const >= SHORT):
                return False
    return True


def _later(p: Program, time: Time) -> None:
    """The statements that read steps of the recurrence, or of what is computed from it at each step."""
    while True:
        before = len(time.again)
        for s in p.statements:
            if s in time.again or s.write.array in time.first or not _moves(s, time):
                continue
            if not _step(s, time):
                raise CannotCutError(f"{s.name} reads several steps at once")
            time.again.append(s)
            a = p.array(s.write.array)
            if a.role is not Role.TEMPORARY and a.name in time.dims:
                del time.dims[a.name]  # what is returned stays whole
        if len(time.again) == before:
            return


def _moves(s: Statement, time: Time) -> bool:
    return any(
        not (isinstance(i, Affine) and i.is_const)
        for r in s.loads
        if r.array in time.dims
        for i in (dict(r.index)[time.dims[r.array]],)
    )
