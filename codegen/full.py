# SPDX-License-Identifier: MIT
"""Full steps apart from partial ones: a reduction in registers tests its mask only where some lane may be outside.

    for t = 0 .. 32*b + 31:          for t = 0 .. min(32*b + 31, 32*b)
      acc[s] += t <= s ? x : 0         acc[s] += x
                                     for t = max(0, 32*b + 1) .. 32*b + 31
                                       acc[s] += t <= s ? x : 0

The order of all instances stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from codegen import loops as lp
from codegen.loops import Block, Bound, Exec, Extreme, For, Node
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Compare, Var
from polyhedral.ir.program import Statement
from polyhedral.ir.tree import Run


def full_apart(root: Node, statement: Callable[[str], Statement]) -> Node:
    """The loops with the innermost serial ones of every register tile cut where their masks hold for all of it."""
    return _cut(root, statement, inside=False)


def unmasked(e: ex.Expr) -> ex.Expr:
    """A value where its mask holds."""
    return e.then if isinstance(e, ex.Select) and e.eager else e


def _cut(n: Node, statement: Callable[[str], Statement], *, inside: bool) -> Node:
    match n:
        case lp.Promoted():
            return replace(n, body=_cut(n.body, statement, inside=True))
        case For() if inside and n.run is Run.SERIAL and not _has_serial(n.body):
            parts = tuple(_parts(n, statement))
            return parts[0] if len(parts) == 1 else Block(parts)
        case For() | lp.Local() | lp.Staged():
            return replace(n, body=_cut(n.body, statement, inside=inside))
        case lp.If(_, then, orelse):
            other = None if orelse is None else _cut(orelse, statement, inside=inside)
            return replace(n, then=_cut(then, statement, inside=inside), orelse=other)
        case Block(children):
            return Block(tuple(_cut(c, statement, inside=inside) for c in children))
        case Exec():
            return n


def _has_serial(n: Node) -> bool:
    return any(isinstance(x, For) and x.run not in (Run.UNROLL, Run.VECTOR, Run.WRITTEN) for x in lp.walk(n))


def _parts(n: For, statement: Callable[[str], Statement]) -> Iterator[Node]:
    """The loop, or those before, in and after the range in which all masks hold."""
    first, last = [n.lo], [n.hi]
    for e in _least(n.body, statement):
        c = e.coefficient(Var(n.name)) if e is not None else 0
        rest = e - aff.var(n.name) * c if e is not None else aff.const(-1)
        if abs(c) > 1 or n.name in aff.dims_of(rest) or (c == 0 and not (rest.is_const and rest.const >= 0)):
            yield n
            return
        first += [-rest] if c == 1 else []
        last += [rest] if c == -1 else []
    if n.step != 1 or len(first) + len(last) == 2:
        yield n
        return
    lo, hi = _extreme(False, first), _extreme(True, last)
    if lo != n.lo:
        yield replace(n, hi=_extreme(True, (n.hi, _next(lo, -1))))
    yield replace(n, lo=lo, hi=hi, body=_whole(n.body))
    if hi != n.hi:
        yield replace(n, lo=_extreme(False, (lo, _next(hi, 1))))


def _extreme(least: bool, bounds: Sequence[Bound]) -> Bound:
    """The least or the greatest of some bounds, without those that another one makes needless."""
    flat: list[Bound] = []
    for b in bounds:
        flat += b.args if isinstance(b, Extreme) and b.least == least else (b,)
    every = [b for n, b in enumerate(flat) if not any(_beats(least, a, b, m < n) for m, a in enumerate(flat) if m != n)]
    return every[0] if len(every) == 1 else Extreme(least, tuple(every))


def _beats(least: bool, a: Bound, b: Bound, before: bool) -> bool:
    """Whether the extreme of two bounds is always `a`, which stands `before` b or behind it."""
    if not isinstance(a, Affine) or not isinstance(b, Affine):
        return a == b and before
    apart = (b - a) if least else (a - b)
    return apart.is_const and (apart.const > 0 or (apart.const == 0 and before))


def _next(b: Bound, by: int) -> Bound:
    return b + by if isinstance(b, Affine) else Extreme(b.least, tuple(_next(a, by) for a in b.args))


def _least(n: Node, statement: Callable[[str], Statement]) -> Iterator[Affine | None]:
    """The least value, over rows and lanes, of each inequality that the masks below test; None where it is unknown."""
    match n:
        case Exec(family, at):
            value = statement(family).value
            if isinstance(value, ex.Select) and value.eager:
                condition = value.cond.condition if isinstance(value.cond, ex.Test) else aff.FALSE
                for c in aff.conjuncts(condition):
                    yield aff.substitute(c.expr, dict(at)) if isinstance(c, Compare) and not c.equal else None
        case For(name, lo, hi):
            for e in _least(n.body, statement):
                yield None if e is None else _at_end(e, name, lo, hi)
        case _:
            for child in lp.children(n):
                yield from _least(child, statement)


def _at_end(e: Affine, name: str, lo: Bound, hi: Bound) -> Affine | None:
    """The least value of an expression in a loop."""
    c = e.coefficient(Var(name))
    rest, end = e - aff.var(name) * c, lo if c > 0 else hi
    if name in aff.dims_of(rest) or not isinstance(end, Affine):
        return rest if c == 0 and name not in aff.dims_of(rest) else None
    return rest + end * c


def _whole(n: Node) -> Node:
    """The nodes with every mask below known to hold."""
    match n:
        case Exec():
            return replace(n, whole=True)
        case Block(children):
            return Block(tuple(map(_whole, children)))
        case lp.If(_, then, orelse):
            return replace(n, then=_whole(then), orelse=None if orelse is None else _whole(orelse))
        case For() | lp.Local() | lp.Promoted() | lp.Staged():
            return replace(n, body=_whole(n.body))
