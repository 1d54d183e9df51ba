# SPDX-License-Identifier: MIT
"""Buffers: the pointers of a kernel, and the arrays a caller gives for its results.

An array is taken where it lies if the kernel writes its cells there; what else happens at a call is
`frontend.stages.executable`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from frontend.arrays.device import on_device
from frontend.arrays.incoming import array
from frontend.arrays.memory import Strided, View
from frontend.arrays.named import Array as Named
from frontend.arrays.named import Ordered
from polyhedral.errors import ArgumentError, DimError, DtypeError, OrderError
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.dtypes import DType
from polyhedral.ir.layout import Layout, runtime_stride
from polyhedral.ir.program import Array, Role
from polyhedral.whole.storage import Placement

Orders = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Buffer:
    """One pointer of the kernel: where it comes from, and its shape and type if it is allocated here."""

    name: str
    role: Role
    axes: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...] | None
    element: DType
    extents: tuple[Affine, ...]

    def shape_for(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        if self.shape is not None:
            return self.shape
        return tuple(aff.evaluate(e, {}, sizes) for e in self.extents)


def buffer(a: Array, layout: Layout) -> Buffer:
    """The pointer of an array, its axes as the caller gives them or, for results, as they are best allocated."""
    axes = layout.order if a.role in (Role.OUTPUT, Role.TEMPORARY) else tuple(d for d, _ in layout.strides)
    stored = dict(a.stored)
    extents = tuple(stored[d] for d in axes)
    shape = tuple(max(e.const, 0) for e in extents) if all(e.is_const for e in extents) else None
    return Buffer(a.name, a.role, axes, a.dtype.numpy, shape, a.dtype, extents)


def scratch(buffers: Sequence[Buffer], placement: Placement, sizes: Mapping[str, int]) -> tuple[View, ...]:
    """The temporaries among these in one block, each at its place, in the order of the placement."""
    named = {b.name: b for b in buffers}
    return tuple(View(named[s.array].shape_for(sizes), named[s.array].dtype, s.start) for s in placement.slots)


def fits(layout: Layout, b: Buffer, a: Strided) -> bool:
    """Do a given result's cells lie where the kernel writes them?"""
    item = a.itemsize
    return a.flags.aligned and all(
        s % item == 0 and (n <= 1 or layout.stride(d) in (s // item, runtime_stride(b.name, d)))
        for d, n, s in zip(b.axes, a.shape, a.strides, strict=True)
    )


def given_outputs(buffers: Sequence[Buffer], out: Any, sizes: Mapping[str, int], orders: Orders) -> dict[str, Strided]:
    """Preallocated results by name, each as the kernel's layout wants it."""
    outputs = [b for b in buffers if b.role is Role.OUTPUT]
    items: tuple[Any, ...] = (out,)
    if isinstance(out, (tuple, list)):
        items = tuple(cast("Sequence[Any]", out))
    elif isinstance(out, Mapping):
        named = cast("Mapping[str, Any]", out)
        items = tuple(named.get(b.name) for b in outputs)
    if len(items) != len(outputs):
        raise ArgumentError(
            "PH317", f"out= has {len(items)} arrays, but there are {len(outputs)} results", hints=("out=(a, b)",)
        )
    return {b.name: _output(b, o, sizes, orders) for b, o in zip(outputs, items, strict=True)}


def _output(b: Buffer, o: Any, sizes: Mapping[str, int], orders: Orders) -> Strided:
    given = array(o, _out_axes(b, o, orders), name=f"out for {b.name}")
    if given.data is not getattr(o, "data", o) and not isinstance(o, np.ndarray) and not on_device(o):
        raise ArgumentError(
            "PH316", f"out for {b.name} is a {type(o).__name__}, not an array", hints=("np.empty(shape)",)
        )
    if set(given.axes) != set(b.axes):
        raise DimError(
            "PH008",
            f"out for {b.name} has dimensions {{{', '.join(sorted(given.axes))}}}; "
            f"the result has {{{', '.join(sorted(b.axes))}}}",
            hints=(f"ph.array(a, '{' '.join(b.axes)}')",),
        )
    data = given.data.transpose([given.axes.index(d) for d in b.axes])
    shape = b.shape_for(sizes)
    if data.shape != shape:
        wanted = ", ".join(f"{d}:{n}" for d, n in sorted(zip(b.axes, shape, strict=True)))
        found = ", ".join(f"{d}:{n}" for d, n in given.sizes.items())
        raise ArgumentError(
            "PH318", f"out for {b.name} is {{{found}}}; the result is {{{wanted}}}", hints=("np.empty(shape)",)
        )
    if data.dtype != b.dtype:
        raise DtypeError(
            "PH304",
            f"out for {b.name} is {data.dtype}; the result is {b.element}",
            hints=(f"np.empty(..., {b.dtype})",),
        )
    return data


def _out_axes(b: Buffer, o: Any, orders: Orders) -> tuple[str, ...] | None:
    """The axis order of an unnamed array given as a result: the declared one, never a silent one."""
    if not isinstance(o, np.ndarray) and (isinstance(o, (Named, Ordered)) or not on_device(o)):
        return None
    order = orders.get(b.name, b.axes)
    if len(order) > 1 and b.name not in orders:
        names = sorted(b.axes)
        raise OrderError(
            "PH041",
            f"out for {b.name} is an unnamed array, but the result has unordered dimensions {{{', '.join(names)}}}",
            hints=(
                f"out=ph.array(a, '{' '.join(names)}'), in the order of a's axes",
                "@ph.function(..., returns='...')",
            ),
        )
    return order
