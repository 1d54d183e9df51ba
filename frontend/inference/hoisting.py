# SPDX-License-Identifier: MIT
"""Which elementwise parts of a statement get a temporary of their own, so that they are not computed again and again.

A default by rule, not by price: an expensive value is stored when it depends on fewer dims than the statement that uses
it (`exp(a - m) / z` inside softmax(QK)V would be recomputed for every output column).  Pricing revisits it later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from frontend.inference.reads import implied
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Compare, Condition, Var
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Domain

_CHEAP_CALLS = ("floor", "ceil", "round", "trunc", *ex.TESTS, *ex.PARTS, "conj")


@dataclass(frozen=True)
class _Cost:
    """What a sub-expression touches: its dims, whether it is costly, reads anything, and may be moved at all."""

    dims: frozenset[str] = frozenset()
    costly: bool = False
    reads: bool = False
    movable: bool = True


def hoisted(
    value: Expr, domain: Domain, movable: Callable[[ex.Load], bool], place: Callable[[Expr, Condition], ex.Load]
) -> Expr:
    """`value` with every maximal costly part over fewer dims replaced by `place(part, branch condition)`."""
    costs: dict[int, _Cost] = {}
    memo: dict[tuple[int, Condition], Expr] = {}

    def go(node: Expr, when: Condition) -> Expr:
        done = memo.get((id(node), when))
        if done is None:
            done = memo[id(node), when] = step(node, when)
        return done

    def step(node: Expr, when: Condition) -> Expr:
        cost = _cost(node, costs, movable)
        if not cost.costly:
            return node
        if cost.reads and cost.movable and not _determined(cost.dims, domain):
            return place(node, when)
        if isinstance(node, ex.Select):
            then, other = (aff.both(when, implied(node.cond, side)) for side in (True, False))
            return ex.with_children(node, (go(node.cond, when), go(node.then, then), go(node.other, other)))
        return ex.with_children(node, tuple(go(c, when) for c in ex.children(node)))

    return go(value, TRUE)


def _cost(node: Expr, memo: dict[int, _Cost], movable: Callable[[ex.Load], bool]) -> _Cost:
    done = memo.get(id(node))
    if done is None:
        below = [_cost(c, memo, movable) for c in ex.children(node)]
        load = isinstance(node, ex.Load)
        done = memo[id(node)] = _Cost(
            _own_dims(node).union(*(b.dims for b in below)),
            _costly(node) or any(b.costly for b in below),
            load or any(b.reads for b in below),
            (movable(node) if load else True) and all(b.movable for b in below),
        )
    return done


def _own_dims(node: Expr) -> frozenset[str]:
    match node:
        case ex.Index(a):
            return aff.dims_of(a)
        case ex.Test(c):
            return aff.condition_dims(c)
        case ex.Load(_, index, _):
            return frozenset[str]().union(*(aff.dims_of(i) for _, i in index if isinstance(i, aff.Affine)))
        case _:
            return frozenset()


def _costly(node: Expr) -> bool:
    match node:
        case ex.Call(fn, _):
            return fn not in _CHEAP_CALLS
        case ex.Binary("/", lhs, rhs):
            return not isinstance(rhs, ex.Const) and ex.dtype_of(lhs).is_float
        case ex.Binary("**", _, ex.Const(value)):
            return value not in (0, 1, 2, 3)
        case ex.Binary("**"):
            return True
        case _:
            return False


def _determined(dims: frozenset[str], domain: Domain) -> bool:
    """Do these dims fix an instance of the domain, given its equations and ranges of one value?

    Then a value over them is computed once anyway, as in a sum over all (y, ky) with 2*y + ky == cy.
    """
    known = set(dims) | {r.dim for r in domain.ranges if r.hi - r.lo == aff.const(1)}
    parts = aff.conjuncts(domain.guard)
    equations = [p.expr for p in parts if isinstance(p, Compare) and p.equal]
    grew = True
    while grew:
        grew = False
        for e in equations:
            new = aff.dims_of(e) - known
            if len(new) == 1 and abs(e.coefficient(Var(next(iter(new))))) == 1:
                known |= new
                grew = True
    return known >= set(domain.dims)
