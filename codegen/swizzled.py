# SPDX-License-Identifier: MIT
"""Text of an address in a swizzled box of shared memory (`polyhedral.devices.swizzles`).

    W[(128 * k + 4 * j_thread ^ (k & 7) << 2) + j_row]

What moves within a grain is added after the XOR, so that compilers see that neighbours are next to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen.scalar import Scalar
from polyhedral.devices.swizzles import Swizzle
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Var

Span = Callable[[Affine], tuple[int, int] | None]
"""Least and greatest value of an index, where they are known."""


def swizzled(swizzle: Swizzle, cell: Affine, within: Mapping[str, int], scalar: Scalar, span: Span) -> str:
    """Where the cell at an address of a dense box lies; `within` are dims, and how many values each has from 0 on, that
    may stay within a grain.
    """
    inner = aff.const(0)
    for d, n in within.items():
        rest, run = cell - aff.var(d), _power_above(n)
        if cell.coefficient(Var(d)) == 1 and run <= swizzle.grain and _aligned(rest, run):
            cell, inner = rest, aff.var(d)
            break
    beside = cell.const % swizzle.grain
    if inner == aff.const(0) and _aligned(cell - beside, swizzle.grain):
        cell, inner = cell - beside, aff.const(beside)
    turned = f"{scalar.affine(cell)} ^ {_turn(swizzle, cell, scalar, span)}"
    return turned if inner == aff.const(0) else f"({turned}) + {scalar.affine(inner)}"


def _turn(s: Swizzle, cell: Affine, scalar: Scalar, span: Span) -> str:
    """What a cell's grain is turned by: `cell / every % ways * grain`, of numbers that are not negative."""
    text = scalar.affine(cell)
    width = s.every
    while width > 1:
        rows, rest = _parted(cell, width)
        ends = span(rest)
        if ends is not None and ends[0] >= 0 and ends[1] < width:
            text = scalar.affine(rows)
            break
        width = width // 2 if width % 2 == 0 else 1
    by = s.every // width
    text = text if text.isidentifier() or by == 1 else f"({text})"
    text = f"{text} / {by}" if by > 1 else text
    text = f"{text if text.isidentifier() else f'({text})'} & {s.ways - 1}"
    return f"({text})" if s.grain == 1 else f"({text}) << {s.grain.bit_length() - 1}"


def _parted(cell: Affine, width: int) -> tuple[Affine, Affine]:
    """A cell as a row of so many cells, and its place within one, as far as terms say so."""
    rows, rest = aff.const(cell.const // width), aff.const(cell.const % width)
    for term, c in cell.terms:
        part = Affine(((term, 1),), 0)
        rows, rest = (rows + part * (c // width), rest) if c % width == 0 else (rows, rest + part * c)
    return rows, rest


def _aligned(e: Affine, to: int) -> bool:
    return all(c % to == 0 for _, c in e.terms) and e.const % to == 0


def _power_above(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()
