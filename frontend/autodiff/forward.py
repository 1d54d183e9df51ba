# SPDX-License-Identifier: MIT
"""Forward mode: the tangent of every array on the way from what moves to the outputs, statement by statement.

    Y(o, y) = sum[c, k] X(c=c, y=2*y + k) * W(o=o, c=c, k=k)
    tY(o, y) = sum[c, k] tX(c=c, y=2*y + k) * W(o=o, c=c, k=k) + X(c=c, y=2*y + k) * tW(o=o, c=c, k=k)

A tangent is read and written where its array is, over the same domain: no access is inverted.  Shares nothing with
`reverse` but the rules of scalar operators and of reductions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from frontend.autodiff.active import active, flow, smooth_reads
from frontend.autodiff.naming import fresh
from frontend.autodiff.reductions import Reduced, others, winner
from polyhedral.errors import Location, Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.derivatives import add, cast, constant, gradients, selected, times
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement


@dataclass(frozen=True)
class Moved:
    """What moves along which tangents, and the outputs whose changes are wanted: pairs of arrays."""

    outputs: tuple[tuple[str, str], ...]
    by: Mapping[str, str]
    held: frozenset[str] = frozenset()
    location: Location | None = None


@dataclass
class Forward:
    """One differentiation in progress."""

    program: Program
    wanted: Moved
    taken: set[str]
    through: frozenset[str] = frozenset()
    arrays: dict[str, Array] = field(default_factory=dict[str, Array])
    statements: list[Statement] = field(default_factory=list[Statement])
    remarks: list[Remark] = field(default_factory=list[Remark])
    tangents: dict[str, Array] = field(default_factory=dict[str, Array])
    reduced: dict[str, Reduced] = field(default_factory=dict[str, Reduced])

    def run(self) -> None:
        """Define every result."""
        f = flow(self.program, self.wanted.held)
        for name in self.wanted.by:
            self.through |= active(f, [o for o, _ in self.wanted.outputs], name, self.wanted.location)
        for a in self.program.arrays:
            if a.name in self.through:
                self._define(a)
        for output, result in self.wanted.outputs:
            if output not in self.tangents or self.tangents[output].name != result:
                self._result(output, result)

    def _writers(self, name: str) -> tuple[Statement, ...]:
        """The statements through which something flows into an array: all of them, or none."""
        every = () if name in self.wanted.held else self.program.writers.get(name, ())
        return every if any(r.array in self.through for s in every for r in smooth_reads(s)) else ()

    def _define(self, a: Array) -> None:
        """The tangent of one array: what it is given, what flows into it, or the sum of both."""
        writers = self._writers(a.name)
        total, given = self._tangent(a.name), self.wanted.by.get(a.name)
        if total.name == given:
            return
        into = total if given is None else self._new(replace(a, name=fresh(f"{total.name}_flow", self.taken)))
        for n, s in enumerate(writers):
            name = into.name if n == 0 else fresh(into.name, self.taken)
            self.statements.append(self._moved(s, name, into))
        if given is not None:
            parts = [self._read(t, {d: aff.var(d) for d in a.dim_names}) for t in (into, self.program.array(given))]
            self._store(total, a, add(*parts))

    def _tangent(self, name: str) -> Array:
        """Where the tangent of an array lies, which may have been given or promised."""
        if name not in self.tangents:
            given = self.wanted.by.get(name)
            promised = next((r for o, r in self.wanted.outputs if o == name), None)
            if given is not None and not self._writers(name):
                self.tangents[name] = self.program.array(given)
            elif promised is not None:
                self.tangents[name] = self.program.array(promised)
            else:
                a = self.program.array(name)
                self.tangents[name] = self._new(replace(a, name=fresh(f"t{name}", self.taken)))
        return self.tangents[name]

    def _new(self, a: Array) -> Array:
        self.arrays[a.name] = replace(a, role=Role.TEMPORARY, data=None)
        return self.arrays[a.name]

    def _moved(self, s: Statement, name: str, into: Array) -> Statement:
        """A statement's tangent: that of its value, passed through the reduction, in the cell that it writes."""
        value = self._value(s)
        at = dict(s.write.index)
        write = Access(into.name, tuple((d, at[d]) for d in into.dim_names))
        if s.op is None or s.op == "sum":
            return replace(s, name=name, write=write, value=value)
        if s.name not in self.reduced:
            made = (winner if s.op in ("max", "min") else others)(self.program, s, self.taken)
            self.reduced[s.name] = made
            self.arrays[made.array.name] = made.array
            self.statements.append(made.statement)
            self.remarks += made.remarks
        return replace(s, name=name, write=write, value=self.reduced[s.name].share(s, value), op="sum")

    def _value(self, s: Statement) -> Expr:
        """How the value changes: over all loads, its derivative by each times the tangent of what is read."""
        dtype = ex.dtype_of(s.value)
        total: Expr | None = None
        for load, terms in gradients(s.value, constant(1.0, dtype)).items():
            if load.array not in self.through:
                continue
            moved = self._read(self._tangent(load.array), dict(load.index))
            for path, slope in terms.items():
                change = times(slope, cast(moved, ex.dtype_of(slope)))
                part = cast(selected(path, change), dtype)
                total = part if total is None else add(total, part)
        return constant(0.0, dtype) if total is None else total

    def _read(self, tangent: Array, index: Mapping[str, aff.Affine | Expr]) -> ex.Load:
        return ex.Load(tangent.name, tuple((d, index[d]) for d in tangent.dim_names), tangent.dtype)

    def _result(self, output: str, result: str) -> None:
        """A result that no statement has written yet: what its output is given, or nothing."""
        a = self.program.array(output)
        at = {d: aff.var(d) for d in a.dim_names}
        known = self.tangents.get(output)
        self._store(self.program.array(result), a, constant(0.0, a.dtype) if known is None else self._read(known, at))

    def _store(self, into: Array, a: Array, value: Expr) -> None:
        """One statement over all cells of an array."""
        box = Domain(tuple(Range(d, aff.const(0), e) for d, e in a.dims))
        write = Access(into.name, tuple((d, aff.var(d)) for d in into.dim_names))
        self.statements.append(Statement(into.name, box, write, value, location=self.wanted.location))
