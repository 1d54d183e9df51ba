# SPDX-License-Identifier: MIT
"""Rows: statements that a block of threads runs one after another, since each row of results needs rows alone.

    m(i) = max over k of X(i, k); s(i) = sum over k of exp(X - m); out(i, k) = exp(X - m) / s    ->    one kernel

A row is what the first reduction keeps.  What the others see of rows lies in memory that the block shares; the threads
of a team share out the other dims of each.  Whether that beats kernels of their own, prices say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from math import ceil, prod

from polyhedral.devices.plan import BlockPlan
from polyhedral.devices.prices import BlockPrice, price, rows_price
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Access, Domain, Program, Range, Role, Statement, reads
from polyhedral.machine.device import Device
from polyhedral.plans.epilogue import Groups

LONGEST = 8
"""Statements of one kernel at most."""


@dataclass(frozen=True)
class Rows:
    """Statements over the rows of the first, named as its kept dims are; of each the dim that its team shares out, if
    any is long enough; and the arrays that nothing else sees and a block has room for.
    """

    statements: tuple[Statement, ...]
    teams: tuple[str | None, ...]
    kept: tuple[str, ...]


def rows_of(
    p: Program, plans: Mapping[str, BlockPlan], layouts: Mapping[str, Layout], device: Device, held: Set[str]
) -> dict[str, Rows]:
    """For each leading reduction the statements that run with it; those that are `held` elsewhere stay there."""
    groups = Groups(p)
    found: dict[str, Rows] = {}
    gone = set(held)
    for name in sorted(plans, key=groups.rank.__getitem__):
        s = p.statement(name)
        if name in gone or not _leads(p, s, plans[name]):
            continue
        company = _Company(p, s, plans, groups, gone)
        company.gather()
        rows = company.rows(layouts, device)
        if len(company.members) > 1 and rows is not None and _pays(p, rows, plans, layouts, device):
            found[name] = rows
            gone |= {m.name for m in company.members}
            for m in company.members[1:]:
                groups.join(m.name, name)
    return found


def _leads(p: Program, s: Statement, plan: BlockPlan) -> bool:
    identity = {d for _, i in s.write.index if (d := i.as_var()) is not None} == set(s.kept)
    return plan.team is not None and bool(s.kept) and identity and _plain(p, s)


def _plain(p: Program, s: Statement) -> bool:
    """Whether a statement is over a box of known size from 0, in any order, and alone writes its array once."""
    box = all(r.lo == aff.const(0) and r.hi.is_const and r.hi.const > 0 for r in s.domain.ranges)
    free = box and s.domain.guard == TRUE and not (s.strict or s.accumulate or s.ordered)
    arrays = [p.array(n) for n in s.touched]
    once = sum(t.write.array == s.write.array for t in p.users[s.write.array]) == 1
    return free and once and not any(a.role is Role.INOUT or a.planes for a in arrays)


@dataclass
class _Company:
    """The statements so far, over the rows of the first, and the index of the array that each writes."""

    program: Program
    leader: Statement
    plans: Mapping[str, BlockPlan]
    groups: Groups
    gone: Set[str]
    members: list[Statement] = field(default_factory=list[Statement])
    index: dict[str, tuple[tuple[str, Affine], ...]] = field(default_factory=dict[str, tuple[tuple[str, Affine], ...]])

    def gather(self) -> None:
        self._take(self.leader)
        refused = {self.leader.name}
        while len(self.members) < LONGEST:
            waiting = [e for e in self._readers() if e.name not in refused]
            if not waiting:
                return
            e = min(waiting, key=self.groups.place)
            refused.add(e.name)
            own = self._renamed(e) if self._able(e) else None
            if own is not None:
                self._take(own)

    def _take(self, own: Statement) -> None:
        self.members.append(own)
        self.index[own.write.array] = own.write.index

    def _readers(self) -> Iterator[Statement]:
        return (e for array in self.index for e in self.program.users[array] if e.write.array != array)

    def _able(self, e: Statement) -> bool:
        plan = self.plans.get(e.name)
        if plan is None or plan.rows > 1 or e.name in self.gone or not _plain(self.program, e):
            return False
        if any(not isinstance(i, Affine) for load in reads(e) if load.array in self.index for _, i in load.index):
            return False
        return self._there(e)

    def _there(self, e: Statement) -> bool:
        """Whether all else that a statement reads is there before the first runs."""
        behind = {m.name for m in self.members}
        left = [w for load in reads(e) if load.array not in self.index for w in self.groups.writers(load.array)]
        seen = set[str]()
        while left:
            w = left.pop()
            if w.name in behind:
                return False
            if w.name not in seen:
                seen.add(w.name)
                left += [u for load in reads(w) for u in self.groups.writers(load.array)]
        return True

    def _renamed(self, e: Statement) -> Statement | None:
        """The statement with its rows named as the leader's; None where it reads others' rows."""
        rows, named = set(self.leader.kept), dict[str, str]()
        for load in reads(e):
            at = dict(load.index)
            for axis, mine in self.index.get(load.array, ()):
                there, here = mine.as_var(), at[axis]
                if there is None or there not in rows:
                    continue
                var = here.as_var() if isinstance(here, Affine) else None
                if var is None or named.setdefault(var, there) != there:
                    return None
        others = [d for d in e.dims if d not in named]
        if set(named.values()) != rows or len(named) != len(rows) or set(others) & rows or set(named) & set(e.reduced):
            return None
        extent = {r.dim: r.hi for r in self.leader.domain.ranges}
        own = {r.dim: r.hi for r in e.domain.ranges}
        written = {i.as_var() for _, i in e.write.index}
        reduction = e.op is not None and set(e.kept) != set(named)
        if any(own[d] != extent[r] for d, r in named.items()) or not set(named) <= written or reduction:
            return None
        at = {d: aff.var(r) for d, r in named.items()}
        write = Access(e.write.array, tuple((d, aff.substitute(i, at)) for d, i in e.write.index))
        ranges = [Range(named.get(r.dim, r.dim), r.lo, r.hi) for r in e.domain.ranges]
        ranges.sort(key=lambda r: r.dim not in rows)
        return replace(e, domain=Domain(tuple(ranges)), write=write, value=ex.substitute(e.value, at))

    def rows(self, layouts: Mapping[str, Layout], device: Device) -> Rows | None:
        """What a block keeps for its threads, as far as it has room beside what teams need."""
        plan = self.plans[self.leader.name]
        assert plan.team is not None
        names = {m.name for m in self.members}
        left = device.shared_block - plan.threads * 8 * len(self.members)
        kept: list[str] = []
        for array in self.index:
            a = self.program.array(array)
            own = {d: plan.cut(r).size for d, r in self._axes(array).items()}
            need = prod(min(own.get(d, e.const), e.const) for d, e in a.dims) * (a.dtype.bits // 8)
            if a.role is Role.TEMPORARY and {u.name for u in self.program.users[array]} <= names and need <= left:
                kept.append(array)
                left -= need
        teams = tuple(_shared_out(m, set(self.leader.kept), plan.team[1], layouts) for m in self.members)
        teams = (plan.team[0], *teams[1:])
        return Rows(tuple(self.members), teams, tuple(kept))

    def _axes(self, array: str) -> dict[str, str]:
        """The axes of an array along rows, and which."""
        rows = set(self.leader.kept)
        return {d: var for d, i in self.index[array] if (var := i.as_var()) is not None and var in rows}


def _shared_out(s: Statement, rows: Set[str], threads: int, layouts: Mapping[str, Layout]) -> str | None:
    """The dim that the threads of a team take, along which memory is densest."""

    def apart(d: str) -> float:
        total = 0.0
        for array, index in ((s.write.array, s.write.index), *((r.array, r.index) for r in reads(s))):
            for axis, i in index:
                stride = layouts[array].stride(axis)
                c = i.coefficient(aff.Var(d)) if isinstance(i, Affine) else 0
                total += abs(c) * (stride if isinstance(stride, int) else 1 << 20)
        return total

    able = [r.dim for r in s.domain.ranges if r.dim not in rows and r.hi.const >= threads]
    return min(able, key=apart, default=None)


def rows_cost(p: Program, rows: Rows, plan: BlockPlan, device: Device) -> BlockPrice:
    """What statements take that run one after another on rows."""
    size = {r.dim: r.hi.const for r in rows.statements[0].domain.ranges}
    blocks = prod(ceil(size[c.dim] / c.size) for c in plan.cuts)
    return rows_price(p, rows.statements, blocks, plan.threads, device)


def _pays(
    p: Program, rows: Rows, plans: Mapping[str, BlockPlan], layouts: Mapping[str, Layout], device: Device
) -> bool:
    apart = sum(price(p, p.statement(s.name), plans[s.name], layouts, device).whole for s in rows.statements)
    return rows_cost(p, rows, plans[rows.statements[0].name], device).whole <= apart
