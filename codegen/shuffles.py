# SPDX-License-Identifier: MIT
"""From registers to memory: a network of two-register shuffles after which each register holds consecutive cells.

A transpose of 2^n registers takes n rounds of as many shuffles, as Eklundh's (1972) does; which cells the lanes belong
to is all that is asked.  What the steps look like in C is left to `codegen.writes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Cells = tuple[int, ...]
"""The cell of each lane of a register, as an offset in elements."""


@dataclass(frozen=True)
class Shuffle:
    """`made` = for each lane one of the lanes of `first` followed by those of `second`."""

    made: str
    first: str
    second: str
    lanes: Cells


@dataclass(frozen=True)
class Woven:
    """The shuffles in order, and the registers that are then stored: name and first cell, in the order of memory."""

    shuffles: tuple[Shuffle, ...]
    lines: tuple[tuple[str, int], ...]


def weave(registers: Mapping[str, Cells], prefix: str) -> Woven | None:
    """Shuffles that bring all cells into whole vectors of consecutive ones, or None where no such network is known.

    >>> weave({"a": (0, 2), "b": (1, 3)}, "t").shuffles
    (Shuffle(made='t0', first='a', second='b', lanes=(0, 2)), Shuffle(made='t1', first='a', second='b', lanes=(1, 3)))
    """
    width = len(next(iter(registers.values())))
    cells = sorted(c for lanes in registers.values() for c in lanes)
    firsts = cells[::width]
    if len(set(cells)) != len(cells) or any(
        cells[i + k] != first + k
        for i, first in zip(range(0, len(cells), width), firsts, strict=True)
        for k in range(width)
    ):
        return None
    line = {c: n // width for n, c in enumerate(cells)}
    steps: list[Shuffle] = []
    placed: dict[int, str] = {}
    for group in _groups(registers, line):
        made = _arranged(group, line, prefix, steps)
        if made is None:
            return None
        placed |= made
    return Woven(tuple(steps), tuple((placed[n], first) for n, first in enumerate(firsts)))


def filled(registers: Mapping[str, Cells]) -> tuple[dict[str, Cells], dict[str, str], int] | None:
    """Registers whose cells form runs shorter than a vector, made up to whole vectors: (registers, what each copy
    stands for, cells of a line that count); None where the runs differ in length.

    >>> filled({"a": (0, 8, 16, 24), "b": (1, 9, 17, 25), "c": (2, 10, 18, 26)})[1:]
    ({'c+1': 'c'}, 3)
    """
    width = len(next(iter(registers.values())))
    runs: list[list[str]] = []
    for name in sorted(registers, key=lambda n: registers[n]):
        before = registers[runs[-1][-1]] if runs else ()
        if [c + 1 for c in before] == list(registers[name]):
            runs[-1].append(name)
        else:
            runs.append([name])
    count = len(runs[0])
    if not 1 < count < width or any(len(run) != count for run in runs):
        return None
    whole = dict(registers)
    copies: dict[str, str] = {}
    for run in runs:
        last = run[-1]
        for k in range(1, width - count + 1):
            copies[f"{last}+{k}"] = last
            whole[f"{last}+{k}"] = tuple(c + k for c in registers[last])
    return whole, copies, count


def _groups(registers: Mapping[str, Cells], line: Mapping[int, int]) -> Iterator[dict[str, Cells]]:
    """Registers that share a line with each other, directly or through others."""
    left = dict(registers)
    while left:
        name = next(iter(left))
        group = {name: left.pop(name)}
        wanted = {line[c] for c in group[name]}
        while more := [n for n, lanes in left.items() if wanted & {line[c] for c in lanes}]:
            for n in more:
                group[n] = left.pop(n)
                wanted |= {line[c] for c in group[n]}
        yield group


def _arranged(
    group: Mapping[str, Cells], line: Mapping[int, int], prefix: str, steps: list[Shuffle]
) -> dict[int, str] | None:
    """The register of each line of a group: halve the lines until one is left."""
    if len(group) == 1:
        ((name, lanes),) = group.items()
        if list(lanes) != sorted(lanes):
            (name, _) = _shuffled(name, name, lanes, lanes, sorted(lanes), prefix, steps)
        return {line[lanes[0]]: name}
    lines = sorted({line[c] for lanes in group.values() for c in lanes})
    if len(lines) != len(group) or len(group) % 2:
        return None
    for low in _halves(lines):
        parts = _parted(group, line, frozenset(low), prefix, steps)
        if parts is not None:
            found = [_arranged(part, line, prefix, steps) for part in parts]
            return None if found[0] is None or found[1] is None else found[0] | found[1]
    return None


def _halves(lines: Sequence[int]) -> Iterator[Sequence[int]]:
    """The first half, every other line, and the steps between."""
    run = len(lines) // 2
    while run:
        yield [n for i, n in enumerate(lines) if i // run % 2 == 0]
        run = run // 2 if run % 2 == 0 else 0


def _parted(
    group: Mapping[str, Cells], line: Mapping[int, int], low: frozenset[int], prefix: str, steps: list[Shuffle]
) -> tuple[dict[str, Cells], dict[str, Cells]] | None:
    """Registers with the cells of the lines `low`, and the others: pairs whose cells are divided evenly."""
    names = list(group)
    width = len(group[names[0]])
    share = {n: sum(line[c] in low for c in group[n]) for n in names}
    parts: tuple[dict[str, Cells], dict[str, Cells]] = ({}, {})
    mixed = [n for n in names if share[n] not in (0, width)]
    if len(mixed) % 2 or any(share[a] + share[b] != width for a, b in zip(mixed[::2], mixed[1::2], strict=True)):
        return None
    for n in names:
        if n not in mixed:
            parts[0 if share[n] else 1][n] = group[n]
    last = len(group) == 2
    for a, b in zip(mixed[::2], mixed[1::2], strict=True):
        both = (*group[a], *group[b])
        for part, chosen in zip(
            parts, ([c for c in both if line[c] in low], [c for c in both if line[c] not in low]), strict=True
        ):
            name, lanes = _shuffled(a, b, group[a], group[b], sorted(chosen) if last else chosen, prefix, steps)
            part[name] = lanes
    return parts


def _shuffled(
    a: str, b: str, of_a: Cells, of_b: Cells, wanted: Sequence[int], prefix: str, steps: list[Shuffle]
) -> tuple[str, Cells]:
    where = {c: len(of_a) + i for i, c in enumerate(of_b)} | {c: i for i, c in enumerate(of_a)}
    made = f"{prefix}{len(steps)}"
    steps.append(Shuffle(made, a, b, tuple(where[c] for c in wanted)))
    return made, tuple(wanted)
