# SPDX-License-Identifier: MIT
"""Equal temporaries become one whatever their dims are called, and only equal ones do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from polyhedral.checks.check import check
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Access, Domain, Program, Range, Role, Statement, reads
from polyhedral.rewrites import canonical
from polyhedral.rewrites.canonical import Forms
from polyhedral.rewrites.common import merge_common
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from tests.strategies import inputs_for, programs

TWICE = """
program twice
  input X: f32[i: 6, j: 6]
  input W: f32[k: 6]
  temporary A: f32[y: 6, z: 6]
  temporary B: f32[p: 6, q: 6]
  temporary C: f32[y: 6]
  temporary D: f32[t: 6]
  output out: f32[i: 6]
  A: for y < 6, z < 6:  A = sum[k < 6 if k <= y] X(i=y, j=k) * W(k=k) + X(i=z, j=z)
  B: for p < 6, t < 6:  B(p=p, q=t) = sum[j < 6 if j <= t] X(i=p, j=p) + W(k=j) * X(i=t, j=j)
  C: for y < 6:  C = max[z < 6] A
  D: for t < 6:  D = max[p < 6] B(p=p, q=t)
  out: for i < 6:  out = C(y=i) - D(t=5 - i)
"""


def test_names_of_dims_order_of_operands_and_axes_do_not_matter():
    """A chain: C and D are equal because A and B are."""
    p = parse(TWICE)
    q, remarks = merge_common(p)
    assert [s.name for s in q.statements] == ["A", "C", "out"]
    assert {a.name for a in q.arrays} == {"X", "W", "A", "C", "out"}
    assert [r.statement for r in remarks] == ["B", "D"]
    check(q)
    inputs = inputs_for(p, {})
    np.testing.assert_array_equal(run(p, inputs)["out"], run(q, inputs)["out"])
    assert merge_common(q)[0] is q


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("if j <= t", "if j < t"),
        ("max[p < 6]", "min[p < 6]"),
        ("p < 6, t < 6", "p < 6, t < 5"),
        ("W(k=j) * X(i=t, j=j)", "W(k=j) * X(i=j, j=t)"),
        ("X(i=p, j=p) + W", "X(i=p, j=p) - W"),
        ("temporary D: f32[t: 6]", "output D: f32[t: 6]"),
        ("D: for t < 6:", "D: for t < 6 strict:"),
    ],
)
def test_what_differs_stays(was: str, now: str):
    assert was in TWICE
    p = parse(TWICE.replace(was, now))
    q, _ = merge_common(p)
    assert "D" in {s.name for s in q.statements}


def test_signs_of_zero_and_kinds_of_one_differ():
    p = parse("""
    program zeros
      input X: f32[i: 3]
      temporary A: f32[i: 3]
      temporary B: f32[i: 3]
      output out: f32[i: 3]
      A: for i < 3:  A = X * 0.0
      B: for i < 3:  B = X * -0.0
      out: for i < 3:  out = 1.0 / A - 1.0 / B
    """)
    assert merge_common(p)[0] is p


def test_a_second_equal_output_is_a_copy():
    p = parse("""
    program outputs
      input X: f32[i: 4, j: 5]
      output A: f32[y: 4]
      output B: f32[t: 4]
      output C: f32[t: 5]
      output D: f32[t: 5]
      A: for y < 4:  A = sum[k < 5] X(i=y, j=k)
      B: for z < 4:  B(t=z) = sum[q < 5] X(i=z, j=q)
      B2: for z < 5:  C(t=z) = X(i=0, j=z)
      B3: for z < 5:  D(t=z) = X(i=0, j=z)
    """)
    q, remarks = merge_common(p)
    assert [r.statement for r in remarks] == ["B"]  # a copy of C costs as much as D does
    (load,) = reads(q.statement("B"))
    assert (load.array, q.statement("B").op) == ("A", None)
    inputs = inputs_for(p, {})
    for n, value in run(p, inputs).items():
        np.testing.assert_array_equal(run(q, inputs)[n], value)


def test_memory_is_never_merged():
    """Equal texts at different times."""
    p = parse("""
    program memory
      inout M: f32[i: 4]
      temporary A: f32[i: 4]
      temporary B: f32[i: 4]
      output out: f32[i: 4]
      A: for i < 4 at (0):  A = 2.0 * M
      M: for i < 4 at (1):  M = 3.0 * M
      B: for i < 4 at (2):  B = 2.0 * M
      out: for i < 4 at (3):  out = A - B
    """)
    assert merge_common(p)[0] is p


def test_recurrences_are_compared_by_what_they_do():
    p = parse("""
    program recurrences
      input X: f32[i: 6]
      temporary u: f32[i: 6, s: 2]
      temporary v: f32[s: 2, t: 6]
      output out: f32[i: 6]
      u: for i < 6, s < 2:  u = where(1 <= i, u(i=i - 1), 0.0) + X
      v: for s < 2, t < 6:  v = X(i=t) + where(1 <= t, v(t=t - 1), 0.0)
      out: for i < 6:  out = u(s=0) * v(s=1, t=i)
    """)
    q, remarks = merge_common(p)
    assert [r.statement for r in remarks] == ["v"]
    inputs = inputs_for(p, {})
    np.testing.assert_array_equal(run(p, inputs)["out"], run(q, inputs)["out"])


# --- random programs -------------------------------------------------------------------------------------------------


@cache
def drawn(n: int) -> tuple[Program, ...]:
    found: list[Program] = []

    @settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def collect(p: Program) -> None:
        found.append(p)

    collect()
    return tuple(found)


def twin(p: Program, rng: random.Random, *, exact: bool) -> Program | None:
    """The program with a statement once more under other names, axes and operand orders, and its results returned; not
    `exact`: with a small difference.
    """
    writers = Counter(s.write.array for s in p.statements)
    inout = {a.name for a in p.with_role(Role.INOUT)}
    may = [
        s
        for s in p.statements
        if writers[s.write.array] == 1
        and s.write.array not in inout
        and not inout & {load.array for load in reads(s)}
        and p.array(s.write.array).role is Role.OUTPUT
    ]
    if not may:
        return None
    s = rng.choice(may)
    a = p.array(s.write.array)
    name = dict(zip(rng.sample(s.dims, len(s.dims)), (f"n{k}" for k in range(9)), strict=False))
    axes = rng.sample(a.dims, len(a.dims))
    renamed = _renamed(s, name, tuple(d for d, _ in axes), rng)
    if not exact:
        renamed = _changed(renamed, rng)
    twins = replace(a, name="twin", dims=tuple(axes), role=Role.TEMPORARY)
    copy = replace(a, name="copy")
    at = tuple((d, aff.var(d)) for d, _ in a.dims)
    load = ex.Load("twin", tuple((d, aff.var(d)) for d, _ in axes), a.dtype)
    box = tuple(Range(d, aff.const(0), e) for d, e in a.dims)
    place = max(s.position[0] for s in p.statements if isinstance(s.position[0], int)) + 1
    last = Statement("copy", Domain(box), Access("copy", at), load, position=(place + 1,))
    return replace(
        p, arrays=(*p.arrays, twins, copy), statements=(*p.statements, replace(renamed, position=(place,)), last)
    )


def _renamed(s: Statement, name: dict[str, str], axes: tuple[str, ...], rng: random.Random) -> Statement:
    at = {d: aff.var(n) for d, n in name.items()}

    def one(e: aff.Affine) -> aff.Affine:
        return aff.substitute(e, at)

    def other(e: ex.Expr) -> ex.Expr:
        match e:
            case ex.Load(array, index, dtype) if array == s.write.array:
                return ex.Load("twin", tuple((d, dict(index)[d]) for d in axes), dtype)
            case ex.Binary("+" | "*" as op, a, b) if rng.random() < 0.5:
                return ex.Binary(op, b, a)
            case _:
                return e

    ranges = [Range(name[r.dim], one(r.lo), one(r.hi)) for r in s.domain.ranges]
    if all(r.lo.is_const and r.hi.is_const for r in ranges) and not s.strict:
        rng.shuffle(ranges)
    written = dict(s.write.index)
    return replace(
        s,
        name="twin",
        domain=Domain(tuple(ranges), aff.map_affine(s.domain.guard, one)),
        write=Access("twin", tuple((d, one(written[d])) for d in axes)),
        value=ex.substitute(ex.rewrite(s.value, other), at),
    )


def _changed(s: Statement, rng: random.Random) -> Statement:
    """Another value, operator, order or set of instances; the cells stay defined."""
    dtype = ex.dtype_of(s.value)
    kinds = ["value", "zero"] + ["order", "operator", "shorter"] * (s.op is not None)
    match rng.choice(kinds):
        case "order":
            return replace(s, strict=not s.strict)
        case "operator":
            return replace(s, op="max" if s.op != "max" else "min")
        case "shorter":
            d = rng.choice(s.reduced) if s.reduced else s.dims[0]
            return replace(s, domain=Domain(s.domain.ranges, aff.both(s.domain.guard, aff.at_least(aff.var(d), 1))))
        case "zero" if dtype.is_float:
            return replace(s, value=ex.Binary("*", s.value, ex.Const(-0.0, dtype)))
        case _:
            one = ex.Const(1.0 if dtype.is_float else 1, dtype)
            return replace(s, value=ex.Binary("+", s.value, one))


def twins(n: int, *, exact: bool) -> Iterator[Program]:
    for k, p in enumerate(drawn(n)):
        q = twin(p, random.Random(k), exact=exact)
        if q is not None and (exact or not any(s.name == "twin" and not s.reduced and s.op for s in q.statements)):
            yield q


def differs(p: Program, q: Program) -> bool:
    inputs = inputs_for(p, {}, 0, "whole" if p.name == "whole" else "special")
    want, got = run(p, inputs), run(q, inputs)
    return any(not np.array_equal(got[n], w, equal_nan=w.dtype.kind in "fc") for n, w in want.items())


def test_every_twin_is_found():
    found = 0
    for p in twins(250, exact=True):
        q, _ = merge_common(p)
        assert "twin" not in {s.name for s in q.statements}, to_text(p)
        assert not differs(p, q), to_text(p)
        found += 1
    assert found >= 60


def test_no_near_twin_changes_a_result():
    tried = 0
    for p in twins(250, exact=False):
        assert not differs(p, merge_common(p)[0]), to_text(p)
        tried += 1
    assert tried >= 60


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("condition", lambda self, c: 0),
        ("_value", lambda self, e, axes: 0),
        ("affine", lambda self, e: 0),
    ],
)
def test_a_careless_comparison_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, mutant: object):
    monkeypatch.setattr(canonical._Colouring, name, mutant)
    assert any(_goes_wrong(p) for p in twins(250, exact=False))


def _goes_wrong(p: Program) -> bool:
    try:
        return differs(p, merge_common(p)[0])
    except Exception:  # an undefined cell, a read out of bounds
        return True


# --- work ------------------------------------------------------------------------------------------------------------


def long_program(n: int) -> Program:
    """A chain of n pairs of equal statements."""
    arrays = ["input X0: f32[i: 4, j: 4]"]
    text: list[str] = []
    for k in range(1, n + 1):
        arrays += [f"temporary X{k}: f32[i: 4, j: 4]", f"temporary Y{k}: f32[a: 4, b: 4]"]
        left, right = (f"Y{k - 1}", f"Y{k - 1}(a=b, b=a)") if k > 1 else ("X0(i=a, j=b)", "X0(i=b, j=a)")
        text.append(f"X{k}: for i < 4, j < 4:  X{k} = X{k - 1} * 2.0 + X{k - 1}(i=j, j=i)")
        text.append(f"Y{k}: for a < 4, b < 4:  Y{k} = {right} + 2.0 * {left}")
    text.append(f"out: for i < 4, j < 4:  out = X{n} - Y{n}(a=i, b=j)")
    return parse("\n  ".join(["program long", *arrays, "output out: f32[i: 4, j: 4]", *text]))


def test_work_grows_with_the_program():
    visits: list[int] = []
    for n in (50, 100, 200):
        forms = Forms()
        q, _ = merge_common(long_program(n), forms)
        assert len(q.statements) == n + 1
        visits.append(forms.visits[0])
    assert visits[2] - visits[1] <= 2.1 * (visits[1] - visits[0])
