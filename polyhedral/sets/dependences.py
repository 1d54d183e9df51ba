# SPDX-License-Identifier: MIT
"""Dependences between statement instances, as the scheduler needs them.

Single-assignment arrays order a write before its readers; memory (`inout`) keeps the order of positions for every pair
with a write; the updates of one reduction are relaxed: serialised, in any order.  Because reductions are relaxed,
dependences are memory-based: with last-writer flow alone a reader could run on half-finished sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import islpy as isl

from polyhedral.ir.program import Program
from polyhedral.sets.instances import Family, Kind, Reference, is_memory, references
from polyhedral.sets.isl_schedule import Frame, union_map


class Why(Enum):
    """What makes one instance wait for another."""

    FLOW = "flow"
    ANTI = "anti"
    OUTPUT = "output"
    INIT = "init"
    RELAXED = "relaxed"


@dataclass(frozen=True, eq=False)
class Dependence:
    """Pairs source -> sink that meet in a cell of `array`."""

    why: Why
    source: Family
    sink: Family
    array: str
    relation: isl.Map

    @property
    def carried(self) -> bool:
        return self.source.statement.name == self.sink.statement.name

    def distances(self) -> tuple[tuple[str, int | None, int | None], ...]:
        """For a self-dependence: (dim, least, greatest) of sink minus source; None where unbounded."""
        if self.source.dims != self.sink.dims:
            return ()
        m = self.relation.set_tuple_name(isl.dim_type.out, self.relation.get_tuple_name(isl.dim_type.in_))
        deltas = m.deltas().project_out_all_params()
        return tuple((d, *_ends(deltas, i)) for i, d in enumerate(self.source.dims))

    def __str__(self) -> str:
        shown = ", ".join(
            f"{d}: {lo}" if lo == hi else f"{d}: {'-inf' if lo is None else lo}..{'inf' if hi is None else hi}"
            for d, lo, hi in self.distances()
        )
        return f"{self.why.value} {self.source.shown} -> {self.sink.shown} through {self.array}" + (
            f" ({shown})" if shown else ""
        )


def _ends(s: isl.Set, i: int) -> tuple[int | None, int | None]:
    one = s.project_out(isl.dim_type.set, i + 1, s.dim(isl.dim_type.set) - i - 1).project_out(isl.dim_type.set, 0, i)
    low, high = one.dim_min_val(0), one.dim_max_val(0)
    return (low.to_python() if low.is_int() else None), (high.to_python() if high.is_int() else None)


@dataclass(frozen=True, eq=False)
class Dependences:
    """All of them, and the three unions that isl's scheduler asks for."""

    all: tuple[Dependence, ...]

    @property
    def validity(self) -> isl.UnionMap:
        return union_map([d.relation for d in self.all if d.why is not Why.RELAXED])

    @property
    def coincidence(self) -> isl.UnionMap:
        return union_map([d.relation for d in self.all])

    @property
    def proximity(self) -> isl.UnionMap:
        return union_map([d.relation for d in self.all if d.why in (Why.FLOW, Why.INIT)])

    @cached_property
    def edges(self) -> frozenset[tuple[str, str]]:
        """Statement pairs (source, sink) with a dependence that fixes an order."""
        return frozenset((d.source.statement.name, d.sink.statement.name) for d in self.all if self._orders(d))

    @staticmethod
    def _orders(d: Dependence) -> bool:
        return d.why is not Why.RELAXED and d.why is not Why.INIT


def analyse(fr: Frame) -> Dependences:
    """The dependences of a program."""
    refs = [r for f in fr.families for r in references(f)]
    relations = {id(r): fr.access(r) for r in refs}
    by_array: dict[str, list[Reference]] = {}
    for r in refs:
        by_array.setdefault(r.array, []).append(r)
    found: list[Dependence] = []
    for array in fr.program.arrays:
        here = by_array.get(array.name, [])
        for a in here:
            for b in here:
                if a.writes or b.writes:
                    found += _between(fr, a, b, relations[id(a)], relations[id(b)])
                if b.writes and array.planes:
                    later = relations[id(a)].apply_range(fr.next_planes(array.name))
                    meet = later.apply_range(relations[id(b)].reverse())
                    if not meet.is_empty():
                        why = Why.OUTPUT if a.writes else Why.ANTI
                        found.append(Dependence(why, a.family, b.family, array.name, meet.coalesce()))
    return Dependences(tuple(found))


def _between(fr: Frame, a: Reference, b: Reference, ma: isl.Map, mb: isl.Map) -> Iterator[Dependence]:
    why = _why(fr.program, a, b)
    if why is None:
        return
    meet = ma.apply_range(mb.reverse())
    strict = why is Why.OUTPUT and a.family == b.family and a.family.kind is Kind.UPDATE
    if why in (Why.FLOW, Why.ANTI, Why.OUTPUT) and is_memory(fr.program, a.array):
        before = fr.before(a.family, b.family)
        if strict:
            before = before.union(fr.beside(a.family, b.family).intersect(_lexicographic(meet)))
        meet = meet.intersect(before)
    if why is Why.INIT and is_memory(fr.program, a.array):
        meet = meet.intersect(fr.before(a.family, b.family).union(fr.beside(a.family, b.family)))
    if strict and not is_memory(fr.program, a.array):
        meet = meet.intersect(_lexicographic(meet))
    if not meet.is_empty():
        yield Dependence(why, a.family, b.family, a.array, meet.coalesce())


def _why(p: Program, a: Reference, b: Reference) -> Why | None:
    """The kind of order that a (first) imposes on b, before looking at instances."""
    same = a.family.statement.name == b.family.statement.name
    if a.writes and b.writes and same and Kind.UPDATE is b.family.kind:
        if a.family.kind is Kind.INIT:
            return Why.INIT
        return Why.OUTPUT if a.family.statement.strict else Why.RELAXED
    if is_memory(p, a.array):
        return Why.OUTPUT if a.writes and b.writes else Why.FLOW if a.writes else Why.ANTI
    return Why.FLOW if a.writes and not b.writes else None


def _lexicographic(like: isl.Map) -> isl.Map:
    """Strict reductions: the order of their dims (those that the result has are mostly equal, being the cell)."""
    return isl.Map.lex_lt(like.get_space().domain())
