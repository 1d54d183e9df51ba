# SPDX-License-Identifier: MIT
"""The best plan of each statement, found once for all statements that differ in the names of their arrays alone.

Layers of a network, and iterations of a routing, are the same nest again: the time to plan a program grows with what is
different in it.  What makes a plan the best is left to `polyhedral.plans.candidates`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Access, Program, Role, Statement, touched
from polyhedral.machine.target import Target
from polyhedral.plans.candidates import Choice, best
from polyhedral.plans.tiles import ALONE, Within


@dataclass
class Chooser:
    """Plans for one machine; `constants` are arrays whose re-laying costs nothing at a call."""

    target: Target
    constants: frozenset[str]
    known: dict[object, tuple[Statement, Choice | None]] = field(
        default_factory=dict[object, tuple[Statement, Choice | None]]
    )

    def best(self, p: Program, s: Statement, layouts: Mapping[str, Layout], within: Within = ALONE) -> Choice | None:
        """The plan with the least predicted cycles."""
        still = tuple(n in within.still for n in touched(s))
        key = (_shape(s), self.target, within.whole, still, *self._facts(p, s, layouts))
        if key not in self.known:
            self.known[key] = s, best(p, s, layouts, self.target, self.constants, within)
        like, choice = self.known[key]
        return choice if choice is None or like == s else _for(choice, s)

    def _facts(self, p: Program, s: Statement, layouts: Mapping[str, Layout]) -> Iterator[object]:
        """All that a plan depends on, array by array, but their names."""
        for n in touched(s):
            a = p.array(n)
            planes = a.planes, a.role is Role.INOUT, a.role is Role.TEMPORARY or n in p.read
            yield a.dims, a.dtype, planes, layouts[n].strides, n in self.constants


def _shape(s: Statement) -> Statement:
    """The statement with numbers for the names of its arrays, and for which cells of them it reads along axes that it
    does not move along; without a name of its own.
    """
    arrays = {n: str(k) for k, n in enumerate(touched(s))}
    places: dict[tuple[str, str], dict[Affine, Affine]] = {}

    def numbered(array: str, d: str, i: Affine | ex.Expr) -> Affine | ex.Expr:
        if not isinstance(i, Affine) or not i.is_const:
            return i
        known = places.setdefault((array, d), {})
        return known.setdefault(i, aff.const(len(known)))

    def one(e: ex.Expr) -> ex.Expr:
        if not isinstance(e, ex.Load):
            return e
        return replace(e, array=arrays[e.array], index=tuple((d, numbered(e.array, d, i)) for d, i in e.index))

    write = Access(arrays[s.write.array], s.write.index)
    return replace(s, name="", position=(), location=None, write=write, value=ex.rewrite(s.value, one))


def _for(choice: Choice, s: Statement) -> Choice:
    """The choice for a statement that has the shape of the one it was made for: loads are the same, one by one, but for
    their arrays and the cells where they do not move.
    """
    made = choice.statement
    there = {old: _moved(old, own) for old, own in zip(ex.loads(made.value), ex.loads(s.value), strict=True)}

    def value(e: ex.Expr) -> ex.Expr:
        return ex.rewrite(e, lambda n: there[n] if isinstance(n, ex.Load) else n)

    write = Access(s.write.array, made.write.index)
    statement = replace(
        made, name=s.name, position=s.position, location=s.location, write=write, value=value(made.value)
    )
    relaid = tuple((replace(o, value=value(o.value), load=there[o.load]), d, n) for o, d, n in choice.relaid)
    return replace(choice, statement=statement, relaid=relaid)


def _moved(old: ex.Load, own: ex.Load) -> ex.Load:
    """A load as a plan moves it, of the array and at the fixed cells of another."""
    fixed = {d: i for d, i in own.index if isinstance(i, Affine) and i.is_const}
    return replace(own, index=tuple((d, fixed.get(d, i)) for d, i in old.index))
