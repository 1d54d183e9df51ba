# SPDX-License-Identifier: MIT
"""Names of dims, as users write them: "b y x", a list of names, or whatever has a name.

Which dims an array has is `frontend.arrays.named`'s.
"""

from __future__ import annotations

import difflib
import keyword
from collections.abc import Iterable
from typing import Protocol, cast

from polyhedral.errors import DimError


class Named(Protocol):
    """Anything with a name, such as the language's Dim."""

    @property
    def name(self) -> str: ...


Names = str | Named | Iterable[str | Named]


def name_of(dim: str | Named) -> str:
    """One dim's name.  A name is an identifier, no keyword of Python; primes may follow (private dims print so)."""
    name = dim if isinstance(dim, str) else getattr(dim, "name", None)
    if not isinstance(name, str) or not name.rstrip("'").isidentifier() or keyword.iskeyword(name):
        raise DimError(
            "PH007",
            f"{name if isinstance(name, str) else dim!r} is no name for a dimension",
            hints=("a name is an identifier and no keyword of Python, several are separated by blanks: 'batch y x'",),
        )
    return name


def names_of(dims: Names) -> tuple[str, ...]:
    """Distinct names from "b y x", from a list of names or Dims, or from one Dim."""
    if isinstance(dims, str):
        names = tuple(name_of(d) for d in dims.split())
    elif hasattr(dims, "name"):
        names = (name_of(cast("Named", dims)),)
    elif isinstance(dims, Iterable):
        names = tuple(name_of(d) for d in dims)
    else:
        names = (name_of(dims),)
    if len(set(names)) != len(names):
        twice = next(d for d in names if names.count(d) > 1)
        raise DimError(
            "PH006",
            f"dimension '{twice}' is named twice in '{' '.join(names)}'",
            hints=("give each axis a name of its own",),
            dim=twice,
        )
    return names


def nearest(name: str, among: Iterable[str]) -> str | None:
    """The name that may have been meant."""
    found = difflib.get_close_matches(name, list(among), 1, 0.5)
    return found[0] if found else None


def braces(names: Iterable[str]) -> str:
    return "{" + ", ".join(sorted(names)) + "}"
