# SPDX-License-Identifier: MIT
"""Reductions along the lanes: each lane of a few vectors holds a partial result, and all are combined at the end.

The loop along the lanes is cut into strips of all vectors, whole vectors, and single elements.  What one step is
is left to `codegen.registers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import cgen

from codegen import loops as lp
from codegen.blocks import branch, loop
from codegen.lanes import Lanes
from codegen.points import Env, placed
from codegen.reads import Open
from codegen.registers import Registers, opened, serial, within
from codegen.scalar import bare, literal, value_type
from codegen.spelling import Spelling
from polyhedral.errors import InternalError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Array
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import Kind

Row = tuple[int, ...]


@dataclass
class _Partials:
    """The partial results of one region: vectors by row and number, and a scalar a row for single elements."""

    array: Array
    op: str
    count: int
    cells: dict[Row, list[tuple[str, Affine]]] = field(default_factory=dict[Row, list[tuple[str, Affine]]])
    used: dict[Row, set[int]] = field(default_factory=dict[Row, set[int]])
    singles: set[Row] = field(default_factory=set[Row])


def partial_region(r: Registers, node: lp.Promoted) -> list[cgen.Generable]:
    """A promoted reduction whose partial results are combined where the region ends."""
    array = r.program.array(node.array)
    r.begin(array)
    r.reads.ahead = dict(node.ahead)
    ops = [f.statement.op for n in lp.walk(node.body) if isinstance(n, lp.Exec) for f in (r.families[n.family],)]
    assert ops[0] is not None
    partials = _Partials(array, ops[0], node.partials)
    body = _node(r, partials, node.body, {}, ())
    return [*_head(r.c, partials), *r.reads.open[0].lines, *body, *_combined(r.c, partials)]


def has_lanes(node: lp.Node) -> bool:
    return any(isinstance(n, lp.For) and n.run is Run.LANES for n in lp.walk(node))


# --- walking ---------------------------------------------------------------------------------------------------------


def _node(r: Registers, p: _Partials, n: lp.Node, env: Env, row: Row) -> list[cgen.Generable]:
    match n:
        case lp.Block(children):
            return [g for c in children for g in _node(r, p, c, env, row)]
        case lp.For(run=Run.LANES):
            return _along(r, p, n, env, row)
        case lp.For(run=Run.UNROLL):
            return [g for e, i in _unrolled(n, env) for g in _node(r, p, n.body, e, (*row, i))]
        case lp.For():
            r.reads.enter(opened(n, env))
            body = _node(r, p, n.body, env, row)
            return [serial(r.c, n, env, [*r.reads.leave(), *body])]
        case lp.If(condition, then, None):
            r.reads.enter(Open("", aff.const(0), aff.const(0)))
            body = _node(r, p, then, env, row)
            lines = r.reads.leave()
            return [branch(r.c.scalar.condition(within(condition, env)), cgen.Block([*lines, *body]), None)]
        case lp.Exec() if r.families[n.family].kind is Kind.INIT:  # partial results begin with the identity
            at = {d: aff.substitute(e, env) for d, e in n.at}
            write = r.families[n.family].statement.write.index
            p.cells[row] = [(d, aff.substitute(i, at)) for d, i in write]
            return []
        case _:
            raise InternalError("PH999", f"a reduction along the lanes holds a {type(n).__name__}")


def _along(r: Registers, p: _Partials, n: lp.For, env: Env, row: Row) -> list[cgen.Generable]:
    """Strips of all vectors, then whole vectors, then one element at a time."""
    lo, hi = _bounds(n, env)
    trips = (hi - lo + 1).const
    strip = r.c.vectors.lanes * p.count
    made: list[cgen.Generable] = []
    strips, vectors, singles = trips // strip, trips % strip // r.c.vectors.lanes, trips % r.c.vectors.lanes
    if strips > 1:
        r.reads.enter(Open(n.name, lo, lo + strips * strip - 1))
        body = [
            g for u in range(p.count) for g in _vectors(r, p, n, env, row, aff.var(n.name) + u * r.c.vectors.lanes, u)
        ]
        lines = r.reads.leave()
        made.append(_loop(r.c, n.name, lo, lo + strips * strip, strip, [*lines, *body]))
    elif strips:
        vectors += p.count
    done = strips * strip if strips > 1 else 0
    for u in range(vectors):
        made += _vectors(r, p, n, env, row, lo + done + u * r.c.vectors.lanes, u)
    if singles:
        body = list(_singles(r, p, n.body, {**env, n.name: aff.var(n.name)}, row))
        made.append(_loop(r.c, n.name, hi + 1 - singles, hi + 1, 1, body))
    return made


def _vectors(
    r: Registers, p: _Partials, n: lp.For, env: Env, row: Row, start: Affine, u: int
) -> Iterator[cgen.Generable]:
    """One vector's worth of the loop, for each row."""
    lane = f"{n.name}\0lane"
    for e, instance, below in _instances(n.body, env, row):
        s = r.families[instance.family].statement
        at = {d: aff.substitute(i, {**e, n.name: start + aff.var(lane)}) for d, i in instance.at}
        p.used.setdefault(below, set()).add(u)
        lanes = Lanes(start, r.c.vectors.lanes, (*below, u))
        yield from r.step(s, p.array, [_name(r.c, p, below, u)], [placed(s.value, at)], lane, lanes)


