# SPDX-License-Identifier: MIT
"""Inline a temporary: each of its readers computes the value again where it is wanted, and nothing stores it.

V(k, o) = sum[r < 2] P(k, r) * W(k, r, o)
M(o) = sum[k] R(k, o) * V(k, o)     ->     M(o) = sum[k] R(k, o) * muladd(P(r=1), W(r=1), P(r=0) * W(r=0))

A short reduction is written out, in the order of its dims.  Whether it pays is left to `polyhedral.whole.recompute`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Array, Program, Role, Statement, reads

TERMS = 8
"""Terms up to which a reduction is written out."""
LONGEST = 160
"""Distinct parts up to which the value of a reader may grow."""


def inlinable(p: Program, name: str) -> str | None:
    """Why a temporary cannot be inlined, or None: it has one statement, whose cells any reader can name, and nothing
    that is read there changes in between.
    """
    a, made = p.array(name), _writers(p, name)
    if a.role is not Role.TEMPORARY or a.planes or len(made) != 1:
        return "it is no temporary of one statement"
    s = made[0]
    if s.ordered or s.accumulate or (s.strict and s.op is not None):
        return "its order is fixed"
    read = reads(s)
    if any(load.array == name or p.array(load.array).role is Role.INOUT for load in read):
        return "it reads memory that other statements update"
    if _origin(s) is None:
        return "its cells are not those of its dims"
    if s.op is not None and not _short(s):
        return "its reduction is long"
    return next(filter(None, (_unreadable(r, s) for r in p.users[name] if r is not s)), None)


def _writers(p: Program, name: str) -> list[Statement]:
    return [s for s in p.users[name] if s.write.array == name]


def _unreadable(reader: Statement, s: Statement) -> str | None:
    """Why a reader cannot compute the value itself, or None."""
    mine = [load for load in reads(reader) if load.array == s.write.array]
    if any(not isinstance(i, Affine) for load in mine for _, i in load.index):
        return f"{reader.name} gathers from it"
    within = [n for e in ex.walk(reader.value) if isinstance(e, ex.Select) for n in (e.then, e.other)]
    if any(load in mine for n in within for load in ex.loads(n)) and not isinstance(s.value, ex.Load):
        return f"{reader.name} reads it in a branch"
    longest = len(set(ex.walk(reader.value))) + len(mine) * len(set(ex.walk(s.value))) * _terms(s)
    return f"{reader.name} would become too long" if longest > LONGEST else None


def _origin(s: Statement) -> dict[str, tuple[str, Affine]] | None:
    """For each dim that the result has, the dim of the array and the distance between the two; None where the cell of
    an instance is found in another way.
    """
    found: dict[str, tuple[str, Affine]] = {}
    for d, i in s.write.index:
        dims = aff.dims_of(i)
        mine = next(iter(dims)) if len(dims) == 1 else None
        if mine is None or mine in found or aff.dims_of(i - aff.var(mine)):
            return None
        found[mine] = d, i - aff.var(mine)
    return found if found.keys() == set(s.kept) else None


def _short(s: Statement) -> bool:
    """Whether a reduction has few terms, the same for every result."""
    own = [r for r in s.domain.ranges if r.dim in s.reduced]
    fixed = all(r.lo.is_const and r.hi.is_const and r.lo.const < r.hi.const for r in own)
    return fixed and not aff.condition_dims(s.domain.guard) & set(s.reduced) and _terms(s) <= TERMS


def _terms(s: Statement) -> int:
    return prod(r.hi.const - r.lo.const for r in s.domain.ranges if r.dim in s.reduced)


def inline(p: Program, name: str) -> Program:
    """The program without an array that is `inlinable`: its readers compute its cells."""
    s, a = _writers(p, name)[0], p.array(name)

    def own(e: ex.Expr) -> ex.Expr:
        return _value(s, a, e) if isinstance(e, ex.Load) and e.array == name else e

    statements = tuple(replace(t, value=ex.rewrite(t.value, own)) for t in p.statements if t is not s)
    return replace(p, arrays=tuple(b for b in p.arrays if b != a), statements=statements)


def _value(s: Statement, a: Array, load: ex.Load) -> ex.Expr:
    """The value of one cell, over the dims of whoever reads it."""
    origin = _origin(s)
    assert origin is not None
    index = {d: i for d, i in load.index if isinstance(i, Affine)}
    at = {d: index[there] - apart for d, (there, apart) in origin.items()}
    terms = (ex.substitute(s.value, at | point) for point in _points(s))
    total = next(terms)
    for term in terms:
        assert s.op is not None
        total = _combined(s.op, total, term)
    return total if ex.dtype_of(total) == a.dtype else ex.Cast(a.dtype, total)


def _points(s: Statement) -> Iterator[dict[str, Affine]]:
    """The reduced dims of each term."""
    own = [r for r in s.domain.ranges if r.dim in s.reduced]
    for at in product(*(range(r.lo.const, r.hi.const) for r in own)):
        yield {r.dim: aff.const(n) for r, n in zip(own, at, strict=True)}


def _combined(op: str, total: ex.Expr, term: ex.Expr) -> ex.Expr:
    """One more term; a sum of products is one of multiply-adds, as everywhere in a reduction whose order is free."""
    if op == "sum" and isinstance(term, ex.Binary) and term.op == "*" and ex.dtype_of(term).name in ("f32", "f64"):
        return ex.Call("muladd", (term.lhs, term.rhs, total))
    return ex.Binary(ex.REDUCTIONS[op], total, term)
