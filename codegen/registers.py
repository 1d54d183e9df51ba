# SPDX-License-Identifier: MIT
"""Register tiles: a region whose results live in vector registers, unrolled and spelled out.

Loops are walked here, and accumulators begun and stepped.  Operands are left to `codegen.reads`, arithmetic to
`codegen.steps`, and memory to `codegen.writes`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import cgen

from codegen import loops as lp
from codegen.blocks import branch, loop
from codegen.crossed import crossed
from codegen.lanes import Lanes, affine_index, dense, runs
from codegen.pairs import two_at_once
from codegen.points import Env, Placed, Point, affine, points, trips
from codegen.reads import Open, Reads
from codegen.scalar import STORAGE, literal, value_type
from codegen.slides import Slide, slides
from codegen.spelling import Spelling
from codegen.steps import pair_function, step_function, values_function
from codegen.writes import Accumulator, fetch, store
from polyhedral.errors import InternalError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.operands import fetched
from polyhedral.ir.program import Array, Program, Statement
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import Family, Kind

_FEW, _WRITTEN_OUT = 4, 160
"""Iterations and statements up to which an inner loop is unrolled."""
_AT_A_TIME, _BETWEEN = (4, 2), 128
"""Steps of a long inner loop between two of its branches, the most of them that are no more than so many statements."""
_IN_ONE_LINE = 15
"""Registers that are written and read in one piece of assembly: gcc takes 30 operands, and counts these twice."""
_STILL = 12
"""Operands that an unrolled loop may keep in registers over the loop around it."""
WHOLE = 64
"""Bytes of vectors from two of which one instruction makes a third that begins between them."""
NOTHING: Mapping[ex.Expr, Slide] = {}
_PARAMETERS = "abcdefghjklmnopqrstuvwxyz"
"""Names of a lane function's operands; `i` is its lane."""


