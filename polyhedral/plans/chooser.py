# SPDX-License-Identifier: MIT
"""The best plan of each statement, found once for all that differ in the names of arrays and of axes alone.

Layers of a network, and iterations of a routing, are the same nest again: the time to plan a program grows with what is
different in it.  What makes a plan the best is left to `polyhedral.plans.candidates`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Access, Program, Role, Statement, touched
from polyhedral.machine.target import Target
from polyhedral.plans.candidates import Asked, Choice, best, magnitude
from polyhedral.plans.preferences import NO_PREFERENCES, Preferences, preferred
from polyhedral.plans.tiles import ALONE, Within

At = TypeVar("At", bound=Affine | ex.Expr)

Axes = Mapping[str, Sequence[str]]
"""The axes of each array that a statement touches, from the largest stride to the smallest."""


@dataclass
class Chooser:
    """Plans for one machine; `constants` are arrays whose re-laying costs nothing at a call.  Where `preferences` name
    a plan, it is taken instead of the one with the least predicted cycles.
    """

    target: Target
    constants: frozenset[str]
    known: dict[object, tuple[Statement, Axes, Choice | None]] = field(
        default_factory=dict[object, tuple[Statement, Axes, Choice | None]]
    )
    preferences: Preferences = NO_PREFERENCES

    def best(self, p: Program, s: Statement, layouts: Mapping[str, Layout], within: Within = ALONE) -> Choice | None:
        """The plan with the least predicted cycles, or the one preferred."""
        still = tuple(n in within.still for n in touched(s))
        axes = _axes(s, layouts)
        key = (_shape(s, axes), self.target, within.whole, still, magnitude(p), *self._facts(p, s, layouts, axes))
        if key not in self.known:
            self.known[key] = s, axes, self._found(Asked(p, s, layouts, self.target, self.constants, within))
        like, named, choice = self.known[key]
        return choice if choice is None or like == s else _for(choice, named, s, axes)

    def _found(self, asked: Asked) -> Choice | None:
        choice = preferred(asked, self.preferences)
        if choice is None:
            choice = best(asked.program, asked.statement, asked.layouts, asked.target, asked.constants, asked.within)
        return None if choice is None else replace(choice, asked=asked)

    def _facts(self, p: Program, s: Statement, layouts: Mapping[str, Layout], axes: Axes) -> Iterator[object]:
        """All that a plan depends on, array by array, but names."""
        for n in touched(s):
            a = p.array(n)
            lies = tuple((a.extent(d), layouts[n].stride(d), dict(a.planes).get(d)) for d in axes[n])
            role = a.role is Role.INOUT, a.role is Role.TEMPORARY or n in p.read
            yield a.dtype, lies, role, n in self.constants


def _axes(s: Statement, layouts: Mapping[str, Layout]) -> Axes:
    return {n: layouts[n].order for n in touched(s)}


def _shape(s: Statement, axes: Axes) -> Statement:
    """The statement with numbers for the names of its arrays and of their axes, and for which cells of them it reads
    along axes that it does not move along; without a name of its own.
    """
    arrays = {n: str(k) for k, n in enumerate(touched(s))}
    places: dict[tuple[str, str], dict[Affine, Affine]] = {}

    def placed(array: str, index: Sequence[tuple[str, At]]) -> tuple[tuple[str, At], ...]:
        of = dict(index)
        return tuple((str(k), of[d]) for k, d in enumerate(axes[array]))

    def numbered(array: str, d: str, i: Affine | ex.Expr) -> Affine | ex.Expr:
        if not isinstance(i, Affine) or not i.is_const:
            return i
        known = places.setdefault((array, d), {})
        return known.setdefault(i, aff.const(len(known)))

    def one(e: ex.Expr) -> ex.Expr:
        if not isinstance(e, ex.Load):
            return e
        index = tuple((d, numbered(e.array, d, i)) for d, i in placed(e.array, e.index))
        return replace(e, array=arrays[e.array], index=index)

    write = Access(arrays[s.write.array], placed(s.write.array, s.write.index))
    return replace(s, name="", position=(), location=None, write=write, value=ex.rewrite(s.value, one))


def _for(choice: Choice, named: Axes, s: Statement, axes: Axes) -> Choice:
    """The choice for a statement that has the shape of the one it was made for: loads are the same, one by one, but for
    their arrays, the axes of these, and the cells where they do not move.
    """
    made = choice.statement
    there = {
        old: replace(own, index=_moved(named[old.array], old.index, axes[own.array], own.index))
        for old, own in zip(ex.loads(made.value), ex.loads(s.value), strict=True)
    }

    def value(e: ex.Expr) -> ex.Expr:
        return ex.rewrite(e, lambda n: there[n] if isinstance(n, ex.Load) else n)

    out = s.write
    write = Access(out.array, _moved(named[made.write.array], made.write.index, axes[out.array], out.index))
    statement = replace(
        made, name=s.name, position=s.position, location=s.location, write=write, value=value(made.value)
    )
    relaid = tuple((replace(o, value=value(o.value), load=there[o.load]), d, n) for o, d, n in choice.relaid)
    return replace(choice, statement=statement, relaid=relaid)


def _moved(
    named: Sequence[str], old: Sequence[tuple[str, At]], axes: Sequence[str], own: Sequence[tuple[str, At]]
) -> tuple[tuple[str, At], ...]:
    """Where a plan accesses an array, with the axes of another: where this does not move, at its own cells."""
    there = dict(zip(axes, named, strict=True))
    of = dict(old)
    return tuple((d, i if isinstance(i, Affine) and i.is_const else of[there[d]]) for d, i in own)
