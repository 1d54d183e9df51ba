# SPDX-License-Identifier: MIT
"""gcc rewrote the addresses of a loop so that it no longer saw the body of a kernel store through its argument, took it
for a function without effect, and dropped the call.
"""

from __future__ import annotations

import pytest

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import agree, run_c
from tests.strategies import inputs_for

TEXT = """
program mirrored
  inout U: i32[i: 3]
  S: for i < 2 at (0, i, 0):  U = U(i=2 - i) * U + i32({2*i - 1})
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_the_body_runs(threads: int):
    p = parse(TEXT)
    inputs = inputs_for(p, {})
    agree(p, run_c(p, inputs, {}, Options(threads=threads)), run(p, inputs), inputs)
