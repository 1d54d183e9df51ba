# SPDX-License-Identifier: MIT
"""What a device is asked to do: kernels with their grids, and the loops around them that the host runs.

    step := Launch(kernel) | Repeat(name, lo, hi, by, steps) | Choose(condition, then, orelse)

All data: `codegen.runtime` runs it, on whatever device; `codegen.kernels` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codegen.c import Source
from codegen.loops import Bound
from polyhedral.ir.affine import Condition


@dataclass(frozen=True)
class Axis:
    """Blocks along one axis of a grid: one for every `per` iterations of the longest of several nests of loops, each
    given by bounds, as far as the host knows them."""

    loops: tuple[tuple[tuple[Bound, Bound], ...], ...] = ()
    per: int = 1


@dataclass(frozen=True)
class Launch:
    """One kernel: its symbol, the arrays and numbers that it takes in this order, and how many threads run it; `fault`
    whether it may report a wrong index, `shared` the bytes that a block shares."""

    symbol: str
    arrays: tuple[str, ...]
    numbers: tuple[str, ...]
    grid: tuple[Axis, Axis, Axis]
    block: tuple[int, int, int]
    shared: int = 0
    fault: bool = False


@dataclass(frozen=True)
class Repeat:
    """A loop that the host runs, `hi` inclusive; its variable is a number that kernels take."""

    name: str
    lo: Bound
    hi: Bound
    by: int
    steps: tuple[HostStep, ...]


@dataclass(frozen=True)
class Choose:
    condition: Condition
    then: tuple[HostStep, ...]
    orelse: tuple[HostStep, ...] = ()


HostStep = Launch | Repeat | Choose


@dataclass(frozen=True)
class DeviceSource(Source):
    """Text of all kernels of a program, what the host does with them, and the bits of the numbers that they take."""

    steps: tuple[HostStep, ...] = ()
    bits: int = 64
    double: bool = False

    @property
    def launches(self) -> tuple[Launch, ...]:
        return tuple(_launches(self.steps))


def _launches(steps: tuple[HostStep, ...]) -> Iterator[Launch]:
    for s in steps:
        match s:
            case Launch():
                yield s
            case Repeat():
                yield from _launches(s.steps)
            case Choose(_, then, orelse):
                yield from _launches(then)
                yield from _launches(orelse)
