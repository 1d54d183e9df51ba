# SPDX-License-Identifier: MIT
"""How many steps of a register tile's inner loop lie between two of its branches; lengths that they do not divide."""

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

PRODUCT = """
program product
  input A: f32[i: {i}, k: {k}]
  input B: f32[k: {k}, j: {j}]
  output C: f32[i: {i}, j: {j}]
  S0: for i < {i}, j < {j}:
    C = sum[k < {k}] A * B
"""
OPTIONS = Options(threads=1, plan_above=1)


@pytest.fixture(autouse=True)
def sixteen_registers(monkeypatch: pytest.MonkeyPatch):
    """The same tiles on any machine."""
    found = replace(target.host(1), vector=16, registers=16, masked=False)
    monkeypatch.setattr(session, "_target", lambda root, cores: found)


def product(i: int, j: int, k: int) -> Program:
    return parse(PRODUCT.format(i=i, j=j, k=k))


def steps(p: Program) -> list[int]:
    """What is asked of the compiler for loops over `k`."""
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    text = driver.lower(p, given, OPTIONS).source.text
    return [int(n) for n in re.findall(r"#pragma GCC unroll (\d+)\n\s*for \(int64_t k = ", text)]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 8, 9, 15, 67])
def test_compiled_is_interpreted(k: int):
    p = product(13, 21, k)
    inputs = inputs_for(p, {})
    agree(p, run_c(p, inputs, {}, OPTIONS), run(p, inputs), inputs)


def test_a_long_loop_of_a_small_tile_does_four_steps_at_a_time():
    assert set(steps(product(48, 48, 48))) == {4}


def test_a_loop_of_a_few_more_steps_is_left_as_it_is():
    assert steps(product(48, 48, 6)) == []


def kept(p: Program) -> list[list[str]]:
    """The registers that are held together after a loop."""
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    text = driver.lower(p, given, OPTIONS).source.text
    return [re.findall(r"&(\w+)", call) for call in re.findall(r"^ +kept\d+_\w+\((.*)\);", text, re.M)]


def test_a_loop_that_is_unrolled_whole_leaves_its_results_in_their_registers():
    (names,) = kept(product(12, 8, 4))
    assert 1 < len(names) <= 15
    assert len(set(names)) == len(names)
    assert all(name.startswith("acc_C_") for name in names)


@pytest.mark.parametrize("k", [1, 5, 48])
def test_other_loops_are_left_to_the_compiler(k: int):
    assert kept(product(12, 8, k)) == []


def test_more_registers_than_one_piece_of_assembly_takes_are_left_to_the_compiler(monkeypatch: pytest.MonkeyPatch):
    found = replace(target.host(1), vector=16, registers=32, masked=False)
    monkeypatch.setattr(session, "_target", lambda root, cores: found)
    p = product(6, 16, 4)
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    text = driver.lower(p, given, OPTIONS).source.text
    assert len(set(re.findall(r"acc_C_\w+", text))) > 15
    assert kept(p) == []