def _singles(r: Registers, p: _Partials, body: lp.Node, env: Env, row: Row) -> Iterator[cgen.Generable]:
    for e, instance, below in _instances(body, env, row):
        s = r.families[instance.family].statement
        value = ex.substitute(s.value, {d: aff.substitute(i, e) for d, i in instance.at})
        name = _single(r.c, p, below)
        p.singles.add(below)
        yield cgen.Assign(name, r.c.scalar.step(p.op, p.array.dtype, name, value, strict=s.strict))


def _instances(n: lp.Node, env: Env, row: Row) -> Iterator[tuple[Env, lp.Exec, Row]]:
    """The unrolled rows inside the loop along the lanes."""
    match n:
        case lp.Block((only,)):
            yield from _instances(only, env, row)
        case lp.For(run=Run.UNROLL):
            for e, i in _unrolled(n, env):
                yield from _instances(n.body, e, (*row, i))
        case lp.Exec():
            yield env, n, row
        case _:
            raise InternalError("PH999", f"a loop along the lanes holds a {type(n).__name__}")


def _unrolled(n: lp.For, env: Env) -> Iterator[tuple[Env, int]]:
    lo, hi = _bounds(n, env)
    for i in range((hi - lo + 1).const):
        yield {**env, n.name: lo + i}, i


def _bounds(n: lp.For, env: Env) -> tuple[Affine, Affine]:
    assert isinstance(n.lo, Affine)
    assert isinstance(n.hi, Affine)
    return aff.substitute(n.lo, env), aff.substitute(n.hi, env)


def _loop(c: Spelling, name: str, lo: Affine, end: Affine, step: int, body: list[cgen.Generable]) -> cgen.Generable:
    v = c.spell(name)
    update = f"++{v}" if step == 1 else f"{v} += {step}"
    return loop(f"int64_t {v} = {c.scalar.affine(lo)}", f"{v} < {c.scalar.affine(end)}", update, cgen.Block(body))


# --- partial results -------------------------------------------------------------------------------------------------


def _name(c: Spelling, p: _Partials, row: Row, u: int) -> str:
    return "_".join([f"acc_{c.spell(p.array.name)}", *map(str, (*row, u))])


def _single(c: Spelling, p: _Partials, row: Row) -> str:
    return "_".join([f"rest_{c.spell(p.array.name)}", *map(str, row)])


def _head(c: Spelling, p: _Partials) -> Iterator[cgen.Generable]:
    """Every partial result begins with the operator's identity."""
    t = p.array.dtype
    start = literal(ex.identity(p.op, t).value, t)
    for row, used in p.used.items():
        for u in sorted(used):
            yield cgen.Initializer(cgen.Value(c.vectors.type(t), _name(c, p, row, u)), f"{c.vectors.splat(t)}({start})")
    for row in sorted(p.singles):
        yield cgen.Initializer(cgen.Value(value_type(t), _single(c, p, row)), start)


def _combined(c: Spelling, p: _Partials) -> Iterator[cgen.Generable]:
    """Neighbours first, then lane by lane, then the single elements: always in the same order."""
    t = p.array.dtype
    for row, used in p.used.items():
        parts = [_name(c, p, row, u) for u in sorted(used)]
        while len(parts) > 1:
            pairs = [
                c.vectors.combined(ex.REDUCTIONS[p.op], t, a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)
            ]
            parts = [*pairs, *parts[len(parts) - len(parts) % 2 :]]
        whole = f"{c.vectors.folded(p.op, t)}({bare(parts[0])})"
        if row in p.singles:
            whole = c.scalar.combine(p.op, t, whole, _single(c, p, row))
        yield cgen.Assign(c.cell(p.array.name, list(p.cells[row])), c.scalar.to_storage(t, whole))
