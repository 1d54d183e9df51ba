# SPDX-License-Identifier: MIT
"""Dims as the library's functions take them: a dim or its name, private dims with a size, and what arguments must have.

The rules of naming are the language's; nothing here looks at values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeAlias

from frontend import lang as ph
from frontend.lang.location import here
from polyhedral.errors import DimError

Dims: TypeAlias = ph.Dim | str | Sequence[ph.Dim | str]
"""One dim, several, or several in a text: `"y x"`."""


def as_dims(given: Dims) -> tuple[ph.Dim, ...]:
    """Dims one by one, in order."""
    if isinstance(given, ph.Dim):
        return (given,)
    return tuple(map(as_dim, given.split() if isinstance(given, str) else given))


def as_dim(given: ph.Dim | str) -> ph.Dim:
    """The dim itself, or the one with this name."""
    return given if isinstance(given, ph.Dim) else ph.Dim(given)


def private(name: str, size: object) -> ph.Dim:
    """A fresh dim with a size: it captures no dim of a caller, and needs nothing else to bound it."""
    return ph.Dim(ph.fresh(name).name, size)


def spoken(dims: Iterable[ph.Dim]) -> str:
    """`{y, x}`."""
    return "{" + ", ".join(map(str, dims)) + "}"


def needs(doing: str, what: str, value: ph.Expr, dims: Dims) -> None:
    """DimError (PH001) unless an argument of a library function has all these dims."""
    names = [d.name for d in value.dims]
    for dim in as_dims(dims):
        if dim.name in names:
            continue
        has = spoken(sorted(value.dims, key=lambda d: d.name)) if names else "no dimensions"
        close = get_close_matches(dim.name, names, 1)
        guess = f"write {close[0]} instead of {dim}" if close else f"say which of its dimensions serves as {dim}"
        raise DimError(
            "PH001",
            f"{doing}: {what} has no dimension named '{dim}'; it has {has}",
            hints=(f"{guess}: every dimension that {doing} uses can be given by an argument, or renamed, "
                   f"{what}({names[0] if names else 'd'}={dim})",),
            dim=dim.name,
            location=here(),
        )  # fmt: skip
