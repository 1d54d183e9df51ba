# SPDX-License-Identifier: MIT
"""Choices of least cost as a 0/1 program, and the one door to the solver.

For knots that `polyhedral.whole.least` cannot take apart; a choice that is known beforehand is where it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import highspy
import numpy as np
from numpy.typing import NDArray

SCALE = 1e4
"""What the largest cost is scaled to: the solver's tolerances are absolute."""

Floats = NDArray[np.float64]
_Row = tuple[list[tuple[int, float]], float]
"""Terms (column, factor), and what they add up to."""


@dataclass
class _Model:
    """A 0/1 program as it grows."""

    costs: list[float] = field(default_factory=list[float])
    whole: list[bool] = field(default_factory=list[bool])
    rows: list[_Row] = field(default_factory=list[_Row])

    def column(self, cost: float, *, whole: bool = False) -> int:
        self.costs.append(cost)
        self.whole.append(whole)
        return len(self.costs) - 1

    def row(self, terms: Sequence[tuple[int, float]], value: float) -> None:
        self.rows.append((list(terms), value))


def _model(
    sizes: Mapping[int, int], tables: Sequence[tuple[tuple[int, ...], Floats]]
) -> tuple[_Model, dict[int, list[int]], list[tuple[tuple[int, ...], NDArray[np.int64]]]]:
    """One column for each value of a variable, and for each pair of values that a table prices: x_ab with
    sum_b x_ab = x_a and sum_a x_ab = x_b, which is tight where variables hang together like a tree.
    """
    made = _Model()
    unary = {n: np.zeros(size) for n, size in sizes.items()}
    for names, costs in tables:
        if len(names) == 1:
            unary[names[0]] += costs
    single = {n: [made.column(float(c), whole=True) for c in row] for n, row in unary.items()}
    for columns in single.values():
        made.row([(c, 1.0) for c in columns], 1.0)
    pairs: list[tuple[tuple[int, ...], NDArray[np.int64]]] = []
    for names, costs in tables:
        if len(names) == 2:
            a, b = names
            columns = np.array([[made.column(float(c)) for c in row] for row in costs])
            pairs.append((names, columns))
            for k, row in zip(single[a], columns, strict=True):
                made.row([(k, -1.0), *((int(c), 1.0) for c in row)], 0.0)
            for k, column in zip(single[b], columns.T, strict=True):
                made.row([(k, -1.0), *((int(c), 1.0) for c in column)], 0.0)
    return made, single, pairs


def least(
    sizes: Mapping[int, int],
    tables: Sequence[tuple[tuple[int, ...], Floats]],
    start: Mapping[int, int],
    seconds: float,
) -> tuple[dict[int, int], bool]:
    """The value of each variable, tables being over one or two of them, and whether nothing costs less; the best found
    in so many seconds, `start` at least.
    """
    if seconds <= 0:
        return {n: start[n] for n in sizes}, False
    made, single, pairs = _model(sizes, tables)
    first = np.zeros(len(made.costs))
    for n, columns in single.items():
        first[columns[start[n]]] = 1.0
    for names, columns in pairs:
        first[columns[tuple(start[n] for n in names)]] = 1.0
    solver = _solver(made, seconds)
    known = highspy.HighsSolution()
    known.col_value = first.tolist()
    solver.setSolution(known)
    solver.run()
    values = solver.getSolution().col_value
    if solver.getInfo().primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
        return {n: start[n] for n in sizes}, False
    chosen = {n: max(range(len(c)), key=lambda k: values[c[k]]) for n, c in single.items()}
    return chosen, solver.getModelStatus() == highspy.HighsModelStatus.kOptimal


class _Quiet(highspy.Highs):
    """A solver without callbacks: to enable them is what makes it print who it is."""

    def enableCallbacks(self) -> None:  # noqa: N802  its name there
        pass


def _solver(made: _Model, seconds: float) -> highspy.Highs:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(made.costs), len(made.rows)
    lp.col_cost_ = np.array(made.costs) * SCALE / max(*map(abs, made.costs), 1e-9)
    lp.col_lower_, lp.col_upper_ = np.zeros(len(made.costs)), np.ones(len(made.costs))
    lp.row_lower_ = lp.row_upper_ = np.array([value for _, value in made.rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(terms) for terms, _ in made.rows)])
    lp.a_matrix_.index_ = np.array([c for terms, _ in made.rows for c, _ in terms])
    lp.a_matrix_.value_ = np.array([v for terms, _ in made.rows for _, v in terms])
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    lp.integrality_ = [kinds[w] for w in made.whole]
    solver = _Quiet()
    options = {"output_flag": False, "time_limit": seconds, "threads": 1, "random_seed": 0, "mip_rel_gap": 0.0}
    for option, value in options.items():
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    return solver
