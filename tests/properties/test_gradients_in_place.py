# SPDX-License-Identifier: MIT
"""Programs as text and random ones, updates in place among them: expanded they compute the same, tangents and adjoints
agree, and both are those of differences.

Those of the language are in `tests/frontend/test_gradients`.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from frontend.autodiff import expansion
from frontend.autodiff.expansion import expand
from polyhedral.errors import PolyhedralError
from polyhedral.ir import affine as aff
from polyhedral.ir.dtypes import f64
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Role
from tests.adjoints import near, products, widened
from tests.programs import CASES
from tests.strategies import inputs_for, programs

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "100"))
SMOOTH = [n for n, c in CASES.items() if any(a.dtype.is_float for a in c.program.with_role(Role.INPUT, Role.INOUT))]


def attempted(f):
    """What f gives, or the error that it raises."""
    try:
        return f()
    except PolyhedralError as error:
        return error


@pytest.mark.parametrize("name", SMOOTH)
def test_the_zoo(name):
    case = CASES[name]
    p = widened(case.program)
    inputs = inputs_for(p, case.sizes, seed=3, values="whole" if name in ("lu", "cholesky") else "real")
    forward, backward, differences = products(p, case.sizes, inputs, 5)
    assert near(forward, backward, 1e-10)
    assert near(forward, differences[0], 1e-5)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(programs(dtypes=(f64,)), st.integers(0, 1 << 30))
def test_random_programs(p, seed):
    inputs = inputs_for(p, {}, seed, "real")
    assume(any(a.dtype.is_float and a.role is not Role.TEMPORARY for a in p.arrays))
    found = attempted(lambda: products(p, {}, inputs, seed))
    if isinstance(found, PolyhedralError):  # floor and its like have no derivative; a gather may read any update
        assert found.code == "PH051" or "a place that data decides" in found.message
        return
    forward, backward, differences = found
    assume(np.isfinite([forward, backward]).all() and abs(backward) < 1e8)
    assert near(forward, backward, 1e-9)
    if near(*differences, 1e-4):  # otherwise some choice is near its edge
        assert near(forward, differences[1], 1e-3)


def _no_order(*given):
    return aff.TRUE


def _first_pieces(sources):
    return lambda *given: sources(*given)[1:]


@pytest.mark.parametrize("fault", ["a writer is lost", "later writers count"])
@pytest.mark.parametrize("name", ["lu", "gauss_seidel"])
def test_wrong_writers_are_found(name, fault, monkeypatch):
    """The expanded program then computes something else than the updates, or nothing."""
    case = CASES[name]
    inputs = inputs_for(case.program, case.sizes, seed=3)
    (memory,) = inputs
    good = run(case.program, inputs, case.sizes)[memory]
    np.testing.assert_array_equal(run(expand(case.program).program, inputs, case.sizes)[memory], good)
    if fault == "a writer is lost":
        monkeypatch.setattr(expansion._Expansion, "_sources", _first_pieces(expansion._Expansion._sources))
    else:
        monkeypatch.setattr(expansion, "precedes", _no_order)
    found = attempted(lambda: run(expand(case.program).program, inputs, case.sizes)[memory])
    if isinstance(found, PolyhedralError):  # what was taken for a writer runs later
        assert found.code in ("PH120", "PH122")
    else:
        assert not np.array_equal(found, good)
