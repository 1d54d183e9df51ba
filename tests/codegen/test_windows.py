# SPDX-License-Identifier: MIT
"""Windows that slide along the rows of a register tile: their steps are written out, and each vector is loaded once."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import render
from polyhedral.machine import target
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

SLIDING = """
program sliding
  input X: {t}[g: 2, x: {n}, c: {c}]
  input K: {t}[g: 2, v: {k}, x: {w}]
  output out: {t}[g: 2, x: {w}, c: {c}]
  S0: for g < 2, x < {w}, c < {c}:  out = {op}[v < {k}] X(x={s}*x + v) {with_} K
"""
"""One kernel for all channels at each place, channels last: lanes are channels, rows are places."""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch):
    found = replace(target.host(2), vector=64, registers=32, masked=True)
    monkeypatch.setattr(session, "_target", lambda root, cores: found)


def sliding(w: int, c: int, k: int, s: int = 1, t: str = "f32", op: str = "sum", with_: str = "*") -> Program:
    n = s * (w - 1) + k
    return parse(SLIDING.format(t=t, w=w, c=c, k=k, s=s, n=n, op=op, with_=with_))


CASES = {
    "whole tiles": sliding(16, 16, 5),
    "rows left over": sliding(19, 16, 7),
    "lanes left over": sliding(14, 21, 3),
    "stride two": sliding(12, 16, 5, 2),
    "doubles": sliding(13, 8, 3, t="f64"),
    "maximum": sliding(17, 32, 4, op="max", with_="+"),
    "integers": sliding(17, 32, 4, t="i32", op="min", with_="+"),
    "one step": sliding(9, 16, 1),
    "one row": sliding(1, 40, 5),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled_is_interpreted(name: str):
    p = CASES[name]
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, Options(threads=2, plan_above=1)), run(p, inputs), inputs)


def test_each_vector_of_a_window_is_loaded_once():
    p = CASES["whole tiles"]
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    lowered = driver.lower(p, given, Options(threads=2, plan_above=1))
    assert "written out" in str(render(lowered.scheduled.schedule.tree, {}))
    loads = re.findall(r"kept_f32x16\(\*\(const f32x16 \*\)&X\[([^]]*)\]", lowered.source.text)
    steps = re.findall(r"= out_step_vs\(", lowered.source.text)
    assert len(loads) == len(set(loads))
    assert len(steps) % 5 == 0
    rows = len(steps) // 5
    assert len(loads) <= rows + 4
