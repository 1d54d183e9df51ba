# SPDX-License-Identifier: MIT
"""Operands that are asked for ahead, and rows of a window that share a test: what is computed stays what it was."""

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
from polyhedral.machine import target
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

INVOLUTION = """
program involution
  input X: f32[g: 2, c: {c}, y: {h}, x: {w}]
  input K: f32[g: 2, u: 5, v: 5, y: {h}, x: {w}]
  output out: f32[g: 2, c: {c}, y: {h}, x: {w}]
  S0: for g < 2, c < {c}, y < {h}, x < {w}:
    out = sum[u < 5, v < 5] K
      * where(y + u >= 2 and y + u < {h} + 2 and x + v >= 2 and x + v < {w} + 2, X(y=y + u - 2, x=x + v - 2), 0.0)
"""
"""A kernel for each position, in as many planes as it has cells."""


@pytest.fixture(autouse=True)
def tiny_caches(monkeypatch: pytest.MonkeyPatch):
    """A wide machine with caches that hold nothing."""
    found = replace(target.host(2), vector=64, registers=32, l2=64, masked=True)
    monkeypatch.setattr(session, "_target", lambda root, cores: found)


def involution(c: int, h: int, w: int) -> Program:
    return parse(INVOLUTION.format(c=c, h=h, w=w))


@pytest.mark.parametrize(("c", "h", "w"), [(16, 6, 32), (16, 4, 24), (5, 7, 19), (3, 3, 17), (1, 2, 50)])
def test_compiled_is_interpreted(c: int, h: int, w: int):
    p = involution(c, h, w)
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, Options(threads=2, plan_above=1)), run(p, inputs), inputs)


def test_planes_are_asked_for_ahead_and_rows_share_their_test():
    p = involution(16, 6, 32)
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    text = driver.lower(p, given, Options(threads=2, plan_above=1)).source.text
    assert "__builtin_prefetch(&K[" in text
    assert text.count("const float *X_") < 16


ROUTED = """
program routed
  input P: f32[n: 64, k: 288, p: 4, r: 4]
  input W: f32[k: 288, o: 32, q: 4, r: 4]
  temporary V: f32[n: 64, k: 288, o: 32, p: 4, q: 4]
  temporary M: f32[n: 64, o: 32, p: 4, q: 4]
  output Z: f32[n: 64, k: 288, o: 32]
  V: for n < 64, k < 288, o < 32, p < 4, q < 4: V = sum[r < 4] P * W
  M: for n < 64, o < 32, p < 4, q < 4: M = sum[k < 288] V
  Z: for n < 64, k < 288, o < 32: Z = sum[p < 4, q < 4] (V - M) * (V - M)
"""


def test_what_a_block_keeps_is_not_asked_for(monkeypatch: pytest.MonkeyPatch):
    """It lies in the second cache, however large all blocks together are."""
    small = replace(target.Target(cores=2), l3=1 << 22)
    monkeypatch.setattr(session, "_target", lambda root, cores: small)
    p = parse(ROUTED)
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    text = driver.lower(p, given, Options(threads=2)).source.text
    assert "float V[" in text
    assert "__builtin_prefetch(&V[" not in text


ROWS = """
program rows
  input X: f32[i: 16, j: {j}]
  temporary top: f32[i: 16]
  temporary e: f32[i: 16, j: {j}]
  temporary total: f32[i: 16]
  output out: f32[i: 16, j: {j}]
  S0: for i < 16: top = max[j < {j}] {value}
  S1: for i < 16, j < {j}: e = {grown}
  S2: for i < 16: total = sum[j < {j}] e
  S3: for i < 16, j < {j}: out = e / total
"""


def rows(j: int, value: str, grown: str) -> tuple[Program, str]:
    p = parse(ROWS.format(j=j, value=value, grown=grown))
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    return p, driver.lower(p, given, Options(threads=2, plan_above=1)).source.text


@pytest.mark.parametrize("vector", [32, 64])
def test_exponentials_ask_for_the_next_row(monkeypatch: pytest.MonkeyPatch, vector: int):
    """Every line of the row once, and not where its maximum is sought."""
    found = replace(target.host(2), vector=vector, l2=64)
    monkeypatch.setattr(session, "_target", lambda root, cores: found)
    p, text = rows(256, "X", "exp(X - top)")
    maximum, exponentials = text[text.rindex("float max") if "float max" in text else 0 :].split("int64_t j = 0;")[:2]
    assert "__builtin_prefetch(" not in maximum
    step = int(re.findall(r"j \+= (\d+)", exponentials)[0])
    asked = re.findall(
        r"__builtin_prefetch\(&X\[(?:j \+ 256 \* i|256 \* i \+ j)(?: \+ (\d+))?\] \+ 256\)", exponentials
    )
    assert sorted(int(at or 0) for at in asked) == list(range(0, step, 16))
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, Options(threads=2, plan_above=1)), run(p, inputs), inputs)


@pytest.mark.parametrize(
    ("value", "grown"),
    [("X", "exp(X(i=15 - i) - top)"), ("X", "exp(X(j=255 - j) - top)"), ("X", "X - top"), ("X", "exp(top)")],
)
def test_loops_over_other_cells_do_not_ask_for_them(value: str, grown: str):
    _, text = rows(256, value, grown)
    asking = [loop for loop in text.split("for (") if "__builtin_prefetch(&X" in loop]
    assert len(asking) == 1
    assert "acc_top" in asking[0]
