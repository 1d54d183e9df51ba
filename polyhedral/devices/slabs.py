# SPDX-License-Identifier: MIT
"""Slabs of rows: what lies between kernels has memory for some rows, and the host starts the kernels for these.

    S(q, k) = ...; m(q) = max over k of S; P(q, k) = exp(S - m); out(q, e) = sum over k of P * V

    for q_slab < 8:        S, m, P and out of the rows 256*q_slab to 256*q_slab + 255, in memory that all slabs share

Where a temporary is larger than the cache of a device, and all that touches it does so row by row: the rows of a slab
are still in the cache when the next kernel reads them, and memory of the whole (scores of all positions with all) is
never asked for.  It costs starts of kernels.  A slab's rows are planned as a program of their own (`narrowed`), which
then gets the loop of the host (`widened`); that the order is kept, with cells that slabs share, is the oracle's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from polyhedral.devices.plan import Slab
from polyhedral.devices.prices import START
from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Floor
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.program import Array, Program, Role, Statement, fresh, reads
from polyhedral.machine.device import Device

SHARE = 0.75
"""Of the cache, what rows of a slab may take: operands are there too."""
LEAST = 16
"""Rows of a slab at least."""
LONGEST = 16
"""Statements of a slab at most."""


@dataclass(frozen=True)
class Company:
    """Statements that run row by row, with the dim of each that is along rows; the arrays between them, with the axis
    that is; and how many rows there are.
    """

    dims: Mapping[str, str]
    arrays: Mapping[str, str]
    rows: int


@dataclass(frozen=True)
class Slabs:
    """The companies of a program that run in slabs, and why; and why what is as large stays `whole`."""

    found: tuple[tuple[Company, Slab], ...] = ()
    remarks: tuple[Remark, ...] = ()
    whole: tuple[Remark, ...] = ()


def slabs_of(p: Program, device: Device, alone: Set[str]) -> Slabs:
    """Slabs for the temporaries that exceed the cache of a device, the largest first, among the statements `alone`
    that do not depend on themselves.
    """
    taken = {d for s in p.statements for d in s.dims} | set(p.sizes) | {a.name for a in p.arrays}
    found: list[tuple[Company, Slab]] = []
    remarks: list[Remark] = []
    whole: list[Remark] = []
    known = [a for a in p.with_role(Role.TEMPORARY) if all(e.is_const for _, e in a.dims)]
    for a in sorted(known, key=lambda a: -array_bytes(a)):
        gone = {n for company, _ in found for n in company.dims}
        if array_bytes(a) <= device.cache or any(s.name in gone for s in p.users.get(a.name, ())):
            continue
        made = _best(p, a, device, alone - gone, taken)
        if isinstance(made, str):
            whole.append(Remark(f"{a.name} is stored whole", made, p.writers[a.name][0].name))
            continue
        company, slab, why = made
        taken.add(slab.loop)
        found.append((company, slab))
        what = f"in {slab.count} slabs of {slab.size} rows, one after another"
        remarks.append(Remark(what, why, " and ".join(company.dims)))
    return Slabs(tuple(found), tuple(remarks), tuple(whole))


def _best(p: Program, a: Array, device: Device, alone: Set[str], taken: set[str]) -> tuple[Company, Slab, str] | str:
    """The company of an array along the axis where its rows are the most, and its slabs; or why there is none."""
    why: list[str] = []
    for axis, extent in sorted(a.dims, key=lambda x: -x[1].const):
        company = _company(p, a, axis, extent.const, alone)
        if company is None:
            continue
        size = _rows(p, company, device)
        if size is None:
            why.append(f"{company.rows} has no divisor, from {LEAST} on, so that rows of a slab stay in the cache")
            continue
        count = company.rows // size
        between = [p.array(n) for n in company.arrays]
        moved = sum(array_bytes(b) * len(p.users[b.name]) for b in between) / device.bandwidth
        starts = (count - 1) * len(company.dims) * START
        if starts > moved:
            why.append(f"{count} slabs take {starts:.3g} ns of further starts, and what they save {moved:.3g}")
            continue
        loop = fresh(f"{company.dims[p.writers[a.name][0].name]}_slab", {*taken})
        slab = Slab(loop, count, size, _ordered(p, company.dims), tuple(company.arrays.items()))
        whole = sum(map(array_bytes, between))
        return company, slab, f"that keeps {whole / count:.3g} bytes between kernels, and not {whole:.3g}"
    return why[0] if why else "not all that touch it do so row by row"


def _rows(p: Program, company: Company, device: Device) -> int | None:
    """The longest slab whose rows stay in the cache."""
    row = sum(array_bytes(p.array(n)) for n in company.arrays) / company.rows
    able = (n for n in range(company.rows // 2, LEAST - 1, -1) if company.rows % n == 0)
    return next((n for n in able if n * row <= SHARE * device.cache), None)


# --- who runs row by row ---------------------------------------------------------------------------------------------


@dataclass
class _Search:
    """Statements and arrays that have joined so far, from an array along an axis on; those that were refused are not
    asked again: each would be, from every array that can be reached on several ways.
    """

    program: Program
    rows: int
    alone: Set[str]
    dims: dict[str, str] = field(default_factory=dict[str, str])
    arrays: dict[str, str] = field(default_factory=dict[str, str])
    refused: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def joins(self, array: str, axis: str) -> bool:
        """Whether an array, and all that touches it, runs by rows along an axis; what was found stays if it does."""
        if (array, axis) in self.refused:
            return False
        before = dict(self.dims), dict(self.arrays)
        self.arrays[array] = axis
        if all(self._statement(s, array, axis) for s in self.program.users[array]):
            return True
        self.dims, self.arrays = before
        self.refused.add((array, axis))
        return False

    def _statement(self, s: Statement, array: str, axis: str) -> bool:
        dim = _dim_along(s, array, axis)
        if dim is None or self.dims.get(s.name, dim) != dim or not self._able(s, dim):
            return False
        if s.name in self.dims:
            return True
        self.dims[s.name] = dim
        for name in s.touched:
            own = _axis_along(s, name, dim)
            if self.program.array(name).role is Role.TEMPORARY and name not in self.arrays and own is not None:
                self.joins(name, own)  # else it is stored whole
        return len(self.dims) <= LONGEST

    def _able(self, s: Statement, dim: str) -> bool:
        """Whether a statement may run for some of its rows at a time."""
        p = self.program
        ranges = {r.dim: r for r in s.domain.ranges}
        whole = ranges[dim].lo == aff.const(0) and ranges[dim].hi == aff.const(self.rows)
        mentioned = any(dim in aff.dims_of(e) for r in s.domain.ranges for e in (r.lo, r.hi))
        written = [i for _, i in s.write.index if dim in aff.dims_of(i)]
        fixed = s.ordered or s.accumulate or s.name not in self.alone or len(p.writers[s.write.array]) > 1
        memory = any(p.array(n).role is Role.INOUT or p.array(n).planes for n in s.touched)
        plain = all(
            isinstance(i, Affine) and not any(dim in _inside(t) for t, _ in i.terms if isinstance(t, Floor))
            for load in reads(s)
            for _, i in load.index
        )
        own = [i.as_var() for i in written] == [dim]
        return whole and own and plain and not (mentioned or fixed or memory)


def _inside(floor: Floor) -> frozenset[str]:
    return aff.dims_of(floor.arg)


def _dim_along(s: Statement, array: str, axis: str) -> str | None:
    """The dim at which a statement touches an array along an axis, if it is one everywhere and nowhere else there."""
    at = [dict(load.index)[axis] for load in reads(s) if load.array == array]
    at += [dict(s.write.index)[axis]] if s.write.array == array else []
    found = {i.as_var() if isinstance(i, Affine) else None for i in at}
    return next(iter(found)) if len(found) == 1 else None


def _axis_along(s: Statement, array: str, dim: str) -> str | None:
    """The axis of an array along which a statement touches it by a dim."""
    axes = [d for d, _ in s.write.index] if array == s.write.array else []
    axes = axes or [d for load in reads(s) if load.array == array for d, _ in load.index]
    return next((d for d in axes if _dim_along(s, array, d) == dim), None)


def _company(p: Program, a: Array, axis: str, rows: int, alone: Set[str]) -> Company | None:
    """All that runs row by row with an array, if what it makes is read by none of it in other rows, and nothing else
    stands between.
    """
    search = _Search(p, rows, alone)
    if not search.joins(a.name, axis) or len(search.dims) < 2:
        return None
    found = Company(search.dims, search.arrays, rows)
    made = {p.statement(n).write.array: n for n in found.dims}
    for name, dim in found.dims.items():
        for load in reads(p.statement(name)):
            if load.array in made and load.array not in found.arrays:
                writer = p.statement(made[load.array])
                own = next(d for d, i in writer.write.index if i.as_var() == found.dims[writer.name])
                if _dim_along(p.statement(name), load.array, own) != dim:
                    return None
    return None if _between(p, set(found.dims)) else found


def _between(p: Program, members: Set[str]) -> bool:
    """Whether a statement that is none of them needs what they make, and makes what they need."""
    after = _reached(p, members, forward=True)
    return bool((after & _reached(p, members, forward=False)) - members)


def _reached(p: Program, start: Set[str], *, forward: bool) -> set[str]:
    seen: set[str] = set()
    left = list(start)
    while left:
        s = p.statement(left.pop())
        if forward:
            found = [t.name for t in p.users[s.write.array] if any(r.array == s.write.array for r in reads(t))]
        else:
            found = [w.name for r in reads(s) for w in p.writers.get(r.array, ())]
        new = set(found) - seen
        seen |= new
        left += new
    return seen


def _ordered(p: Program, members: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(s.name for s in p.statements if s.name in members)
