# SPDX-License-Identifier: MIT
"""Statements up to the names of their dims: two have one canonical form only if a renaming of dims makes them equal.

    A = sum[k < 8] X(i=y, j=k) * W(k=k)    and    B = sum[j < 8] W(k=j) * X(i=i, j=j)      are one form

Dims are told apart by where they occur (one round of individualisation, McKay 1981); dims that are not told apart stand
in the order of the domain, so that a form may be missed and is never mistaken.  What to do with equal statements is
`polyhedral.rewrites.common`'s business.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, And, Compare, Condition, Floor, Not, Or, Size, Var
from polyhedral.ir.program import Array, Statement

_COMMUTE = ("+", "*", "and", "or", "&", "|", "^", "==", "!=")
"""Operations that give the same bits either way round.  Minima do not, where zeros of both signs meet."""


@dataclass(frozen=True)
class Form:
    """A canonical form: equal `key`, equal statement.  `dims` are in the order of their numbers, `axes` those of the
    array written, in an order that follows from the form.
    """

    key: int
    dims: tuple[str, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Forms:
    """Gives each distinct structure a number; `visits` counts the nodes seen, for tests of how the work grows."""

    known: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    visits: list[int] = field(default_factory=lambda: [0])

    def number(self, *structure: Hashable) -> int:
        self.visits[0] += 1
        return self.known.setdefault(structure, len(self.known))

    def shape(self, s: Statement, a: Array) -> int:
        """The form with all dims alike: statements of one form have one shape."""
        return _Colouring(self, dict.fromkeys(s.dims, -1), s, a).number()[0]

    def form(self, s: Statement, a: Array) -> Form:
        """The canonical form of a statement and the array that it writes."""
        alike = dict.fromkeys(s.dims, -1)
        colour = {d: _Colouring(self, alike | {d: -2}, s, a).number()[0] for d in s.dims}
        if len(set(colour.values())) < len(colour):
            colour = {d: _Colouring(self, colour | {d: -2}, s, a).number()[0] for d in s.dims}
        dims = tuple(sorted(s.dims, key=colour.__getitem__))
        key, axes = _Colouring(self, {d: -3 - i for i, d in enumerate(dims)}, s, a).number()
        return Form(key, dims, axes)


@dataclass(frozen=True)
class _Colouring:
    """One reading of a statement, with a colour for each dim."""

    forms: Forms
    colour: Mapping[str, int]
    statement: Statement
    array: Array
    memo: dict[int, int] = field(default_factory=dict[int, int])

    def number(self) -> tuple[int, tuple[str, ...]]:
        """The number of the whole statement, and the axes of its array in the order of their own numbers."""
        s, of = self.statement, self.forms.number
        extents = dict(self.array.dims)
        axes = {d: of("axis", self.affine(i), self.affine(extents[d])) for d, i in s.write.index}
        ranges = sorted(of("range", self.colour[r.dim], self.affine(r.lo), self.affine(r.hi)) for r in s.domain.ranges)
        in_order = tuple(self.colour[d] for d in s.reduced) if s.strict else ()
        whole = of(
            "statement",
            self.array.dtype.name,
            (s.op, s.strict, in_order),
            tuple(ranges),
            self.condition(s.domain.guard),
            tuple(sorted(axes.values())),
            self.value(s.value, axes),
        )
        return whole, tuple(sorted(axes, key=axes.__getitem__))

    def affine(self, e: Affine) -> int:
        return self.forms.number("affine", e.const, tuple(sorted((self.term(t), c) for t, c in e.terms)))

    def term(self, t: aff.Term) -> int:
        match t:
            case Var(name):
                return self.forms.number("dim", self.colour[name])
            case Size(name):
                return self.forms.number("size", name)
            case Floor(arg, divisor):
                return self.forms.number("floor", self.affine(arg), divisor)
            case _:
                assert_never(t)

    def condition(self, c: Condition) -> int:
        match c:
            case Compare(e, equal):
                return self.forms.number("compare", self.affine(e), equal)
            case And(args) | Or(args):
                return self.forms.number(type(c).__name__, tuple(sorted(map(self.condition, args))))
            case Not(arg):
                return self.forms.number("not", self.condition(arg))
            case _:
                assert_never(c)

    def value(self, e: ex.Expr, axes: Mapping[str, int]) -> int:
        done = self.memo.get(id(e))
        if done is None:
            done = self.memo[id(e)] = self._value(e, axes)
        return done

    def _value(self, e: ex.Expr, axes: Mapping[str, int]) -> int:
        of = self.forms.number
        below = [self.value(c, axes) for c in ex.children(e)]
        match e:
            case ex.Const(v, dtype):
                return of("const", repr(v), dtype.name)  # 0.0 == -0.0 and 1 == True
            case ex.Index(a, dtype):
                return of("index", self.affine(a), dtype.name)
            case ex.Test(c):
                return of("test", self.condition(c))
            case ex.Load(name, index, _):
                gathered = iter(below)
                at = {d: self.affine(i) if isinstance(i, Affine) else next(gathered) for d, i in index}
                if name == self.array.name:  # a recurrence: whatever its name, each axis known by what is written there
                    return of("again", tuple(sorted((axes[d], i) for d, i in at.items())))
                return of("load", name, tuple(at.values()))
            case ex.Binary(op, _, _):
                return of(op, *(sorted(below) if op in _COMMUTE else below))
            case ex.Unary(op, _) | ex.Call(op, _):
                return of("apply", op, *below)
            case ex.Cast(dtype, _):
                return of("cast", dtype.name, *below)
            case ex.Select():
                return of("select", *below)
            case _:
                assert_never(e)
