# SPDX-License-Identifier: MIT
"""The programs of the language on OpenCL, at small sizes, agree with the interpreter; complex values are refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import polyhedral as ph
from frontend.inference.assemble import assemble
from frontend.inference.settling import settle
from polyhedral.dim import i
from polyhedral.ir import affine as aff
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program
from tests.device.on_opencl import run_opencl
from tests.running import agree
from tests.strategies import inputs_for
from tests.zoo_language import ZOO, record

NAMES = (
    *("em_routing", "conv_same", "conv_grouped", "causal", "gemm_bf16", "gemm_i8", "gauss_seidel", "cholesky"),
    *("trisolve", "cumsum", "floyd_warshall", "normalise", "mean_variance", "nearest", "histogram_rows", "sobel"),
)
"""Those whose features the programs of `tests.programs` do not have, which run on OpenCL too."""
SMALL = {"ci": 3, "co": 4, "p": 2, "r": 2, "ky": 2, "kx": 2, "cy": 4, "cx": 5, "y": 5, "x": 6, "steps": 2, "s": 7}
ITSELF: Mapping[str, Mapping[str, int]] = {"normalise": {"y": 2, "x": 2, "cx": 4}, "sobel": {"y": 5, "x": 6}}


def small(p: Program, name: str) -> dict[str, int]:
    extents = {**SMALL, **ITSELF.get(name, {})}
    return {size: extents.get(size.rpartition(".")[2], 6) for size in p.sizes}


@pytest.mark.parametrize("name", NAMES)
def test_the_language_on_a_device(name: str):
    p = assemble(record(ZOO[name], settle, name)[0])
    sizes = small(p, name)
    inputs = inputs_for(p, sizes)
    if name.startswith("em"):
        inputs = {n: np.abs(v) + 1 for n, v in inputs.items()}
    assert all(aff.holds(c, {}, sizes) for c in p.assumptions)
    agree(p, run_opencl(p, inputs, sizes)[0], run(p, inputs, sizes), inputs)


@pytest.mark.parametrize("target", ["opencl", "cuda:sm_80"])
@pytest.mark.parametrize("dtype", ["c64", "c128"])
def test_complex_values_are_refused(target: str, dtype: str):
    @ph.function(X="i")
    def total(X):
        return (X * X).sum(i)

    with pytest.raises(ph.Unsupported) as caught:
        total.lower(X=f"{dtype}[i:8]", target=target)
    assert caught.value.code == "PH526"
    assert "X" in str(caught.value)
