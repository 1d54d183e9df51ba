# SPDX-License-Identifier: MIT
"""Sums relative to a maximum: what a softmax, and attention, are made of, recognised by their algebra alone.

    M(r) = max[k] S(r, k)        T(r, e) = sum[k] exp(S(r, k) - M(r)) * g(r, k, e) / Z(r)

T needs the whole of M before its first term.  It need not: for any finite O(r, c) of a tile c of k,

    exp(S - M) = exp(S - O) * exp(O - M)                                      exp turns sums into products
    sum[k] exp(S - M) * g = sum[c] exp(O - M) * (sum[k in c] exp(S - O) * g)  products distribute over sums

and where O is the tile's own maximum nothing overflows that did not before: S - O <= 0 and O - M <= 0 (Milakov and
Gimelshein 2018; Rabe and Staats 2021; Dao et al. 2022).  It takes a map h of sums into products (`exp`, `exp2`), whose
values are positive, and an outer reduction over which a product with them distributes: `sum`, `max` and `min` do.  The
signs may both be turned, exp(M - S) below a minimum.  `g` is free of M; divisors that are not (Z is a sum of this kind
itself) must be free of k, and leave the sum.  What is not finite is the business of `polyhedral.rewrites.online`, as is
the rewriting; whether it pays, that of `polyhedral.whole.one_pass`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Compare, Condition
from polyhedral.ir.operands import box, interval
from polyhedral.ir.program import Access, Domain, Program, Range, Role, Statement, names, reads
from polyhedral.rewrites.algebra import circular, order_is_fixed

HOMOMORPHISMS = ("exp", "exp2")
"""Functions h with h(a + b) = h(a) * h(b), positive everywhere."""
MOST = 3
"""Reduced dims of a maximum that are matched with those of a sum in any order."""


@dataclass(frozen=True)
class Relative:
    """A sum over the dims of a maximum, in its dims' names: its value without the divisors that leave it; the smallest
    part that others may share, the exponential or a choice between it and 0; `by` which function; and the masks under
    which that counts.
    """

    statement: Statement
    inner: ex.Expr
    core: ex.Expr
    by: str
    divisors: tuple[ex.Expr, ...] = ()
    masks: tuple[ex.Expr, ...] = ()


@dataclass(frozen=True)
class Family:
    """A maximum, or minimum, and all sums relative to it, in a program whose values in between are inlined."""

    program: Program
    maximum: Statement
    sums: tuple[Relative, ...]


def family(p: Program, name: str) -> Family | None:
    """The sums relative to the maximum that a statement makes; None where some reduction reads it in another way."""
    top = p.statement(name)
    if not _suitable(p, top) or top.op not in ("max", "min") or circular(p):
        return None
    if not top.kept or {i.as_var() for _, i in top.write.index} != set(top.kept):
        return None
    p = _inlined(p, top.write.array)
    late = _after(p, top.write.array)
    sums: list[Relative] = []
    for s in p.users[top.write.array]:
        if s.name == name or s.op is None:
            continue
        found = _relative(p, top, s, late)
        if found is None:
            return None
        sums.append(found)
    return Family(p, top, tuple(sums)) if len({r.by for r in sums}) == 1 else None


def _suitable(p: Program, s: Statement) -> bool:
    """A reduction in any order over a box of known size, cut by inequalities, in floats that may be stored between."""
    if order_is_fixed(s, {a.name: a for a in p.arrays}, frozenset()) or len(p.writers[s.write.array]) > 1:
        return False
    dtype = p.array(s.write.array).dtype
    wide = dtype.kind == "f" and dtype.bits >= 32 and ex.dtype_of(s.value) == dtype
    boxed = all(r.lo == aff.const(0) and r.hi.is_const and r.hi.const > 0 for r in s.domain.ranges)
    simple = all(isinstance(c, Compare) for c in aff.conjuncts(s.domain.guard))
    whole = all(isinstance(i, Affine) for load in reads(s) for _, i in load.index)
    return wide and boxed and simple and whole and bool(s.reduced)


# --- values in between -----------------------------------------------------------------------------------------------


def _inlined(p: Program, top: str) -> Program:
    """The program without temporaries that reduce nothing, read a maximum, and are read by what names their cells."""
    while (found := next(_between(p, top), None)) is not None:
        s = found
        axes = {a: d for a, i in s.write.index if (d := i.as_var()) is not None}

        def value(e: ex.Expr, s: Statement = s, axes: dict[str, str] = axes) -> ex.Expr:
            if not isinstance(e, ex.Load) or e.array != s.write.array:
                return e
            return ex.substitute(s.value, {axes[a]: i for a, i in e.index if isinstance(i, Affine)})

        kept = (t for t in p.statements if t is not s)
        statements = tuple(
            replace(t, value=ex.rewrite(t.value, value)) if t in p.users[s.write.array] else t for t in kept
        )
        p = replace(p, statements=statements, arrays=tuple(a for a in p.arrays if a.name != s.write.array))
    return p


def _between(p: Program, top: str) -> Iterator[Statement]:
    for s in p.users[top]:
        name = s.write.array
        if s.op is not None or s.ordered or name == top or p.array(name).role is not Role.TEMPORARY:
            continue
        readers = [t for t in p.users[name] if t is not s]
        own = [i.as_var() for _, i in s.write.index]
        plain = None not in own and len(set(own)) == len(own) == len(s.dims)
        named = all(
            isinstance(i, Affine) for t in readers for load in reads(t) if load.array == name for _, i in load.index
        )
        same = ex.dtype_of(s.value) == p.array(name).dtype
        memory = any(p.array(n).role is Role.INOUT for n in s.touched) or bool(p.array(name).planes)
        if plain and named and same and not memory and readers and len(p.writers[name]) == 1:
            yield s


def _after(p: Program, name: str) -> frozenset[str]:
    """An array, and all that is made from it."""
    found = {name}
    waiting = [name]
    while waiting:
        for s in p.users[waiting.pop()]:
            if s.write.array not in found:
                found.add(s.write.array)
                waiting.append(s.write.array)
    return frozenset(found)


# --- one sum ---------------------------------------------------------------------------------------------------------


def _relative(p: Program, top: Statement, s: Statement, late: frozenset[str]) -> Relative | None:
    if not _suitable(p, s) or s.op not in ("sum", "max", "min"):
        return None
    for alike in _aligned(p, top, s):
        parts = _Matcher(top, alike, late).parts(alike.value)
        if parts is not None and not (parts.divisors and s.op != "sum"):
            return parts
    return None


def _aligned(p: Program, top: Statement, s: Statement) -> Iterator[Statement]:
    """The statement with the dims of a maximum where it reads it, for each way in which those that are reduced can be
    matched; the domain of the maximum holds all of it.
    """
    mine = {i.as_var(): a for a, i in top.write.index}
    load = next(x for x in reads(s) if x.array == top.write.array)
    index = dict(load.index)
    at = {d: i.as_var() if isinstance(i := index[a], Affine) else None for d, a in mine.items() if d is not None}
    if None in at.values() or len(set(at.values())) < len(at) or not set(at.values()) <= set(s.kept):
        return
    if len(top.reduced) > MOST or len(s.reduced) < len(top.reduced):
        return
    ranges = {r.dim: r for r in s.domain.ranges}
    guard = _conditions(top.domain)
    for chosen in permutations(s.reduced, len(top.reduced)):
        names_of = {own: d for d, own in at.items() if own is not None} | dict(zip(chosen, top.reduced, strict=True))
        if any(ranges[own].hi != r.hi for own, d in names_of.items() for r in top.domain.ranges if r.dim == d):
            continue
        taken = {*top.dims, *s.dims, *names(p)}
        for d in s.dims:
            if d not in names_of:
                names_of[d] = _free(d, taken) if d in top.dims else d
        alike = _renamed(s, names_of)
        if guard <= _conditions(alike.domain):
            yield alike


def _conditions(domain: Domain) -> set[Condition]:
    """The conditions of a guard that the ranges do not imply."""
    ranges = box(domain)
    return {
        c
        for c in aff.conjuncts(domain.guard)
        if not isinstance(c, Compare) or c.equal or interval(c.expr, ranges)[0] < 0
    }


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _renamed(s: Statement, to: dict[str, str]) -> Statement:
    at = {d: aff.var(n) for d, n in to.items()}

    def one(i: Affine) -> Affine:
        return aff.substitute(i, at)

    ranges = tuple(Range(to[r.dim], one(r.lo), one(r.hi)) for r in s.domain.ranges)
    write = Access(s.write.array, tuple((a, one(i)) for a, i in s.write.index))
    domain = Domain(ranges, aff.map_affine(s.domain.guard, one))
    return replace(s, domain=domain, write=write, value=ex.substitute(s.value, at))


@dataclass(frozen=True)
class _Matcher:
    """Takes the value of a statement apart that is written in the dims of a maximum; `late` is made from that."""

    top: Statement
    statement: Statement
    late: frozenset[str]

    def parts(self, value: ex.Expr) -> Relative | None:
        found = self._parts(value)
        guarded = _under(self.top)
        if found is None or (self._score(found.core) != self.top.value and not set(guarded) <= set(found.masks)):
            return None
        return found

    def _parts(self, e: ex.Expr) -> Relative | None:
        match e:
            case ex.Call(fn, _):
                return Relative(self.statement, e, e, fn) if self._score(e) is not None else None
            case ex.Binary("*", a, b):
                here, other = (a, b) if self._is_late(a) else (b, a)
                found = None if self._is_late(other) else self._parts(here)
                return found and replace(found, inner=ex.with_children(e, tuple(
                    found.inner if x is here else x for x in (a, b)
                )))  # fmt: skip
            case ex.Binary("/", a, b):
                found = self._parts(a)
                if found is None or not self._is_late(b):
                    return found and replace(found, inner=ex.with_children(e, (found.inner, b)))
                if b.dims & set(self.statement.reduced):
                    return None
                return replace(found, divisors=(*found.divisors, b))
            case ex.Unary("-", a):
                found = self._parts(a)
                return found and replace(found, inner=ex.with_children(e, (found.inner,)))
            case ex.Select(cond, then, ex.Const(0)) if not self._is_late(cond):
                return self._masked(e, cond, then)
            case _:
                return None

    def _masked(self, e: ex.Select, cond: ex.Expr, then: ex.Expr) -> Relative | None:
        found = self._parts(then)
        if found is None:
            return None
        inner = ex.with_children(e, (cond, found.inner, e.other))
        core = inner if found.inner == found.core else found.core
        return replace(found, inner=inner, core=core, masks=tuple(dict.fromkeys((*found.masks, *_conjuncts(cond)))))

    def _is_late(self, e: ex.Expr) -> bool:
        return any(load.array in self.late for load in ex.loads(e))

    def _score(self, e: ex.Expr) -> ex.Expr | None:
        """What an exponential, masked or not, has beside the maximum; None where it is no such exponential."""
        while isinstance(e, ex.Select):
            e = e.then
        match e:
            case ex.Call(fn, (ex.Binary("-", a, b),)) if fn in HOMOMORPHISMS:
                score, relative_to = (a, b) if self.top.op == "max" else (b, a)
            case _:
                return None
        if not isinstance(relative_to, ex.Load) or relative_to.array != self.top.write.array:
            return None
        if relative_to.index != self.top.write.index:
            return None
        return score if score in (self.top.value, _unmasked(self.top)) else None


def _unmasked(top: Statement) -> ex.Expr:
    """What a maximum is of where its mask holds."""
    match top.value:
        case ex.Select(_, then, other) if top.op is not None and other == ex.identity(top.op, ex.dtype_of(other)):
            return then
        case value:
            return value


def _under(top: Statement) -> tuple[ex.Expr, ...]:
    """The masks under which a maximum looks at what it is of."""
    masked = isinstance(top.value, ex.Select) and _unmasked(top) is top.value.then
    return _conjuncts(top.value.cond) if masked and isinstance(top.value, ex.Select) else ()


def masks_of(e: ex.Expr) -> tuple[ex.Expr, ...]:
    """The conditions of the choices that an expression begins with."""
    return (*_conjuncts(e.cond), *masks_of(e.then)) if isinstance(e, ex.Select) else ()


def _conjuncts(e: ex.Expr) -> tuple[ex.Expr, ...]:
    return (*_conjuncts(e.lhs), *_conjuncts(e.rhs)) if isinstance(e, ex.Binary) and e.op == "and" else (e,)
