# SPDX-License-Identifier: MIT
"""One layout for every array, chosen for the whole program at once.

Each statement runs some dim (or pair of dims) along the vector lanes, each array has some dims innermost, and an access
whose lanes are not neighbours costs a copy or loads lane by lane.  Who runs along what and what lies innermost is one
exact 0/1 program, since a local choice cannot see what it costs its neighbours (Barham & Isard, HotOS'19).  Loops,
tiles and copies are left to `polyhedral.plan`, prices to `polyhedral.lane_prices`, which sees these layouts as given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import highspy
import numpy as np

from polyhedral.errors import Remark
from polyhedral.lane_prices import Inner, Lanes, lanes_of, mismatch, wanted
from polyhedral.layout import Layout, choose, row_major
from polyhedral.prices import instances
from polyhedral.program import Array, Program, Role
from polyhedral.target import Target

SECONDS = 1.0
"""How long the 0/1 program may take; the best assignment found by then is kept."""
WORTH = 50_000
"""Instances of a whole program from which on layouts matter."""
HABIT = 1e-4
"""How much dearer, relatively, a layout is that does not follow those of the operands: it decides between equals."""


@dataclass(frozen=True)
class Reason:
    """Why an array lies as it does: its innermost dims and the cycles of the statements that touch it, and the same for
    the next best choice, everything else staying as it is.
    """

    inner: Inner
    cycles: float
    other: Inner | None
    otherwise: float


@dataclass(frozen=True)
class Assignment:
    """A layout for every array, and why those that were free lie as they do."""

    layouts: Mapping[str, Layout]
    reasons: Mapping[str, Reason] = field(default_factory=dict[str, Reason])
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class _Problem:
    """The ways of each statement, the innermost dims that each array may have, and what each pair of them costs."""

    ways: Mapping[str, tuple[Lanes, ...]]
    inner: Mapping[str, tuple[Inner, ...]]
    costs: Mapping[tuple[str, int, str], tuple[float, ...]]

    def touched(self, statement: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a for s, _, a in self.costs if s == statement))


def assign(p: Program, given: Mapping[str, Layout], target: Target, how: str = "global") -> Assignment:
    """Layouts for all arrays; `given` ones stay.  `how` is "global", or "greedy": statement by statement, each as it
    likes best when it comes first, which is the baseline to measure against.
    """
    base = choose(p, given)
    free = [a for a in p.arrays if a.name not in given and len(a.dims) > 1 and not a.planes]
    free = [a for a in free if a.role in (Role.TEMPORARY, Role.OUTPUT)]
    if not free or sum(instances(s) for s in p.statements) < WORTH:
        return Assignment(base)
    problem = _problem(p, free, base, target)
    remarks: tuple[Remark, ...] = ()
    if how == "greedy":
        chosen = _greedy(p, problem)
    else:
        chosen, remarks = _solved(problem)
    layouts = dict(base)
    for a in free:
        inner = problem.inner[a.name][chosen[a.name]]
        order = (*(d for d in base[a.name].order if d not in inner), *inner)
        layouts[a.name] = row_major(a, order)
    reasons = {a.name: _reason(problem, chosen, a.name) for a in free}
    return Assignment(layouts, reasons, remarks)


def _problem(p: Program, free: Sequence[Array], base: Mapping[str, Layout], target: Target) -> _Problem:
    ways = {s.name: lanes_of(p, s, target) for s in p.statements}
    names = {a.name for a in free}
    asked: dict[str, dict[Inner, None]] = {a.name: {base[a.name].order[-1:]: None} for a in free}
    for s in p.statements:
        for way in ways[s.name]:
            for array, inner in wanted(s, way.dims):
                if array in names and inner:
                    asked[array].setdefault(inner)
    inner = {n: tuple(found) for n, found in asked.items()}
    inner |= {a.name: (_fixed(base[a.name]),) for a in p.arrays if a.name not in names}
    costs: dict[tuple[str, int, str], tuple[float, ...]] = {}
    for s in p.statements:
        for n, way in enumerate(ways[s.name]):
            for array in dict.fromkeys(a for a, _ in wanted(s, way.dims)):
                a = p.array(array)
                found = [mismatch(s, way, a, i, target) for i in inner[array]]
                costs[s.name, n, array] = tuple(c * (1 + HABIT) + HABIT * (k > 0) for k, c in enumerate(found))
    return _Problem(ways, inner, costs)


def _fixed(layout: Layout) -> Inner:
    """All dims of a given layout from slow to fast; none where no dim is dense."""
    order = layout.order
    return order if order and layout.stride(order[-1]) == 1 else ()


# --- what an assignment costs ----------------------------------------------------------------------------------------


def _way(q: _Problem, statement: str, chosen: Mapping[str, int]) -> tuple[float, int]:
    """The cycles of a statement along the dims that suit it best, arrays lying as they do, and which these are."""
    touched = q.touched(statement)

    def cost(n: int) -> float:
        here = (q.costs.get((statement, n, a)) for a in touched)
        return q.ways[statement][n].cycles + sum(
            c[chosen[a]] for a, c in zip(touched, here, strict=True) if c is not None and a in chosen
        )

    return min((cost(n), n) for n in range(len(q.ways[statement])))


def _reason(q: _Problem, chosen: Mapping[str, int], array: str) -> Reason:
    around = sorted({s for s, _, a in q.costs if a == array})

    def cycles(n: int) -> float:
        return sum(_way(q, s, {**chosen, array: n})[0] for s in around)

    others = sorted((cycles(n), n) for n in range(len(q.inner[array])) if n != chosen[array])
    own = cycles(chosen[array])
    inner = q.inner[array]
    if not others:
        return Reason(inner[chosen[array]], own, None, own)
    return Reason(inner[chosen[array]], own, inner[others[0][1]], others[0][0])


# --- two ways to choose ----------------------------------------------------------------------------------------------


def _greedy(p: Program, q: _Problem) -> dict[str, int]:
    """Each statement in turn: the dims that suit it best, and its arrays that nobody has laid out yet follow."""
    chosen = {a: 0 for a, inner in q.inner.items() if len(inner) == 1}
    for s in p.statements:
        _, way = _way(q, s.name, chosen)
        for a in q.touched(s.name):
            costs = q.costs.get((s.name, way, a))
            if a not in chosen:
                chosen[a] = 0 if costs is None else costs.index(min(costs))
    return {a: chosen.get(a, 0) for a in q.inner}


def _solved(q: _Problem) -> tuple[dict[str, int], tuple[Remark, ...]]:
    """The assignment of least cost: x says along which dims a statement runs, y what is innermost in an array, and
    z >= x - (all y that cost less) pays for the difference, level by level.
    """
    model = _Model()
    x = {s: [model.column(w.cycles, whole=True) for w in ways] for s, ways in q.ways.items()}
    y = {a: [model.column(0.0, whole=True) for _ in inner] for a, inner in q.inner.items()}
    for columns in (*x.values(), *y.values()):
        model.row([(c, 1.0) for c in columns], 1.0, 1.0)
    for (s, n, a), costs in q.costs.items():
        levels = sorted({0.0, *costs})
        for low, high in pairwise(levels):
            cheaper = [(y[a][k], 1.0) for k, c in enumerate(costs) if c <= low]
            model.row([(model.column(high - low), 1.0), (x[s][n], -1.0), *cheaper], 0.0, highspy.kHighsInf)
    values, optimal = model.least()
    chosen = {a: max(range(len(c)), key=lambda k: values[c[k]]) for a, c in y.items()}
    if optimal:
        return chosen, ()
    return chosen, (Remark("layouts may not be the best", f"the 0/1 program was stopped after {SECONDS:g} s"),)


class _Quiet(highspy.Highs):
    """A solver without callbacks: to enable them is what makes it print who it is."""

    def enableCallbacks(self) -> None:  # noqa: N802  its name there
        pass


_Row = tuple[list[tuple[int, float]], float, float]
"""Terms (column, factor), and the least and the most that they may add up to."""


@dataclass
class _Model:
    """A 0/1 program as it grows."""

    costs: list[float] = field(default_factory=list[float])
    whole: list[bool] = field(default_factory=list[bool])
    rows: list[_Row] = field(default_factory=list["_Row"])

    def column(self, cost: float, *, whole: bool = False) -> int:
        self.costs.append(cost)
        self.whole.append(whole)
        return len(self.costs) - 1

    def row(self, terms: Iterable[tuple[int, float]], low: float, high: float) -> None:
        self.rows.append((list(terms), low, high))

    def least(self) -> tuple[Sequence[float], bool]:
        """The values of all columns, and whether nothing is better."""
        scale = max(max(self.costs), 1.0)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.costs), len(self.rows)
        lp.col_cost_ = np.array(self.costs) * 1e4 / scale
        lp.col_lower_, lp.col_upper_ = np.zeros(len(self.costs)), np.ones(len(self.costs))
        lp.row_lower_ = np.array([low for _, low, _ in self.rows])
        lp.row_upper_ = np.array([high for _, _, high in self.rows])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.cumsum([0, *(len(terms) for terms, _, _ in self.rows)])
        lp.a_matrix_.index_ = np.array([c for terms, _, _ in self.rows for c, _ in terms])
        lp.a_matrix_.value_ = np.array([v for terms, _, _ in self.rows for _, v in terms])
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[w] for w in self.whole]
        solver = _Quiet()
        for option, value in (("output_flag", False), ("time_limit", SECONDS), ("threads", 1), ("random_seed", 0)):
            solver.setOptionValue(option, value)
        solver.passModel(lp)
        solver.run()
        optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return solver.getSolution().col_value, optimal
