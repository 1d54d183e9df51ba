# SPDX-License-Identifier: MIT
"""Segments of time: a recurrence that is read again later keeps some of its steps, and computes the others again.

    u(t=t + 1) = f(u)            F_0, u_1 = F_0(t=4), F_1, u_2 = F_1(t=4), ...      each F in a few planes
    v = g(v(t=t + 1), u)    ->   W_2 = u_2, f(W_2) ..., v_2 = g(v_2, W_2), W_1 = u_1, f(W_1) ..., v_1 = g(v_1, W_1), ...

Segments are statements of their own, whose arrays live one after another and so share memory: with as many segments as
each has steps, the square root of what storing every step takes, for one more run of the recurrence (Griewank & Walther
2000, with one level).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.cluster import components
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement, fresh, names
from polyhedral.rewrites.times import CannotCutError, Time, found

COMBINED = {"sum": "+", "prod": "*", "max": "max", "min": "min"}
"""How the parts of a reduction over time are put together."""


def in_segments(p: Program, count: int) -> tuple[Program, tuple[Remark, ...]]:
    """The program with its longest recurrence cut into `count` segments, where later statements read all its steps."""
    try:
        time = found(p)
        if time is None:
            return p, (Remark("no time is cut into segments", "no recurrence has steps that are read again later"),)
        cut = _Cut(p, time, count)
        made = cut.run()
    except CannotCutError as error:
        return p, (Remark("no time is cut into segments", str(error)),)
    what = f"{', '.join(sorted(time.first))} are computed again in {len(cut.bounds) - 1} segments of time"
    return made, (Remark(what, "all their steps take more memory than is allowed"),)


@dataclass
class _Cut:
    """One rewriting in progress; times are those of statements, and `reach` says how far around its step each array is
    written, and read at least and at most.
    """

    program: Program
    time: Time
    count: int
    taken: set[str] = field(default_factory=set[str])
    bounds: list[int] = field(default_factory=list[int])
    reach: dict[str, tuple[int, int, int]] = field(default_factory=dict[str, tuple[int, int, int]])
    arrays: list[Array] = field(default_factory=list[Array])
    statements: list[Statement] = field(default_factory=list[Statement])
    local: dict[tuple[str, int, bool], tuple[str, int]] = field(
        default_factory=dict[tuple[str, int, bool], tuple[str, int]]
    )
    kept: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict[tuple[str, int], tuple[str, int]])
    totals: dict[str, str] = field(default_factory=dict[str, str])

    def run(self) -> Program:
        """All statements, with the arrays of time replaced by those of segments."""
        p, time = self.program, self.time
        self.taken |= names(p)
        self._bounds()
        self.reach = {n: self._reach(n) for n in time.dims}
        last = len(self.bounds) - 2
        for k in range(last + 1):
            self._arrays(k, last)
        self.statements += [self._fixed(s) for s in p.statements if s.name not in time.steps]
        for k in range(last + 1):
            self._run(k, again=False)
        for k in reversed(range(last + 1)):
            if k < last:
                self._run(k, again=True)
            for n in sorted(time.dims.keys() - time.first):
                self._carry(n, k)
            for s in time.again:
                self._segment(s, k, again=True)
        for s in time.again:
            if s.name in self.totals:
                self._total(s)
        kept = tuple(a for a in p.arrays if a.name not in time.dims)
        return _ordered(replace(p, arrays=(*kept, *self.arrays), statements=tuple(self.statements)))

    def _arrays(self, k: int, last: int) -> None:
        """Those of one segment; the last is run once."""
        time = self.time
        self._declare(time.first, k, again=False)
        for n in sorted(time.first):
            if k or any(s.name not in time.steps for s in self.program.writers[n]):
                self._keep(n, k)
        if k < last:
            self._declare(time.first, k, again=True)
        else:
            self.local |= {(n, k, True): self.local[n, k, False] for n in time.first}
        self._declare(frozenset(time.dims) - time.first, k, again=True)

    def _bounds(self) -> None:
        ranges = {s.name: next(r for r in s.domain.ranges if r.dim == self.time.steps[s.name]) for s in self._moving()}
        if not all(r.lo.is_const and r.hi.is_const for r in ranges.values()):
            raise CannotCutError("the steps of some statement depend on other dims")
        own = [ranges[s.name] for s in self._moving() if s.write.array in self.time.first]
        lo, hi = min(r.lo.const for r in own), max(r.hi.const for r in own)
        inner = [lo + (hi - lo) * k // self.count for k in range(1, self.count)]
        first, end = min(r.lo.const for r in ranges.values()), max(r.hi.const for r in ranges.values())
        self.bounds = sorted({first, *inner, end})

    def _moving(self) -> Iterator[Statement]:
        return (s for s in self.program.statements if s.name in self.time.steps)

    def _reach(self, array: str) -> tuple[int, int, int]:
        """Where an array is written, and least and most where it is read, around the step of a statement."""
        time, p = self.time, self.program
        wrote = {time.at(s, array, dict(s.write.index)) for s in p.writers[array] if s.name in time.steps}
        read = [
            c
            for s in self._moving()
            for r in s.loads
            if r.array == array and (c := time.at(s, array, dict(r.index))) is not None
        ]
        (at,) = wrote if len(wrote) == 1 else (None,)
        short = min(b - a for a, b in pairwise(self.bounds))
        if at is None or max((abs(c - at) for c in read), default=0) >= short:
            raise CannotCutError(f"{array} is not written at one distance from its step, or read far from it")
        if array in time.first and any(c > at for c in read):
            raise CannotCutError(f"{array} is read ahead of the step that makes it")
        return at, min([at, *read]), max([at, *read])

    # arrays of a segment --------------------------------------------------------------------------------------------

    def _declare(self, arrays: frozenset[str], k: int, *, again: bool) -> None:
        for n in sorted(arrays):
            a, (_, low, high) = self.program.array(n), self.reach[n]
            d = self.time.dims[n]
            base = max(self.bounds[k] + low, 0)
            end = min(self.bounds[k + 1] + high, a.extent(d).const)
            name = fresh(f"{n}_{k}{'_again' if again and n in self.time.first else ''}", self.taken)
            dims = tuple((e, aff.const(end - base) if e == d else x) for e, x in a.dims)
            self.arrays.append(replace(a, name=name, dims=dims))
            self.local[n, k, again] = name, base

    def _keep(self, n: str, k: int) -> None:
        """What a segment begins with, in an array that lives until it is run again."""
        at, low, _ = self.reach[n]
        a, d = self.program.array(n), self.time.dims[n]
        if at == low:
            return
        name, base = fresh(f"{n}_at_{k}", self.taken), self.bounds[k] + low
        self.arrays.append(
            replace(a, name=name, dims=tuple((e, aff.const(at - low) if e == d else x) for e, x in a.dims))
        )
        self.kept[n, k] = name, base
        if k:
            for t in range(max(base, 0), base + at - low):
                self._copy(n, (name, base), self.local[n, k - 1, False], t)

    def _carry(self, n: str, k: int) -> None:
        """The cells that a segment reads of its neighbours."""
        at, _, _ = self.reach[n]
        name, base = self.local[n, k, True]
        array = next(a for a in self.arrays if a.name == name)
        for t in range(base, base + array.extent(self.time.dims[n]).const):
            owner = self._owner(t - at)
            if owner != k:
                self._copy(n, (name, base), self.local[n, owner, True], t)

    def _owner(self, step: int) -> int:
        return max((k for k in range(len(self.bounds) - 1) if self.bounds[k] <= step), default=0)

    def _copy(self, n: str, into: tuple[str, int], of: tuple[str, int], t: int) -> None:
        a, d = self.program.array(n), self.time.dims[n]
        box = tuple(Range(e, aff.const(0), x) for e, x in a.dims if e != d)

        def cell(base: int) -> tuple[tuple[str, Affine], ...]:
            return tuple((e, aff.const(t - base) if e == d else aff.var(e)) for e in a.dim_names)

        name = fresh(f"{into[0]}_from_{of[0]}", self.taken)
        value = ex.Load(of[0], cell(of[1]), a.dtype)
        self.statements.append(Statement(name, Domain(box), Access(into[0], cell(into[1])), value))

    # statements of a segment ----------------------------------------------------------------------------------------

    def _run(self, k: int, *, again: bool) -> None:
        """The recurrence within a segment, from what is kept of the step before it."""
        for n in sorted(self.time.first):
            if (n, k) in self.kept:
                at, low, _ = self.reach[n]
                for t in range(max(self.bounds[k] + low, 0), self.bounds[k] + at):
                    self._copy(n, self.local[n, k, again], self.kept[n, k], t)
        for s in self.program.statements:
            if s.write.array in self.time.first and s.name in self.time.steps:
                self._segment(s, k, again=again)

    def _segment(self, s: Statement, k: int, *, again: bool) -> None:
        q = self.time.steps[s.name]
        steps = next(r for r in s.domain.ranges if r.dim == q)
        lo, hi = max(steps.lo.const, self.bounds[k]), min(steps.hi.const, self.bounds[k + 1])
        if lo >= hi:
            return
        ranges = tuple(Range(q, aff.const(lo), aff.const(hi)) if r.dim == q else r for r in s.domain.ranges)
        write = s.write
        if write.array in self.time.dims:
            write = self._moved(write.array, dict(write.index), self.local[write.array, k, again])
        elif q not in {d for _, i in write.index for d in aff.dims_of(i)}:
            if s.op not in COMBINED or s.strict or s.accumulate:
                raise CannotCutError(f"{s.name} combines steps in a fixed order")
            write = replace(write, array=self._part(write.array, k))
        value = ex.rewrite(s.value, lambda e: self._read(s, e, k, again=again))
        name = fresh(f"{s.name}_{k}{'_again' if again and s.write.array in self.time.first else ''}", self.taken)
        self.statements.append(replace(s, name=name, domain=Domain(ranges, s.domain.guard), write=write, value=value))
        if s.write.array not in self.time.dims and write.array != s.write.array:
            self._add(s, write.array)

    def _part(self, array: str, k: int) -> str:
        part = fresh(f"{array}_{k}", self.taken)
        self.arrays.append(replace(self.program.array(array), name=part, role=Role.TEMPORARY))
        return part

    def _moved(self, n: str, index: Mapping[str, Affine | ex.Expr], to: tuple[str, int]) -> Access:
        d = self.time.dims[n]
        cells: list[tuple[str, Affine]] = []
        for e in self.program.array(n).dim_names:
            i = index[e]
            assert isinstance(i, Affine), "a cell is written at an affine index"
            cells.append((e, i - to[1] if e == d else i))
        return Access(to[0], tuple(cells))

    def _read(self, s: Statement, e: ex.Expr, k: int, *, again: bool) -> ex.Expr:
        if not isinstance(e, ex.Load) or e.array not in self.time.dims:
            return e
        if self.time.at(s, e.array, dict(e.index)) is None:
            return self._at_once(e)
        name, base = self.local[e.array, k, again]
        d = self.time.dims[e.array]
        return replace(
            e, array=name, index=tuple((x, i - base if x == d and isinstance(i, Affine) else i) for x, i in e.index)
        )

    def _at_once(self, e: ex.Load) -> ex.Load:
        """A read at a fixed time: of the segment to which that belongs, or of what the recurrence begins with."""
        d, at = self.time.dims[e.array], self.reach[e.array][0]
        i = dict(e.index)[d]
        assert isinstance(i, Affine)
        k = self._owner(i.const - at)
        name, base = self.local[e.array, k, e.array not in self.time.first]
        if i.const - at < self.bounds[0]:
            if (e.array, 0) not in self.kept:
                raise CannotCutError(f"{e.array} is read before its first step")
            name, base = self.kept[e.array, 0]
        return replace(e, array=name, index=tuple((x, aff.const(i.const - base) if x == d else j) for x, j in e.index))

    def _fixed(self, s: Statement) -> Statement:
        """A statement outside time, or one that says how the recurrence begins."""
        write = s.write
        if write.array in self.time.first:
            d = self.time.dims[write.array]
            at = dict(write.index)[d]
            to = self.kept.get((write.array, 0))
            if to is None or not at.is_const or not to[1] <= at.const < self.bounds[0] + self.reach[write.array][0]:
                raise CannotCutError(f"{s.name} defines {write.array} in the middle of time")
            write = self._moved(write.array, dict(write.index), to)
        value = ex.rewrite(
            s.value, lambda e: self._at_once(e) if isinstance(e, ex.Load) and e.array in self.time.dims else e
        )
        return replace(s, write=write, value=value)

    def _add(self, s: Statement, part: str) -> None:
        """A reduction over time is put together as its parts come, so that few of them live at once."""
        known = self.totals.get(s.name)
        if known is None:
            self.totals[s.name] = part
            return
        assert s.op is not None, "a part is one of a reduction"
        total, dtype = self._part(s.write.array, len(self.arrays)), self.program.array(s.write.array).dtype
        both = (ex.Load(n, s.write.index, dtype) for n in (known, part))
        write = replace(s.write, array=total)
        self.statements.append(
            replace(self._at_cells(s), name=total, write=write, value=ex.Binary(COMBINED[s.op], *both))
        )
        self.totals[s.name] = total

    def _total(self, s: Statement) -> None:
        value = ex.Load(self.totals[s.name], s.write.index, self.program.array(s.write.array).dtype)
        self.statements.append(replace(self._at_cells(s), value=value))

    def _at_cells(self, s: Statement) -> Statement:
        """A reduction's cells, without what it reduces."""
        kept = set(s.kept)
        ranges = tuple(r for r in s.domain.ranges if r.dim in kept)
        if any((aff.dims_of(r.lo) | aff.dims_of(r.hi)) - kept for r in ranges):
            raise CannotCutError(f"{s.name} has results whose ranges depend on what it reduces")
        guard = aff.both(*(c for c in aff.conjuncts(s.domain.guard) if aff.condition_dims(c) <= kept))
        return replace(s, domain=Domain(ranges, guard), op=None)


def _ordered(p: Program) -> Program:
    """Statements after what they read, otherwise as they are: segments one after another, so that they share memory.

    Those that touch memory keep their order.
    """
    memory = {a.name for a in p.with_role(Role.INOUT)}
    edges: set[tuple[str, str]] = set()
    for n in memory:
        edges |= {(a.name, b.name) for a, b in pairwise(p.users.get(n, ()))}
    for s in p.statements:
        edges |= {(w.name, s.name) for r in s.loads if r.array not in memory for w in p.writers.get(r.array, ())}
    order = [n for group in components([s.name for s in p.statements], edges) for n in group]
    return replace(p, statements=tuple(replace(p.statement(n), position=(k,)) for k, n in enumerate(order)))
