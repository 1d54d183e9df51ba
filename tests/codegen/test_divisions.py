# SPDX-License-Identifier: MIT
"""Convolutions that only skip: copies hold the cells that are read, and divide without a support function."""

from __future__ import annotations

import pytest

from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.operands import box, interval, operands
from polyhedral.ir.program import Program, Role
from polyhedral.rewrites.relay import relay
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

SKIPPING = """
program skipping
  input X: f32[b: {b}, c: {c}, y: {h}, x: {h}]
  input W: f32[o: {o}, c: {c}, ky: 1, kx: 1]
  output out: f32[b: {b}, o: {o}, y: {m}, x: {m}]
  S0: for b < {b}, o < {o}, y < {m}, x < {m}:  out = sum[c < {c}, ky < 1, kx < 1] X(y={s}*y + ky, x={s}*x + kx) * W
"""
PLANS = Options(threads=2, plan_above=1)


def skipping(b: int, c: int, o: int, m: int, s: int) -> Program:
    return parse(SKIPPING.format(b=b, c=c, o=o, m=m, s=s, h=s * m))


@pytest.mark.parametrize("shape", [(2, 16, 24, 14, 2), (1, 8, 12, 7, 3), (3, 5, 6, 28, 2), (1, 16, 16, 16, 2)], ids=str)
def test_compiled_is_interpreted(shape: tuple[int, int, int, int, int]):
    p = skipping(*shape)
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, PLANS), run(p, inputs), inputs)


def test_what_no_one_reads_is_not_copied():
    p = skipping(8, 64, 128, 14, 2)
    given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
    lowered = driver.lower(p, given, PLANS)
    copies = [a for a in lowered.program.arrays if a.role is Role.TEMPORARY]
    cells = 8 * 64 * 14 * 14
    assert copies, "the rows of X lie two cells apart: vectors want a copy"
    for a in copies:
        size = 1
        for _, e in a.dims:
            size *= e.const
        assert size < 1.25 * cells, a
    assert "floord" not in lowered.source.text


WRAPPED = """
program wrapped
  input X: f32[a: 3, c: 64, x: 60]
  input W: f32[o: 48, c: 64]
  output out: f32[i: 8, o: 48, x: 30]
  S0: for i < 8, o < 48, x < 30:  out = sum[c < 64] X(a=2*i - 4*(i//2), x=2*x) * W
"""


def test_cells_that_wrap_around_are_copied_from_the_array_only():
    p = parse(WRAPPED)
    s = p.statements[0]
    o = next(o for o in operands(s, {a.name: row_major(a) for a in p.arrays}) if o.load.array == "X")
    made = relay(p.array("X"), o, box(s.domain), "x", 8, s.dims, "X_panels")
    assert made is not None
    load = next(ex.loads(made.copy.value))
    cells = {r.dim: (0, r.hi.const - 1) for r in made.copy.domain.ranges}
    first, last = interval(next(i for d, i in load.index if d == "a" and isinstance(i, aff.Affine)), cells)
    assert 0 <= first <= last < 3
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, PLANS), run(p, inputs), inputs)
