# SPDX-License-Identifier: MIT
"""Choices of least cost as a 0/1 program, and the one door to the solver.

For knots that `polyhedral.whole.least` cannot take apart; a choice that is known beforehand is where it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import highspy
import numpy as np
from numpy.typing import NDArray

COLUMNS = 1 << 17
"""The largest program that is tried."""
FEW, BRANCHES = 12, 100
"""Variables that the relaxation leaves between whole numbers, from which on they are rounded; branches for fewer."""
WHOLE = 1 - 1e-6
ALWAYS: Mapping[str, bool | float | str] = {
    "output_flag": False,
    "threads": 1,
    "random_seed": 0,
    "mip_rel_gap": 0.0,
    "presolve": "off",
    "mip_detect_symmetry": False,
    "mip_heuristic_run_feasibility_jump": False,
}
"""The last three would take longer than what is to be solved, and find nothing there."""
SCALE = 1e4
"""What the largest cost is scaled to: the solver's tolerances are absolute."""

Floats = NDArray[np.float64]
Priced = tuple[tuple[int, ...], Floats]
"""Variables, and what their values cost together: an axis for each."""


@dataclass(frozen=True, eq=False)
class _Model:
    """A 0/1 program: the columns of each variable, those of each table, and rows whose terms (column, factor) add up to
    a number.
    """

    costs: Floats
    single: Mapping[int, range]
    joint: Sequence[tuple[tuple[int, ...], NDArray[np.int64]]]
    rows: Sequence[tuple[Sequence[int], Sequence[float], float]]

    def columns(self, chosen: Mapping[int, int]) -> list[float]:
        """1 for what is chosen, 0 for all else."""
        values = np.zeros(len(self.costs))
        values[[columns[chosen[n]] for n, columns in self.single.items()]] = 1.0
        values[[columns[tuple(chosen[n] for n in names)] for names, columns in self.joint]] = 1.0
        return values.tolist()


def _model(sizes: Mapping[int, int], tables: Sequence[Priced]) -> _Model:
    """One column for each value of a variable, and for each cell of a table over several: x_ab with sum_b x_ab = x_a
    and sum_a x_ab = x_b, which is tight where variables hang together like a tree.
    """
    unary = {n: np.zeros(size) for n, size in sizes.items()}
    for names, costs in tables:
        if len(names) == 1:
            unary[names[0]] += costs
    several = [(names, costs) for names, costs in tables if len(names) > 1]
    starts = list(accumulate([*sizes.values(), *(c.size for _, c in several)], initial=0))
    single = {n: range(start, start + size) for (n, size), start in zip(sizes.items(), starts, strict=False)}
    rows: list[tuple[Sequence[int], Sequence[float], float]] = [(c, [1.0] * len(c), 1.0) for c in single.values()]
    joint: list[tuple[tuple[int, ...], NDArray[np.int64]]] = []
    for (names, costs), start in zip(several, starts[len(sizes) :], strict=False):
        columns = np.arange(start, start + costs.size).reshape(costs.shape)
        joint.append((names, columns))
        for axis, n in enumerate(names):
            lines: list[list[int]] = np.moveaxis(columns, axis, 0).reshape(sizes[n], -1).tolist()
            rows += [([k, *own], [-1.0, *[1.0] * len(own)], 0.0) for k, own in zip(single[n], lines, strict=True)]
    every = np.concatenate([*unary.values(), *(c.ravel() for _, c in several)])
    return _Model(every, single, joint, rows)


def least(
    sizes: Mapping[int, int], tables: Sequence[Priced], start: Mapping[int, int], steps: int
) -> tuple[dict[int, int], bool]:
    """The value of each variable, and whether nothing costs less: `start` where that takes more steps of the simplex
    method, a number that no load of the machine changes.

    The relaxation nearly always has whole numbers; few others are branched on, many are rounded.
    """
    first = {n: start[n] for n in sizes}
    if steps <= 0 or sum(sizes.values()) + sum(costs.size for _, costs in tables) > COLUMNS:
        return first, False
    made = _model(sizes, tables)
    solver = _solver(made, {"solve_relaxation": True, "simplex_iteration_limit": steps})
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return first, False
    values = solver.getSolution().col_value
    broken = sum(max(values[c] for c in columns) < WHOLE for columns in made.single.values())
    best = not broken
    if 0 < broken <= FEW:
        solver = _solver(made, {"mip_max_nodes": BRANCHES})
        begun = highspy.HighsSolution()
        begun.col_value = made.columns(first)
        solver.setSolution(begun)
        solver.run()
        values, best = solver.getSolution().col_value, solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return {n: max(range(len(c)), key=lambda k: values[c[k]]) for n, c in made.single.items()}, best


class _Quiet(highspy.Highs):
    """A solver without callbacks: to enable them is what makes it print who it is."""

    def enableCallbacks(self) -> None:  # noqa: N802  its name there
        pass


def _solver(made: _Model, how: Mapping[str, bool | float | str]) -> highspy.Highs:
    count = len(made.costs)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count, len(made.rows)
    lp.col_cost_ = made.costs * (SCALE / max(float(np.abs(made.costs).max()), 1e-9))
    lp.col_lower_, lp.col_upper_ = np.zeros(count), np.ones(count)
    lp.row_lower_ = lp.row_upper_ = np.array([value for _, _, value in made.rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(columns) for columns, _, _ in made.rows)])
    lp.a_matrix_.index_ = np.array([c for columns, _, _ in made.rows for c in columns])
    lp.a_matrix_.value_ = np.array([f for _, factors, _ in made.rows for f in factors])
    whole = sum(map(len, made.single.values()))
    kinds = (highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous)
    lp.integrality_ = [kinds[0]] * whole + [kinds[1]] * (count - whole)
    solver = _Quiet()
    for option, value in {**ALWAYS, **how}.items():
        solver.setOptionValue(option, value)
    solver.passModel(lp)
    return solver
