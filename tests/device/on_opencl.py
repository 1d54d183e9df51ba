# SPDX-License-Identifier: MIT
"""Running a Program on the OpenCL device of this machine; tests that want one are skipped where there is none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from codegen.runtime.opencl import open_device
from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.running import loading
from frontend.running.buffers import buffer
from polyhedral.errors import ToolchainError
from polyhedral.ir import affine as aff
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role, specialise

OPENCL = Options(target="opencl")


def needs_opencl() -> None:
    """Skip the test that asks, where no device can build kernels: no pyopencl, or a PoCL older than the processor."""
    try:
        open_device()
    except ToolchainError as error:
        pytest.skip(error.message)


def run_opencl(program: Program, inputs: Mapping[str, np.ndarray], sizes: Mapping[str, int], *, symbolic: bool = False):
    """Outputs and inouts of a program on the device."""
    needs_opencl()
    p = program if symbolic else specialise(program, sizes)
    given = {a.name: row_major(a) for a in p.arrays if a.role not in (Role.CONSTANT, Role.TEMPORARY)}
    built = driver.lower(p, given, OPENCL)
    loaded, _, _ = loading.load_device(built)
    buffers = [buffer(built.program.array(n), built.layouts[n]) for n in built.source.buffers]
    found: dict[str, np.ndarray] = {}
    arrays: list[np.ndarray | None] = []
    for b in buffers:
        a = built.program.array(b.name)
        if b.role is Role.TEMPORARY:
            arrays.append(None)
            continue
        shape = [aff.evaluate(e, {}, sizes) for _, e in a.stored]
        found[b.name] = inputs[b.name].copy() if b.name in inputs else np.full(shape, 77).astype(a.dtype.numpy)
        arrays.append(found[b.name].transpose([a.dim_names.index(d) for d in b.axes]))
    assert loaded.run(buffers, arrays, sizes) == 0
    return {a.name: found[a.name] for a in program.with_role(Role.OUTPUT, Role.INOUT)}, built
