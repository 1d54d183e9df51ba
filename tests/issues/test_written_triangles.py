# SPDX-License-Identifier: MIT
"""Steps of a triangle that are written out: they have no end that moves, and are masked (AssertionError in codegen).

A sum over the tiles of a causal row, with operands that lie so that its steps look like those of a window, was cut to
the part within the triangle and written out as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from polyhedral.plans.cycles import Nest, Prediction, predict
from polyhedral.text.reader import parse
from tests.running import run_c
from tests.strategies import inputs_for

COMBINE = """
program combine
  input F: f32[c: 8, s: 256]
  input U: f32[c: 8, e: 16, s: 256]
  output out: f32[e: 16, s: 256]
  out: for e < 16, s < 256: out = sum[c < 8 if 32*c <= s] F * U
"""


def test_written_steps_are_masked(monkeypatch: pytest.MonkeyPatch):
    def last(every: object, order: Sequence[str], extents: Mapping[str, int], *_: object) -> tuple[str, ...]:
        return (order[-1],) if extents[order[-1]] <= 8 else ()

    def only(nest: Nest, *given: Any, **named: Any) -> Prediction | None:
        return predict(nest, *given, **named) if nest.plan.written else None

    monkeypatch.setattr("polyhedral.plans.candidates.written", last)
    monkeypatch.setattr("polyhedral.plans.candidates.predict", only)
    p = parse(COMBINE)
    inputs = inputs_for(p, {}, 1, "whole")
    got = run_c(p, inputs, {}, Options(threads=1, plan_above=1))
    np.testing.assert_array_equal(got["out"], run(p, inputs)["out"])
