# SPDX-License-Identifier: MIT
"""What it costs to run a dim along the vector lanes, and to find an array in another order than that wants.

Rough prices in cycles, of which only the order matters: what is chosen by them is left to
`polyhedral.whole.assignment`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Floor, Var
from polyhedral.ir.counts import array_bytes, cells, extent, instances
from polyhedral.ir.program import Array, Statement, reads
from polyhedral.machine.prices import BARRIER, FOLD, TRANSPOSE, work
from polyhedral.machine.target import Target

STRIDED = 2.0
"""Cycles for one lane that is loaded or stored alone."""
SCATTERED = 6.0
"""Cycles for one lane that is stored alone where the second cache does not hold the array: a line comes and goes."""
REUSED = 8.0
"""How often a register tile uses what it loads, about."""
RUNS = 0.25
"""What lanes in a few runs of neighbours cost, next to lanes that are all apart."""
SHORT = 0.1
"""How much longer a row of one vector takes than its share of a long one: loops, and fewer shapes of tiles."""
APART = 2.0
"""How much more it costs than moving the cells, where lanes are not neighbours: a copy is a nest of its own, and the
nests on both sides of it share no loops.
"""
WAYS = 6
"""Ways of one dim, and of two, that are considered for one statement."""

Inner = tuple[str, ...]
"""Dims that lie innermost, the fastest last; or that run along the lanes of a statement as one."""


@dataclass(frozen=True)
class Lanes:
    """One way to run a statement: the dims along the lanes, and its cycles where all lanes are neighbours."""

    dims: Inner
    cycles: float


def lanes_of(s: Statement, target: Target) -> tuple[Lanes, ...]:
    """The ways to run a statement, the cheapest first; one without dims where it is a scalar.  A condition, as of a
    triangle, leaves half of a row on average and half of its last vector.
    """
    lanes = target.lanes(max(ex.dtype_of(s.value).bits, 8) // 8)
    extents = {r.dim: extent(r.hi - r.lo) for r in s.domain.ranges}
    scalar = instances(s) * work(s.value) / target.fma_per_cycle
    found: list[Lanes] = []
    for dims in _candidates(s, extents, lanes):
        n = prod(extents[d] for d in dims)
        vectors = -(-n // lanes)
        cut = lanes / n if aff.condition_dims(s.domain.guard) & set(dims) else 0.0
        cycles = scalar / n * vectors * (1 + SHORT / vectors + cut)
        folded = FOLD * instances(s, s.kept) if dims[0] in s.reduced else 0.0
        found.append(Lanes(dims, cycles + folded))
    found.sort(key=lambda w: (w.cycles, w.dims))
    alone, fused = [w for w in found if len(w.dims) == 1], [w for w in found if len(w.dims) > 1]
    kept = {*alone[:WAYS], *fused[:WAYS]}  # many pairs differ by little and would leave no room
    return tuple(w for w in found if w in kept) or (Lanes((), scalar),)


def _candidates(s: Statement, extents: dict[str, int], lanes: int) -> Iterator[Inner]:
    """Dims, and pairs whose second dim is short, that all operands see together or not at all."""
    tested = _scattered(s.domain.guard)
    yield from ((d,) for d in s.kept if extents[d] > 1 and d not in tested)
    if s.op in ("sum", "prod", "max", "min") and not s.strict:
        yield from ((d,) for d in s.reduced if extents[d] >= lanes and d not in tested)
    seen = [ex.dims_of(load) for load in reads(s)]
    for a, b in product(s.kept, s.kept):
        short = 1 < extents[b] < lanes and extents[a] * extents[b] >= lanes
        if a != b and short and not {a, b} & tested and all((a in dims) == (b in dims) for dims in seen):
            yield a, b


def _scattered(guard: aff.Condition) -> frozenset[str]:
    """The dims of which a condition leaves more than a range: those that it does not bound one by one."""
    parts = aff.conjuncts(guard)
    found: set[str] = set()
    for c in parts:
        match c:
            case aff.Compare(e, equal=False) if not any(isinstance(t, Floor) for t, _ in e.terms):
                pass
            case _:
                found |= aff.condition_dims(c)
    return frozenset(found)


@dataclass(frozen=True)
class _Lanes:
    """What one access does along the lanes: the dims of its array, or None where no order makes lanes neighbours;
    whether it goes cell by cell along each; and whether a copy can have the lanes as neighbours.
    """

    moved: Inner | None
    single: bool
    copied: bool = True

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
class _Moves:
    """The dim of an array that each dim of a statement moves in, and how far; None where it moves in several, or
    neither evenly nor in a known way.  And the dims of the statement that each dim of the array depends on.
    """

    of: Mapping[str, tuple[str, int] | None]
    seen: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Prices:
    """What a statement wants of its arrays and what it loses where they lie otherwise, in any of its ways."""

    statement: Statement
    loads: Mapping[str, tuple[_Moves, ...]]
    store: _Moves
    every: float
    results: float

    @property
    def touched(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.statement.write.array, *self.loads)))

    def wanted(self, dims: Inner) -> Iterator[tuple[str, Inner]]:
        """What had better lie innermost in the arrays that move along these lanes."""
        for array, moves in (
            (self.statement.write.array, self.store),
            *((a, m) for a in self.loads for m in self.loads[a]),
        ):
            moved = _along(moves, dims).moved
            if moved:
                yield array, moved

    def mismatches(self, way: Lanes, a: Array, inner: Sequence[Inner], target: Target) -> list[float]:
        """The cycles lost in this way, for each choice of the array's innermost dims."""
        reduces = self.statement.op is not None
        loads = [_along(moves, way.dims) for moves in self.loads.get(a.name, ())]
        stores = [_along(self.store, way.dims)] if self.statement.write.array == a.name else []
        alone = self.every * STRIDED / (REUSED if reduces else 1.0)
        most = cells(a) * TRANSPOSE + BARRIER * target.cores if reduces else float("inf")
        lane = STRIDED / 2 if array_bytes(a) < target.l2 else SCATTERED
        found: list[float] = []
        for i in inner:
            total = 0.0
            for x in loads:
                apart = x.apart(i)
                total += apart * (alone if apart == 1 else self.every * STRIDED / REUSED)
                total = min(total, most) if apart == 1 and x.copied else total
            found.append(APART * (total + sum(x.apart(i) for x in stores) * self.results * lane))
        return found


