# SPDX-License-Identifier: MIT
"""Register tiles: a region whose results live in vector registers, unrolled and spelled out.

Loops are walked here, and accumulators begun and stepped.  Operands are left to `codegen.reads`, arithmetic to
`codegen.steps`, and memory to `codegen.writes`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import cgen

from codegen import loops as lp
from codegen.blocks import branch, loop
from codegen.full import unmasked
from codegen.lanes import Lanes
from codegen.reads import Open, Reads
from codegen.scalar import literal, value_type
from codegen.spelling import Spelling
from codegen.steps import step_function
from codegen.writes import Accumulator, fetch, store
from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import Affine, Condition
from polyhedral.errors import InternalError
from polyhedral.instances import Family, Kind
from polyhedral.operands import fetched
from polyhedral.program import Array, Program
from polyhedral.tree import Run

Env = Mapping[str, Affine]
"""What the variables of unrolled loops stand for."""
_FEW, _WRITTEN_OUT = 4, 160
"""Iterations and statements up to which an inner loop is unrolled."""
_STILL = 12
"""Operands that an unrolled loop may keep in registers over the loop around it."""
_PARAMETERS = "abcdefghjklmnopqrstuvwxyz"
"""Names of a lane function's operands; `i` is its lane."""
_Accumulators = dict[tuple[int, ...], Accumulator]
"""The registers of a region, by their place in it."""


