# SPDX-License-Identifier: MIT
"""Layouts: where the cells of an array lie in memory.

Today a layout is a stride for each named dim, in elements; the schedule uses only which dims are dense, and emission
turns named indices into addresses with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyhedral import affine as aff
from polyhedral.program import Array


@dataclass(frozen=True)
class Layout:
    """A stride in elements per dim; a string names a stride that is only known at run time."""

    array: str
    strides: tuple[tuple[str, int | str], ...]

    def stride(self, dim: str) -> int | str:
        return dict(self.strides)[dim]

    @property
    def order(self) -> tuple[str, ...]:
        """Dims from the largest stride to the smallest; run-time strides count as large."""
        ranked = sorted(
            self.strides, key=lambda ds: -(abs(ds[1]) if isinstance(ds[1], int) else (1 << 62)),
        )
        return tuple(d for d, _ in ranked)


def row_major(a: Array, order: Sequence[str] | None = None) -> Layout:
    """A dense layout with the last dim of `order` contiguous; sizes that are not numbers give run-time strides."""
    strides: dict[str, int | str] = {}
    step: int | None = 1
    for d in reversed(a.dim_names if order is None else tuple(order)):
        strides[d] = runtime_stride(a.name, d) if step is None else step
        extent = a.extent(d)
        step = step * max(extent.const, 1) if step is not None and extent.is_const else None
    return Layout(a.name, tuple((d, strides[d]) for d in a.dim_names))


def runtime_stride(array: str, dim: str) -> str:
    """The name of a stride that a kernel takes as an argument."""
    return f"{array}.{dim}.stride"


def is_static(layout: Layout) -> bool:
    return all(isinstance(s, int) for _, s in layout.strides)


def elements(a: Array) -> int | None:
    """How many cells an array has, when its extents are numbers."""
    total = 1
    for _, e in a.dims:
        if not e.is_const:
            return None
        total *= max(e.const, 0)
    return total


def address(layout: Layout, index: Sequence[tuple[str, aff.Affine]]) -> aff.Affine | None:
    """The offset in elements as one affine expression, when every stride is a number."""
    total = aff.const(0)
    for d, i in index:
        s = layout.stride(d)
        if not isinstance(s, int):
            return None
        total = total + i * s
    return total
