# SPDX-License-Identifier: MIT
"""Layouts of least cost: exact against enumeration, never dearer than the greedy ones, deterministic, quiet, and of no
effect on results.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import polyhedral as ph
from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import choose, row_major
from polyhedral.ir.program import Program, Role
from polyhedral.machine.target import Target
from polyhedral.text.reader import parse
from polyhedral.whole import assignment, least
from polyhedral.whole import zero_one as zo
from polyhedral.whole.assignment import Problem, as_costs, assign, greedy, problem, solved
from polyhedral.whole.lane_prices import Lanes
from polyhedral.whole.least import Costs, Table
from tests.running import agree, run_c
from tests.strategies import inputs_for, programs

ROOT = Path(__file__).resolve().parents[2]


# --- problems --------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """At most five statements of four ways and four arrays of four orders; costs are small whole numbers, so that many
    are equal."""
    arrays = {f"A{n}": draw(st.integers(1, 4)) for n in range(draw(st.integers(1, 4)))}
    price = st.integers(0, draw(st.sampled_from((3, 20, 1000))))
    ways: dict[str, tuple[Lanes, ...]] = {}
    costs: dict[str, dict[str, np.ndarray]] = {}
    for n in range(draw(st.integers(1, 5))):
        s, count = f"S{n}", draw(st.integers(1, 4))
        ways[s] = tuple(Lanes((f"d{w}",), float(draw(price))) for w in range(count))
        touched = draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, unique=True))
        rows = {a: st.lists(price, min_size=arrays[a], max_size=arrays[a]) for a in touched}
        costs[s] = {a: np.array([draw(row) for _ in range(count)], float) for a, row in rows.items()}
    orders = {a: tuple((f"o{i}",) for i in range(size)) for a, size in arrays.items()}
    return Problem(ways, orders, costs)


def enumerated(q: Problem) -> float:
    """The least cost, from the definition: every order of every array, every way of every statement."""
    names = list(q.orders)
    return min(
        sum(
            min(
                way.cycles + sum(c[n][at[names.index(a)]] for a, c in q.costs[s].items())
                for n, way in enumerate(q.ways[s])
            )
            for s in q.ways
        )
        for at in product(*(range(len(q.orders[a])) for a in names))
    )


@pytest.fixture
def no_elimination(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave everything to the 0/1 program."""
    monkeypatch.setattr(least, "CELLS", 0)


@seed(1)
@settings(max_examples=300, deadline=None)
@given(problems())
def test_nothing_costs_less(q: Problem):
    chosen, remarks = solved(q)
    assert remarks == ()
    assert q.total(chosen) == pytest.approx(enumerated(q), rel=1e-12)
    assert q.total(chosen) <= q.total(greedy(q))


def test_nothing_costs_less_by_the_solver_either(no_elimination: None):
    @seed(2)
    @settings(max_examples=60, deadline=None)
    @given(problems())
    def check(q: Problem):
        chosen, remarks = solved(q)
        assert remarks == ()
        assert q.total(chosen) == pytest.approx(enumerated(q), rel=1e-12)

    check()


def knot(variables: int, values: int, number: int) -> tuple[Costs, dict[int, int]]:
    """Every variable priced with every other at random: nothing can be taken apart."""
    rng = np.random.default_rng(number)
    pairs = [(a, b) for a in range(variables) for b in range(a)]
    tables = tuple(Table(p, rng.integers(0, 100, (values, values)).astype(float)) for p in pairs)
    return Costs(dict.fromkeys(range(variables), values), tables), dict.fromkeys(range(variables), 0)


def test_what_hangs_loosely_on_a_knot_is_eliminated_and_the_rest_solved(monkeypatch: pytest.MonkeyPatch):
    costs, _ = knot(5, 4, 3)
    rng = np.random.default_rng(4)
    tails = tuple(Table((n, n - 5), rng.integers(0, 100, (4, 4)).astype(float)) for n in range(5, 12))
    costs = Costs(dict.fromkeys(range(12), 4), (*costs.tables, *tails))
    exact = least.least(costs, dict.fromkeys(range(12), 0), 0)
    monkeypatch.setattr(least, "CELLS", 4**4)
    given: list[Mapping[int, int]] = []
    solve = zo.least

    def seen(sizes: Mapping[int, int], *rest: Any) -> tuple[dict[int, int], bool]:
        given.append(sizes)
        return solve(sizes, *rest)

    monkeypatch.setattr(zo, "least", seen)
    found = least.least(costs, dict.fromkeys(range(12), 0), 1000)
    assert given == [dict.fromkeys(range(5), 4)]
    assert exact.best
    assert found.best
    assert costs.total(found.values) == costs.total(exact.values)


def test_tables_over_three_variables_are_solved_too():
    rng = np.random.default_rng(5)
    names = [(0, 1, 2), (1, 2, 3), (3, 4, 0), (2, 4), (1,)]
    tables = [(n, rng.integers(0, 100, (3,) * len(n)).astype(float)) for n in names]
    costs = Costs(dict.fromkeys(range(5), 3), tuple(Table(*t) for t in tables))
    values, proved = zo.least(costs.sizes, tables, dict.fromkeys(range(5), 0), 1000)
    assert proved
    assert costs.total(values) == min(costs.total(dict(enumerate(at))) for at in product(range(3), repeat=5))


