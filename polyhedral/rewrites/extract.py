# SPDX-License-Identifier: MIT
"""Extract a value that several statements compute: one statement makes it, and they read it.

    total(y) = sum[x] exp(X - top)                 grown(y, x) = exp(X - top)
    out(y, x) = exp(X - top) / total      ->       total(y) = sum[x] grown
                                                   out(y, x) = grown / total

Alike up to the names of dims, over the same ranges, and evaluated whatever branch is taken.  Whether it pays is left to
`polyhedral.whole.once`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.machine.prices import dear

DEAR = 8.0
"""What divisions and functions take, in multiply-adds, from which on it is asked whether a value is made once."""


@dataclass(frozen=True)
class Shared:
    """A value over its own dims (numbers for names), and each statement that computes it: the value in its words, and
    its dims in the order of those numbers.
    """

    value: ex.Expr
    ranges: tuple[Range, ...]
    users: tuple[tuple[str, ex.Expr, tuple[str, ...]], ...]


def shared_values(p: Program, least: float = DEAR) -> Iterator[Shared]:
    """Dear values that several statements compute, the dearest first; parts of one another are among them."""
    found: dict[tuple[ex.Expr, tuple[Range, ...]], list[tuple[str, ex.Expr, tuple[str, ...]]]] = {}
    for s in p.statements:
        if s.ordered or s.accumulate or s.domain.guard != TRUE:
            continue
        for e in dict.fromkeys(_always(s.value)):
            key = _canonical(p, s, e) if dear(e) >= least else None
            if key is not None and s.name not in {who for who, _, _ in found.get(key[:2], ())}:
                found.setdefault(key[:2], []).append((s.name, e, key[2]))
    every = [Shared(value, ranges, tuple(users)) for (value, ranges), users in found.items() if len(users) > 1]
    yield from sorted(every, key=lambda v: -dear(v.value))


def extract(p: Program, v: Shared, name: str) -> Program:
    """The program with a statement and a temporary of a new name for the value, before the first that reads it."""
    first, value, dims = v.users[0]
    own = {d: r for r, d in zip(v.ranges, dims, strict=True)}
    cells = tuple((d, own[d].hi) for d in dims)
    dtype = ex.dtype_of(value)
    array = Array(name, cells, dtype, Role.TEMPORARY)
    known = {
        who: (e, ex.Load(name, tuple(zip(dims, map(aff.var, mine), strict=True)), dtype)) for who, e, mine in v.users
    }
    statements: list[Statement] = []
    for s in p.statements:
        if s.name == first:
            domain = Domain(tuple(replace(own[d], dim=d) for d in dims))
            write = Access(name, tuple((d, aff.var(d)) for d in dims))
            statements.append(Statement(name, domain, write, value, position=s.position, location=s.location))
        statements.append(_reading(s, *known[s.name]) if s.name in known else s)
    return replace(p, arrays=(*p.arrays, array), statements=tuple(statements))


def _reading(s: Statement, value: ex.Expr, load: ex.Load) -> Statement:
    return replace(s, value=ex.rewrite(s.value, lambda e: load if e == value else e))


def _always(e: ex.Expr) -> Iterator[ex.Expr]:
    """The parts that are evaluated whatever branch is taken."""
    yield e
    match e:
        case ex.Select(cond, _, _):
            yield from _always(cond)
        case ex.Binary(op, lhs, _) if op in ex.LOGIC:
            yield from _always(lhs)
        case _:
            for c in ex.children(e):
                yield from _always(c)


def _canonical(p: Program, s: Statement, e: ex.Expr) -> tuple[ex.Expr, tuple[Range, ...], tuple[str, ...]] | None:
    """A value with numbers for its dims, their ranges, and the dims; None for one that is read as it is, or that may
    be another at another time.
    """
    if isinstance(e, (ex.Load, ex.Const)):
        return None
    loads = list(ex.loads(e))
    if not loads or any(p.array(n.array).role is Role.INOUT or n.array == s.write.array for n in loads):
        return None
    if any(not isinstance(i, Affine) for n in loads for _, i in n.index) or any(map(_chosen, ex.walk(e))):
        return None
    dims = tuple(
        dict.fromkeys(d for n in loads for _, i in n.index if isinstance(i, Affine) for d in sorted(aff.dims_of(i)))
    )
    ranges = {r.dim: r for r in s.domain.ranges}
    number = {d: f"{n}" for n, d in enumerate(dims)}
    if any(ranges[d].lo != aff.const(0) or aff.dims_of(ranges[d].hi) for d in dims):
        return None
    known: Mapping[str, Affine] = {d: aff.var(n) for d, n in number.items()}
    return ex.substitute(e, known), tuple(replace(ranges[d], dim=number[d]) for d in dims), dims


def _chosen(e: ex.Expr) -> bool:
    """Whether it depends on more than what it loads."""
    return isinstance(e, (ex.Select, ex.Index, ex.Test))