@dataclass(frozen=True)
class Registers:
    """Emits promoted regions of one kernel."""

    c: Spelling
    reads: Reads
    program: Program
    families: Mapping[str, Family]
    vector_bytes: int

    def region(self, node: lp.Promoted) -> list[cgen.Generable]:
        """Accumulators, the body on them, and their stores."""
        array = self.program.array(node.array)
        self.begin(array)
        accumulators: _Accumulators = {}
        body = self._node(node.body, array, {}, (), accumulators)
        tile = list(accumulators.values())
        head = cgen.Statement(f"{self.c.vectors.type(array.dtype)} {', '.join(a.name for a in tile)}")
        return [head, *self.reads.open[0].lines, *body, *store(self.c, array, tile, streams=node.streams)]

    def begin(self, array: Array) -> None:
        """A region that holds cells of an array."""
        size = 4 if value_type(array.dtype) == "float" else array.dtype.bits // 8
        self.c.vectors.lanes = max(1, self.vector_bytes // size)
        self.reads.open = [Open("", aff.const(0), aff.const(0))]

    def _node(
        self, n: lp.Node, array: Array, env: Env, key: tuple[int, ...], acc: _Accumulators
    ) -> list[cgen.Generable]:
        match n:
            case lp.Block(children):
                return [g for c in children for g in self._node(c, array, env, key, acc)]
            case lp.For(run=Run.UNROLL):
                return [
                    g
                    for i in range(_trips(n))
                    for g in self._node(n.body, array, {**env, n.name: _lo(n, env) + i}, (*key, i), acc)
                ]
            case lp.For(run=Run.VECTOR):
                lanes = self.c.vectors.lanes
                trips = _trips(n)
                found: list[cgen.Generable] = []
                for b in range(-(-trips // lanes)):
                    start = _lo(n, env) + b * lanes
                    tile = Lanes(start, min(lanes, trips - b * lanes), (*key, b))
                    found += self._exec(n.body, array, n.name, env, tile, acc)
                return found
            case lp.For():
                around = self.reads.open[-1].name
                self.reads.open.append(opened(n, env))
                body = self._node(n.body, array, env, key, acc)
                made = serial(self.c, n, env, [*self.reads.open.pop().lines, *body])
                last = n.hi - n.lo if isinstance(n.hi, Affine) and isinstance(n.lo, Affine) else None
                inner = not any(isinstance(x, lp.For) and x.run is Run.SERIAL for x in lp.walk(n.body))
                short = inner and last is not None and _short(last, body) and self._still(n, around) <= _STILL
                return [cgen.Line(f"#pragma GCC unroll {_FEW}"), made] if short else [made]
            case lp.If(condition, then, None) if self._begins(then):
                return self._begun(condition, then, array, env, key, acc)
            case lp.If(condition, then, None):
                self.reads.open.append(Open("", aff.const(0), aff.const(0)))
                body = self._node(then, array, env, key, acc)
                lines = self.reads.open.pop().lines
                return [branch(self.c.scalar.condition(within(condition, env)), cgen.Block([*lines, *body]), None)]
            case lp.Exec():  # the loop along the lanes runs once, and isl dropped it
                tile = Lanes(aff.const(0), 1, (*key, 0))
                return self._exec(n, array, "", env, tile, acc)
            case lp.If() | lp.Promoted() | lp.Local():
                raise InternalError("PH999", f"a register tile holds a {type(n).__name__}")

    def _begun(
        self,
        condition: Condition,
        then: lp.Node,
        array: Array,
        env: Env,
        key: tuple[int, ...],
        acc: _Accumulators,
    ) -> list[cgen.Generable]:
        """Initialisation that only the first portion of a reduction does; later ones go on from what is in memory."""
        before = set(acc)
        starts = self._node(then, array, env, key, acc)
        found = [line for k, a in acc.items() if k not in before for line in fetch(self.c, array, a)]
        test = self.c.scalar.condition(within(condition, env))
        return [branch(test, cgen.Block(starts), cgen.Block(found))]

    def _still(self, n: lp.For, around: str) -> int:
        """Operands of a loop, written out, that are the same all along the loop around it: compilers load them before
        that, and then keep them in memory.
        """
        count = 0
        for x in lp.walk(n):
            if not isinstance(x, lp.Exec) or not around:
                continue
            reach = {d: aff.dims_of(e) for d, e in x.at}
            within = [f for f in lp.walk(n) if isinstance(f, lp.For) and any(e is x for e in lp.walk(f))]
            for o in set(fetched(self.families[x.family].statement.value)):
                moves = frozenset[str]().union(*(reach[d] for d in ex.dims_of(o)))
                if around not in moves:
                    count += prod(self._copies(f) for f in within if f.name in moves)
        return count

    def _copies(self, n: lp.For) -> int:
        return -(-_trips(n) // self.c.vectors.lanes) if n.run is Run.VECTOR else _trips(n)

    def _begins(self, n: lp.Node) -> bool:
        """Whether it holds the initialisation of results."""
        ran = (self.families[x.family] for x in lp.walk(n) if isinstance(x, lp.Exec))
        return any(f.kind is Kind.INIT for f in ran)

    def _exec(
        self, n: lp.Node, array: Array, vector: str, env: Env, tile: Lanes, acc: _Accumulators
    ) -> list[cgen.Generable]:
        if isinstance(n, lp.Block) and len(n.children) == 1:
            n = n.children[0]
        assert isinstance(n, lp.Exec)
        family = self.families[n.family]
        s = family.statement
        lane = f"{vector}\0lane"
        at = {d: aff.substitute(e, {**env, vector: tile.start + aff.var(lane)}) for d, e in n.at}
        name = "_".join([f"acc_{self.c.spell(array.name)}", *map(str, tile.key)])
        target = [(d, aff.substitute(i, at)) for d, i in s.write.index]
        if tile.key not in acc:
            acc[tile.key] = Accumulator(name, target, tile, lane)
            if family.kind is Kind.UPDATE:
                self.reads.open[0].lines += fetch(self.c, array, acc[tile.key])
        if family.kind is Kind.INIT:
            assert s.op is not None
            identity = literal(ex.identity(s.op, array.dtype).value, array.dtype)
            return [cgen.Statement(f"{name} = {self.c.vectors.splat(array.dtype)}({identity})")]
        moves = {d: aff.dims_of(e) for d, e in n.at}
        value = unmasked(s.value) if n.whole else s.value
        family = replace(family, statement=replace(s, value=value))
        again = {o for o in fetched(value) if env.keys() - frozenset[str]().union(*(moves[d] for d in ex.dims_of(o)))}
        return self.step(family, array, name, at, lane, tile, again)

    def step(
        self,
        family: Family,
        array: Array,
        name: str,
        at: Env,
        lane: str,
        tile: Lanes,
        again: Container[ex.Expr] = (),
    ) -> list[cgen.Generable]:
        """`acc = step(acc, operands...)`: loads outside the lane function, arithmetic inside.  Operands that other rows
        read `again` stay in a register.
        """
        s = family.statement
        operands = list(dict.fromkeys(fetched(s.value)))
        parameters: list[str] = []
        arguments: list[str] = []
        names: dict[ex.Expr, str] = {}
        masks = {e.cond for e in ex.walk(s.value) if isinstance(e, ex.Select) and e.eager}
        for k, (old, new) in enumerate(zip(operands, (ex.substitute(o, at) for o in operands), strict=True)):
            if old in masks:
                assert isinstance(new, ex.Test)
                text, kind, per_lane = self.reads.mask(new, lane, ex.dtype_of(s.value))
            else:
                text, kind, per_lane = self.reads.operand(new, lane, tile, keep=old in again)
            p = _PARAMETERS[k] if k < len(_PARAMETERS) else f"a{k}"
            parameters.append(f"{kind} {p}")
            arguments.append(text)
            names[old] = f"{p}[i]" if per_lane else p
        if operands == [s.value] and family.kind is Kind.ASSIGN and names[s.value].endswith("[i]"):
            return [cgen.Statement(f"{name} = {arguments[0]}")]
        function = step_function(self.c, s, array.dtype, parameters, names)
        lines, given = self.reads.named(arguments, operands)
        given = given if family.kind is Kind.ASSIGN else [name, *given]
        return [*lines, cgen.Statement(f"{name} = {function}({', '.join(given)})")]


def opened(n: lp.For, env: Env) -> Open:
    """A loop as those inside it see it."""
    lo = aff.substitute(n.lo, env) if isinstance(n.lo, Affine) else aff.var(f"{n.name}\0first")
    return Open(n.name, lo, aff.substitute(_widest(n.hi, lo, n.name), env))


def serial(c: Spelling, n: lp.For, env: Env, body: Sequence[cgen.Generable]) -> cgen.Generable:
    """A loop that is neither unrolled nor along the lanes."""
    name = c.spell(n.name)
    lo, hi = (aff.substitute(b, env) if isinstance(b, Affine) else b for b in (n.lo, n.hi))
    end = f"< {c.bound(hi + 1)}" if isinstance(hi, Affine) else f"<= {c.bound(hi)}"
    step = f"++{name}" if n.step == 1 else f"{name} += {n.step}"
    return loop(f"int64_t {name} = {c.bound(lo)}", f"{name} {end}", step, cgen.Block(list(body)))


def within(condition: Condition, env: Env) -> Condition:
    """A condition in terms of the loops that are not unrolled."""
    return aff.map_affine(condition, lambda e: aff.substitute(e, env))


def _short(last: Affine, body: Sequence[cgen.Generable]) -> bool:
    """Whether a loop is over before its branch is predicted, and small enough to be written out."""
    return last.is_const and last.const < _FEW and (last.const + 1) * len(body) <= _WRITTEN_OUT


def _affine(b: lp.Bound) -> Affine:
    assert isinstance(b, Affine)
    return b


def _widest(b: lp.Bound, lo: Affine, name: str) -> Affine:
    """An upper bound as one expression: of the least of several, one at a fixed distance from where the loop begins."""
    if isinstance(b, Affine):
        return b
    if not b.least:
        return aff.var(f"{name}\0last")
    ends = [_widest(a, lo, name) for a in b.args if isinstance(a, Affine) or a.least]
    return next((e for e in ends if (e - lo).is_const), ends[0])


def _lo(n: lp.For, env: Env) -> Affine:
    return aff.substitute(_affine(n.lo), env)


def _trips(n: lp.For) -> int:
    span = _affine(n.hi) - _affine(n.lo) + 1
    assert span.is_const
    return span.const
