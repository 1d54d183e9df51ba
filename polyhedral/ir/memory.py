# SPDX-License-Identifier: MIT
"""The memory of one interpreted run: sizes read off the arguments, and arrays stored flat.

Arguments are checked here as a caller would expect of a compiled kernel: axes, types and agreeing sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyhedral.errors import ArgumentError, DimError, DtypeError
from polyhedral.ir import affine as aff
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Array, Program, Role


@dataclass(frozen=True)
class Memory:
    """Arrays stored flat, row-major in the order of `Array.dims`; `defined` covers single-assignment arrays only."""

    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, np.ndarray]
    defined: Mapping[str, np.ndarray]


def infer_sizes(
    program: Program, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Every size, from shapes (where an extent is exactly one size) and from `sizes`; shapes must agree with them."""
    known = dict(sizes or {})
    origin = {n: f"{n} = {v}" for n, v in known.items()}
    axes = [
        (a, d, e, int(n)) for a in program.arrays for (d, e), n in zip(a.dims, shapes.get(a.name, ()), strict=False)
    ]
    for a, d, extent, n in axes:
        match extent.terms:
            case ((aff.Size(name), 1),) if extent.const == 0:
                shown = origin.setdefault(name, f"{a.name}.{d} = {n}")
                if known.setdefault(name, n) != n:
                    raise _disagree(program, f"{shown} but {a.name}.{d} = {n}", d, known)
            case _:
                pass
    missing = [n for n in program.sizes if n not in known]
    if missing:
        raise ArgumentError(
            "PH312", f"{program.name}: size {missing[0]} is not given", hints=(f"pass sizes={{'{missing[0]}': ...}}",)
        )
    for a, d, extent, n in axes:
        wanted = aff.evaluate(extent, {}, known)
        if wanted != n:
            raise _disagree(program, f"{a.name}.{d} = {n}, but {extent} = {wanted}", d, known)
    for c in program.assumptions:
        if not aff.holds(c, {}, known):
            raise ArgumentError(
                "PH313", f"{program.name} assumes {c}", sizes=known, hints=("call it with other sizes",)
            )
    return known


def _disagree(program: Program, what: str, d: str, sizes: Mapping[str, int]) -> DimError:
    hint = "if they are different axes, give them different dimension names"
    return DimError("PH010", f"{program.name}: sizes disagree: {what}", hints=(hint,), dim=d, sizes=sizes)


def canonical_axes(a: Array, value: np.ndarray, order: Sequence[str] | None) -> np.ndarray:
    if value.ndim != len(a.dims):
        raise ArgumentError("PH040", f"{a.name} has dims {{{', '.join(a.dim_names)}}}, but got {value.ndim} axes")
    if value.dtype != a.dtype.numpy:
        raise DtypeError(
            "PH301", f"{a.name} holds {a.dtype}, but got {value.dtype}", hints=(f"convert it to {a.dtype} first",)
        )
    return value if order is None else value.transpose([list(order).index(d) for d in a.dim_names])


def ordered_axes(a: Array, value: np.ndarray, order: Sequence[str] | None) -> np.ndarray:
    return value if order is None else value.transpose([a.dim_names.index(d) for d in order])


def memory_of(program: Program, given: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> Memory:
    """The stored values, and which cells of single-assignment arrays are defined so far."""
    values: dict[str, np.ndarray] = {}
    defined: dict[str, np.ndarray] = {}
    shapes = {a.name: tuple(max(0, aff.evaluate(e, {}, sizes)) for _, e in a.dims) for a in program.arrays}
    for a in program.arrays:
        cells = math.prod(shapes[a.name])
        match a.role:
            case Role.INPUT | Role.INOUT:
                if a.name not in given:
                    raise ArgumentError(
                        "PH314", f"{program.name}: argument {a.name} is missing", hints=(f"pass {a.name}=...",)
                    )
                values[a.name] = given[a.name].flatten()
            case Role.CONSTANT if a.data is not None:
                values[a.name] = convert(np.array(a.data, dtype=None if a.data else a.dtype.numpy), a.dtype)
            case _:
                values[a.name] = np.zeros(cells, a.dtype.numpy)
                defined[a.name] = np.zeros(cells, bool)
    return Memory(sizes, shapes, values, defined)


def convert(value: np.ndarray, dtype: DType) -> np.ndarray:
    """Conversion as in C; complex values drop their imaginary part, bf16 and f8 are reached through f32."""
    if value.dtype.kind == "c" and dtype.kind != "c":
        value = np.real(value)
    if dtype.is_float and dtype.bits <= 16 and dtype.name != "f16" and value.dtype != dtype.numpy:
        value = value.astype(np.float32)
    return value.astype(dtype.numpy)
