# SPDX-License-Identifier: MIT
"""What a Program means: plain Python and NumPy, no integer sets, slow on purpose.

Updates of `inout` arrays run in the order of their positions; every other array is a system of equations, evaluated in
rounds, whatever the order of the text.  Speed is the business of everything else in this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from polyhedral.errors import ArgumentError, DomainError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.evaluate import Cell, Evaluator, Rows, column, combiner, rows
from polyhedral.ir.memory import Memory, canonical_axes, infer_sizes, memory_of, ordered_axes
from polyhedral.ir.program import Domain, Program, Role, Statement, reads, require_program

Trace = Callable[[str, dict[str, int], tuple[Cell, ...], Cell], None]
"""Receives (statement, point, cells read, cell written) for each instance, in the order of execution."""
Record = tuple[str, dict[str, int], tuple[Cell, ...], Cell]


def run(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    sizes: Mapping[str, int] | None = None,
    dim_order: Mapping[str, Sequence[str]] | None = None,
    trace: Trace | list[Record] | None = None,
) -> dict[str, np.ndarray]:
    """The outputs and updated `inout` arrays of a program.

    Axes are in the order of `Array.dims`, or in the order that `dim_order` gives for an array.  Sizes are read off the
    shapes where an extent is a single size; the others are given in `sizes`.  Reductions run in lexicographic order in
    the value's type, so that `strict` code can be compared bit by bit.  Arithmetic on f16, bf16 and f8 is done in f32
    and rounded after each operation; integers wrap; `//` and `%` are floored.  With `accumulate`, the read of the
    written cell itself is not listed in the trace.
    """
    require_program(program, "ph.interpret")
    if not isinstance(cast("object", inputs), Mapping):
        names = ", ".join(f"'{a.name}': ..." for a in program.with_role(Role.INPUT, Role.INOUT))
        raise ArgumentError(
            "PH045",
            f"ph.interpret wants the arguments by name, not a {type(inputs).__name__}",
            hints=(f"ph.interpret(program, {{{names}}})",),
        )
    order = dict(dim_order or {})
    given = {
        a.name: canonical_axes(a, np.asarray(inputs[a.name]), order.get(a.name))
        for a in program.with_role(Role.INPUT, Role.INOUT)
        if a.name in inputs
    }
    machine = _executed(program, given, sizes, trace)
    machine.returned()
    memory = machine.memory
    return {
        a.name: ordered_axes(a, memory.values[a.name].reshape(memory.shapes[a.name]), order.get(a.name))
        for a in program.with_role(Role.OUTPUT, Role.INOUT)
    }


def evaluated(program: Program, given: Mapping[str, np.ndarray], sizes: Mapping[str, int] | None = None) -> Memory:
    """All that a program's arrays hold in the end; axes of `given` are in the order of `Array.dims`."""
    return _executed(program, given, sizes, None).memory


def _executed(
    program: Program,
    given: Mapping[str, np.ndarray],
    sizes: Mapping[str, int] | None,
    trace: Trace | list[Record] | None,
) -> _Machine:
    known = infer_sizes(program, {n: v.shape for n, v in given.items()}, sizes)
    with np.errstate(all="ignore"):
        machine = _Machine(program, memory_of(program, given, known), trace)
        machine.execute()
    return machine


def cell_domain(s: Statement) -> Domain:
    """The instances seen from the written cells: the ranges that these need and the guards free of reduced dims.

    A cell of this domain without any instance is an empty reduction and gets the operator's identity (rule R6).
    """
    hidden = set(s.reduced)
    if not hidden:
        return s.domain
    needed: set[str] = set()
    for r in reversed(s.domain.ranges):
        if r.dim not in hidden or r.dim in needed:
            needed |= {r.dim} | aff.dims_of(r.lo) | aff.dims_of(r.hi)
    parts = aff.conjuncts(s.domain.guard)
    guard = aff.both(*(c for c in parts if not aff.condition_dims(c) & hidden))
    return Domain(tuple(r for r in s.domain.ranges if r.dim in needed), guard)


