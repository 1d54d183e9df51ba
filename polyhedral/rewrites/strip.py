# SPDX-License-Identifier: MIT
"""Strip-mining: a dim becomes several, each a digit of it.

out over x < 1000   ->   out over x_block < 8, x_thread < 128 where x < 1000, x being 128*x_block + x_thread

Values do not change; whose digits run on what is the plan's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Condition
from polyhedral.ir.program import Access, Domain, Range, Statement


@dataclass(frozen=True)
class Digits:
    """The digits of a dim from the most significant to the least: its name, and how many values it has; None for the
    first, which has as many as are needed.
    """

    names: tuple[tuple[str, int | None], ...]

    @property
    def value(self) -> Affine:
        total = aff.const(0)
        for name, n in self.names:
            total = total * (n or 1) + aff.var(name)
        return total

    @property
    def size(self) -> int:
        """How many values all digits but an open first one have together."""
        size = 1
        for _, n in self.names:
            size *= n or 1
        return size


@dataclass(frozen=True)
class Stripped:
    """A statement over digits, and the conditions that keep each dim within its range where digits have more values."""

    statement: Statement
    within: Mapping[str, Condition]


def strip(s: Statement, digits: Mapping[str, Digits]) -> Stripped:
    """The statement with these dims in digits; ranges that mention no other dim begin at a number."""
    values: dict[str, Affine] = {}
    ranges: list[Range] = []
    within: dict[str, Condition] = {}
    for r in s.domain.ranges:
        if r.dim not in digits:
            ranges.append(Range(r.dim, aff.substitute(r.lo, values), aff.substitute(r.hi, values)))
            continue
        of = digits[r.dim]
        span = r.hi - r.lo
        first, *rest = of.names
        ranges.append(_first(first, span, of.size))
        ranges += [Range(name, aff.const(0), aff.const(n or 1)) for name, n in rest]
        values[r.dim] = r.lo + of.value
        open_ended = first[1] is None
        exact = span.is_const and (span.const % of.size == 0 if open_ended else span.const == of.size)
        within[r.dim] = TRUE if exact else aff.at_least(span - of.value - 1)
    guard = aff.map_affine(s.domain.guard, lambda e: aff.substitute(e, values))
    write = Access(s.write.array, tuple((d, aff.substitute(i, values)) for d, i in s.write.index))
    made = replace(
        s,
        domain=Domain(tuple(ranges), aff.both(guard, *within.values())),
        write=write,
        value=ex.substitute(s.value, values),
    )
    return Stripped(made, within)


def _first(digit: tuple[str, int | None], span: Affine, size: int) -> Range:
    name, n = digit
    return Range(name, aff.const(0), aff.const(n) if n is not None else (span + (size - 1)) // size)


def loosened(s: Statement, without: Sequence[Condition]) -> Statement:
    """The statement at further points: those that only these conditions exclude."""
    dropped = {part for c in without for part in aff.conjuncts(c)}
    kept = (c for c in aff.conjuncts(s.domain.guard) if c not in dropped)
    return replace(s, domain=Domain(s.domain.ranges, aff.both(*kept)))
