# SPDX-License-Identifier: MIT
"""Choices of least cost: variables with a few values each, and tables that say what values of some of them cost.

Exact: variables are eliminated one after the other (Bertelè & Brioschi 1972), which takes time linear in their number
where they hang together like a chain or a ladder; knots that do not are left to `polyhedral.whole.zero_one`.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from polyhedral.whole import zero_one

CELLS = 1 << 20
"""The largest table that an elimination may make."""

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
    """How many values each variable has, and tables over one or two variables, whose sum is to be least."""

    sizes: Mapping[int, int]
    tables: tuple[Table, ...]

    def total(self, chosen: Mapping[int, int]) -> float:
        return float(sum(t.costs[tuple(chosen[n] for n in t.names)] for t in self.tables))


@dataclass(frozen=True)
class Choice:
    """A value for each variable, and whether nothing costs less."""

    values: Mapping[int, int]
    best: bool


def least(costs: Costs, start: Mapping[int, int], seconds: float) -> Choice:
    """The values of least cost.  What takes longer than so many seconds is at least not dearer than `start`."""
    values: dict[int, int] = {}
    best, until = True, time.perf_counter() + seconds
    for part in _parts(costs):
        found = _eliminated(part)
        if found is None:
            left = max(until - time.perf_counter(), 0.0)
            tables = [(t.names, t.costs) for t in part.tables]
            found, proved = zero_one.least(part.sizes, tables, start, left)
            found = _improved(part, min(found, {n: start[n] for n in part.sizes}, key=part.total))
            best = best and proved
        values |= found
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


def _eliminated(costs: Costs) -> dict[int, int] | None:
    """The variable that ties the fewest values together is replaced by its best value for each choice of these, until
    none is left; None where a table would get too large.
    """
    around: dict[int, dict[int, Table]] = {n: {} for n in costs.sizes}
    for t in costs.tables:
        _add(around, t)
    queue = [(_cells(costs, around, n), n) for n in costs.sizes]
    heapq.heapify(queue)
    values: dict[int, int] = {}
    best: list[tuple[int, Names, NDArray[np.intp]]] = []
    while queue:
        cells, name = heapq.heappop(queue)
        if name not in around or cells != _cells(costs, around, name):
            continue
        if cells > CELLS:
            return None
        scope = _scope(around, name)
        joint = _sum(costs, scope, list(around[name].values()))
        best.append((name, scope[1:], joint.argmin(0)))
        for t in list(around.pop(name).values()):
            for n in set(t.names) - {name}:
                del around[n][id(t)]
        _add(around, Table(scope[1:], joint.min(0)))
        for n in scope[1:]:
            heapq.heappush(queue, (_cells(costs, around, n), n))
    for name, others, found in reversed(best):
        values[name] = int(found[tuple(values[n] for n in others)])
    return values


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
