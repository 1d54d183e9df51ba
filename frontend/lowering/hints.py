# SPDX-License-Identifier: MIT
"""Hints: what a user wants of a schedule or a layout, as a value.

What becomes of them is `frontend.lowering.hinted`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from frontend.arrays.names import Names, name_of, names_of
from frontend.lang.value import lift
from polyhedral.errors import ArgumentError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.plans.preferences import NO_PREFERENCES, Preferences


@dataclass(frozen=True)
class Hints:
    """`ph.hints().tile("conv", y=8, x=32).fuse("conv", "relu").parallel(b).skew("u", x=t).layout("Y", "y x o")`.

    Statements are named by themselves or by the tensor they write.  Every method gives a new value.
    """

    fusions: tuple[tuple[str, str, tuple[str, ...] | None], ...] = ()
    tiles: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    skews: tuple[tuple[str, tuple[tuple[str, Affine], ...]], ...] = ()
    parallels: tuple[tuple[str, str | None], ...] = ()
    layouts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    scheduled: str | None = None
    """A whole schedule as JSON, which keeps no register tiles out: it has them, or not."""
    plans: Preferences = NO_PREFERENCES
    """Register tiles that a search found to be better than those predicted; they keep none out."""

    def fuse(self, one: str, two: str, at: Names | None = None) -> Hints:
        """Two statements share the loops over `at`; by default all that they may."""
        return replace(self, fusions=(*self.fusions, (one, two, None if at is None else names_of(at))))

    def tile(self, statement: str, **sizes: int) -> Hints:
        """Tile sizes by dim, in the order of the loops over tiles."""
        if not sizes:
            raise ArgumentError("PH402", f"tile({statement!r}) names no dims", hints=(f"tile({statement!r}, x=32)",))
        return replace(self, tiles=(*self.tiles, (statement, tuple(sizes.items()))))

    def skew(self, statement: str, **by: Any) -> Hints:
        """Add to a dim's time: `skew("u", x=t)` or `x=2*t`."""
        return replace(self, skews=(*self.skews, (statement, tuple((d, _affine(e)) for d, e in by.items()))))

    def parallel(self, dim: Any, statement: str | None = None) -> Hints:
        """Run the iterations of a dim on all cores, in one statement or in all that have it."""
        return replace(self, parallels=(*self.parallels, (name_of(dim), statement)))

    def layout(self, array: str, order: Names) -> Hints:
        """The axis order of a result or an intermediate in memory, the last axis contiguous."""
        return replace(self, layouts=(*self.layouts, (array, names_of(order))))

    def schedule(self, text: str) -> Hints:
        """The whole schedule, as `low.schedule(form="json")` and `polyhedral show --stage schedule --format json` give
        it, perhaps changed; it is used if it is one of this program, and legal (PH401, PH404 to PH406).
        """
        return replace(self, scheduled=text)

    @property
    def nests(self) -> bool:
        """Whether any loop is asked for (register tiles, which fix all loops of a statement, are then left out)."""
        return bool(self.fusions or self.tiles or self.skews or self.parallels)

    def __bool__(self) -> bool:
        return self.nests or bool(self.layouts)

    def __str__(self) -> str:
        calls = [
            f"fuse({a!r}, {b!r}" + (f", at={' '.join(at)!r})" if at is not None else ")") for a, b, at in self.fusions
        ]
        calls += [f"tile({s!r}, {', '.join(f'{d}={n}' for d, n in t)})" for s, t in self.tiles]
        calls += [f"skew({s!r}, {', '.join(f'{d}={e}' for d, e in t)})" for s, t in self.skews]
        calls += [f"parallel({d})" if s is None else f"parallel({d}, {s!r})" for d, s in self.parallels]
        calls += [f"layout({a!r}, {' '.join(o)!r})" for a, o in self.layouts]
        calls += ["schedule(...)"] if self.scheduled is not None else []
        return ".".join(["ph.hints()", *calls])


NO_HINTS = Hints()


def hints() -> Hints:
    """No hints yet."""
    return NO_HINTS


def _affine(e: Any) -> Affine:
    """A dim, `2*t`, or text of that form."""
    if isinstance(e, Affine):
        return e
    if isinstance(e, str):
        found = re.fullmatch(r"\s*(?:(-?\d+)\s*\*\s*)?([^\W\d]\w*)\s*", e)
        if found:
            return aff.var(found[2]) * int(found[1] or 1)
    value = None if isinstance(e, str) else lift(e)
    if value is not None and isinstance(value.node, ex.Index):
        return value.node.affine
    raise ArgumentError("PH402", f"a skew by {e!r} is not an index", hints=('skew("u", x=t) or skew("u", x=2*t)',))
