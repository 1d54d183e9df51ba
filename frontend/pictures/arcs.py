# SPDX-License-Identifier: MIT
"""Statements and what one hands to another: a column with arcs, in DOT and SVG.

With loops and bytes they are drawn in `frontend.pictures.graphs`; what is shown is the caller's to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from frontend.pictures.svg import CHAR, LINE, PAD, label, path, picture, rect


def dot_text(nodes: Sequence[str], edges: Sequence[tuple[str, str, str]]) -> str:
    lines = ["digraph statements {", "  node [shape=box, fontname=monospace];", *(f"  {json.dumps(n)};" for n in nodes)]
    lines += [f"  {json.dumps(a)} -> {json.dumps(b)} [label={json.dumps(array)}];" for a, b, array in edges]
    return "\n".join([*lines, "}"])


def svg(nodes: Sequence[str], edges: Sequence[tuple[str, str, str]]) -> str:
    """Statements in a column, an arc for each array that one hands to another."""
    width = max((len(n) for n in nodes), default=1) * CHAR + 2 * PAD
    at = {n: 4 + i * 3 * LINE for i, n in enumerate(nodes)}
    shapes: list[str] = []
    far = width
    for n, y in at.items():
        shapes += [rect("statement", 4, y, width, 1.6 * LINE), label(n, 4 + PAD, y + LINE)]
    for k, (a, b, array) in enumerate(edges):
        start, end = at[a] + 0.5 * LINE, at[b] + 1.1 * LINE
        side, bend = 4 + width, width + 20 + 14 * (k % 6) + abs(end - start) / 4
        shapes.append(
            path(f"M {side:.0f} {start:.0f} C {bend:.0f} {start:.0f}, {bend:.0f} {end:.0f}, {side:.0f} {end:.0f}")
        )
        shapes.append(path(f"M {side + 6:.0f} {end - 4:.0f} L {side:.0f} {end:.0f} L {side + 6:.0f} {end + 4:.0f}"))
        shapes.append(label(array, bend - 6, (start + end) / 2 + 4))
        far = max(far, bend + len(array) * CHAR)
    return picture(shapes, far + PAD, len(nodes) * 3 * LINE + 8)