@dataclass
class _Region:
    """The arrays of a region, those that are stored before its end, and its registers so far: those that hold cells of
    these arrays, by array and place, and those that were loaded across the lanes.
    """

    nodes: Mapping[str, lp.Promoted]
    done: set[str] = field(default_factory=set[str])
    across: dict[ex.Expr, str] = field(default_factory=dict[ex.Expr, str])
    held: dict[tuple[str, tuple[int, ...]], Accumulator] = field(
        default_factory=dict[tuple[str, tuple[int, ...]], Accumulator]
    )

    def of(self, array: str) -> list[Accumulator]:
        return [acc for (name, _), acc in self.held.items() if name == array]


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
        nodes = {node.array: node}
        inside = node.body
        while isinstance(inside, lp.Promoted):
            nodes[inside.array] = inside
            inside = inside.body
        self.begin(self.program.array(node.array))
        self.reads.ahead = dict(node.ahead)
        region = _Region(nodes)
        body = self._node(inside, {}, (), region)
        head: list[cgen.Generable] = []
        for array in map(self.program.array, nodes):
            names = ", ".join(acc.name for acc in region.of(array.name))
            head.append(cgen.Statement(f"{self.c.vectors.type(array.dtype)} {names}"))
        return [*head, *self.reads.open[0].lines, *body, *self._stored(region, nodes)]

    def _stored(self, region: _Region, arrays: Iterable[str]) -> list[cgen.Generable]:
        """What the region has of some arrays to memory, unless it is there already."""
        found: list[cgen.Generable] = []
        for name in arrays:
            if name not in region.done and region.nodes[name].stored:
                streams = region.nodes[name].streams
                found += store(self.c, self.program.array(name), region.of(name), streams=streams)
            region.done.add(name)
        return found

    def begin(self, array: Array) -> None:
        """A region that holds cells of an array."""
        size = 4 if value_type(array.dtype) == "float" else array.dtype.bits // 8
        self.c.vectors.lanes = max(1, self.vector_bytes // size)
        self.reads.open = [Open("", aff.const(0), aff.const(0))]
        self.reads.ahead, self.reads.cells = {}, {}

    def _node(self, n: lp.Node, env: Env, key: tuple[int, ...], region: _Region) -> list[cgen.Generable]:
        match n:
            case lp.Block(children):
                return [g for c in children for g in self._node(c, env, key, region)]
            case lp.For(run=Run.UNROLL | Run.VECTOR | Run.WRITTEN) | lp.Exec():
                every = list(points(n, env, key, self.families, self.c.vectors.lanes))
                lines = self._across(every, region)
                slid = self._slid(every)
                if slid:
                    every.sort(key=lambda point: point.tile.key)  # the vectors of one row are needed at once
                again = self._again(every)
                return [*lines, *(g for point in every for g in self._exec(point, region, again, slid))]
            case lp.For():
                return self._two_at_once(n, env, key, region) or self._loop(n, env, key, region)
            case lp.If(condition, then, None):
                return self._only(condition, then, env, key, region)
            case lp.If() | lp.Promoted() | lp.Local() | lp.Staged():
                raise InternalError("PH999", f"a register tile holds a {type(n).__name__}")

    def _loop(self, n: lp.For, env: Env, key: tuple[int, ...], region: _Region) -> list[cgen.Generable]:
        around = self.reads.open[-1].name
        self.reads.enter(opened(n, env))
        body = self._node(n.body, env, key, region)
        made = serial(self.c, n, env, [*self.reads.leave(), *body])
        inner = not any(isinstance(x, lp.For) and x.run is Run.SERIAL for x in lp.walk(n.body))
        steps = self._between_branches(n, around, body) if inner else 1
        if steps == 1:
            return [made]
        pragma = cgen.Line(f"#pragma GCC unroll {steps}")
        return [pragma, made, *self._all_kept(n, region)] if _short(n) else [pragma, made]

    def _between_branches(self, n: lp.For, around: str, body: Sequence[cgen.Generable]) -> int:
        """Steps of an inner loop that are written one after the other: all of a few, which are over before the branch
        is predicted; some of many, so that the units of addresses and branches are not what the loop waits for.
        """
        if _short(n):
            few = trips(n) <= _FEW and trips(n) * len(body) <= _WRITTEN_OUT
            return _FEW if few and self._still(n, around) <= _STILL else 1
        return next((steps for steps in _AT_A_TIME if steps * len(body) <= _BETWEEN), 1)

    def _all_kept(self, n: lp.For, region: _Region) -> list[cgen.Generable]:
        """After a loop that is unrolled whole: what it accumulates is in its registers still."""
        names = {
            f.statement.write.array for e in lp.walk(n) if isinstance(e, lp.Exec) for f in (self.families[e.family],)
        }
        every = [acc for array in sorted(names) for acc in region.of(array)]
        kinds = {self.program.array(array).dtype for array in names}
        if len(kinds) > 1 or not 1 < len(every) <= _IN_ONE_LINE:
            return []
        function = self.c.vectors.all_kept(kinds.pop(), len(every))
        return [cgen.Statement(f"{function}({', '.join(f'&{acc.name}' for acc in every)})")]

    def _two_at_once(self, n: lp.For, env: Env, key: tuple[int, ...], region: _Region) -> list[cgen.Generable]:
        """A loop that does two steps at once, and the step that is left; nothing where that does not pay."""
        if not two_at_once(self.c, self.program, n, self.families):
            return []
        odd = trips(n) % 2
        self.reads.enter(opened(n, env))
        there = ({**env, n.name: aff.var(n.name) + step} for step in (0, 1))
        one, other = (list(points(n.body, e, key, self.families, self.c.vectors.lanes)) for e in there)
        again, slid = self._again([*one, *other]), self._slid([*one, *other])
        pairs = sorted(zip(one, other, strict=True), key=lambda pair: pair[0].tile.key if slid else ())
        body = [g for first, then in pairs for g in self._exec(first, region, again, slid, then)]
        body = [*self.reads.leave(), *body]
        made = serial(self.c, replace(n, hi=affine(n.hi) - odd, step=2), env, body)
        if not odd:
            return [made]
        self.reads.enter(Open("", aff.const(0), aff.const(0)))
        rest = self._node(n.body, {**env, n.name: aff.substitute(affine(n.hi), env)}, key, region)
        return [made, *self.reads.leave(), *rest]

    def _only(
        self, condition: Condition, then: lp.Node, env: Env, key: tuple[int, ...], region: _Region
    ) -> list[cgen.Generable]:
        """What is done under a condition.  The first portion of a reduction initialises, where later ones go on from
        what is in memory; the last has the epilogue, whose results are stored there.
        """
        before = set(region.held)
        self.reads.enter(Open("", aff.const(0), aff.const(0)))
        body = self._node(then, env, key, region)
        body = [*self.reads.leave(), *body]
        new = {k: acc for k, acc in region.held.items() if k not in before}
        test = self.c.scalar.condition(within(condition, env))
        kinds = {self.families[n.family].kind for n in lp.walk(then) if isinstance(n, lp.Exec)}
        if Kind.INIT in kinds:
            found = [line for (of, _), acc in new.items() for line in fetch(self.c, self.program.array(of), acc)]
            return [branch(test, cgen.Block(body), cgen.Block(found))]
        ends = self._stored(region, dict.fromkeys(of for of, _ in new)) if Kind.ASSIGN in kinds else []
        return [branch(test, cgen.Block([*body, *ends]), None)]

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
        return -(-trips(n) // self.c.vectors.lanes) if n.run is Run.VECTOR else trips(n)

    def _again(self, every: Sequence[Point]) -> set[ex.Expr]:
        """What several vectors of instances read, which is loaded once: operands of rows that they do not depend on,
        and those that one row reads in a step and another in the next.
        """
        seen: set[ex.Expr] = set()
        found: set[ex.Expr] = set()
        for point in every:
            for _, new in point.reads:
                (found if new in seen else seen).add(new)
        return found

    def _slid(self, every: Sequence[Point]) -> Mapping[ex.Expr, Slide]:
        """Operands that are made of others in registers, where the machine does so at once."""
        if self.vector_bytes != WHOLE or not self.reads.windows:
            return {}
        reads = ((new, p) for p in every for _, new in p.reads)
        plain = ((e, p) for e, p in reads if value_type(ex.dtype_of(e)) == STORAGE[ex.dtype_of(e).name])
        return slides(((e, p.lane, p.tile.valid) for e, p in plain), self.c.vectors.lanes)

    def _across(self, every: Sequence[Point], region: _Region) -> list[cgen.Generable]:
        """Operands of an epilogue that lie across the lanes, all of the tile at once."""
        if len(region.held) == 0 or len({p.node.family for p in every}) > 1:
            return []
        family = self.families[every[0].node.family]
        whole = all(p.tile.valid == self.c.vectors.lanes for p in every)
        if family.kind is not Kind.ASSIGN or not whole or not self.reads.windows:
            return []
        found: list[cgen.Generable] = []
        for old in dict.fromkeys(fetched(family.statement.value)):
            if (
                not isinstance(old, ex.Load)
                or old.array in region.nodes
                or value_type(old.dtype) != STORAGE[old.dtype.name]
            ):
                continue
            loads = [(ex.substitute(old, p.at), p) for p in every]
            news = [(new, p.lane) for new, p in loads if isinstance(new, ex.Load)]
            alike = [
                p.lane in ex.dims_of(new)
                and dense(self.c, self.program.array(old.array), new, p.lane, p.tile) is None
                and runs(self.c, new, p.lane, p.tile) is None
                for new, p in loads
                if isinstance(new, ex.Load)
            ]
            made = crossed(self.c, news, f"{self.c.spell(old.array)}_{len(region.across)}_") if all(alike) else None
            if made is not None:
                found += made[0]
                region.across |= {new: name for (new, _), name in zip(news, made[1], strict=True)}
        return found

    def _exec(
        self,
        point: Point,
        region: _Region,
        again: Container[ex.Expr],
        slid: Mapping[ex.Expr, Slide],
        then: Point | None = None,
    ) -> list[cgen.Generable]:
        """The instances of a point, and of the one that comes `then` for the same results."""
        family, tile, lane, at = self.families[point.node.family], point.tile, point.lane, point.at
        s = family.statement
        array = self.program.array(s.write.array)
        name = "_".join([f"acc_{self.c.spell(array.name)}", *map(str, tile.key)])
        target = [(d, aff.substitute(i, at)) for d, i in s.write.index]
        if (array.name, tile.key) not in region.held:
            region.held[array.name, tile.key] = acc = Accumulator(name, target, tile, lane)
            if family.kind is Kind.UPDATE:
                self.reads.open[0].lines += fetch(self.c, array, acc)
        if family.kind is Kind.INIT:
            assert s.op is not None
            identity = literal(ex.identity(s.op, array.dtype).value, array.dtype)
            return [cgen.Statement(f"{name} = {self.c.vectors.splat(array.dtype)}({identity})")]
        s = replace(s, value=point.value)
        every = [p.reads for p in (point, then) if p is not None]
        return self.step(s, array, [name], every, lane, tile, again, region, slid)

    def step(
        self,
        s: Statement,
        array: Array,
        made: Sequence[str],
        every: Sequence[Placed],
        lane: str,
        tile: Lanes,
        again: Container[ex.Expr] = (),
        region: _Region | None = None,
        slid: Mapping[ex.Expr, Slide] = NOTHING,
    ) -> list[cgen.Generable]:
        """`acc = step(acc, operands...)`: loads outside the lane function, arithmetic inside.  Operands that other rows
        read `again` stay in a register; those that the region holds are in one; those that are `slid` are made of two.
        One register and the operands of two steps are two steps at once, several registers as many values at once.
        """
        before: list[cgen.Generable] = []
        parameters: list[str] = []
        arguments: list[str] = []
        operands: list[ex.Expr] = []
        names: list[dict[ex.Expr, str]] = []
        masks = {e.cond for e in ex.walk(s.value) if isinstance(e, ex.Select) and e.eager}
        for one in every:
            names.append({})
            for old, new in one:
                inside = None if region is None else self._register(new, lane, tile, region)
                if inside is not None:
                    text, kind, per_lane = inside, self.c.vectors.type(ex.dtype_of(old)), True
                elif old in masks:
                    assert isinstance(new, ex.Test)
                    text, kind, per_lane = self.reads.mask(new, lane, ex.dtype_of(s.value))
                elif new in slid:
                    more, text = self.reads.slid(slid[new], lane, tile)
                    kind, per_lane = self.c.vectors.type(ex.dtype_of(new)), True
                    before += more
                else:
                    text, kind, per_lane = self.reads.operand(new, lane, tile, keep=new in again)
                if text not in arguments:
                    k = len(parameters)
                    p = _PARAMETERS[k] if k < len(_PARAMETERS) else f"a{k}"
                    parameters.append(f"{kind} {p}")
                    arguments.append(text)
                    operands.append(old)
                p = parameters[arguments.index(text)].split()[-1]
                names[-1][old] = f"{p}[i]" if per_lane else p
        if operands == [s.value] and s.op is None and names[0][s.value].endswith("[i]"):
            return [*before, cgen.Statement(f"{made[0]} = {arguments[0]}")]
        lines, given = self.reads.named(arguments, operands)
        if len(made) > 1:
            function = values_function(self.c, s, array.dtype, parameters, names)
            together = made[0].removesuffix("[0]")
            return [*before, *lines, cgen.Statement(f"{function}({', '.join([together, *given])})")]
        (name,) = made
        defined = step_function if len(every) == 1 else pair_function
        function = defined(self.c, s, array.dtype, parameters, names)
        given = given if s.op is None else [name, *given]
        return [*before, *lines, cgen.Statement(f"{name} = {function}({', '.join(given)})")]

    def _register(self, e: ex.Expr, lane: str, tile: Lanes, region: _Region) -> str | None:
        """The register that holds what is read, where the region has one."""
        if e in region.across:
            return region.across[e]
        if not any(load.array in region.nodes for load in ex.loads(e)):
            return None
        assert isinstance(e, ex.Load)
        own = region.held.get((e.array, tile.key))
        for acc in (*([own] if own else ()), *region.of(e.array)):
            if acc.lanes.valid >= tile.valid and _same_cells(acc, e, lane, tile.valid):
                return acc.name
        raise InternalError("PH999", f"a cell of {e.array} is read that no register of its tile holds")


def _same_cells(acc: Accumulator, e: ex.Load, lane: str, valid: int) -> bool:
    """Whether each lane reads the cell that the same lane of a register holds."""
    there, here = ({d: i for d, i in index} for index in (acc.target, affine_index(e)))
    return all(
        aff.substitute(there[d], {acc.lane: aff.const(n)}) == aff.substitute(here[d], {lane: aff.const(n)})
        for d in there
        for n in range(valid)
    )


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


def _short(n: lp.For) -> bool:
    """Whether a loop has so few steps that a branch among them would not be foreseen."""
    last = n.hi - n.lo if isinstance(n.hi, Affine) and isinstance(n.lo, Affine) else None
    return last is not None and last.is_const and last.const < 2 * _FEW


def within(condition: Condition, env: Env) -> Condition:
    """A condition in terms of the loops that are not unrolled."""
    return aff.map_affine(condition, lambda e: aff.substitute(e, env))


def _widest(b: lp.Bound, lo: Affine, name: str) -> Affine:
    """An upper bound as one expression: of the least of several, one at a fixed distance from where the loop begins."""
    if isinstance(b, Affine):
        return b
    if not b.least:
        return aff.var(f"{name}\0last")
    ends = [_widest(a, lo, name) for a in b.args if isinstance(a, Affine) or a.least]
    return next((e for e in ends if (e - lo).is_const), ends[0])
