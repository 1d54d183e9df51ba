# SPDX-License-Identifier: MIT
"""CUDA text, run thread by thread on a processor, agrees with the interpreter: indices, barriers, shuffles, copies."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from polyhedral.interpreter import run
from tests.device.on_host import run_on_host
from tests.programs import CASES
from tests.running import agree
from tests.strategies import inputs_for

SHAPES: Mapping[str, Mapping[str, int]] = {
    "matmul": {"A.i": 67, "A.k": 35, "B.j": 70},
    "softmax": {"X.i": 5, "X.k": 300},
    "capsule_conv": {"P.ci": 3, "P.y": 9, "P.x": 9, "P.p": 4, "P.q": 4, "W.co": 9, "W.ky": 3, "W.kx": 3, "W.r": 4},
    "gather": {},
    "brain_floats": {},
}


@pytest.mark.parametrize("name", SHAPES)
def test_cuda_is_interpreted(name: str, tmp_path):
    program, sizes = CASES[name].program, {**CASES[name].sizes, **SHAPES[name]}
    inputs = inputs_for(program, sizes)
    got, _ = run_on_host(program, inputs, sizes, tmp_path)
    agree(program, got, run(program, inputs, sizes), inputs)