# --- statements ------------------------------------------------------------------------------------------------------

_Time = tuple[float, ...]


@dataclass
class _Equation:
    """A statement of a single-assignment array: its instances, the cell of each, and which have still to run."""

    statement: Statement
    rows: Rows
    cells: np.ndarray
    pending: np.ndarray
    seen: int = -1


@dataclass(frozen=True)
class _Event:
    """What an ordered statement does at one time: instances to run, and cells that a reduction resets first."""

    time: _Time
    statement: Statement
    rows: Rows
    reset: Rows


@dataclass
class _Machine:
    """One run; `version` counts the definitions made."""

    program: Program
    memory: Memory
    trace: Trace | list[Record] | None
    version: int = 0
    equations: list[_Equation] = field(default_factory=list[_Equation])
    timed: dict[str, _Equation] = field(default_factory=dict[str, _Equation])

    def execute(self) -> None:
        """Settle the equations, then run the updates in order, settling again after each new definition."""
        inout = {a.name for a in self.program.with_role(Role.INOUT)}
        events: list[_Event] = []
        for s in self.program.statements:
            updates = s.write.array in inout
            if updates or any(r.array in inout for r in reads(s)):
                events += self.schedule(s, updates)
            if not updates:
                q = self.prepare(s)
                if any(r.array in inout for r in reads(s)):
                    self.timed[s.name] = q
                else:
                    self.equations.append(q)
        self.settle()
        for event in sorted(events, key=lambda e: e.time):
            before = self.version
            if event.statement.name in self.timed:
                self.evaluate_now(self.timed[event.statement.name], event.rows.ids)
            else:
                self.update(event)
            if self.version != before:
                self.settle()
        stuck = next((q for q in self.equations if q.pending.any()), None)
        if stuck is not None:
            raise self.stuck(stuck.statement, stuck.rows.at(np.flatnonzero(stuck.pending)))

    def returned(self) -> None:
        """Every cell of an output is defined."""
        for a in self.program.with_role(Role.OUTPUT):
            left = np.flatnonzero(~self.memory.defined[a.name])
            if len(left):
                raise DomainError(
                    "PH120",
                    f"{self.show(a.name, int(left[0]))} is returned but no statement defines it",
                    hints=("add an equation for these cells",),
                    sizes=self.memory.sizes,
                )

    # --- equations

    def prepare(self, s: Statement) -> _Equation:
        """All instances are pending; cells of empty reductions are defined at once."""
        if s.accumulate:
            raise DomainError(
                "PH121",
                f"{s.name} accumulates into {s.write.array}, which is not inout",
                hints=("make it inout, or add up in one equation",),
                statement=s.name,
            )
        evaluator = Evaluator(self.memory, s)
        every = rows(s.domain, self.memory.sizes)
        cells = evaluator.cells(every)
        if s.op is None:
            self.once(s, cells)
        else:
            outer = evaluator.cells(rows(cell_domain(s), self.memory.sizes))
            self.define(s, np.setdiff1d(outer, cells), ex.identity(s.op, ex.dtype_of(s.value)).value)
        return _Equation(s, every, cells, np.ones(len(every), bool))

    def once(self, s: Statement, cells: np.ndarray) -> None:
        distinct, count = np.unique(cells, return_counts=True)
        if len(distinct) != len(cells):
            raise self.twice(s, int(distinct[count > 1][0]))

    def define(self, s: Statement, cells: np.ndarray, value: object) -> None:
        if not len(cells):
            return
        defined = self.memory.defined[s.write.array]
        again = np.flatnonzero(defined[cells])
        if len(again):
            raise self.twice(s, int(cells[again[0]]))
        self.memory.values[s.write.array][cells] = value
        defined[cells] = True
        self.version += 1

    def settle(self) -> None:
        """Run equations in rounds until nothing more can run."""
        while True:
            before = self.version
            for q in self.equations:
                if q.seen != self.version and q.pending.any():
                    q.seen = self.version
                    self.advance(q, np.flatnonzero(q.pending))
            if self.version == before:
                return

    def evaluate_now(self, q: _Equation, ids: np.ndarray) -> None:
        """Run all these instances, in rounds, while memory stands still."""
        while len(left := ids[q.pending[ids]]):
            before = self.version
            self.advance(q, left)
            self.settle()
            if self.version == before:
                raise self.stuck(q.statement, q.rows.at(left))

    def advance(self, q: _Equation, ids: np.ndarray) -> None:
        """Run those of the instances whose reads are all defined; a reduction waits for all instances of a cell."""
        s, now, cells = q.statement, q.rows.at(ids), q.cells[ids]
        value, ready, log = self.value(s, now)
        if s.op is not None:
            ready = ~np.isin(cells, cells[~ready])
        if not ready.any():
            return
        if s.op is None:
            self.define(s, cells[ready], value[ready])
        else:
            found, inverse = np.unique(cells[ready], return_inverse=True)
            result = np.full(len(found), ex.identity(s.op, ex.dtype_of(s.value)).value, dtype=value.dtype)
            combiner(s.op).at(result, inverse, value[ready])
            self.define(s, found, result)
        q.pending[ids[ready]] = False
        self.report(s, now, np.flatnonzero(ready), log)

    # --- updates

    def schedule(self, s: Statement, updates: bool) -> Iterator[_Event]:
        """The events of an ordered statement.

        A reduction that runs over an ordered dim resets its cells before the first value of that dim.
        """
        every = rows(s.domain, self.memory.sizes)
        groups = _by_time(s, every, ())
        outer, resets = every, {}
        if updates and s.op is not None and not s.accumulate:
            outer = rows(cell_domain(s), self.memory.sizes)
            resets = _by_time(s, outer, s.reduced)
        nothing = np.zeros(0, np.int64)
        for time in {**groups, **resets}:
            yield _Event(time, s, every.at(groups.get(time, nothing)), outer.at(resets.get(time, nothing)))

    def update(self, event: _Event) -> None:
        """All reads, then all writes."""
        s, now = event.statement, event.rows
        target, evaluator = self.memory.values[s.write.array], Evaluator(self.memory, s)
        value, ready, log = self.value(s, now)
        if not ready.all():
            raise self.stuck(s, now.at(np.flatnonzero(~ready)))
        if s.op is None:
            target[evaluator.cells(now)] = value
        else:
            target[evaluator.cells(event.reset)] = ex.identity(s.op, ex.dtype_of(s.value)).value
            combiner(s.op).at(target, evaluator.cells(now), value)
        self.report(s, now, np.arange(len(now)), log)

    def value(self, s: Statement, now: Rows) -> tuple[np.ndarray, np.ndarray, list[list[Cell]]]:
        """(value, ready, cells read) of the instances; the cells only when there is a trace."""
        ids = now.ids if self.trace is not None else ()
        log: list[list[Cell]] = [[] for _ in ids]
        place = {int(i): k for k, i in enumerate(ids)}

        def keep(array: str, some: Rows, index: list[np.ndarray], ok: np.ndarray) -> None:
            for k in np.flatnonzero(ok):
                log[place[int(some.ids[k])]].append((array, tuple(int(i[k]) for i in index)))

        evaluator = Evaluator(self.memory, s, keep if self.trace is not None else None)
        return *evaluator.value(s.value, now), log

    # --- reports

    def report(self, s: Statement, now: Rows, which: np.ndarray, log: list[list[Cell]]) -> None:
        if self.trace is None:
            return
        index = Evaluator(self.memory, s).written(now)
        for k in map(int, which):
            record = (s.name, now.point(k), tuple(log[k]), (s.write.array, tuple(int(c[k]) for c in index)))
            if callable(self.trace):
                self.trace(*record)
            else:
                self.trace.append(record)

    def show(self, array: str, cell: int | tuple[int, ...]) -> str:
        index = np.unravel_index(cell, self.memory.shapes[array]) if isinstance(cell, int) else cell
        inner = ", ".join(f"{d}={i}" for d, i in zip(self.program.array(array).dim_names, index, strict=True))
        return f"{array}({inner})" if inner else array

    def twice(self, s: Statement, cell: int) -> DomainError:
        others = [q.name for q in self.program.statements if q.write.array == s.write.array and q.name != s.name]
        return DomainError(
            "PH121",
            f"{self.show(s.write.array, cell)} is defined twice, by {' and '.join([s.name, *others])}",
            hints=("make the domains of the equations disjoint",),
            statement=s.name,
            sizes=self.memory.sizes,
            location=s.location,
        )

    def missing(self, s: Statement, now: Rows) -> tuple[dict[str, int], Cell]:
        """The first undefined cell that one of these instances reads, with the reader."""
        found: list[tuple[dict[str, int], Cell]] = []

        def keep(array: str, some: Rows, index: list[np.ndarray], ok: np.ndarray) -> None:
            for k in np.flatnonzero(ok):
                cell = tuple(int(i[k]) for i in index)
                if (
                    array in self.memory.defined
                    and not self.memory.defined[array].reshape(self.memory.shapes[array])[cell]
                ):
                    found.append((some.point(int(k)), (array, cell)))

        Evaluator(self.memory, s, keep).value(s.value, now.at(np.arange(len(now))))
        return found[0]

    def writer(self, cell: Cell) -> tuple[Statement, Rows] | None:
        """The pending equation that would define a cell, and its instances for that cell."""
        for q in (*self.equations, *self.timed.values()):
            if q.statement.write.array == cell[0]:
                hit = q.pending.copy()
                for (_, i), c in zip(q.statement.write.index, cell[1], strict=True):
                    hit &= column(i, q.rows.env, self.memory.sizes, len(q.rows)) == c
                if hit.any():
                    return q.statement, q.rows.at(np.flatnonzero(hit))
        return None

    def stuck(self, s: Statement, now: Rows) -> DomainError:
        """Why instances cannot run: a cell that nothing defines (PH120) or a circle of definitions (PH122)."""
        chain: list[Cell] = []
        while True:
            reader, cell = self.missing(s, now)
            shown = self.show(*cell)
            if cell in chain:
                circle = " <- ".join(self.show(*c) for c in (*chain[chain.index(cell) :], cell))
                what, code, hint = f"{shown} is defined by itself", "PH122", "break the circle of definitions"
                return DomainError(code, what, details=(circle,), hints=(hint,), statement=s.name, location=s.location)
            chain.append(cell)
            found = self.writer(cell)
            if found is None:
                at = ", ".join(f"{d}={v}" for d, v in reader.items())
                return DomainError(
                    "PH120",
                    f"{shown} is read by {s.name}{f' at ({at})' if at else ''} but no statement defines it",
                    hints=("add a border equation or ph.orelse(expr, fallback)",),
                    statement=s.name,
                    point=reader,
                    sizes=self.memory.sizes,
                    location=s.location,
                )
            s, now = found


def _by_time(s: Statement, every: Rows, before: Iterable[str]) -> dict[_Time, np.ndarray]:
    """Instances grouped by the value of their position; a dim in `before` counts as earlier than all its values."""
    hidden = set(before)
    groups: dict[_Time, list[int]] = {}
    for k in range(len(every)):
        time = tuple(
            p if isinstance(p, int) else -math.inf if p in hidden else int(every.env[p][k]) for p in s.position
        )
        groups.setdefault(time, []).append(k)
    return {t: np.array(ks) for t, ks in groups.items()}
