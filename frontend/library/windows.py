# SPDX-License-Identifier: MIT
"""Sliding windows over any number of axes: which cell a position and a tap read, and which positions see a cell.

What is computed in a window is left to the modules that use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from frontend import lang as ph
from frontend.lang.location import here
from frontend.library.dims import Dims, as_dims, spoken
from polyhedral.errors import ArgumentError

Steps: TypeAlias = int | Sequence[int]
"""One number for all axes, or one for each."""


@dataclass(frozen=True, eq=False)
class Window:
    """Position `y` and tap `ky` read the cell `stride*y + dilation*ky - padding` along `y`, and so on for each axis."""

    positions: tuple[ph.Dim, ...]
    taps: tuple[ph.Dim, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def cell(self) -> tuple[ph.Expr, ...]:
        """The index of the cell along each axis, over positions and taps."""
        axes = zip(self.positions, self.taps, self.stride, self.padding, self.dilation, strict=True)
        return tuple(s * y + d * k - p for y, k, s, p, d in axes)

    def read(self, X: ph.Expr) -> ph.Expr:
        """`X` at the cell: its dims named like the positions become positions and taps.  Padding reads 0."""
        widths = {y.name: p for y, p in zip(self.positions, self.padding, strict=True) if p}
        padded = X.pad(0, "constant", **widths) if widths else X
        return padded(self.at(self.positions))

    def at(self, cells: Sequence[ph.Dim]) -> Mapping[object, object]:
        """What to replace the dims of the cells by, to read them from positions and taps."""
        return dict(zip(cells, self.cell, strict=True))

    def covers(self, cells: Sequence[ph.Dim]) -> ph.Expr:
        """The affine condition that position and tap read the cell: one equation for each axis."""
        equations = [at == cell for at, cell in zip(self.cell, cells, strict=True)]
        condition = equations[0]
        for equation in equations[1:]:
            condition = condition & equation
        return condition


def window(
    positions: Dims,
    taps: Dims,
    stride: Steps = 1,
    padding: Steps = 0,
    dilation: Steps = 1,
) -> Window:
    """A window with one tap dim for each position dim.

    Raises ArgumentError (PH040) where there are not as many taps, strides, paddings or dilations as positions, where a
    stride or dilation is not positive, or a padding is negative.
    """
    at, over = as_dims(positions), as_dims(taps)
    if not at or len(at) != len(over):
        raise ArgumentError(
            "PH040",
            f"a window pairs each position with a tap; got positions {spoken(at)} and taps {spoken(over)}",
            hints=("for an image: positions='y x', taps='ky kx'",),
            location=here(),
        )
    steps = (
        _each("stride", stride, at, 1),
        _each("padding", padding, at, 0),
        _each("dilation", dilation, at, 1),
    )
    return Window(at, over, *steps)


def _each(what: str, given: Steps, axes: tuple[ph.Dim, ...], least: int) -> tuple[int, ...]:
    values = (given,) * len(axes) if isinstance(given, int) else tuple(given)
    if len(values) == len(axes) and all(v >= least for v in values):
        return values
    raise ArgumentError(
        "PH040",
        f"{what}={given!r}: a window over {spoken(axes)} wants one int >= {least}, or {len(axes)} of them",
        hints=(f"{what}={max(least, 1)}", f"{what}=({', '.join([str(max(least, 1))] * len(axes))},)"),
        location=here(),
    )
