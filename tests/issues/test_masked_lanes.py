# SPDX-License-Identifier: MIT
"""A masked step without operations on whole vectors tested its mask by names that its lane function does not have."""

from __future__ import annotations

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for


def test_it_compiles():
    p = parse("""
    program masked
      input X: f64[s: 12, t: 12, d: 16]
      output Y: f64[d: 16, s: 12]
      S0: for d < 16, s < 12: Y = max[t < 12 if t <= s] floor(X)
    """)
    inputs = inputs_for(p, {}, values="real")
    agree(p, run_c(p, inputs, {}, Options(threads=1, plan_above=1)), run(p, inputs), inputs)
