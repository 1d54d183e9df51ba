# SPDX-License-Identifier: MIT
"""What the algebra of a reduction allows: its value as a product, over a domain that falls apart into parts.

    sum of f*g*h        max, min of f+g        any of f and g        all of f or g        max of min(f, g)

Sums of f16 and the like round too coarsely to be regrouped, complex products mix infinities into both parts, and a
maximum of wrapping integer sums has no such law: they have no product here.  What is done with one is the business of
`factor` and `contract`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine
from polyhedral.ir.dtypes import DType
from polyhedral.ir.operands import Interval, interval
from polyhedral.ir.program import Array, Domain, Program, Role, Statement, touched
from polyhedral.sets.isl import named

Tree = int | tuple["Tree", "Tree"]
"""How factors were grouped by the text: numbers of factors, in pairs."""
MOST_FACTORS = 32
PER_CELL = 4
"""What storing a result and reading it back costs, in multiply-adds."""


@dataclass(frozen=True)
class Product:
    """A value as factors joined by `times`, grouped as `tree` says unless they may be `regrouped`."""

    times: str
    factors: tuple[ex.Expr, ...]
    tree: Tree
    regrouped: bool

    def value(self, factors: Iterable[ex.Expr]) -> ex.Expr:
        """Some factors multiplied, from left to right."""
        first, *rest = factors
        for f in rest:
            first = ex.Binary(self.times, first, f)
        return first


def product(s: Statement) -> Product | None:
    """The value of a reduction as a product, if its operator distributes over one."""
    times = _times(s)
    if times is None or _leaves(s.value, times, {}) > MOST_FACTORS:
        return None
    factors: list[ex.Expr] = []
    tree = _flattened(s.value, times, factors)
    rounds = s.op in ("max", "min") and times == "+"
    return Product(times, tuple(factors), tree, not rounds)


def _times(s: Statement) -> str | None:
    dtype = ex.dtype_of(s.value)
    match s.op, s.value:
        case "sum", _:
            return "*" if dtype.is_integer or _wide(dtype) else None
        case ("any", _) | ("all", _):
            return "and" if s.op == "any" else "or"
        case (("max" | "min"), ex.Binary(("min" | "max") as op, _, _)) if op != s.op:
            return op
        case (("max" | "min"), _):
            return "+" if _wide(dtype) else None
        case _:
            return None


def _wide(dtype: DType) -> bool:
    return dtype.kind == "f" and dtype.bits >= 32


def _parts(e: ex.Expr, times: str) -> tuple[ex.Expr, ex.Expr] | None:
    """The two factors of one node.  A conjunction that is counted is a product of zeros and ones."""
    match e:
        case ex.Binary(op, a, b) if op == times:
            return a, b
        case ex.Cast(dtype, ex.Binary("and", a, b)) if times == "*":
            return ex.Cast(dtype, a), ex.Cast(dtype, b)
        case _:
            return None


def _leaves(e: ex.Expr, times: str, memo: dict[int, int]) -> int:
    """How many factors flattening would give: shared nodes count as often as they occur."""
    if id(e) not in memo:
        parts = _parts(e, times)
        memo[id(e)] = 1 if parts is None else sum(_leaves(x, times, memo) for x in parts)
    return memo[id(e)]


def _flattened(e: ex.Expr, times: str, factors: list[ex.Expr]) -> Tree:
    parts = _parts(e, times)
    if parts is None:
        factors.append(e)
        return len(factors) - 1
    return _flattened(parts[0], times, factors), _flattened(parts[1], times, factors)


# --- which statements ------------------------------------------------------------------------------------------------


def order_is_fixed(s: Statement, arrays: Mapping[str, Array], circular: frozenset[str]) -> str | None:
    """Why the algebra of a reduction may not be used, or None."""
    if s.op is None:
        return "it is no reduction"
    if s.strict:
        return "its order is strict"
    if s.accumulate or s.ordered or any(arrays[n].role is Role.INOUT for n in touched(s)):
        return "it reads or writes memory that other statements update"
    return "it depends on its own results" if s.write.array in circular else None


def circular(p: Program) -> frozenset[str]:
    """The arrays whose cells may depend on others of the same array: what is left when all that has no source and all
    that has no sink is taken away, again and again."""
    below: dict[str, set[str]] = {a.name: set() for a in p.arrays}
    for s in p.statements:
        below[s.write.array] |= {load.array for load in ex.loads(s.value)}
    above: dict[str, set[str]] = {a.name: set() for a in p.arrays}
    for name, sources in below.items():
        for source in sources:
            above[source].add(name)
    left = set(below)
    for one, other in ((below, above), (above, below)):
        waiting = {n: len(one[n] & left) for n in left}
        free = [n for n in left if not waiting[n]]
        while free:
            n = free.pop()
            left.discard(n)
            for m in other[n] & left:
                waiting[m] -= 1
                if not waiting[m]:
                    free.append(m)
    return frozenset(left)


# --- domains ---------------------------------------------------------------------------------------------------------


def reach(domain: Domain) -> Mapping[str, Interval] | None:
    """The least and greatest value of each dim, seen through the ranges; None where these are not numbers."""
    found: dict[str, Interval] = {}
    for r in domain.ranges:
        if aff.sizes_of(r.lo) | aff.sizes_of(r.hi):
            return None
        found[r.dim] = interval(r.lo, found)[0], interval(r.hi, found)[1] - 1
        if found[r.dim][0] > found[r.dim][1]:
            return None
    return None if aff.condition_sizes(domain.guard) else found


def links(domain: Domain) -> tuple[frozenset[str], ...]:
    """The dims of each condition that ties several together."""
    return tuple(ds for c in _conditions(domain) if len(ds := aff.condition_dims(c)) > 1)


def closed(domain: Domain, dims: frozenset[str]) -> bool:
    """Whether the conditions about these dims alone say exactly where the domain's points lie along them: then each
    such point belongs to an instance, and what is read there is read anyway."""
    own = tuple(r for r in domain.ranges if r.dim in dims)
    if not all(aff.dims_of(r.lo) | aff.dims_of(r.hi) <= dims for r in own):
        return False
    if domain.guard == TRUE and all(_plain(r.lo, r.hi) for r in domain.ranges):
        return True
    whole = named(domain.dims, (), domain.condition)
    part = named(tuple(r.dim for r in own), (), aff.both(*_about(domain, dims)))
    return not whole.is_empty() and (part - whole.only(dims)).is_empty()


def _plain(lo: Affine, hi: Affine) -> bool:
    return lo.is_const and hi.is_const and lo.const < hi.const


def _conditions(domain: Domain) -> tuple[aff.Condition, ...]:
    whole = domain.condition
    return aff.conjuncts(whole)


def _about(domain: Domain, dims: frozenset[str]) -> tuple[aff.Condition, ...]:
    return tuple(c for c in _conditions(domain) if aff.condition_dims(c) <= dims)


def restricted(domain: Domain, dims: frozenset[str]) -> Domain:
    """A domain over some of its dims, on which it is closed."""
    guard = aff.conjuncts(domain.guard)
    kept = aff.both(*(c for c in guard if aff.condition_dims(c) <= dims))
    return Domain(tuple(r for r in domain.ranges if r.dim in dims), kept)


# --- work ------------------------------------------------------------------------------------------------------------

_SLOW = 8
"""A division, a power or an elementary function, in multiply-adds."""


def operations(e: ex.Expr) -> int:
    """What computing a value costs, in multiply-adds; reading is free."""
    total = 0
    for node in ex.walk(e):
        match node:
            case ex.Call() | ex.Binary("/" | "//" | "%" | "**", _, _):
                total += _SLOW
            case ex.Unary() | ex.Binary() | ex.Select():
                total += 1
            case _:
                pass
    return total
