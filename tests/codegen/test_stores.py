# SPDX-License-Identifier: MIT
"""Results through shuffles and past the caches: what reaches memory is what was computed, wherever arrays begin."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.runtime.native import address
from codegen.shuffles import Woven, weave
from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.running import loading
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import render
from polyhedral.machine import target
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import Loop, RegisterPlan
from polyhedral.plans.stores import APART, storing
from polyhedral.text.reader import parse
from tests.programs import CASES
from tests.running import agree, run_c
from tests.strategies import inputs_for

VOTES = """
program votes
  input P: f32[y: {h}, c: {c}, i: {i}, k: 3]
  input W: f32[u: 2, c: {c}, o: {o}, k: 3, j: {j}]
  output out: f32[y: {m}, u: 2, c: {c}, o: {o}, i: {i}, j: {j}]
  S0: for y < {m}, u < 2, c < {c}, o < {o}, i < {i}, j < {j}:  out = sum[k < 3] P(y=2*y + u) * W
"""
OUTER = """
program outer
  input A: {t}[i: {n}, k: 2]
  input B: {t}[j: {m}, k: 2]
  output out: {t}[{order}]
  S0: for i < {n}, j < {m}:  out = {op}[k < 2] A * B
"""


def votes(m: int, c: int, o: int, i: int, j: int) -> Program:
    return parse(VOTES.format(h=2 * m, m=m, c=c, o=o, i=i, j=j))


def outer(n: int, m: int, t: str = "f32", op: str = "sum", order: str = "i j") -> Program:
    sizes = {"i": n, "j": m}
    return parse(OUTER.format(n=n, m=m, t=t, op=op, order=", ".join(f"{d}: {sizes[d]}" for d in order.split())))


MAP = """
program map
  input X: {t}[{order}]
  input b: {t}[j: {m}]
  output out: {t}[i: {n}, j: {m}]
  S0: for i < {n}, j < {m}:  out = {value}
