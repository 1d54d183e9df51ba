# SPDX-License-Identifier: MIT
"""Copies of operands: what is left of their rows is copied in vectors too, beside the rest; panels are whole vectors
wide; and what it costs to look for each cell is known.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import polyhedral as ph
from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.lowering.built import Built
from frontend.lowering.given import Given
from frontend.lowering.hints import NO_HINTS
from polyhedral.dim import c, kx, ky, x, y
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.operands import box, extents_of, operands
from polyhedral.ir.program import Program, Statement
from polyhedral.machine import target
from polyhedral.plans.preferences import Preferences, alternatives
from polyhedral.plans.stores import alike
from polyhedral.plans.tiles import ALONE, Setting, copying
from polyhedral.rewrites.fuse_dims import fuse_dims
from polyhedral.rewrites.relay import Relaid, relay
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

SKIPPING = """
program skipping
  input X: f32[b: {b}, c: {c}, y: {h}, x: {h}]
  input W: f32[o: {o}, c: {c}]
  output out: f32[b: {b}, o: {o}, y: {m}, x: {m}]
  S0: for b < {b}, o < {o}, y < {m}, x < {m}:  out = sum[c < {c}] X(y={s}*y, x={s}*x) * W
"""
PLANS = Options(threads=2, plan_above=1)


@pytest.fixture(autouse=True, params=[(64, 32), (32, 16)], ids=["16 lanes", "8 lanes"])
def wide(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    vector, registers = request.param
    found = replace(target.host(2), vector=vector, registers=registers, masked=True)
    monkeypatch.setattr(session, "_target", lambda root, cores: found)


@ph.function(X="b c y x", W="o c ky kx", returns="b o y x")
def convolution(X, W, *, s: int, pad: int):
    return (X.pad(y=pad, x=pad)[s * y + ky - pad, s * x + kx - pad] * W).sum(c, ky, kx)


def given(b: int, c: int, o: int, m: int, k: int, s: int) -> Given:
    """A convolution to m x m results, its weights constant."""
    h = s * (m - 1) + k - 2 * (k // 2)
    low = convolution.lower(
        X=f"f32[b:{b}, c:{c}, y:{h}, x:{h}]", W=f"f32[o:{o}, c:{c}, ky:{k}, kx:{k}]", s=s, pad=k // 2
    )
    return replace(low.given, options=PLANS, constants=frozenset({"W"}))


def skipping(b: int, c: int, o: int, m: int, s: int) -> Program:
    return parse(SKIPPING.format(b=b, c=c, o=o, m=m, s=s, h=s * m))


SHAPES = {
    "rows left over": (2, 5, 40, 28, 3, 2),
    "part of a vector": (1, 7, 24, 14, 1, 2),
    "one lane left over": (2, 3, 16, 17, 3, 1),
    "less than a vector": (1, 9, 20, 5, 3, 2),
    "primes": (3, 7, 13, 29, 5, 3),
    "places apart": (4, 8, 9, 7, 1, 3),
}


@cache
def interpreted(p: Program) -> dict[str, np.ndarray]:
    """The same for every machine."""
    return run(p, inputs_for(p, {}, values="real"))


@pytest.mark.parametrize("name", SHAPES)
def test_compiled_is_interpreted(name: str):
    p = given(*SHAPES[name]).program
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, PLANS), interpreted(p), inputs)


def preferring(g: Given, vector: str, copied_along: str) -> Built:
    """The best plan with lanes along one dim that copies X along another."""
    (choice,) = driver.lower(g.program, g.layouts, g.options, constants=g.constants).choices.values()
    assert choice.asked is not None
    every = (x for x, _ in alternatives(choice.asked) if x.vector == vector)
    wanted = next(x for x in every if ("X", copied_along) in [of[:2] for of in x.relaid])
    hints = replace(NO_HINTS, plans=Preferences((wanted,)))
    return driver.lower(g.program, g.layouts, g.options, hints=hints, constants=g.constants)


def test_what_is_left_of_a_row_is_copied_beside_the_rest():
    made = preferring(given(16, 64, 128, 28, 3, 2), "o", "x")
    copies = [s.name for s in made.program.statements if s.write.array == "X_panels"]
    assert len(copies) == 2, "the cells of a phase fill no whole vectors"
    assert not re.search(r"\n *X_panels\[[^]]*\] = ", made.source.text), "cell by cell"
    nests = re.findall(r"omp for schedule\(static\)\n *for \(int64_t b = 0; b < 16; \+\+b\)", made.source.text)
    assert len(nests) == 2, "one of copies, one of products"


@pytest.mark.parametrize("shape", [(1, 128, 256, 14, 1, 2), (4, 32, 64, 28, 1, 2), (1, 96, 64, 13, 1, 2)], ids=str)
def test_no_vector_of_a_panel_is_put_together_lane_by_lane(shape: tuple[int, ...]):
    text = preferring(given(*shape), "x", "x").source.text
    assert re.search(r"\*\(const f32x\d+ \*\)&X_panels", text)
    assert not re.search(r"\(f32x\d+\)\{X_panels", text)


def copied(s: Statement, p: Program, dim: str, panel: int) -> tuple[float, Relaid]:
    """What a copy of X costs, and the copy."""
    layouts = {a.name: row_major(a) for a in p.arrays}
    q = Setting(p, layouts, target.host(2), frozenset(), ALONE)
    o = next(o for o in operands(s, layouts) if o.load.array == "X")
    made = relay(p.array("X"), o, box(s.domain), dim, panel, s.dims, "copy")
    assert made is not None
    return copying(q, o, made, dim, extents_of(s)[dim], panel), made


def test_cells_that_a_division_finds_cost_more_than_those_in_even_steps():
    p = skipping(4, 64, 128, 28, 2)
    (s,) = p.statements
    uneven, one = copied(fuse_dims(s, "y", "x", "yx"), p, "yx", 16)
    even, other = copied(s, p, "x", 28)
    assert one.cells == other.cells
    assert uneven > 2 * even


def test_a_copy_pays_for_the_lines_it_reads():
    """Of every other cell of a row too, all must be brought."""
    costs = []
    for step in (2, 1):
        p = skipping(16, 64, 128, 32, step)
        costs.append(copied(p.statements[0], p, "x", 16)[0])
    assert costs[0] > costs[1]


def test_vectors_that_lie_alike():
    p = skipping(4, 64, 128, 28, 2)
    s = fuse_dims(p.statements[0], "y", "x", "yx")
    layouts = {a.name: row_major(a) for a in p.arrays}
    x = next(o for o in operands(s, layouts) if o.load.array == "X")
    assert not alike(x, "yx", 784, 16, layouts["X"]), "28 cells of a row are no whole vectors"
    assert alike(x, "yx", 784, 4, layouts["X"])
