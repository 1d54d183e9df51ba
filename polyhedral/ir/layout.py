# SPDX-License-Identifier: MIT
"""Layouts: where the cells of an array lie in memory.

Today a layout is a stride for each named dim, in elements; the schedule uses only which dims are dense, and emission
turns named indices into addresses with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyhedral.ir import affine as aff
from polyhedral.ir.expr import Load
from polyhedral.ir.program import Array, Program, Statement, reads


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
            self.strides,
            key=lambda ds: -(abs(ds[1]) if isinstance(ds[1], int) else (1 << 62)),
        )
        return tuple(d for d, _ in ranked)


def row_major(a: Array, order: Sequence[str] | None = None) -> Layout:
    """A dense layout with the last dim of `order` contiguous; sizes that are not numbers give run-time strides."""
    strides: dict[str, int | str] = {}
    step: int | None = 1
    for d in reversed(a.dim_names if order is None else tuple(order)):
        strides[d] = runtime_stride(a.name, d) if step is None else step
        extent = dict(a.stored)[d]
        step = step * max(extent.const, 1) if step is not None and extent.is_const else None
    return Layout(a.name, tuple((d, strides[d]) for d in a.dim_names))


def choose(p: Program, given: Mapping[str, Layout]) -> dict[str, Layout]:
    """A layout for every array: the given ones stay, the others follow the operands they are computed from.

    Along an array's axes, the further apart the operands' cells lie, the further apart its own, the largest operand
    deciding (a bias is short along every axis); a dim along which a recurrence steps (see `planes`) is outermost.
    """
    layouts = dict(given)
    for s in p.statements:
        a = p.array(s.write.array)
        if a.name not in layouts:
            layouts[a.name] = row_major(a, _order(p, s, a, layouts))
    for a in p.arrays:
        layouts.setdefault(a.name, row_major(a))
    return layouts


def _order(p: Program, s: Statement, a: Array, layouts: Mapping[str, Layout]) -> tuple[str, ...]:
    def jump(dim: str) -> float:
        if dim in dict(a.planes):
            return float("inf")
        over = aff.dims_of(dict(s.write.index)[dim])
        found = [_jump(load, d, layouts[load.array]) for load in reads(s) if load.array in layouts for d in over]
        return max(found, default=0.0)

    jumps = {d: jump(d) for d in a.dim_names}
    known = [d for d in a.dim_names if jumps[d]]
    order = iter(sorted(known, key=lambda d: -jumps[d]))
    return tuple(next(order) if jumps[d] else d for d in a.dim_names)


def _jump(load: Load, dim: str, layout: Layout) -> float:
    """How far apart neighbours along a statement's dim lie in an operand; 0 where it does not depend on the dim."""
    total = 0.0
    for d, i in load.index:
        c = i.coefficient(aff.Var(dim)) if isinstance(i, aff.Affine) else 0
        stride = layout.stride(d)
        total += abs(c) * (stride if isinstance(stride, int) else 1 << 30)
    return total


def runtime_stride(array: str, dim: str) -> str:
    """The name of a stride that a kernel takes as an argument."""
    return f"{array}.{dim}.stride"


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
