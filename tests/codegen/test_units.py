# SPDX-License-Identifier: MIT
"""Texts in units: what is cut where, and kernels cut as finely as can be against the interpreter."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path

import pytest

from codegen import units
from codegen.runtime.cc import compile_shared
from codegen.units import FUNCTION, LONG, MOST, SHARE, Piece, functions
from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Role, specialise
from tests.chains import drawn
from tests.programs import CASES
from tests.running import agree, run_c
from tests.strategies import inputs_for


def piece(letters: int, array: str = "a") -> Piece:
    return Piece(("x" * letters,), frozenset((array,)))


def test_a_short_text_is_one_unit_and_a_function_for_each_phase():
    phases = [[piece(LONG // 4, "a"), piece(LONG // 4, "b")], [piece(LONG // 2, "c")]]
    made, unit = functions(phases)
    assert [f.arrays for f in made] == [{"a", "b"}, {"c"}]
    assert unit == [1, 1]


def test_a_long_text_keeps_every_piece_in_order_in_balanced_units():
    rng = random.Random(3)
    phases = [[piece(rng.randint(1, 2 * FUNCTION)) for _ in range(rng.randint(1, 9))] for _ in range(20)]
    made, unit = functions(phases)
    every = [line for phase in phases for p in phase for line in p.lines]
    assert [line for f in made for line in f.lines] == every
    assert all(len(f.lines) == 1 or f.letters <= FUNCTION for f in made)
    load = {u: sum(f.letters for f, v in zip(made, unit, strict=True) if v == u) for u in unit}
    assert list(load) == list(range(1, min(MOST, -(-sum(map(len, every)) // SHARE)) + 1))
    assert max(load.values()) - min(load.values()) <= max(f.letters for f in made)


def test_one_long_nest_is_one_unit():
    made, unit = functions([[piece(2 * LONG)]])
    assert (len(made), unit) == (1, [1])


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch):
    """Every nest and every table in a unit of its own."""
    for name in ("LONG", "FUNCTION", "TABLE"):
        monkeypatch.setattr(units, name, 0)
    monkeypatch.setattr(units, "SHARE", 1)


@pytest.mark.parametrize(
    "name", ["softmax", "relu_chain", "two_outputs", "constant_array", "arg_max", "brain_floats", "gather"]
)
@pytest.mark.usefixtures("fine")
def test_units_are_interpreted(name: str):
    case = CASES[name]
    inputs = inputs_for(case.program, case.sizes)
    options = Options(threads=2, plan_above=1, checked=name == "gather")
    agree(case.program, run_c(case.program, inputs, case.sizes, options), run(case.program, inputs, case.sizes), inputs)


@pytest.mark.usefixtures("fine")
def test_random_chains_in_units_are_interpreted():
    """Temporaries that share memory, epilogues, vectors of several types."""
    rng, most = random.Random(5), 0
    for _ in range(4):
        p = drawn(rng)
        inputs = inputs_for(p, {}, rng.randrange(1 << 30), "whole")
        options = Options(threads=rng.randint(1, 2), plan_above=1)
        agree(p, run_c(p, inputs, {}, options), run(p, inputs, {}), inputs)
        given = {a.name: row_major(a) for a in p.arrays if a.role is not Role.TEMPORARY}
        most = max(most, driver.lower(p, given, options).source.units)
    assert most > 2


@pytest.mark.usefixtures("fine")
def test_a_library_of_units_shows_the_kernel_alone(tmp_path: Path):
    """Compiled as one text too: what is printed is what can be compiled by hand."""
    case = CASES["softmax"]
    p = specialise(case.program, case.sizes)
    source = driver.lower(p, {a.name: row_major(a) for a in p.arrays}, Options(threads=2)).source
    assert source.units > 1
    assert all(f"/* unit {u} */" in source.text for u in range(1, source.units + 1))
    for count in (1, source.units):
        path = tmp_path / f"{count}.so"
        path.write_bytes(compile_shared(source.text, session.current().compiler(Options()), units=count))
        library = ctypes.CDLL(str(path))
        assert getattr(library, source.symbol)
        assert not hasattr(library, f"{source.symbol}_phase_0")
