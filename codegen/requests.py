# SPDX-License-Identifier: MIT
"""Requests for memory ahead go with the loop that computes the most on what it reads.

    for x: top = max(top, X[y, x])      asks for X[y + 1, x]  ->       for x: top = max(top, X[y, x])
    for x: e[x] = exp(X[y, x] - top)                                   for x: e[x] = ...   asks for X[y + 1, x]

Where several loops over one row follow each other, `polyhedral.plans.ahead` lets the first one ask.  A maximum of a
row is over long before memory has answered for the next, and waits until its requests have places in the core's
buffers; exponentials leave memory the time.  Which loops these are is known once all loops are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from codegen import loops as lp
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Statement
from polyhedral.ir.tree import Run

_Statements = Callable[[str], Statement]
_Read = tuple[tuple[str, aff.Affine | ex.Expr], ...]
_LANE = "\0lane"


def exponential(s: Statement, t: DType) -> bool:
    """Whether a value is computed in one type of which there are vectors, without a choice, and asks for exp."""
    every = list(ex.walk(s.value))
    plain = all(isinstance(e, (ex.Load, ex.Const, ex.Binary, ex.Unary, ex.Call)) for e in every)
    grown = any(isinstance(e, ex.Call) and e.fn == "exp" for e in every)
    return s.op is None and t.name == "f32" and plain and grown and all(ex.dtype_of(e) == t for e in every)


def with_work(root: lp.Node, statement: _Statements) -> lp.Node:
    """The loops with what the partial results of a row ask for asked by exponentials of the same row, if any follow."""
    moved: dict[int, lp.Node] = {}
    for body in (n.body for n in lp.walk(root) if isinstance(n, lp.For)):
        every = list(_passes(body))
        for n, first in enumerate(every):
            if isinstance(first, lp.Promoted) and first.ahead:
                moved |= _moved(first, every[n + 1 :], statement)
    return _replaced(root, moved) if moved else root


def _passes(n: lp.Node) -> Iterator[lp.Promoted | lp.For]:
    """The loops of one iteration that follow each other whatever happens."""
    match n:
        case lp.Promoted() | lp.For():
            yield n
        case lp.Block() | lp.Local():
            for below in lp.children(n):
                yield from _passes(below)
        case _:
            return


def _moved(first: lp.Promoted, later: Sequence[lp.Promoted | lp.For], statement: _Statements) -> Mapping[int, lp.Node]:
    """What becomes of a loop along the lanes and of another that asks in its place."""
    own = [n for n in lp.walk(first.body) if isinstance(n, lp.For)]
    if len(own) != 1 or own[0].run is not Run.LANES:
        return {}
    for n in later:
        s = _exponentials(n, statement)
        if isinstance(n, lp.For) and s and (n.lo, n.hi) == (own[0].lo, own[0].hi):
            asked = tuple(a for a in first.ahead if _reads(own[0], a[0], statement) & _reads(n, a[0], statement))
            left = tuple(a for a in first.ahead if a not in asked)
            return {id(first): replace(first, ahead=left), id(n): replace(n, ahead=asked)} if asked else {}
    return {}


def _exponentials(n: lp.Node, statement: _Statements) -> bool:
    """Whether it is a loop along the lanes over exponentials alone."""
    if not isinstance(n, lp.For) or n.run is not Run.VECTOR or n.step != 1:
        return False
    inside = [e for e in lp.walk(n.body) if not isinstance(e, lp.Block)]
    return all(isinstance(e, lp.Exec) and exponential(s := statement(e.family), ex.dtype_of(s.value)) for e in inside)


def _reads(n: lp.For, array: str, statement: _Statements) -> set[_Read]:
    """Where an array is read, in terms of the lane."""
    lane = {n.name: aff.var(_LANE)}
    return {
        load.index
        for e in lp.walk(n.body)
        if isinstance(e, lp.Exec)
        for load in ex.loads(ex.substitute(statement(e.family).value, {d: aff.substitute(i, lane) for d, i in e.at}))
        if load.array == array
    }


def _replaced(n: lp.Node, moved: Mapping[int, lp.Node]) -> lp.Node:
    new = moved.get(id(n), n)
    match new:
        case lp.Block(nodes):
            return lp.Block(tuple(_replaced(c, moved) for c in nodes))
        case lp.If(_, then, orelse):
            other = None if orelse is None else _replaced(orelse, moved)
            return replace(new, then=_replaced(then, moved), orelse=other)
        case lp.For() | lp.Promoted() | lp.Local() | lp.Staged():
            return replace(new, body=_replaced(new.body, moved))
        case lp.Exec():
            return new
