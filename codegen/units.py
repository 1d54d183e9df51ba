# SPDX-License-Identifier: MIT
"""Units: a long text in parts that several compilers work on at once, each with its number as the macro UNIT.

    #if UNIT == 0 || UNIT == 2       functions of unit 2: alone with -DUNIT=2, together with all others without
    ...
    #endif

How long a text is decides where it is cut, not the machine: the same program is the same text everywhere.  What the
functions do is left to `codegen.c`, compiling and linking to `codegen.runtime.cc`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

MACRO = "UNIT"
LONG = 40_000
"""Letters of code that one compiler is done with soon enough: half a second to two."""
SHARE = 20_000
"""Letters that a unit has on average, where there are not more units than `MOST`."""
MOST = 16
"""Each reads what they share again, and takes about 50 ms to start and to be linked."""
FUNCTION = 8_000
"""Letters of a function from which on nothing more is put into it: compilers take longer for it than for its halves."""
TABLE = 2_000
"""Letters of a constant's values from which on one unit has them for all."""


@dataclass(frozen=True)
class Piece:
    """Loops that cannot be cut, as lines of C, and the arrays that they touch."""

    lines: tuple[str, ...]
    arrays: frozenset[str]

    @cached_property
    def letters(self) -> int:
        return sum(map(len, self.lines))


def joined(pieces: Iterable[Piece]) -> Piece:
    every = list(pieces)
    return Piece(tuple(x for p in every for x in p.lines), frozenset[str]().union(*(p.arrays for p in every)))


def functions(phases: Sequence[Sequence[Piece]]) -> tuple[list[Piece], list[int]]:
    """What each function does, and the unit that it is in, from 1: one function for each phase and all in one unit, but
    for a long text.
    """
    letters = sum(p.letters for phase in phases for p in phase)
    if letters <= LONG:
        return [joined(phase) for phase in phases], [1] * len(phases)
    found = [joined(group) for phase in phases for group in _groups(phase)]
    return found, _balanced([f.letters for f in found], min(MOST, len(found), -(-letters // SHARE)))


def _groups(phase: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The pieces of a phase in functions that are not too long, in order."""
    group: list[Piece] = []
    for p in phase:
        if group and sum(g.letters for g in group) + p.letters > FUNCTION:
            yield group
            group = []
        group.append(p)
    if group:
        yield group


def _balanced(letters: Sequence[int], count: int) -> list[int]:
    """The unit of each function: the longest first, each to the unit that has least.  Units are numbered by the first
    function that they have.
    """
    load = [0] * count
    unit = [0] * len(letters)
    for n in sorted(range(len(letters)), key=lambda n: -letters[n]):
        unit[n] = min(range(count), key=lambda u: load[u])
        load[unit[n]] += letters[n]
    number = {u: k for k, u in enumerate(dict.fromkeys(unit), 1)}
    return [number[u] for u in unit]


def head(count: int) -> list[str]:
    """How to compile a text of so many units."""
    return [
        f"/* {count} units: -D{MACRO}=1 to -D{MACRO}={count} compile one each, to be linked; without, all are one. */",
        f"#ifndef {MACRO}",
        f"#define {MACRO} 0",
        "#endif",
        "",
    ]


def within(unit: int, lines: Sequence[str]) -> list[str]:
    """Lines that one unit has."""
    return [f"/* unit {unit} */", f"#if {MACRO} == 0 || {MACRO} == {unit}", *lines, "#endif", ""]
