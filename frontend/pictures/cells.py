# SPDX-License-Identifier: MIT
"""Layout maps: where the cells of an array lie, as colours over two of its dims.

Knows extents and strides only; how shapes are written is `frontend.pictures.svg`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from frontend.pictures.svg import LINE, PAD, label, path, picture, rect, width_of
from frontend.units import readable

_LINE_BYTES = 64
_CELL, _SHOWN = 14, 24
"""Pixels of a cell, and how many cells are shown along each side."""


@dataclass(frozen=True)
class Cells:
    """An array in memory: (dim, extent, stride in elements) of each dim, and bytes of an element."""

    array: str
    dims: tuple[tuple[str, int, int], ...]
    item: int

    def caption(self) -> str:
        shown = ", ".join(f"{d}: {n} (stride {s})" for d, n, s in self.dims)
        return f"{self.array}[{shown}], {readable(self.item)} a cell"


def layout_svg(every: Sequence[Cells]) -> str:
    """A map for each array over the two dims that vary fastest: cells coloured by their address, lines around what
    shares a cache line.
    """
    shapes: list[str] = []
    y, far = float(PAD), 0.0
    for c in every:
        made, width, height = _map(c, y)
        shapes += made
        far, y = max(far, width), y + height + 2 * PAD
    if not every:
        text = "no array's strides are known before the call: give sizes"
        shapes, far, y = [label(text, PAD, LINE)], width_of(text) + PAD, 2.0 * LINE
    return picture(shapes, far + PAD, y)


def _map(c: Cells, top: float) -> tuple[list[str], float, float]:
    fast = sorted((d for d in c.dims), key=lambda d: -abs(d[2]))[-2:]
    (down, rows, over), (across, columns, along) = [("", 1, 0)] * (2 - len(fast)) + fast
    m, n = min(rows, _SHOWN), min(columns, _SHOWN)
    ends = [(k - 1) * stride for k, stride in ((m, over), (n, along)) if k]
    low, span = sum(min(e, 0) for e in ends), max(sum(abs(e) for e in ends), 1)
    origin = sum(min((k - 1) * s, 0) for _, k, s in c.dims if k)

    def line(i: int, j: int) -> int:
        return (i * over + j * along - origin) * c.item // _LINE_BYTES

    left, y = PAD + width_of(down) + 6, top + 2 * LINE
    shapes = [label(c.caption(), PAD, top + LINE - 4), label(down, PAD, y + LINE - 4)]
    shapes.append(label(across, left, y - 4, "small"))
    seams: list[str] = []
    for i in range(m):
        for j in range(n):
            at = i * over + j * along
            hue = 240 - 240 * (at - low) / span
            index = ", ".join(f"{d}={k}" for d, k in ((down, i), (across, j)) if d)
            title = f"{c.array}({index}): {(at - origin) * c.item} bytes from its lowest cell"
            shapes.append(rect("cell", left + j * _CELL, y + i * _CELL, _CELL, _CELL, title, f"hsl({hue:.0f} 65% 60%)"))
            seams += _seams(line, i, j, left, y)
    shapes.append(path(" ".join(seams) or f"M {left:.0f} {y:.0f}"))
    more = f"{m} of {rows} rows, {n} of {columns} columns" if m < rows or n < columns else ""
    shapes += [label(more, left, y + m * _CELL + LINE - 4, "small")] if more else []
    wide = max(PAD + width_of(c.caption()), left + max(n * _CELL, width_of(more)))
    return shapes, wide, 2 * LINE + m * _CELL + (LINE if more else 0)


def _seams(line: Callable[[int, int], int], i: int, j: int, left: float, top: float) -> Iterator[str]:
    """Where a cell and the one before it, to the left or above, lie in different cache lines."""
    x, y = left + j * _CELL, top + i * _CELL
    if j and line(i, j) != line(i, j - 1):
        yield f"M {x:.0f} {y:.0f} v {_CELL}"
    if i and line(i, j) != line(i - 1, j):
        yield f"M {x:.0f} {y:.0f} h {_CELL}"
