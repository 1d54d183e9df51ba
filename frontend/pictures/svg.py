# SPDX-License-Identifier: MIT
"""SVG: shapes as text, and a picture around them that brings its own style and touches no other's.

Every text that comes in is escaped here; what is drawn is decided above.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

CHAR, LINE, PAD = 7.2, 18, 8
"""Width of a character, height of a line and room around text, in pixels."""
_STYLE = (
    ".ph text{font:12px ui-monospace,monospace;fill:currentColor;stroke:none}"
    ".ph text.halo{paint-order:stroke;stroke:Canvas;stroke-width:4px}.ph text.small{font-size:10px}"
    ".ph rect{fill:none;stroke:currentColor;stroke-width:1;rx:4}.ph path{fill:none;stroke:currentColor}"
    ".ph rect.cell{stroke:none;rx:0}.ph path.peak{stroke-dasharray:4 3}.ph circle{fill:currentColor;stroke:none}"
    ".ph rect.band{fill:#8fb8de55}.ph rect.sequence{fill:#e0c36a44}.ph rect.registers{fill:#9fd49f55}"
    ".ph rect.statement{fill:#cccccc44}.ph rect.cluster{fill:#8fb8de33}.ph rect.array{fill:#e0c36a44;rx:9}"
    ".ph rect.live{fill:#9fd49f88}"
)
_UNPRINTABLE = re.compile("[^\\t\\n\\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML has no way to write."""


@dataclass(frozen=True)
class Picture:
    """A drawing: notebooks show it, `str` is its SVG text, `save` writes that to a file."""

    svg: str
    text: str = "a picture"

    def save(self, place: str | Path) -> None:
        Path(place).write_text(self.svg + "\n", encoding="utf-8")

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Picture: {self.text}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle({"text/plain": self.text, "image/svg+xml": self.svg}, include, exclude)


def bundle(parts: Mapping[str, str], include: object = None, exclude: object = None) -> dict[str, str]:
    """What a notebook asked for of a value's forms, by MIME type."""
    chosen, left = _kinds(include), _kinds(exclude)
    return {kind: text for kind, text in parts.items() if (not chosen or kind in chosen) and kind not in left}


def _kinds(given: object) -> set[str]:
    return set(map(str, cast("set[object]", given))) if isinstance(given, (set, frozenset, list, tuple)) else set()


def escaped(text: str) -> str:
    """A text as it may stand in HTML and XML, in an attribute too."""
    return html.escape(_UNPRINTABLE.sub("\ufffd", text))


def headed(title: str, content: str) -> str:
    """HTML that begins with what a value is in one line."""
    return f"<div><code>{escaped(title)}</code>\n{content}</div>"


def width_of(text: str) -> float:
    return len(text) * CHAR


def rect(kind: str, x: float, y: float, w: float, h: float, title: str = "", fill: str = "") -> str:
    """A box of one of the kinds that have a style; `title` is shown by browsers that point at it."""
    painted = f' style="fill:{fill}"' if fill else ""
    head = f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{h:.0f}"{painted}'
    return f"{head}><title>{escaped(title)}</title></rect>" if title else f"{head}/>"


def label(text: str, x: float, y: float, kind: str = "") -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<text{styled} x="{x:.0f}" y="{y:.0f}">{escaped(text)}</text>'


def path(d: str, kind: str = "") -> str:
    styled = f' class="{kind}"' if kind else ""
    return f'<path{styled} d="{d}"/>'


def dot(x: float, y: float) -> str:
    return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3"/>'


def arrow(x: float, y: float) -> str:
    """The head of an arrow that points to the left."""
    return path(f"M {x + 6:.0f} {y - 4:.0f} L {x:.0f} {y:.0f} L {x + 6:.0f} {y + 4:.0f}")


def picture(shapes: Sequence[str], width: float, height: float) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" class="ph" {size}>', f"<style>{_STYLE}</style>", *shapes, "</svg>"]
    )
