# SPDX-License-Identifier: MIT
"""Which recording a value belongs to: names of tensors, sizes and private dims mean something within one alone.

What belongs to none, dims and numbers, goes anywhere; who computes with values of two recordings gets the error of
this file, and which values there are is left to `value`.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from frontend.lang.location import Mark, here, locate
from polyhedral.errors import Location, UserError


@dataclass(frozen=True, eq=False)
class Owner:
    """One recording: the program's name, where its function is written, and where each of its tensors was made."""

    name: str
    mark: Mark | None = None
    places: dict[str, Location | None] = field(default_factory=dict[str, "Location | None"])
    unnamed: set[str] = field(default_factory=set[str])
    """Hoisted definitions, whose names no user has seen."""

    def place(self, tensor: str) -> Location | None:
        """Where a tensor was made; that of an argument is the function's own."""
        return self.places.get(tensor) or locate(self.mark)


recording: ContextVar[Owner | None] = ContextVar("the recording that goes on", default=None)


def foreign(name: str, owner: Owner, other: Owner) -> UserError:
    """PH020: a value of one recording meets another recording, in which its name may be that of something else."""
    what = "an expression" if name in owner.unnamed else name
    where, earlier = owner.place(name), "an earlier recording of " if owner.name == other.name else ""
    made = f"{what} was made in {earlier}{owner.name}"
    return UserError(
        "PH020",
        f"{what} belongs to another program: it was made while {earlier}{owner.name} was recorded, "
        f"and is used in {other.name}",
        details=(
            made if where is None else f"{made}  [{where}]  {where.text.strip()}",
            f"names count within one program: what {owner.name} calls so may be something else in {other.name}",
        ),
        hints=(
            f"pass it to {other.name} as an argument, or call {owner.name} within {other.name} and use what it returns",
            f"keep no tensors of a program in globals, lists or caches; make it within {other.name}: "
            "ph.const(array, 'i') for a table of numbers, k = ph.fresh('k') for a private dim",
        ),
        location=here(),
    )
