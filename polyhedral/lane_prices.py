# SPDX-License-Identifier: MIT
"""What it costs to run a dim along the vector lanes, and to find an array in another order than that wants.

Rough prices in cycles, of which only the order matters: what is chosen by them is left to `polyhedral.assignment`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import Affine, Floor, Var
from polyhedral.expr import Load
from polyhedral.prices import instances, work
from polyhedral.program import Array, Program, Statement, reads
from polyhedral.target import Target

TRANSPOSE = 2.5
"""Cycles to move one cell of an array to another order."""
STRIDED = 2.0
"""Cycles for one lane that is loaded or stored alone."""
REUSED = 8.0
"""How often a register tile uses what it loads, about."""
RUNS = 0.25
"""What lanes in a few runs of neighbours cost, next to lanes that are all apart."""
FOLD = 24.0
"""Cycles to combine the lanes of one result."""
BARRIER = 4000.0
"""Cycles that every core waits for a copy."""
UNKNOWN = 64
"""What an extent that is only known at a call is taken for."""
WAYS = 8
"""Ways that are considered for one statement."""

Inner = tuple[str, ...]
"""Dims that lie innermost, the fastest last; or that run along the lanes of a statement as one."""
Index = Sequence[tuple[str, Affine | ex.Expr]]


@dataclass(frozen=True)
class Lanes:
    """One way to run a statement: the dims along the lanes, and its cycles where all lanes are neighbours."""

    dims: Inner
    cycles: float


def lanes_of(p: Program, s: Statement, target: Target) -> tuple[Lanes, ...]:
    """The ways to run a statement, the cheapest first; one without dims where it is a scalar."""
    lanes = target.lanes(max(ex.dtype_of(s.value).bits, 8) // 8)
    extents = {r.dim: _extent(r.hi - r.lo) for r in s.domain.ranges}
    scalar = instances(s) * work(s.value) / target.fma_per_cycle
    found: list[Lanes] = []
    for dims in _candidates(s, extents, lanes):
        n = prod(extents[d] for d in dims)
        cycles = scalar / lanes * (-(-n // lanes) * lanes / n)
        folded = FOLD * instances(s, s.kept) if dims[0] in s.reduced else 0.0
        found.append(Lanes(dims, cycles + folded))
    found.sort(key=lambda w: (w.cycles, w.dims))
    return tuple(found[:WAYS]) or (Lanes((), scalar),)


def _candidates(s: Statement, extents: dict[str, int], lanes: int) -> Iterator[Inner]:
    """Dims, and pairs whose second dim is short, that all operands see together or not at all."""
    tested = aff.condition_dims(s.domain.guard)
    yield from ((d,) for d in s.kept if extents[d] > 1 and d not in tested)
    if s.op in ("sum", "prod", "max", "min") and not s.strict:
        yield from ((d,) for d in s.reduced if extents[d] >= lanes and d not in tested)
    seen = [ex.dims_of(load) for load in reads(s)]
    for a, b in product(s.kept, s.kept):
        short = 1 < extents[b] < lanes and extents[a] * extents[b] >= lanes
        if a != b and short and not {a, b} & tested and all((a in dims) == (b in dims) for dims in seen):
            yield a, b


def wanted(s: Statement, dims: Inner) -> Iterator[tuple[str, Inner]]:
    """Each array that a statement touches, with what had better lie innermost in it for these lanes; nothing where it
    does not move along them, or where no order makes its lanes neighbours.
    """
    for access in (s.write, *reads(s)):
        yield access.array, _moved(access.index, dims) or ()


def _moved(index: Index, dims: Inner) -> Inner | None:
    """The dims of an array that the lanes run along one by one, in the order of the lanes; None if otherwise."""
    found: list[str] = []
    for d in dims:
        mine = [(a, i) for a, i in index if isinstance(i, Affine) and d in aff.dims_of(i)]
        if not mine:
            continue
        a, i = mine[0]
        if len(mine) > 1 or any(isinstance(t, Floor) and d in aff.dims_of(t.arg) for t, _ in i.terms):
            return None
        found.append(a)
    return tuple(found) if len(set(found)) == len(found) else None


@dataclass(frozen=True)
class _Lanes:
    """What one access does along the lanes: the dims of its array, or None where no order makes lanes neighbours; and
    whether it goes cell by cell along each.
    """

    moved: Inner | None
    single: bool

    def apart(self, inner: Inner) -> float:
        """How far the lanes are from neighbours: 0 for a vector of them, or one value for all; 1 for lanes that are
        all apart.
        """
        if self.moved == ():
            return 0.0
        if self.moved is None or not inner:
            return 1.0
        if inner[-len(self.moved) :] == self.moved:
            return 0.0 if self.single else RUNS
        return RUNS if len(self.moved) > 1 and inner[-1] == self.moved[-1] else 1.0


@dataclass(frozen=True)
class Prices:
    """What a statement loses where its arrays lie otherwise than it likes; what all its ways share is found once."""

    statement: Statement
    loads: Mapping[str, tuple[Load, ...]]
    every: float
    results: float

    def mismatches(self, way: Lanes, a: Array, inner: Sequence[Inner], target: Target) -> list[float]:
        """The cycles lost in this way, for each choice of the array's innermost dims."""
        reduces = self.statement.op is not None
        loads = [_along(x.index, way.dims) for x in self.loads.get(a.name, ())]
        alone = self.every * STRIDED / (REUSED if reduces else 1.0)
        most = _cells(a) * TRANSPOSE + BARRIER * target.cores
        write = self.statement.write
        stores = [_along(write.index, way.dims)] if write.array == a.name else []
        found: list[float] = []
        for i in inner:
            total = 0.0
            for x in loads:
                apart = x.apart(i)
                total += apart * (alone if apart == 1 else self.every * STRIDED / REUSED)
                if apart == 1 and reduces:
                    total = min(total, most)
            found.append(total + sum(x.apart(i) for x in stores) * self.results * STRIDED / 2)
        return found


def prices(s: Statement) -> Prices:
    """The prices of a statement."""
    loads: dict[str, tuple[Load, ...]] = {}
    for x in reads(s):
        loads[x.array] = (*loads.get(x.array, ()), x)
    return Prices(s, loads, instances(s), instances(s, s.kept))


def _along(index: Index, dims: Inner) -> _Lanes:
    return _Lanes(_moved(index, dims), all(step == 1 for step in _steps(index, dims)))


def _steps(index: Index, dims: Inner) -> Iterator[int]:
    """How far an index goes with each of the dims that it mentions."""
    for _, i in index:
        if isinstance(i, Affine):
            yield from (i.coefficient(Var(d)) for d in dims if d in aff.dims_of(i))


def _cells(a: Array) -> int:
    return prod(_extent(e) for _, e in a.dims)


def _extent(span: Affine) -> int:
    return max(span.const, 0) if span.is_const else UNKNOWN
