# SPDX-License-Identifier: MIT
"""Share parts: a costly part that several statements compute alike becomes a temporary that all of them read.

A(i) = sum[k] exp(S(i, k) - M(i))                                  E(i, k) = exp(S(i, k) - M(i))
B(i, k) = exp(S(i, k) - M(i)) * C(k)                ->             A(i) = sum[k] E,  B(i, k) = E * C(k)

Wanted before differentiation: derivatives of the uses are then added up once, at the temporary, and go on from there
together.  So a part that joins several arrays is worth sharing, too, where some use has more instances than the part
has cells: the derivatives by each of these arrays would otherwise pass over all instances again.  Whether it is worth
its memory is left to `polyhedral.whole.recompute`, which may inline it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement, fresh, names
from polyhedral.sets.isl import named

COSTLY = ("/", "**")


@dataclass(frozen=True)
class _Use:
    """A part of a statement, and the statement's dims in the order in which the part mentions them."""

    statement: Statement
    part: ex.Expr
    dims: tuple[str, ...]

    @property
    def pays(self) -> bool:
        """Whether computing the part at each instance is more than computing it for each of its cells."""
        return _costly(self.part) or len(self.dims) < len(self.statement.dims)


_Key = tuple[ex.Expr, tuple[Affine, ...]]


def share_parts(p: Program) -> Program:
    """The program with a temporary for every such part, the largest first."""
    taken = names(p)
    while True:
        uses: dict[_Key, list[_Use]] = {}
        for s in p.statements:
            if not s.ordered and all(p.array(n).role is not Role.INOUT for n in (s.write.array, *_arrays(s))):
                for key, use in _parts(s):
                    uses.setdefault(key, []).append(use)
        several = {k: us for k, us in uses.items() if len({u.statement.name for u in us}) > 1}
        shared = {k: us for k, us in several.items() if any(u.pays for u in us)}
        best = max(shared, key=lambda k: sum(1 for _ in ex.walk(k[0])), default=None)
        if best is None:
            return p
        p = _stored(p, best, shared[best], taken)


def _arrays(s: Statement) -> Iterator[str]:
    return (load.array for load in ex.loads(s.value))


def _parts(s: Statement) -> Iterator[tuple[_Key, _Use]]:
    """Every operation outside branches that is costly and reads something, or that reads several arrays, over a box
    from 0 that instances fill.
    """
    ranges = {r.dim: r for r in s.domain.ranges}
    stack, seen = [s.value], set[ex.Expr]()
    while stack:
        e = stack.pop()
        if e in seen or isinstance(e, ex.Select):
            continue
        seen.add(e)
        stack.extend(ex.children(e))
        read = {load.array for load in ex.loads(e)}
        worth = bool(read) if _costly(e) else isinstance(e, ex.Binary) and len(read) > 1
        if not worth or not ex.dtype_of(e).is_float:
            continue
        dims = _in_order(e)
        bounds = [ranges[d] for d in dims]
        if any(r.lo != aff.const(0) or aff.dims_of(r.hi) for r in bounds) or not _filled(s, dims):
            continue
        general = ex.substitute(e, {d: aff.var(f"{n}'") for n, d in enumerate(dims)})
        yield (general, tuple(r.hi for r in bounds)), _Use(s, e, dims)


def _costly(e: ex.Expr) -> bool:
    return isinstance(e, ex.Call) or (isinstance(e, ex.Binary) and e.op in COSTLY)


def _in_order(e: ex.Expr) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for node in ex.walk(e):
        match node:
            case ex.Index(a):
                found |= dict.fromkeys(sorted(aff.dims_of(a)))
            case ex.Load(_, index, _):
                for _, i in index:
                    found |= dict.fromkeys(sorted(aff.dims_of(i)) if isinstance(i, Affine) else ())
            case ex.Test(c):
                found |= dict.fromkeys(sorted(aff.condition_dims(c)))
            case _:
                pass
    return tuple(found)


def _filled(s: Statement, dims: tuple[str, ...]) -> bool:
    """Whether there is an instance for every point of the box over these dims, for sizes with any instance at all."""
    if s.domain.guard == aff.TRUE and not any(aff.dims_of(r.lo) | aff.dims_of(r.hi) for r in s.domain.ranges):
        return True
    whole = named(s.dims, (), s.domain.condition)
    own = [r for r in s.domain.ranges if r.dim in dims]
    box = named(dims, (), aff.both(*(aff.between(r.lo, aff.var(r.dim), r.hi) for r in own)))
    return ((box & whole.params()) - whole.only(dims)).is_empty()


def _stored(p: Program, key: _Key, uses: list[_Use], taken: set[str]) -> Program:
    first = uses[0]
    name = fresh("part", taken)
    dims = tuple(zip(first.dims, key[1], strict=True))
    array = Array(name, dims, ex.dtype_of(first.part), Role.TEMPORARY)
    write = Access(name, tuple((d, aff.var(d)) for d in first.dims))
    domain = Domain(tuple(Range(d, aff.const(0), e) for d, e in dims))
    made = Statement(
        name, domain, write, first.part, position=first.statement.position, location=first.statement.location
    )
    loads: dict[str, dict[ex.Expr, ex.Expr]] = {}
    for u in uses:
        index = tuple((d, aff.var(own)) for d, own in zip(first.dims, u.dims, strict=True))
        loads.setdefault(u.statement.name, {})[u.part] = ex.Load(name, index, array.dtype)
    statements: list[Statement] = []
    for s in p.statements:
        if s is first.statement:
            statements.append(made)
        statements.append(_reading(s, loads[s.name]) if s.name in loads else s)
    return replace(p, arrays=(*p.arrays, array), statements=tuple(statements))


def _reading(s: Statement, loads: Mapping[ex.Expr, ex.Expr]) -> Statement:
    """The statement with its parts read instead of computed, branches left alone: what stands there may be out of
    bounds elsewhere, but not the other way round.
    """
    return replace(s, value=ex.rewrite(s.value, lambda e: loads.get(e, e)))