def test_a_knot_is_solved_both_ways():
    costs, start = knot(6, 4, 3)
    found = least.least(costs, start, 1000)
    tables = [(t.names, t.costs) for t in costs.tables]
    values, proved = zo.least(costs.sizes, tables, start, 1000)
    by_hand = min(costs.total(dict(enumerate(at))) for at in product(range(4), repeat=6))
    assert found.best
    assert proved
    assert costs.total(found.values) == by_hand == costs.total(values)


@pytest.mark.parametrize("steps", [0, 10, 10_000])
def test_what_is_found_within_so_many_steps_is_kept(steps: int):
    costs, start = knot(30, 6, 4)
    found = least.least(costs, start, steps)
    assert found == least.least(costs, start, steps)  # whatever else the machine does meanwhile
    assert not found.best
    assert found.values.keys() == costs.sizes.keys()
    assert costs.total(found.values) <= costs.total(start)
    for n in costs.sizes:  # no single change makes it cheaper
        assert all(costs.total({**found.values, n: v}) >= costs.total(found.values) - 1e-6 for v in range(6))


# --- programs --------------------------------------------------------------------------------------------------------

ADVERSE = """
program adverse
  input X: f32[y: 256, x: 256]
  temporary T: f32[y: 256, x: 256]
  output Y: f32[y: 256, x: 256]
  output Z: f32[y: 256, x: 256]
  T: for y < 256, x < 256: T = X * 2.0
  Y: for y < 256, x < 256 at (1): Y = T + 1.0
  Z: for y < 256, x < 256 at (2): Z = T - 1.0
"""
LAID = {"X": "y x", "Y": "x y", "Z": "x y"}
"""The results are wanted the other way round, so that T had better be turned when it is made, not twice later."""


def total(p: Program, laid: dict[str, str], how: str) -> float:
    """The predicted cycles of a whole program."""
    given_ = {n: row_major(p.array(n), order.split()) for n, order in laid.items()}
    free = [a for a in p.arrays if a.name not in given_ and a.role in (Role.TEMPORARY, Role.OUTPUT)]
    q = problem(p, free, choose(p, given_), Target())
    layouts = assign(p, given_, Target(), how).layouts
    return q.total({a: orders.index(layouts[a].order) if len(orders) > 1 else 0 for a, orders in q.orders.items()})


def test_a_chain_between_layouts_that_do_not_agree():
    p = parse(ADVERSE)
    assert total(p, LAID, "global") < 0.8 * total(p, LAID, "greedy")
    found = assign(p, {n: row_major(p.array(n), order.split()) for n, order in LAID.items()}, Target())
    assert found.layouts["T"].order == ("x", "y")
    assert found.given == set(LAID)


@pytest.mark.parametrize("order", ["y x", "x y"])
def test_a_copy_lies_as_what_it_copies(order: str):
    p = parse("""
    program copied
      input X: f32[y: 256, x: 256]
      output Y: f32[x: 256, y: 256]
      Y: for y < 256, x < 256: Y = X * 2.0
    """)
    found = assign(p, {"X": row_major(p.array("X"), order.split())}, Target())
    assert found.layouts["Y"].order == tuple(order.split())
    assert found.given == {"X"}
    reason = found.reasons["Y"]
    assert reason.order == tuple(order.split())
    assert all(cycles > reason.cycles for _, cycles in reason.others)


def test_a_mean_of_each_channel_does_not_turn_the_rest():
    p = parse("""
    program centred
      input X: f32[b: 8, c: 64, y: 32, x: 32]
      temporary M: f32[c: 64]
      output D: f32[b: 8, c: 64, y: 32, x: 32]
      M: for c < 64: M = sum[b < 8, y < 32, x < 32] X * 0.0001
      D: for b < 8, c < 64, y < 32, x < 32 at (1): D = X - M
    """)
    assert assign(p, {}, Target()).layouts["D"].order == ("b", "c", "y", "x")


def test_a_triangle_is_walked_along_a_long_dim():
    p = parse("""
    program triangle
      input Q: f32[h: 8, s: 512, d: 64]
      temporary L: f32[h: 8, s: 512, t: 512]
      output M: f32[h: 8, s: 512]
      L: for h < 8, s < 512, t < 512 if t <= s: L = sum[d < 64] Q * Q(s=t)
      M: for h < 8, s < 512 at (1): M = max[t < 512 if t <= s] L
    """)
    assert assign(p, {}, Target()).layouts["L"].order[-1] in ("s", "t")


