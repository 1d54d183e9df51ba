# SPDX-License-Identifier: MIT
"""The zoo on C: compiled kernels agree with the interpreter, whatever the schedule, the layouts and the threads."""

from __future__ import annotations

import numpy as np
import pytest

from frontend.environment.options import Options
from polyhedral.ir.interpreter import run
from tests.programs import CASES
from tests.running import agree, run_c
from tests.strategies import inputs_for

SCHEDULES = {
    "default": Options(threads=2),
    "serial": Options(threads=1, parallel=False),
    "small tiles": Options(threads=2, tile=2),
    "register tiles": Options(threads=2, plan_above=1),
    "checked": Options(threads=1, checked=True),
}


@pytest.mark.parametrize("options", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", CASES)
def test_compiled_is_interpreted(name: str, options: Options):
    case = CASES[name]
    inputs = inputs_for(case.program, case.sizes)
    expected = run(case.program, inputs, case.sizes)
    for order in (None, "reversed"):
        agree(case.program, run_c(case.program, inputs, case.sizes, options, order), expected, inputs)


@pytest.mark.parametrize("name", CASES)
def test_symbolic_sizes(name: str):
    case = CASES[name]
    inputs = inputs_for(case.program, case.sizes)
    expected = run(case.program, inputs, case.sizes)
    agree(case.program, run_c(case.program, inputs, case.sizes, Options(threads=2), symbolic=True), expected, inputs)


def test_the_oracle_of_this_file_can_fail():
    case = CASES["matmul"]
    inputs = inputs_for(case.program, case.sizes)
    expected = {k: v + 1 for k, v in run(case.program, inputs, case.sizes).items()}
    with pytest.raises(AssertionError):
        agree(case.program, run_c(case.program, inputs, case.sizes, Options()), expected, inputs)
    assert np.isfinite(next(iter(expected.values()))).all()
