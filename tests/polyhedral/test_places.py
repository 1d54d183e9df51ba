# SPDX-License-Identifier: MIT
"""Sums over an inverse stop at the places that are read, and reductions leave a dim for later, where a large temporary
is then never stored; both mean what they meant.
"""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from polyhedral.checks.check import check
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, Role
from polyhedral.machine.target import Target
from polyhedral.plans.blocks import company
from polyhedral.rewrites.partial import openable, partial
from polyhedral.rewrites.places import places
from polyhedral.rewrites.share_parts import share_parts
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from polyhedral.whole.opened import opened
from tests.running import run_c
from tests.strategies import inputs_for

WINDOWS = """
program windows
  input W: f32[k: 3, i: 4, o: 16, q: 2]
  input R: f32[n: 4, y: 20, k: 3, i: 4, o: 16]
  input P: f32[n: 4, c: 42, i: 4]
  temporary V: f32[n: 4, y: 20, k: 3, i: 4, o: 16, q: 2]
  output dP: f32[n: 4, c: 42, i: 4]
  output dW: f32[k: 3, i: 4, o: 16, q: 2]
  V: for n < 4, y < 20, k < 3, i < 4, o < 16, q < 2: V = R * (W + 1)
  dP: for n < 4, c < 42, i < 4: dP = sum[y < 20, k < 3, o < 16, q < 2 if 2*y + k == c] V * W
  dW: for k < 3, i < 4, o < 16, q < 2: dW = sum[n < 4, y < 20] V * P(c=2*y + k)
"""
SMALL = Target("small", cores=2, l1=1 << 9, l2=1 << 13, l3=1 << 14)
"""A machine whose last cache does not hold V, nor its second a step of all of its common dims."""


def sizes(p: Program) -> dict[str, int]:
    return {a.name: int(np.prod([e.const for _, e in a.dims])) for a in p.with_role(Role.TEMPORARY)}


def same(p: Program, other: Program, **options: int) -> None:
    inputs = inputs_for(p, {}, 2, "real")
    check(other)
    got, compiled = run(other, inputs), run_c(other, inputs, {}, Options(threads=2, **options))
    for name, want in run(p, inputs).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(compiled[name], want, rtol=1e-5, atol=1e-5)


def test_what_is_read_is_summed_at_its_places():
    p = parse(WINDOWS)
    made, (said,) = places(p)
    assert said.statement == "dP"
    assert sizes(made)["dP_places"] == 4 * 20 * 3 * 4
    assert set(made.statement("dP_places").reduced) == {"o", "q"}
    same(p, made, plan_above=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "temporary V: f32[n: 4, y: 20, k: 3, i: 4, o: 16, q: 2]",
            "output V: f32[n: 4, y: 20, k: 3, i: 4, o: 16, q: 2]",
        ),
        ("if 2*y + k == c]", "if 2*y + k == c + 1]"),  # not every place has a cell
        ("if 2*y + k == c]", "if 2*y + k <= c]"),
        ("if 2*y + k == c]", "if 2*y + k == c and o <= y]"),
        ("dP: for n < 4, c < 42, i < 4: ", "dP: for n < 4, c < 42, i < 4 strict: "),
    ],
)
def test_other_sums_stay_whole(old: str, new: str):
    p = parse(WINDOWS.replace(old, new))
    assert places(p) == (p, ())


def test_products_of_windows_stay_whole():
    """A convolution's gradient has more places than results, or about as many."""
    p = parse("""
    program convolution
      input W: f32[k: 3, i: 4, o: 16]
      input X: f32[y: 5, o: 16]
      temporary T: f32[y: 5, o: 16]
      output dP: f32[c: 11, i: 4]
      T: for y < 5, o < 16: T = X * X
      dP: for c < 11, i < 4: dP = sum[y < 5, k < 3, o < 16 if 2*y + k == c] T * W
    """)
    assert places(p) == (p, ())


@pytest.mark.parametrize("dim", ["n", "y"])
def test_a_reduction_leaves_a_dim_for_later(dim: str):
    p = parse(WINDOWS)
    assert openable(p, p.statement("dW"))
    other, own = partial(p, "dW", dim)
    assert set(other.statement(own).reduced) == {"n", "y"} - {dim}
    assert other.statement("dW").reduced == (dim,)
    same(p, other, plan_above=1)


def test_the_only_reduced_dim_leaves_a_plain_statement():
    p = parse("""
    program one
      input X: f32[i: 8, k: 8]
      output Y: f32[i: 8]
      Y: for i < 8: Y = sum[k < 8] X * X
    """)
    other, own = partial(p, "Y", "k")
    assert other.statement(own).op is None
    same(p, other)


def test_readers_without_a_common_block_get_one():
    """dP sums over parents, dW over the batch: with partial sums both read V in blocks of n, and nothing stores it."""
    p, _ = places(parse(WINDOWS))
    assert company(p, "V", frozenset(("dP_places", "dW")), SMALL) is None
    made, (said,) = opened(p, SMALL)
    assert said.statement == "dW"
    found = company(made, "V", frozenset(("dP_places", "dW_each")), SMALL)
    assert found is not None
    assert "V_2" in found.local
    same(p, made, plan_above=1)


def test_nothing_is_opened_where_it_fits_a_cache():
    p, _ = places(parse(WINDOWS))
    assert opened(p, Target("large", cores=2)) == (p, ())


def test_parts_that_join_arrays_are_shared_before_differentiation():
    """R*A is read by sums over more dims than it has: its adjoint is one sum, and those of R and A follow from it."""
    p = parse("""
    program parts
      input R: f32[n: 4, k: 3]
      input A: f32[k: 3]
      input V: f32[n: 4, k: 3, q: 5]
      output S: f32[n: 4]
      output M: f32[n: 4, q: 5]
      S: for n < 4: S = sum[k < 3] R * A
      M: for n < 4, q < 5: M = sum[k < 3] R * A * V
    """)
    made = share_parts(p)
    assert sizes(made) == {"part": 12}
    assert {load.array for s in ("S", "M") for load in made.statement(s).loads} == {"part", "V"}
    same(p, made)
    alone = parse(to_text(p).replace("sum[k < 3] R * A * V", "sum[k < 3] A * V"))
    assert share_parts(alone) == alone