def chain(layers: int) -> Program:
    """Layers of a 1x1 convolution, a scale, a maximum and a sum with what came in."""
    shape, box = "f32[b: 4, c: 64, y: 28, x: 28]", "b < 4, c < 64, y < 28, x < 28"
    arrays, statements, last = [f"input X: {shape}"], [], "X"
    for n in range(layers):
        arrays += [f"input W{n}: f32[o: 64, c: 64]", f"input G{n}: f32[o: 64]"]
        arrays += [f"temporary {a}{n}: {shape}" for a in "CNR"]
        arrays.append(f"{'output' if n == layers - 1 else 'temporary'} A{n}: {shape}")
        values = (f"sum[i < 64] {last}(c=i) * W{n}(o=c, c=i)", f"C{n} * G{n}(o=c)", f"max(N{n}, 0.0)", f"R{n} + {last}")
        for i, (a, value) in enumerate(zip("CNRA", values, strict=True)):
            statements.append(f"{a}{n}: for {box} at ({4 * n + i}): {a}{n} = {value}")
        last = f"A{n}"
    return parse("\n  ".join(["program chain", *arrays, *statements]))


def test_a_long_chain_takes_so_many_variables_a_statement_and_no_more():
    per_statement: list[tuple[float, float]] = []
    for layers in (10, 200):
        p = chain(layers)
        free = [a for a in p.arrays if a.role in (Role.TEMPORARY, Role.OUTPUT)]
        costs, _ = as_costs(problem(p, free, choose(p, {}), Target()))
        n = len(p.statements)
        per_statement.append((sum(costs.sizes.values()) / n, sum(t.costs.size for t in costs.tables) / n))
    assert len(p.statements) == 800
    assert per_statement[1] == pytest.approx(per_statement[0], rel=0.1)
    assert per_statement[1][0] <= 16
    assert per_statement[1][1] <= 300


def test_a_long_chain_is_taken_apart(monkeypatch: pytest.MonkeyPatch):
    """No table has more cells than the orders of a few arrays, so that time grows with the chain."""
    monkeypatch.setattr(least, "CELLS", 10_000)
    monkeypatch.setattr(assignment, "STEPS", 0)
    found = assign(chain(200), {}, Target())
    assert found.remarks == ()
    assert len(found.reasons) == 800


def test_a_search_that_is_stopped_says_so(monkeypatch: pytest.MonkeyPatch, no_elimination: None):
    monkeypatch.setattr(assignment, "STEPS", 0)
    p = chain(2)
    found = assign(p, {}, Target())
    (remark,) = found.remarks
    assert "may not be the best" in remark.what
    assert found.layouts.keys() == {a.name for a in p.arrays}
    low = ph.lower(p)
    assert remark in low.remarks


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], no_elimination: None):
    assign(chain(2), {}, Target())
    assert capfd.readouterr() == ("", "")


def test_the_same_in_every_process():
    code = (
        "from tests.polyhedral.test_assignment import *\n"
        "from polyhedral.whole import least\n"
        "found = [assign(chain(3), {}, Target())]\n"
        "least.CELLS = 0\n"
        "found.append(assign(chain(2), {}, Target()))\n"
        "print([(sorted((n, x.order) for n, x in a.layouts.items()), a.reasons) for a in found])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("0", "1", "4242")
    }
    assert len(said) == 1


# --- results ---------------------------------------------------------------------------------------------------------


def results(got: object) -> tuple[ph.Array, ...]:
    """What a call returned: nothing, one array or several."""
    return got if isinstance(got, tuple) else () if got is None else (got,)  # type: ignore[return-value]


def test_results_do_not_depend_on_layouts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assignment, "WORTH", 0)
    turned = 0

    @seed(3)
    @settings(max_examples=50, deadline=None)
    @given(programs(), st.integers(0, 99), st.sampled_from(["global", "greedy"]), st.sampled_from([None, "reversed"]))
    def check(p: Program, number: int, how: str, order: str | None):
        inputs = inputs_for(p, {}, number)
        want = run(p, {n: v.copy() for n, v in inputs.items()})
        nonlocal turned
        agree(p, run_c(p, inputs, {}, Options(threads=1, layouts=how), order), want, inputs)
        low = ph.lower(p, options=Options(threads=1, layouts=how))
        got = low.compile()(**{n: v.copy() for n, v in inputs.items()})
        names = [a.name for a in p.with_role(Role.OUTPUT)]
        found = dict(zip(names, results(got), strict=True))
        found = {n: np.asarray(v.positional(p.array(n).dim_names)) for n, v in found.items()}
        agree(p, {**want, **found}, want, inputs)
        orders = {a.name: a.dim_names for a in p.arrays}
        turned += any(low.layouts[n].order != orders[n] for n in low.built.assigned.reasons if n in low.layouts)

    check()
    assert turned >= 3


@pytest.mark.parametrize("how", ["global", "greedy"])
def test_results_between_adverse_layouts(how: str):
    p = parse(ADVERSE)
    inputs = inputs_for(p, {}, 5, "real")
    want = run(p, inputs)
    for order in (None, "reversed"):
        got = run_c(p, inputs, {}, Options(threads=1, layouts=how), order)
        for name in ("Y", "Z"):
            np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)
