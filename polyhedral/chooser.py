# SPDX-License-Identifier: MIT
"""The best plan of each statement, found once for all statements that differ in the names of their arrays alone.

Layers of a network, and iterations of a routing, are the same nest again: the time to plan a program grows with what is
different in it.  What makes a plan the best is left to `polyhedral.candidates`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from polyhedral import expr as ex
from polyhedral.candidates import Choice, best
from polyhedral.layout import Layout
from polyhedral.program import Access, Program, Role, Statement, reads
from polyhedral.target import Target


@dataclass
class Chooser:
    """Plans for one machine; `constants` are arrays whose re-laying costs nothing at a call."""

    target: Target
    constants: frozenset[str]
    known: dict[object, tuple[Statement, Choice | None]] = field(
        default_factory=dict[object, tuple[Statement, Choice | None]]
    )

    def best(self, p: Program, s: Statement, layouts: Mapping[str, Layout]) -> Choice | None:
        """The plan with the least predicted cycles."""
        key = (_shape(s), *self._facts(p, s, layouts))
        if key not in self.known:
            self.known[key] = s, best(p, s, layouts, self.target, self.constants)
        like, choice = self.known[key]
        return None if choice is None else _renamed(choice, s, dict(zip(_arrays(like), _arrays(s), strict=True)))

    def _facts(self, p: Program, s: Statement, layouts: Mapping[str, Layout]) -> Iterator[object]:
        """All that a plan depends on, array by array, but their names."""
        for n in _arrays(s):
            a = p.array(n)
            again = any(n == load.array for t in p.statements for load in reads(t))
            planes = a.planes, a.role is Role.INOUT, a.role is Role.TEMPORARY or again
            yield a.dims, a.dtype, planes, layouts[n].strides, n in self.constants


def _arrays(s: Statement) -> tuple[str, ...]:
    """The arrays of a statement in the order in which they are met."""
    return tuple(dict.fromkeys((s.write.array, *(n.array for n in ex.walk(s.value) if isinstance(n, ex.Load)))))


def _shape(s: Statement) -> Statement:
    """The statement with numbers for the names of its arrays, and none of its own."""
    numbers = {n: str(k) for k, n in enumerate(_arrays(s))}
    return replace(_with_arrays(s, numbers), name="", position=(), location=None)


def _with_arrays(s: Statement, names: Mapping[str, str]) -> Statement:
    write = Access(names[s.write.array], s.write.index)
    return replace(s, write=write, value=_value(s.value, names))


def _value(e: ex.Expr, names: Mapping[str, str]) -> ex.Expr:
    return ex.rewrite(e, lambda n: replace(n, array=names[n.array]) if isinstance(n, ex.Load) else n)


def _renamed(choice: Choice, s: Statement, names: Mapping[str, str]) -> Choice:
    """The choice for a statement that is like the one it was made for."""
    if all(a == b for a, b in names.items()) and choice.statement.name == s.name:
        return choice
    statement = replace(_with_arrays(choice.statement, names), name=s.name, position=s.position, location=s.location)

    def load(e: ex.Load) -> ex.Load:
        return replace(e, array=names[e.array])

    relaid = tuple((replace(o, value=_value(o.value, names), load=load(o.load)), d, n) for o, d, n in choice.relaid)
    return replace(choice, statement=statement, relaid=relaid)
