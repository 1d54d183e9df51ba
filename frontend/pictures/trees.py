# SPDX-License-Identifier: MIT
"""Pictures as text: a schedule tree and a statement graph in DOT and SVG, and a page of HTML without scripts.

Everything shown is escaped here; what to show is `frontend.commands.show`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from frontend.pictures.svg import CHAR, LINE, PAD, escaped, label, path, picture, rect
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


def graph_dot(nodes: Sequence[str], edges: Sequence[tuple[str, str, str]]) -> str:
    lines = ["digraph statements {", "  node [shape=box, fontname=monospace];", *(f"  {json.dumps(n)};" for n in nodes)]
    lines += [f"  {json.dumps(a)} -> {json.dumps(b)} [label={json.dumps(array)}];" for a, b, array in edges]
    return "\n".join([*lines, "}"])


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


def graph_svg(nodes: Sequence[str], edges: Sequence[tuple[str, str, str]]) -> str:
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


# --- HTML ------------------------------------------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"/><title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:15px system-ui,sans-serif;margin:2em;max-width:110em}}
pre{{font:13px ui-monospace,monospace;overflow:auto}}
summary{{cursor:pointer;font-weight:600}}details{{margin:.6em 0}}</style>
</head><body><h1>{title}</h1>
{sections}
</body></html>"""


def page(title: str, texts: Mapping[str, str], pictures: Mapping[str, str]) -> str:
    """Collapsible sections, the pictures inline."""
    return _PAGE.format(title=escaped(title), sections=sections(texts, pictures, texts))


def sections(texts: Mapping[str, str], pictures: Mapping[str, str], opened: Container[str]) -> str:
    """A fold for each text, with its picture above it; those in `opened` are open."""
    return "\n".join(
        f"<details{_OPEN if name in opened else ''}><summary>{escaped(name)}</summary>\n"
        f"{pictures.get(name, '')}\n<pre>{escaped(text)}</pre></details>"
        for name, text in texts.items()
    )


_OPEN = ' open="open"'