"""


def mapped(n: int, m: int, t: str = "f32", value: str = "X", order: str = "j i") -> Program:
    sizes = {"i": n, "j": m}
    shown = ", ".join(f"{d}: {sizes[d]}" for d in order.split())
    return parse(MAP.format(n=n, m=m, t=t, order=shown, value=value))


PROGRAMS = {
    "transposed copy": mapped(32, 48),
    "transposed with leftovers": mapped(37, 53),
    "transposed below a vector": mapped(3, 64),
    "transposed f64": mapped(16, 24, "f64", "X * X + b"),
    "transposed integers": mapped(33, 34, "i32", "max(X, b)"),
    "copy": mapped(5, 64, order="i j"),
    "pointwise": mapped(7, 80, "f32", "X * b - min(X, b)", "i j"),
    "pointwise with leftovers": mapped(7, 79, "f64", "X / (b * b + 1.0)", "i j"),
    "functions": mapped(7, 80, "f32", "exp(X) / (sqrt(b * b) + 1.0)", "i j"),
    "functions with leftovers": mapped(7, 79, "f64", "log(abs(X) + 1.0) * exp(b)", "i j"),
    "scalars along the lanes": mapped(32, 16, "f32", "-X + 2.0", "i j"),
    "whole lines": votes(3, 4, 16, 4, 4),
    "through registers": votes(2, 1, 8, 4, 4),
    "pairs": votes(2, 3, 32, 2, 2),
    "odd rows": votes(2, 3, 8, 3, 4),
    "primes": votes(3, 2, 7, 5, 3),
    "ones": votes(1, 1, 1, 1, 1),
    "dense": outer(32, 64),
    "transposed": outer(32, 64, order="j i"),
    "f64": outer(16, 32, "f64", order="j i"),
    "integers": outer(16, 48, "i32", "max"),
    "long integers": outer(24, 40, "i64", order="j i"),
    "a lane more": outer(7, 65),
    "a lane less": outer(13, 31, order="j i"),
}


@pytest.fixture
def tiny_caches(monkeypatch: pytest.MonkeyPatch):
    """A machine on which every result is too large for the caches."""
    monkeypatch.setattr(session, "_target", lambda root, cores: replace(target.host(cores), l3=0))


def cases() -> dict[str, Program]:
    return PROGRAMS | {n: c.program for n, c in CASES.items() if not c.program.sizes}


@pytest.mark.usefixtures("tiny_caches")
@pytest.mark.parametrize("name", cases())
def test_compiled_is_interpreted(name: str):
    p = cases()[name]
    inputs = inputs_for(p, {}, values="real")
    expected = run(p, inputs)
    for order in (None, "reversed"):
        agree(p, run_c(p, inputs, {}, Options(threads=2, plan_above=1), order), expected, inputs)


@pytest.mark.usefixtures("tiny_caches")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("skew", [0, 1, 3, 8, 15])
def test_results_begin_anywhere(skew: int, threads: int):
    """Stores past the caches need whole vectors at multiples of their size; elsewhere they are ordinary ones."""
    p = PROGRAMS["whole lines"]
    inputs = inputs_for(p, {}, values="real")
    built = driver.lower(p, {a.name: row_major(a) for a in p.arrays}, Options(threads=threads, plan_above=1))
    assert "stream_" in built.source.text
    assert "stored past the caches" in str(render(built.scheduled.schedule.tree, {}))
    native, _, _ = loading.load(built)
    arrays = {a.name: a for a in built.program.arrays}
    data: dict[str, np.ndarray] = {}
    for name in built.source.buffers:
        shape = tuple(e.const for _, e in arrays[name].dims)
        raw = np.zeros(int(np.prod(shape)) + 64, np.float32)
        start = -(address(raw) // 4) % 16 + (skew if arrays[name].role is Role.OUTPUT else 0)
        data[name] = raw[start : start + int(np.prod(shape))].reshape(shape)
        if name in inputs:
            data[name][...] = inputs[name]
    assert native([address(data[n]) for n in built.source.buffers], [], threads) == 0
    agree(p, {"out": data["out"]}, run(p, inputs), inputs)


def woven(registers: dict[str, tuple[int, ...]], found: Woven) -> list[tuple[int, tuple[int, ...]]]:
    """What the shuffles make of the cells."""
    values = dict(registers)
    for s in found.shuffles:
        both = (*values[s.first], *values[s.second])
        values[s.made] = tuple(both[i] for i in s.lanes)
    return [(first, values[name]) for name, first in found.lines]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 1 << 30))
def test_shuffles_bring_cells_in_order(rows: int, inner: int, outer: int, salt: int):
    """Every tile whose rows and lanes are powers of two, its digits in any order."""
    rng = random.Random(salt)
    digits = [("row", 1 << rows), ("lane", 1 << min(inner, 4)), ("lane", 1 << min(outer, 4 - min(inner, 4)))]
    rng.shuffle(digits)
    lanes = [n for what, n in digits if what == "lane"]
    strides, step = {}, 1
    for at, (_, n) in enumerate(digits):
        strides[at] = step
        step *= n
    fast, slow = (strides[i] for i, (what, _) in enumerate(digits) if what == "lane")
    row = next(strides[i] for i, (what, _) in enumerate(digits) if what == "row")
    registers = {
        f"r{r}": tuple(r * row + a * fast + b * slow for b in range(lanes[1]) for a in range(lanes[0]))
        for r in range(1 << rows)
    }
    found = weave(registers, "t")
    assert found is not None
    width = lanes[0] * lanes[1]
    assert woven(registers, found) == [(f, tuple(range(f, f + width))) for f in range(0, width << rows, width)]
    assert len(found.shuffles) <= max(rows, 1) << rows


def test_what_leaves_gaps_is_not_woven():
    assert weave({"a": (0, 1), "b": (4, 6)}, "t") is None
    assert weave({"a": (0, 1), "b": (0, 1)}, "t") is None
    assert weave({"a": (0, 3), "b": (1, 4), "c": (2, 5)}, "t") is None


def test_results_that_go_to_several_pages_in_turn_take_memory_longer():
    p = parse("""
    program filled
      input A: f32[k: 4, y: 64, x: 1024, i: 64]
      output out: f32[y: 64, x: 1024, i: 64]
      S0: for y < 64, x < 1024, i < 64: out = sum[k < 4] A
    """)
    s = p.statement("S0")
    small = Target(l3=1 << 20)
    loops = (Loop("y", 1), Loop("x", 1), Loop("i", 16))

    def cycles(*rows: tuple[str, int]) -> float:
        plan = RegisterPlan("i", 16, rows, ("k",), loops)
        return storing(p, s, plan, row_major(p.array("out")), small)

    near = cycles(("x", 2))
    assert near == 64 * 1024 * 64 * 4 / small.bytes_per_cycle
    assert cycles(("y", 2)) == APART * near
    assert cycles(("y", 1)) == near
