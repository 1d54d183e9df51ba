# SPDX-License-Identifier: MIT
"""What an expression's reads say about its dims: which they pin, and which indices have to stay in bounds where.

Reads of reductions are judged through the reads of their bodies, whose bound dims then count as "for all values".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import FALSE, TRUE, Affine, Condition
from polyhedral.ir.expr import Expr, Load

Interval = tuple[Affine, Affine]
Span = tuple[str, Affine, Affine]


@dataclass(frozen=True)
class Pin:
    """A dim that is exactly the index of `array`'s dim `axis`, and so takes its whole extent (rule R9)."""

    dim: str
    extent: Affine
    array: str
    axis: str
    written: bool = False

    @property
    def source(self) -> str:
        return f"{self.array}.{self.axis}"

    @property
    def reason(self) -> str:
        d = spoken(self.dim)
        if self.written:
            return f"{d} takes the whole of {self.source} because {self.array} is assigned at {self.axis}={d}"
        how = "appears bare" if self.axis == d else f"is read at {self.axis}={d}"
        return f"{d} takes the whole of {self.source} because {self.array} {how}"


@dataclass(frozen=True)
class Need:
    """`lo <= index < hi` wherever `when` holds, for all values of the `bound` dims."""

    array: str
    axis: str
    index: Affine
    lo: Affine
    hi: Affine
    when: Condition = TRUE
    bound: tuple[Span, ...] = ()

    @property
    def dims(self) -> frozenset[str]:
        """The dims of the index that somebody outside has to choose."""
        return aff.dims_of(self.index) - {b for b, _, _ in self.bound}

    @property
    def text(self) -> str:
        return f"{self.array}({self.axis}={spoken(str(self.index))})"

    @property
    def holds(self) -> Condition:
        return aff.between(self.lo, self.index, self.hi)

    def at(self, point: dict[str, Affine]) -> Need:
        """The same need, asked from a reader that substitutes `point` for dims."""

        def one(i: Affine) -> Affine:
            return aff.substitute(i, point)

        return replace(self, index=one(self.index), when=aff.map_affine(self.when, one))

    def for_all(self, spans: dict[str, Interval], when: Condition) -> Need:
        """The same need with further bound dims, those that it mentions, under a further condition."""
        when = aff.both(when, self.when)
        used = aff.dims_of(self.index) | aff.condition_dims(when)
        return replace(self, when=when, bound=(*self.bound, *((b, *r) for b, r in spans.items() if b in used)))


Requires = tuple[tuple[Condition, str], ...]


@dataclass(frozen=True)
class Facts:
    """What the reads of an expression say about its dims, and the size equalities inside its reductions."""

    pins: tuple[Pin, ...] = ()
    needs: tuple[Need, ...] = ()
    requires: Requires = ()

    def at(self, point: dict[str, Affine]) -> Facts:
        """The same facts under other names of the dims."""
        pins = (replace(p, dim=point[p.dim].as_var() or p.dim) if p.dim in point else p for p in self.pins)
        return replace(self, pins=tuple(pins), needs=tuple(n.at(point) for n in self.needs))


def spoken(name: str) -> str:
    """Names as the user spelled them: the marks of fresh dims (`k'1`) are dropped."""
    text, parts = "", name.split("'")
    for k, part in enumerate(parts):
        text += part.lstrip("0123456789") if k else part
    return text


def implied(cond: Expr, truth: bool) -> Condition:
    """What is known of the dims where `cond` evaluates to `truth`: its affine part."""
    match cond:
        case ex.Test(c):
            return c if truth else aff.negate(c)
        case ex.Const(value):
            return TRUE if bool(value) == truth else FALSE
        case ex.Unary("not", arg):
            return implied(arg, not truth)
        case ex.Binary("and" | "or" as op, lhs, rhs):
            a, b = implied(lhs, truth), implied(rhs, truth)
            return aff.both(a, b) if (op == "and") == truth else aff.either(a, b)
        case _:
            return TRUE


def guarded_loads(e: Expr) -> Iterator[tuple[Load, Condition]]:
    """Every load with the affine condition of the Select branches around it, in order of appearance."""
    seen: set[tuple[int, Condition]] = set()
    stack: list[tuple[Expr, Condition]] = [(e, TRUE)]
    while stack:
        node, when = stack.pop()
        if when == FALSE or (id(node), when) in seen:
            continue
        seen.add((id(node), when))
        match node:
            case ex.Select(cond, then, other):
                stack.append((other, aff.both(when, implied(cond, False))))
                stack.append((then, aff.both(when, implied(cond, True))))
                stack.append((cond, when))
            case _:
                if isinstance(node, Load):
                    yield node, when
                stack.extend((c, when) for c in reversed(ex.children(node)))


def dims_in_order(e: Expr) -> tuple[str, ...]:
    """The dims of an expression in order of appearance."""
    found: dict[str, None] = {}
    for node in ex.walk(e):
        match node:
            case ex.Index(a):
                found |= dict.fromkeys(sorted(aff.dims_of(a)))
            case Load(_, index, _):
                for _, i in index:
                    if isinstance(i, Affine):
                        found |= dict.fromkeys(sorted(aff.dims_of(i)))
            case ex.Test(c):
                found |= dict.fromkeys(sorted(aff.condition_dims(c)))
            case _:
                pass
    return tuple(found)


def settled_by(when: Condition, need: Need) -> bool:
    """Is the need spelled out in the condition around it, as `ph.orelse` does?"""
    if when == TRUE:
        return False
    parts = {TRUE, *(aff.conjuncts(when))}
    return {aff.at_least(need.index, need.lo), aff.at_least(need.hi - need.index - 1)} <= parts
