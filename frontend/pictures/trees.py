# SPDX-License-Identifier: MIT
"""A schedule tree as boxes inside boxes, in DOT and SVG.

Which tree is shown is the caller's to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from frontend.pictures.svg import CHAR, LINE, PAD, label, picture, rect
from polyhedral.ir import tree as tr
from polyhedral.ir.tree import Tree


@dataclass(frozen=True)
class Box:
    """A node of a drawing: a kind (its colour), a label and what lies below."""

    kind: str
    label: str
    below: tuple[Box, ...] = ()


def boxes(tree: Tree, shown: Mapping[str, str], inside: tuple[str, ...] = ()) -> Box:
    """A schedule tree as labelled boxes."""
    inside = inside or tr.families_of(tree)
    match tree:
        case tr.Leaf():
            return Box("statement", ", ".join(shown.get(f, f) for f in inside))
        case tr.Band(members, child):
            loops = ", ".join(m.name + ("" if m.run is tr.Run.SERIAL else f": {m.run.value}") for m in members)
            return Box(
                "band",
                f"band {loops}" + (" (permutable)" if tree.permutable and len(members) > 1 else ""),
                (boxes(child, shown, inside),),
            )
        case tr.Promote(array, child, past, _, stored):
            held = f"in registers: {array}" + (", stored past the caches" if past else "" if stored else ", not stored")
            return Box("registers", held, (boxes(child, shown, inside),))
        case tr.Local(array, _, child):
            return Box("registers", f"in memory of its own: {array}", (boxes(child, shown, inside),))
        case tr.Stage(array, _, child):
            return Box("registers", f"in memory of a block: {array}", (boxes(child, shown, inside),))
        case tr.Filter(families, child):
            return boxes(child, shown, families)
        case tr.Sequence(children):
            return Box("sequence", "in order", tuple(boxes(c.child, shown, c.families) for c in children))


# --- DOT -------------------------------------------------------------------------------------------------------------


def tree_dot(root: Box) -> str:
    lines = ["digraph schedule {", "  node [shape=box, fontname=monospace];"]
    lines += _dot_nodes(root, "n")
    return "\n".join([*lines, "}"])


def _dot_nodes(box: Box, id: str) -> Iterator[str]:
    yield f"  {id} [label={json.dumps(box.label)}];"
    for i, b in enumerate(box.below):
        yield f"  {id} -> {id}_{i};"
        yield from _dot_nodes(b, f"{id}_{i}")


# --- SVG -------------------------------------------------------------------------------------------------------------


def tree_svg(root: Box) -> str:
    """Boxes inside boxes: what is inside runs once for each iteration of what is around it."""
    shapes, width, height = _nested(root, 2, 2)
    return picture(shapes, width + 4, height + 4)


def _nested(box: Box, x: float, y: float) -> tuple[list[str], float, float]:
    inner: list[str] = []
    wide, at = len(box.label) * CHAR + 2 * PAD, y + LINE + PAD
    for b in box.below:
        shapes, w, h = _nested(b, x + PAD, at)
        inner += shapes
        wide, at = max(wide, w + 2 * PAD), at + h + 4
    height = at - y + (PAD - 4 if box.below else 0)
    return [rect(box.kind, x, y, wide, height), label(box.label, x + PAD, y + LINE - 2), *inner], wide, height
