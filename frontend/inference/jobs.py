# SPDX-License-Identifier: MIT
"""The work in progress of `assemble`: statements to be, the temporaries wanted so far, names and positions.

Everything here is values and look-ups; what is stored where, and why, is decided in `assemble`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from frontend.inference.demand import Demand
from frontend.inference.reads import spoken
from frontend.inference.settling import Context
from frontend.recorded import Padding, Recording, Reduction
from polyhedral.errors import Location
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Access, Array, Domain, Role

Number = tuple[int, ...]
"""A textual position while statements are still being inserted: user's number, 0 before it or 1 at it, order there."""
Place = tuple["Number | str", ...]


@dataclass(frozen=True)
class Key:
    """One temporary: a definition, or an elementwise part; `owner` and `loops` when it belongs to one statement only.

    `fixed` lists the free dims that are one of the owner's loop dims at this read.
    """

    definition: str | Expr
    owner: int | None = None
    fixed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Job:
    """A statement to be, still reading definitions, with the dims it was recorded with."""

    name: str
    place: Place
    owner: int | None
    domain: Domain
    write: Access
    value: Expr
    op: str | None = None
    accumulate: bool = False
    strict: bool = False
    location: Location | None = None

    @property
    def loops(self) -> tuple[str, ...]:
        return tuple(p for p in self.place if isinstance(p, str))


@dataclass
class Wanted:
    """The demands on one temporary so far, the place of its first reader, and how parts are loaded until stored."""

    number: int
    place: Place
    location: Location | None
    demands: list[Demand] = field(default_factory=list[Demand])


Stored = tuple[Array, tuple[Affine, ...]]
"""An array and the least index along each of its axes."""


@dataclass
class Assembly:
    """The work in progress of one `assemble`."""

    context: Context
    known: Condition
    jobs: list[Job] = field(default_factory=list[Job])
    wanted: dict[Key, Wanted] = field(default_factory=dict[Key, Wanted])
    copies: dict[str, list[Key]] = field(default_factory=dict[str, list[Key]])
    """The temporaries that are wanted of each definition."""
    parts: list[tuple[int, int, int, Key]] = field(default_factory=list[tuple[int, int, int, Key]])
    """A heap of the elementwise parts that are not stored yet: those of the latest definitions first, then the largest.
    """
    stored: dict[Key, Stored] = field(default_factory=dict[Key, Stored])
    taken: set[str] = field(default_factory=set[str])
    counted: dict[str, int] = field(default_factory=dict[str, int])
    """The last number given to each base name; those below it are taken."""

    @property
    def recording(self) -> Recording:
        return self.context.recording

    @cached_property
    def order(self) -> dict[str, int]:
        """Definitions in the order of their making: each reads only earlier ones."""
        return {d.name: n for n, d in enumerate(self.recording.definitions)}

    @cached_property
    def memory(self) -> frozenset[str]:
        """Whatever has to be evaluated at the time of its reader: inout arrays, and definitions that read them."""
        found = {a.name for a in self.recording.arrays if a.role is Role.INOUT}
        for d in self.recording.definitions:
            below = [d.array] if isinstance(d, Padding) else [n.array for n in ex.loads(d.body)]
            if found.intersection(below):
                found.add(d.name)
        return frozenset(found)

    @cached_property
    def readers(self) -> dict[str, int]:
        """How many different reads each live definition has."""
        count: dict[str, int] = {}

        def read(value: Expr) -> None:
            for n in dict.fromkeys(ex.loads(value)):
                count[n.array] = count.get(n.array, 0) + 1

        for r, _ in self.recording.statements:
            read(r.value)
        for d in reversed(self.recording.definitions):
            if isinstance(d, Reduction) and d.name in count:
                read(d.body)
        return count

    @cached_property
    def loaded(self) -> dict[str, Key]:
        """The elementwise parts by the names under which jobs load them, once all are known."""
        return {f"%part{w.number}": k for k, w in self.wanted.items() if not isinstance(k.definition, str)}

    @cached_property
    def shown(self) -> dict[str, str]:
        """Fresh dims by the user's spelling."""
        return {k: v for d in self.recording.definitions if isinstance(d, Reduction) for k, v in d.shown}

    def fresh(self, base: str) -> str:
        """A name that no array and no statement has yet."""
        n = self.counted.get(base, 0)
        name = base if n == 0 else f"{base}_{n}"
        while name in self.taken:
            n += 1
            name = f"{base}_{n}"
        self.taken.add(name)
        self.counted[base] = n
        return name


def spelled(build: Assembly, dims: tuple[str, ...]) -> dict[str, str]:
    """The user's spelling of each dim, numbered where two would be the same."""
    names: dict[str, str] = {}
    for d in dims:
        base = name = spoken(build.shown.get(d, d))
        n = 0
        while name in names.values():
            n += 1
            name = f"{base}_{n}"
        names[d] = name
    return names


# --- textual positions -----------------------------------------------------------------------------------------------


def before(number: Number | str, *order: int) -> Number:
    assert not isinstance(number, str), "a place ends with a number"
    return (number[0], 0, *order)


def numbers(place: Place) -> tuple[Number, ...]:
    return tuple(p for p in place if not isinstance(p, str))


def renumbered(places: list[Place]) -> Mapping[Place, tuple[int | str, ...]]:
    """Small textual numbers in the same order, level by level."""
    siblings: dict[Place, dict[Number, None]] = {}
    for place in places:
        for n, p in _levels(place):
            siblings.setdefault(place[:n], {})[p] = None
    rank = {prefix: {p: k for k, p in enumerate(sorted(found))} for prefix, found in siblings.items()}
    return {
        place: tuple(p if isinstance(p, str) else rank[place[:n]][p] for n, p in enumerate(place)) for place in places
    }


def _levels(place: Place) -> Iterator[tuple[int, Number]]:
    return ((n, p) for n, p in enumerate(place) if not isinstance(p, str))
