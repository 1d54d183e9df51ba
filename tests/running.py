# SPDX-License-Identifier: MIT
"""Running a Program on the C target with chosen layouts and schedules, and holding results against each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.runtime.native import address
from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.lowering.hints import NO_HINTS, Hints
from frontend.running import loading
from polyhedral.ir import affine as aff
from polyhedral.ir.layout import Layout, row_major, runtime_stride
from polyhedral.ir.program import Array, Program, Role, specialise

Arrays = Mapping[str, np.ndarray]


def run_c(
    program: Program,
    inputs: Arrays,
    sizes: Mapping[str, int],
    options: Options,
    order: str | None = None,
    *,
    symbolic: bool = False,
    hints: Hints = NO_HINTS,
) -> dict[str, np.ndarray]:
    """Outputs and inouts, axes in the order of the dims; `order="reversed"` lays arrays out the other way round."""
    p = program if symbolic else specialise(program, sizes)
    layouts = {a.name: _layout(a, order, symbolic) for a in p.arrays if a.role not in (Role.CONSTANT, Role.TEMPORARY)}
    built = driver.lower(p, layouts, options, hints=hints)
    native, _, _ = loading.load(built)
    source = built.source
    arrays = [a for a in built.program.arrays if a.role is not Role.CONSTANT]
    placement = built.placement(sizes)
    scratch = {s.array: s for s in placement.slots}
    raw = np.full(placement.peak + 64, 0x7F, np.uint8)
    block = raw[-address(raw) % 64 :]
    data = {
        a.name: _memory(a, inputs, sizes, built.layouts[a.name], block, scratch[a.name].start)
        if a.name in scratch
        else _memory(a, inputs, sizes, built.layouts[a.name])
        for a in arrays
    }
    strides = {
        runtime_stride(a.name, d): s // data[a.name].itemsize
        for a in arrays
        for d, s in zip(a.dim_names, data[a.name].strides, strict=True)
    }
    values = [sizes[n] if n in sizes else strides[n] for n in source.sizes]
    fault = native([address(data[n]) for n in source.buffers], values, options.threads or 1)
    assert fault == 0
    return {a.name: data[a.name] for a in program.with_role(Role.OUTPUT, Role.INOUT)}


def _layout(a: Array, order: str | None, symbolic: bool) -> Layout:
    names = a.dim_names[::-1] if order == "reversed" else a.dim_names
    if not symbolic:
        return row_major(a, names)
    return Layout(a.name, tuple((d, runtime_stride(a.name, d)) for d in a.dim_names))


def _memory(
    a: Array, inputs: Arrays, sizes: Mapping[str, int], layout: Layout, block: np.ndarray | None = None, start: int = 0
) -> np.ndarray:
    """Cells of an array where its layout puts them, in a block from `start` on or in memory of their own; strides that
    are only known at run time are dense ones.
    """
    shape = tuple(aff.evaluate(e, {}, sizes) for _, e in a.stored)
    steps = [s for _, s in layout.strides]
    if any(isinstance(s, str) for s in steps):
        by_dim = dict(zip(a.dim_names, shape, strict=True))
        wanted = tuple(by_dim[d] for d in layout.order)
        dense = np.empty(wanted, a.dtype.numpy) if block is None else np.ndarray(wanted, a.dtype.numpy, block, start)
        made = dense.transpose([layout.order.index(d) for d in a.dim_names])
    else:
        cells = 1 + sum(max(n - 1, 0) * int(s) for n, s in zip(shape, steps, strict=True))
        strides = tuple(int(s) * a.dtype.numpy.itemsize for s in steps)
        own = np.empty(cells, a.dtype.numpy) if block is None else block
        made = np.ndarray(shape, a.dtype.numpy, own, start, strides)
    if a.name in inputs:
        made[...] = inputs[a.name]
    elif block is None:
        made[...] = 77
    return made


def agree(program: Program, got: Arrays, expected: Arrays, inputs: Arrays) -> None:
    """Integers exactly; floats up to reassociated sums of the sizes and magnitudes at hand."""
    assert got.keys() == expected.keys()
    floats = (v.astype(np.float64) for v in inputs.values() if v.dtype.kind in "fV")
    scale = max([1.0, *(float(np.abs(v).max(initial=0)) for v in floats)])
    for name, want in expected.items():
        array = program.array(name)
        if not array.dtype.is_float:
            np.testing.assert_array_equal(got[name], want, err_msg=name)
            continue
        eps = {64: 1e-12, 32: 1e-5, 16: 1e-2, 8: 2e-1}[array.dtype.bits]
        a, b = (np.asarray(v).astype(np.float64) for v in (got[name], want))
        np.testing.assert_allclose(a, b, rtol=eps, atol=eps * scale, equal_nan=True, err_msg=name)
