# SPDX-License-Identifier: MIT
"""Which index computed from data left its array: the read, the line, a point, and the values that the index takes.

A kernel says no more than the number of a statement, so that checking an index costs a comparison.  Here the indices in
question are evaluated again, by the interpreter, on the arguments of the call; how much that may take is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polyhedral.errors import BoundsError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.counts import instances
from polyhedral.ir.evaluate import Evaluator, rows
from polyhedral.ir.interpreter import evaluated
from polyhedral.ir.memory import Memory
from polyhedral.ir.program import Domain, Program, Role, Statement, reads, specialise
from polyhedral.ir.reach import reach, same_index
from polyhedral.text.printer import value_text

MOST = 2_000_000
"""Instances that are evaluated again at most: a second or two."""
_WIDE = 64
"""Padding that is wider is no remedy."""
Data = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Gather:
    """A read of `statement` whose index along `dim` is data, and the choices that lead there."""

    statement: Statement
    load: ex.Load
    dim: str
    index: ex.Expr
    choices: tuple[tuple[ex.Expr, bool], ...]

    @property
    def name(self) -> str:
        return f"{self.load.array}.{self.dim}"

    @property
    def shown(self) -> str:
        return value_text(self.index, self.statement.dims).replace("`", "")

    @property
    def access(self) -> str:
        return f"{self.load.array}({self.dim}={self.shown})"

    @property
    def needed(self) -> frozenset[str]:
        """The arrays that the index and the choices are computed from."""
        parts = (self.index, *(c for c, _ in self.choices))
        return frozenset(load.array for e in parts for load in ex.loads(e))

    @property
    def domain(self) -> Domain:
        """The instances, as far as the index and the choices can tell them apart."""
        own = self.statement.domain
        dims = aff.condition_dims(own.guard).union(ex.dims_of(self.index), *(ex.dims_of(c) for c, _ in self.choices))
        for r in reversed(own.ranges):
            dims |= aff.dims_of(r.lo) | aff.dims_of(r.hi) if r.dim in dims else frozenset[str]()
        return Domain(tuple(r for r in own.ranges if r.dim in dims), own.guard)


def fault(p: Program, sizes: Mapping[str, int], given: Data, left: Data, statement: Statement) -> BoundsError:
    """PH103 for the first read of `p` that leaves its array; of `statement`, the kernel's, where that takes too long.

    `given` has the arguments that the call left as they were, axes in the order of their dims; `left` has those that it
    updated, as it left them: what reads them behind all updates has read just that.
    """
    fixed = specialise(p, sizes)
    known: dict[tuple[frozenset[str], str], Memory | None] = {}
    for s in fixed.statements:
        for g in gathers(s):
            key = g.needed, s.name
            if key not in known:
                known[key] = _memory(fixed, g, given, left)
            memory = known[key]
            found = None if memory is None else _outside(fixed, g, memory)
            if found is not None:
                return found
    return _unknown(fixed, statement)


def gathers(s: Statement) -> Iterator[Gather]:
    """Every index of a statement that is data, with the branches around it."""
    seen: set[tuple[int, tuple[tuple[ex.Expr, bool], ...]]] = set()
    stack: list[tuple[ex.Expr, tuple[tuple[ex.Expr, bool], ...]]] = [(s.value, ())]
    while stack:
        e, choices = stack.pop()
        if (id(e), choices) in seen:
            continue
        seen.add((id(e), choices))
        if isinstance(e, ex.Select):
            stack += [(e.other, (*choices, (e.cond, False))), (e.then, (*choices, (e.cond, True))), (e.cond, choices)]
            continue
        if isinstance(e, ex.Load):
            yield from (Gather(s, e, d, i, choices) for d, i in e.index if not isinstance(i, Affine))
        stack += [(c, choices) for c in reversed(ex.children(e))]


def _memory(p: Program, g: Gather, given: Data, left: Data) -> Memory | None:
    """The values of the arrays that an index is computed from; None where that takes too long, or needs what the call
    has overwritten since.
    """
    arrays, writers = set(g.needed), list[Statement]()
    while True:
        writers = [s for s in p.statements if s.write.array in arrays and p.array(s.write.array).role is not Role.INOUT]
        more = {load.array for s in writers for load in reads(s)} | arrays
        if more == arrays:
            break
        arrays = more
    inside = [p.array(n) for n in dict.fromkeys(a.name for a in p.arrays) if n in arrays]
    held = dict(given)
    for n, a in enumerate(inside):
        if a.role is Role.INOUT and a.name not in given:
            if a.name not in left or not _behind(p, a.name, (g.statement, *writers)):
                return None
            held[a.name] = left[a.name]
        elif a.role is Role.INPUT and a.name not in given:
            return None
        if a.role is Role.INOUT:
            inside[n] = replace(a, role=Role.INPUT)
    if sum(map(instances, writers)) > MOST:
        return None
    part = replace(p, arrays=tuple(inside), statements=tuple(writers), assumptions=())
    return evaluated(part, {n: v for n, v in held.items() if n in arrays}, {})


def _behind(p: Program, memory: str, readers: Iterable[Statement]) -> bool:
    """Do these read the memory only once everything is written?"""
    last = max((int(s.position[0]) for s in p.statements if s.write.array == memory), default=-1)
    return all(int(s.position[0]) > last for s in readers if any(load.array == memory for load in reads(s)))


def _outside(p: Program, g: Gather, memory: Memory) -> BoundsError | None:
    """The error for the first point at which the index lies outside; None where it never does."""
    s = replace(g.statement, domain=g.domain)
    if instances(s) > MOST:
        return None
    evaluator = Evaluator(memory, s)
    extent = p.array(g.load.array).extent(g.dim)
    lo, hi = (aff.evaluate(e, {}, {}) for e in reach(g.statement.value, g.load, g.dim, extent))
    at = rows(s.domain, memory.sizes)
    for condition, wanted in g.choices:
        if not (wanted and _leaves(condition, g.index, lo, hi)):
            at = at.at(np.flatnonzero(evaluator.value(condition, at)[0].astype(bool) == wanted))
    values = evaluator.value(g.index, at)[0].astype(np.int64)
    wrong = np.flatnonzero((values < lo) | (values >= hi))
    if not len(wrong):
        return None
    first = int(wrong[0])
    padded = "" if (lo, hi) == (0, extent.const) else " with its padding"
    low, high = max(0, -int(values.min())), max(0, int(values.max()) - extent.const + 1)
    pad = (f"{g.load.array}.pad({g.dim}=({low}, {high})) has another value there, 0 or the one given by value=",)
    pad = pad if low + high < _WIDE else ()
    return BoundsError(
        "PH103",
        f"statement {s.name} reads {g.access} out of bounds: the index is data",
        details=(
            f"{g.name} = {g.shown} = {values[first]}, but {g.name}{padded} is in [{lo}, {hi})",
            f"{g.shown} takes values from {values.min()} to {values.max()}, {len(wrong)} of {len(values)} outside",
        ),
        hints=(f"ph.clip({g.shown}, {lo}, {hi - 1}) reads the nearest that there is", *pad),
        statement=s.name,
        dim=g.dim,
        point=at.point(first),
        sizes={g.name: extent.const},
        location=s.location,
    )


def _leaves(condition: ex.Expr, index: ex.Expr, lo: int, hi: int) -> bool:
    """Is this the padding's own question, whether the index lies beyond it?"""
    match condition:
        case ex.Binary("<", i, ex.Const(n)):
            return same_index(i, index) and n == lo
        case ex.Binary(">=", i, ex.Index(e)):
            return same_index(i, index) and e == aff.const(hi)
        case _:
            return False


def _unknown(p: Program, s: Statement) -> BoundsError:
    """What is known without evaluating anything."""
    found = {(g.access, g.name, p.array(g.load.array).extent(g.dim)): None for g in gathers(s) if _known(p, g)}
    accesses = " or ".join(a for a, _, _ in found) or "an array"
    return BoundsError(
        "PH103",
        f"statement {s.name} reads {accesses} out of bounds: the index is data",
        details=tuple(f"{name} is in [0, {extent})" for _, name, extent in found),
        hints=(
            "ph.clip the index to the size of the dimension it reads",
            "polyhedral run --check numpy names the point",
        ),
        statement=s.name,
        location=s.location,
    )


def _known(p: Program, g: Gather) -> bool:
    return any(a.name == g.load.array for a in p.arrays)
