# SPDX-License-Identifier: MIT
"""Shifts by the width of the type or more, and by negative amounts, were undefined behaviour in C."""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.text.reader import parse
from tests.running import run_c


@pytest.mark.parametrize("dtype", ["i8", "u8", "i16", "i32", "u32", "i64", "u64"])
def test_any_amount(dtype: str):
    info = np.iinfo(np.dtype({"i": "int", "u": "uint"}[dtype[0]] + dtype[1:]))
    amounts = [k for k in (0, 1, info.bits - 1, info.bits, info.bits + 1, 100, -1, -5) if k >= info.min]
    values = np.array([info.min, info.max, 0, 1, 5, info.max // 3], info.dtype)
    X, K = np.repeat(values, len(amounts)), np.tile(np.array(amounts, info.dtype), len(values))
    p = parse(f"""
    program shift
      input X: {dtype}[i]
      input K: {dtype}[i: X.i]
      output left: {dtype}[i: X.i]
      output right: {dtype}[i: X.i]
      output known: {dtype}[i: X.i]
      S0: for i < X.i:  left = X << K
      S1: for i < X.i:  right = X >> K
      S2: for i < X.i:  known = (X << 2) + (X >> 1)
    """)
    got = run_c(p, {"X": X, "K": K}, {"X.i": len(X)}, Options(threads=1))
    for name, want in run(p, {"X": X, "K": K}).items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)