def prices(s: Statement) -> Prices:
    """The prices of a statement."""
    loads: dict[str, tuple[_Moves, ...]] = {}
    for x in reads(s):
        loads[x.array] = (*loads.get(x.array, ()), _moves(x.index))
    return Prices(s, loads, _moves(s.write.index), instances(s), instances(s, s.kept))


def _moves(index: Sequence[tuple[str, Affine | ex.Expr]]) -> _Moves:
    found: dict[str, tuple[str, int] | None] = {}
    seen = {a: ex.dims_of(i) if not isinstance(i, Affine) else aff.dims_of(i) for a, i in index}
    for a, i in index:
        straight = {t.name: (a, c) for t, c in i.terms if isinstance(t, Var)} if isinstance(i, Affine) else {}
        floors = [t for t, _ in i.terms if isinstance(t, Floor)] if isinstance(i, Affine) else []
        bent = ex.dims_of(i) if not isinstance(i, Affine) else [d for t in floors for d in aff.dims_of(t.arg)]
        for d in straight:
            found[d] = None if d in found else straight[d]
        found |= dict.fromkeys(bent)
    return _Moves(found, seen)


def _along(moves: _Moves, dims: Inner) -> _Lanes:
    """The dims of an array that the lanes run along one by one, in the order of the lanes.  A window slides along one
    dim of a copy, not along several.
    """
    found = [moves.of[d] for d in dims if d in moves.of]
    straight = [m for m in found if m is not None]
    axes = tuple(a for a, _ in straight)
    if len(set(axes)) < len(found):
        return _Lanes(None, False)
    copied = len(axes) < 2 or all(moves.seen[a] <= set(dims) for a in axes)
    return _Lanes(axes, all(step == 1 for _, step in straight), copied)
