# SPDX-License-Identifier: MIT
"""A sum over part of each anti-diagonal: in its adjoint the bound of a dim depended on the dim itself (PH900)."""

from polyhedral.text.reader import parse
from tests.adjoints import near, products
from tests.strategies import inputs_for

PROGRAM = parse("""
program diagonals
  input X: f64[a: 7]
  output out: f64[i: 4]
  S0: for i < 4:  out = sum[k < i + 1] X(a=i + k) * X(a=k)
""")


def test_an_adjoint_whose_ranges_are_tied():
    forward, backward, differences = products(PROGRAM, {}, inputs_for(PROGRAM, {}, 1, "real"), 2)
    assert near(forward, backward, 1e-12)
    assert near(forward, differences[0], 1e-6)
