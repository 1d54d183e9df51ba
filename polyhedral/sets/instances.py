# SPDX-License-Identifier: MIT
"""Statement instances: the families of points that a schedule orders.

An assignment is one family.  A reduction is two, `init` (write the identity) and `update` (combine one value in),
because initialisation must precede all updates and all updates every reader.  Identifiers are generated; users see
`shown`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Program, Role, Statement


class Kind(Enum):
    """What an instance does to its cell."""

    ASSIGN = "assign"
    INIT = "init"
    UPDATE = "update"


@dataclass(frozen=True)
class Family:
    """All instances of one statement (or of its initialisation): an identifier safe for isl and C, and named dims.

    `place` is the statement's place in the text, which orders statements of one position.
    """

    id: str
    kind: Kind
    statement: Statement
    dims: tuple[str, ...]
    domain: Condition
    place: int = 0

    @property
    def shown(self) -> str:
        return f"{self.statement.name}.init" if self.kind is Kind.INIT else self.statement.name


@dataclass(frozen=True)
class Reference:
    """One access of a family: array, index (None where data decides) and the condition under which it happens."""

    family: Family
    array: str
    index: tuple[tuple[str, Affine | None], ...]
    when: Condition
    writes: bool


def families(p: Program) -> tuple[Family, ...]:
    """The families of a program, in textual order."""
    return tuple(f for i, s in enumerate(p.statements) for f in _of_statement(i, s))


def _of_statement(i: int, s: Statement) -> Iterator[Family]:
    if s.op is None:
        yield Family(f"S{i}", Kind.ASSIGN, s, s.dims, s.domain.condition, i)
        return
    if not s.accumulate:
        dims, condition = cells(s)
        yield Family(f"S{i}i", Kind.INIT, s, dims, condition, i)
    yield Family(f"S{i}", Kind.UPDATE, s, s.dims, s.domain.condition, i)


def cells(s: Statement) -> tuple[tuple[str, ...], Condition]:
    """The dims and points at which a reduction has a result: every condition that mentions no reduced dim.

    A row whose `where` excludes all points is still a cell: it holds the identity (rule R6).
    """
    reduced = frozenset(s.reduced)
    dims = tuple(d for d in s.dims if d not in reduced)
    whole = s.domain.condition
    parts = aff.conjuncts(whole)
    return dims, aff.both(*(c for c in parts if not aff.condition_dims(c) & reduced))


def references(f: Family) -> tuple[Reference, ...]:
    """Reads then the write of a family.  An update also reads its cell, but that order is relaxed: see dependences."""
    s = f.statement
    write = Reference(f, s.write.array, s.write.index, aff.TRUE, True)
    if f.kind is Kind.INIT:
        return (write,)
    return (*(Reference(f, array, index, when, False) for array, index, when in _read(s.value)), write)


@lru_cache(maxsize=1 << 12)
def _read(value: ex.Expr) -> tuple[tuple[str, tuple[tuple[str, Affine | None], ...], Condition], ...]:
    """What a value reads: array, index and the condition around it, each once."""
    found = (
        (load.array, tuple((d, i if isinstance(i, Affine) else None) for d, i in load.index), when)
        for load, when in guarded_loads(value)
    )
    return tuple(dict.fromkeys(found))


def guarded_loads(e: ex.Expr, when: Condition = aff.TRUE) -> Iterator[tuple[ex.Load, Condition]]:
    """Each load with the affine branch conditions around it (a shared node once for each distinct condition)."""
    return _guarded(e, when, set())


def _guarded(node: ex.Expr, when: Condition, seen: set[tuple[int, Condition]]) -> Iterator[tuple[ex.Load, Condition]]:
    if (id(node), when) in seen:
        return
    seen.add((id(node), when))
    if isinstance(node, ex.Load):
        yield node, when
    if isinstance(node, ex.Select):
        yield from _guarded(node.cond, when, seen)
        holds, fails = branch_conditions(node.cond)
        yield from _guarded(node.then, aff.both(when, holds), seen)
        yield from _guarded(node.other, aff.both(when, fails), seen)
        return
    for child in ex.children(node):
        yield from _guarded(child, when, seen)


def branch_conditions(cond: ex.Expr) -> tuple[Condition, Condition]:
    """What is known in the two branches of a Select: the affine part of its condition, and of its negation."""
    match cond:
        case ex.Test(c):
            return c, aff.negate(c)
        case ex.Binary("and", a, b):
            (ta, fa), (tb, fb) = branch_conditions(a), branch_conditions(b)
            return aff.both(ta, tb), aff.either(fa, fb)
        case ex.Binary("or", a, b):
            (ta, fa), (tb, fb) = branch_conditions(a), branch_conditions(b)
            return aff.either(ta, tb), aff.both(fa, fb)
        case ex.Unary("not", a):
            known, denied = branch_conditions(a)
            return denied, known
        case _:
            return aff.TRUE, aff.TRUE


def precedes(a: Family, b: Family, prime: str) -> Condition:
    """a's instance comes before b's in the given order of positions; b's dims carry the suffix `prime`.

    A position comes before those that continue it; statements of one position run in the order of the text.
    """
    result, equal = aff.FALSE, aff.TRUE
    for pa, pb in zip(a.statement.position, b.statement.position, strict=False):
        left = aff.var(pa) if isinstance(pa, str) else aff.const(pa)
        right = aff.var(pb + prime) if isinstance(pb, str) else aff.const(pb)
        result = aff.either(result, aff.both(equal, aff.at_least(right - left, 1)))
        equal = aff.both(equal, aff.equal(left, right))
    return aff.either(result, equal) if ahead(a, b) else result


def ahead(a: Family, b: Family) -> bool:
    """Whether a goes first where the positions agree as far as the shorter one goes."""
    return (len(a.statement.position), a.place) < (len(b.statement.position), b.place)


def is_memory(p: Program, array: str) -> bool:
    """Whether accesses to an array are ordered by position instead of by the flow of values."""
    return p.array(array).role is Role.INOUT
