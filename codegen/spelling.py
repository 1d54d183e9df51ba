# SPDX-License-Identifier: MIT
"""How the kernel that is being emitted spells things, for those who write parts of it.

The functions are `codegen.c`'s, which knows the layouts; what is written with them is left to those parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from codegen import loops as lp
from codegen.scalar import Scalar
from codegen.vectors import Vectors
from polyhedral.ir.affine import Affine

LANE = "\0lane"
"""The variable of a loop over the lanes of one vector; spelled `lane`, which no user's dim is."""
Index = list[tuple[str, Affine]]
"""A cell of an array by its dims."""


@dataclass(frozen=True)
class Spelling:
    """Names, values, cells with their addresses where those are affine, and bounds of loops; `vectors` collects the
    types and functions that the kernel needs."""

    scalar: Scalar
    spell: Callable[[str], str]
    cell: Callable[[str, Index], str]
    address: Callable[[str, Index], Affine | None]
    bound: Callable[[lp.Bound], str]
    vectors: Vectors = field(default_factory=Vectors)
