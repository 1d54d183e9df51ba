# SPDX-License-Identifier: MIT
"""Memory as a picture: which temporaries live when, and where in their block.

Reads placements; how shapes are written is `frontend.pictures.svg`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

from frontend.pictures.svg import LINE, PAD, label, path, picture, rect, width_of
from frontend.units import readable
from polyhedral.whole.storage import Placement, Slot

_STEP, _TALL = 56, 260
"""Pixels of a step of the schedule, and of the whole block."""


@dataclass(frozen=True)
class Timeline:
    """Temporaries at their places, with the name of each step of the schedule; `unknown` sizes count as 1."""

    placement: Placement
    steps: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    def note(self) -> str:
        return f"sizes that are not known count as 1: {', '.join(self.unknown)}" if self.unknown else ""

    def shares(self, slot: Slot) -> tuple[str, ...]:
        return tuple(s.array for s in self.placement.slots if s.array != slot.array and s.shares(slot))

    def __str__(self) -> str:
        p = self.placement
        if not p.slots:
            return "no intermediate results in memory"
        lines = [self.note()] if self.unknown else []
        lines.append(
            f"{readable(p.peak)} at most, {readable(p.apart)} without sharing; {readable(p.least)} live at once"
        )
        width = max(len(s.array) for s in p.slots)
        lines += [f"{s.array:{width}}  {self.described(s)}" for s in p.slots]
        return "\n".join(lines)

    def described(self, s: Slot) -> str:
        others = self.shares(s)
        shared = f", shares memory with {', '.join(others)}" if others else ""
        return f"bytes {s.start}..{s.end - 1}, from {self.steps[s.first]} to {self.steps[s.last]}{shared}"

    def to_json(self) -> dict[str, object]:
        p = self.placement
        return {
            "peak": p.peak,
            "least": p.least,
            "unshared": p.apart,
            "unknown": list(self.unknown),
            "steps": list(self.steps),
            "arrays": {
                s.array: {
                    "start": s.start,
                    "bytes": s.size,
                    "first": s.first,
                    "last": s.last,
                    "shares": list(self.shares(s)),
                }
                for s in p.slots
            },
        }


def timeline_svg(t: Timeline) -> str:
    """Steps from left to right, bytes of the block from the bottom up; each array is a box over its life and place."""
    p, left = t.placement, 70
    scale = _TALL / max(p.peak, 1)
    base = _TALL + LINE
    wide = _STEP * max(len(t.steps), 1)
    shapes = [
        path(f"M {left} {LINE:.0f} V {base:.0f} H {left + wide:.0f}"),
        path(f"M {left} {base - p.peak * scale:.0f} H {left + wide:.0f}", "peak"),
        label(readable(p.peak), 2, base - p.peak * scale + 4, "small"),
        label("0", left - 12, base, "small"),
    ]
    legend: list[str] = []
    for s in p.slots:
        x, high = left + s.first * _STEP, max(s.size * scale, 3)
        title = f"{s.array}: {readable(s.size)}, {t.described(s)}"
        shapes.append(rect("live", x + 2, base - s.end * scale, (s.last - s.first + 1) * _STEP - 4, high, title))
        if high >= LINE:
            shapes.append(label(s.array, x + 6, base - (s.start + s.size / 2) * scale + 4, "halo"))
        legend.append(title)
    shapes += [label(str(k), left + k * _STEP + _STEP / 2 - 4, base + LINE - 4, "small") for k in range(len(t.steps))]
    at = base + 2 * LINE
    rows = [
        *(f"step {k}: {name}" for k, name in enumerate(t.steps)),
        *(legend or ["no intermediate results in memory"]),
    ]
    rows += [t.note()] if t.unknown else []
    shapes += [label(row, PAD, at + i * LINE) for i, row in enumerate(rows)]
    far = max([left + wide + PAD, *(PAD * 2 + width_of(r) for r in rows)])
    return picture(shapes, far, at + LINE * len(rows))
