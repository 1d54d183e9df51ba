# SPDX-License-Identifier: MIT
"""One layout for every array, chosen for the whole program at once.

Each statement runs some dim (or pair of dims) along the vector lanes, each array has some dims innermost, and an access
whose lanes are not neighbours costs a copy or loads lane by lane.  Who runs along what and what lies innermost is one
exact choice, since a local one cannot see what it costs its neighbours (Barham & Isard, HotOS'19).  How the least is
found is left to `polyhedral.whole.least`, prices to `polyhedral.whole.lane_prices`; `polyhedral.plans.plan` sees the
layouts as given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from polyhedral.errors import Remark
from polyhedral.ir.counts import instances
from polyhedral.ir.layout import Layout, choose, row_major
from polyhedral.ir.program import Array, Program, Role
from polyhedral.machine.target import Target
from polyhedral.whole.lane_prices import Inner, Lanes, lanes_of, prices
from polyhedral.whole.least import Costs, Floats, Table, least

STEPS = 10_000
"""Steps of the simplex method that a 0/1 program may take, whatever the machine and its load; networks of capsules, and
gradients of their routing, take up to 2,500."""
WORTH = 50_000
"""Instances of a whole program from which on layouts matter."""
HABIT = 1e-4
"""How much dearer, relatively, a layout is that does not follow those of the operands: it decides between equals."""


@dataclass(frozen=True)
class Reason:
    """Why an array lies as it does: its order from slow to fast and the cycles of the statements that touch it; and the
    same for the other orders that one of these statements likes, the cheapest first, all else staying as it is.
    """

    order: Inner
    cycles: float
    others: tuple[tuple[Inner, float], ...]


@dataclass(frozen=True)
class Assignment:
    """A layout for every array, which of them were given, and why those that were free lie as they do."""

    layouts: Mapping[str, Layout] = field(default_factory=dict[str, Layout])
    given: frozenset[str] = frozenset()
    reasons: Mapping[str, Reason] = field(default_factory=dict[str, Reason])
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, eq=False)
class Problem:
    """The ways of each statement, the orders that each array may have, and what each pair of them costs: for each array
    that a statement touches, a row for each way.
    """

    ways: Mapping[str, tuple[Lanes, ...]]
    orders: Mapping[str, tuple[Inner, ...]]
    costs: Mapping[str, Mapping[str, Floats]]

    def along(self, statement: str, chosen: Mapping[str, int]) -> tuple[float, int]:
        """The cycles of a statement in the way that suits it best, and which this is; arrays that are not chosen yet
        are as it likes them.
        """
        cycles = np.array([w.cycles for w in self.ways[statement]])
        for a, costs in self.costs[statement].items():
            cycles = cycles + (costs[:, chosen[a]] if a in chosen else costs.min(1))
        best = int(cycles.argmin())
        return float(cycles[best]), best

    def total(self, chosen: Mapping[str, int]) -> float:
        """The cycles of the whole program."""
        return sum(self.along(s, chosen)[0] for s in self.ways)


def assign(p: Program, given: Mapping[str, Layout], target: Target, how: str = "global") -> Assignment:
    """Layouts for all arrays; `given` ones stay.  `how` is "global", or "greedy": statement by statement, each as it
    likes best when it comes first, which is the baseline to measure against.
    """
    base = choose(p, given)
    free = [a for a in p.arrays if a.name not in given and len(a.dims) > 1 and not a.planes]
    free = [a for a in free if a.role in (Role.TEMPORARY, Role.OUTPUT)]
    if not free or sum(instances(s) for s in p.statements) < WORTH:
        return Assignment(base, frozenset(given))
    q = problem(p, free, base, target)
    chosen, remarks = (greedy(q), ()) if how == "greedy" else solved(q)
    layouts = base | {a.name: row_major(a, q.orders[a.name][chosen[a.name]]) for a in free}
    return Assignment(layouts, frozenset(given), _reasons(q, chosen, [a.name for a in free]), remarks)


# --- what an assignment costs ----------------------------------------------------------------------------------------


def problem(p: Program, free: Sequence[Array], base: Mapping[str, Layout], target: Target) -> Problem:
    """What there is to choose; the first choice of a free array is the layout that it has in `base`."""
    ways = {s.name: lanes_of(s, target) for s in p.statements}
    orders: dict[str, dict[Inner, None]] = {a.name: {base[a.name].order: None} for a in free}
    priced = {s.name: prices(s) for s in p.statements}
    for s, price in priced.items():
        for way in ways[s]:
            for array, inner in price.wanted(way.dims):
                if array in orders:
                    orders[array].setdefault((*(d for d in base[array].order if d not in inner), *inner))
    arrays = {a.name: a for a in p.arrays}
    choices = {n: tuple(orders[n]) if n in orders else (_fixed(base[n]),) for n in arrays}
    costs: dict[str, dict[str, Floats]] = {}
    for s, price in priced.items():
        rows = {n: [price.mismatches(w, arrays[n], choices[n], target) for w in ways[s]] for n in price.touched}
        costs[s] = {n: _with_habit(np.array(row)) for n, row in rows.items()}
    return Problem(ways, choices, costs)


def _fixed(layout: Layout) -> Inner:
    """All dims of a given layout from slow to fast; none where no dim is dense."""
    order = layout.order
    return order if order and layout.stride(order[-1]) == 1 else ()


def _with_habit(costs: Floats) -> Floats:
    """Every layout but the first a little dearer."""
    habit = np.full(costs.shape[1], HABIT)
    habit[0] = 0.0
    return costs * (1 + habit) + habit


def _reasons(q: Problem, chosen: Mapping[str, int], free: Sequence[str]) -> dict[str, Reason]:
    around: dict[str, list[str]] = {a: [] for a in q.orders}
    for s, costs in q.costs.items():
        for a in costs:
            around[a].append(s)

    def cycles(array: str, n: int) -> float:
        return sum(q.along(s, {**{a: chosen[a] for a in q.costs[s]}, array: n})[0] for s in around[array])

    reasons: dict[str, Reason] = {}
    for a in free:
        every = [(order, cycles(a, n)) for n, order in enumerate(q.orders[a])]
        order, own = every.pop(chosen[a])
        reasons[a] = Reason(order, own, tuple(sorted(every, key=lambda e: e[1])))
    return reasons


# --- two ways to choose ----------------------------------------------------------------------------------------------


def greedy(q: Problem) -> dict[str, int]:
    """Each statement in turn: the dims that suit it best, and its arrays that nobody has laid out yet follow."""
    chosen = {a: 0 for a, orders in q.orders.items() if len(orders) == 1}
    for s, costs in q.costs.items():
        _, way = q.along(s, chosen)
        for a, row in costs.items():
            chosen.setdefault(a, int(row[way].argmin()))
    return {a: chosen.get(a, 0) for a in q.orders}


def solved(q: Problem) -> tuple[dict[str, int], tuple[Remark, ...]]:
    """The assignment of least cost."""
    first = greedy(q)
    costs, arrays = as_costs(q)
    start = {n: q.along(s, first)[1] for n, s in enumerate(q.ways)} | {n: first[a] for a, n in arrays.items()}
    found = least(costs, start, STEPS)
    chosen = {a: found.values[arrays[a]] if a in arrays else 0 for a in q.orders}
    if found.best:
        return chosen, ()
    return chosen, (Remark("layouts may not be the best", f"the search for them was stopped after {STEPS} steps"),)


def as_costs(q: Problem) -> tuple[Costs, dict[str, int]]:
    """A variable for each statement, in their order: in which way it runs; and one for each array with a choice, which
    are named.  Arrays without one are part of the price of a way.
    """
    open_ = [a for a, orders in q.orders.items() if len(orders) > 1]
    arrays = {a: len(q.ways) + i for i, a in enumerate(open_)}
    tables: list[Table] = []
    for n, (s, ways) in enumerate(q.ways.items()):
        fixed = [costs[:, 0] for a, costs in q.costs[s].items() if a not in arrays]
        tables.append(Table((n,), sum(fixed, start=np.array([w.cycles for w in ways]))))
        tables += [Table((n, arrays[a]), costs) for a, costs in q.costs[s].items() if a in arrays]
    sizes = [*(len(w) for w in q.ways.values()), *(len(q.orders[a]) for a in open_)]
    return Costs(dict(enumerate(sizes)), tuple(tables)), arrays
