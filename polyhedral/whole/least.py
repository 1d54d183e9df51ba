# SPDX-License-Identifier: MIT
"""Choices of least cost: variables with a few values each, and tables that say what values of some of them cost.

Exact: variables are eliminated one after the other (Bertelè & Brioschi 1972), which takes time linear in their number
where they hang together like a chain or a ladder.  Of knots that do not, what is tied loosely is; the rest is left to
`polyhedral.whole.zero_one`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from polyhedral.whole import zero_one

CELLS = 1 << 20
"""The largest table that an elimination may make."""
KNOT = 1 << 12
"""The same where a knot is left, every cell of which the solver looks at."""

Floats = NDArray[np.float64]
Names = tuple[int, ...]
"""Variables are numbers."""


@dataclass(frozen=True, eq=False)
class Table:
    """What the values of some variables cost together, an axis for each."""

    names: Names
    costs: Floats


@dataclass(frozen=True, eq=False)
class Costs:
    """How many values each variable has, and tables over some variables, whose sum is to be least."""

    sizes: Mapping[int, int]
    tables: tuple[Table, ...]

    def total(self, chosen: Mapping[int, int]) -> float:
        return float(sum(t.costs[tuple(chosen[n] for n in t.names)] for t in self.tables))


@dataclass(frozen=True)
class Choice:
    """A value for each variable, and whether nothing costs less."""

    values: Mapping[int, int]
    best: bool


def least(costs: Costs, start: Mapping[int, int], steps: int) -> Choice:
    """The values of least cost; those of a knot that takes more steps are at least not dearer than `start`."""
    values: dict[int, int] = {}
    best = True
    for part in _parts(costs):
        left, gone = _eliminated(part, CELLS)
        if left.sizes:
            left, gone = _eliminated(part, min(KNOT, CELLS))
        tables = [(t.names, t.costs) for t in left.tables]
        known, proved = zero_one.least(left.sizes, tables, start, steps) if left.sizes else ({}, True)
        found = _restored(known, gone)
        if left.sizes:
            found = _improved(part, min(found, {n: start[n] for n in part.sizes}, key=part.total))
        values |= found
        best = best and proved
    return Choice({n: values[n] for n in costs.sizes}, best)


def _parts(costs: Costs) -> list[Costs]:
    """Variables that no table ties together are chosen apart."""
    owner = {n: n for n in costs.sizes}

    def root(n: int) -> int:
        while owner[n] != n:
            owner[n] = owner[owner[n]]
            n = owner[n]
        return n

    for t in costs.tables:
        for a in t.names[1:]:
            owner[root(a)] = root(t.names[0])
    names: dict[int, list[int]] = {}
    for n in costs.sizes:
        names.setdefault(root(n), []).append(n)
    tables: dict[int, list[Table]] = {r: [] for r in names}
    for t in costs.tables:
        tables[root(t.names[0])].append(t)
    return [Costs({n: costs.sizes[n] for n in found}, tuple(tables[r])) for r, found in names.items()]


# --- elimination -----------------------------------------------------------------------------------------------------


Gone = list[tuple[int, Names, NDArray[np.intp]]]
"""Variables in the order in which they were eliminated, each with its best value for all values of some that were not
yet."""


def _eliminated(costs: Costs, most: int) -> tuple[Costs, Gone]:
    """The variable that ties the fewest values together is replaced by its best value for each choice of these, until
    none is left or a table would have more than so many cells.
    """
    around: dict[int, dict[int, Table]] = {n: {} for n in costs.sizes}
    for t in costs.tables:
        _add(around, t)
    queue = [(_cells(costs, around, n), n) for n in costs.sizes]
    heapq.heapify(queue)
    gone: Gone = []
    while queue and queue[0][0] <= most:
        cells, name = heapq.heappop(queue)
        if name not in around or cells != _cells(costs, around, name):
            continue
        scope = _scope(around, name)
        joint = _sum(costs, scope, list(around[name].values()))
        gone.append((name, scope[1:], joint.argmin(0)))
        for t in list(around.pop(name).values()):
            for n in set(t.names) - {name}:
                del around[n][id(t)]
        _add(around, Table(scope[1:], joint.min(0)))
        for n in scope[1:]:
            heapq.heappush(queue, (_cells(costs, around, n), n))
    tables = {i: t for own in around.values() for i, t in own.items()}
    return Costs({n: costs.sizes[n] for n in around}, tuple(tables.values())), gone


def _restored(values: Mapping[int, int], gone: Gone) -> dict[int, int]:
    """The values of all variables, from those of the ones that were not eliminated."""
    every = dict(values)
    for name, others, found in reversed(gone):
        every[name] = int(found[tuple(every[n] for n in others)])
    return every


def _add(around: Mapping[int, dict[int, Table]], t: Table) -> None:
    for n in t.names:
        around[n][id(t)] = t


def _scope(around: Mapping[int, Mapping[int, Table]], name: int) -> Names:
    """A variable, then all that it shares a table with."""
    return tuple(dict.fromkeys((name, *(n for t in around[name].values() for n in t.names))))


def _cells(costs: Costs, around: Mapping[int, Mapping[int, Table]], name: int) -> int:
    return prod(costs.sizes[n] for n in _scope(around, name))


def _sum(costs: Costs, scope: Names, tables: Sequence[Table]) -> Floats:
    """One table over all variables of a scope."""
    total = np.zeros([costs.sizes[n] for n in scope])
    for t in tables:
        at = sorted(range(len(t.names)), key=lambda i: scope.index(t.names[i]))
        shape = [costs.sizes[n] if n in t.names else 1 for n in scope]
        total += t.costs.transpose(at).reshape(shape)
    return total


# --- improvement -----------------------------------------------------------------------------------------------------


def _improved(costs: Costs, chosen: Mapping[int, int]) -> dict[int, int]:
    """One variable after the other takes the value that is best for it, while that makes the whole cheaper."""
    values = dict(chosen)
    around: dict[int, list[Table]] = {n: [] for n in costs.sizes}
    for t in costs.tables:
        for n in t.names:
            around[n].append(t)
    better = True
    while better:
        better = False
        for n, tables in around.items():
            rows = [t.costs[tuple(slice(None) if m == n else values[m] for m in t.names)] for t in tables]
            row = np.sum(rows, 0) if rows else np.zeros(costs.sizes[n])
            if row.min() < row[values[n]] * (1 - 1e-12):
                values[n], better = int(row.argmin()), True
    return values
