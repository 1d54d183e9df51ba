# SPDX-License-Identifier: MIT
"""Register tiles: a region whose results live in vector registers, unrolled and spelled out.

Lanes are computed by small functions over vector types, one loop over the lanes each, which the compiler turns into
single instructions; a scalar argument is a broadcast.  So any reduction operator and any value expression takes this
path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast

import cgen

from codegen import loops as lp
from codegen.scalar import NARROW, STORAGE, Scalar, bare, literal, value_type
from codegen.shuffles import Shuffle, filled, weave
from codegen.vectors import JOIN, WINDOW, Vectors
from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import Affine, Condition, Var
from polyhedral.dtypes import DType
from polyhedral.errors import InternalError
from polyhedral.instances import Family, Kind
from polyhedral.layout import Layout
from polyhedral.operands import fetched
from polyhedral.program import Array, Program
from polyhedral.tree import Run
from polyhedral.windows import window

LANE = "\0lane"
"""The variable of a loop over the lanes of one vector; spelled `lane`, which no user's dim is."""
_FEW, _WRITTEN_OUT = 4, 160
"""Iterations and statements up to which an inner loop is unrolled."""
_LONGEST_PAD = 2048
"""Elements of pad values that a kernel carries; longer reaches read one of them with stride 0."""


@dataclass(frozen=True)
class Lanes:
    """One vector of results: the values of the unrolled dims, the first lane's index along the vector dim, and how many
    lanes count."""

    fixed: tuple[tuple[str, Affine], ...]
    block: int
    valid: int
    key: tuple[int, ...]


_Accumulators = dict[tuple[int, ...], tuple[str, list[tuple[str, Affine]], Lanes, str]]
"""By tile: the variable, the cells it is stored to, its lanes and their loop."""


@dataclass(frozen=True)
class _Lines:
    """How a tile reaches memory: shuffles, then registers with the cell each is stored at, `count` cells of each."""

    shuffles: tuple[Shuffle, ...]
    lines: tuple[tuple[str, str], ...]
    count: int


_Pointers = dict[tuple[tuple[ex.Expr, str], Affine], tuple[str, int]]


@dataclass
class Open:
    """A loop around the statement being emitted, with what is computed once in each of its iterations: pointers, by
    condition and address, with the offset each was made for; vectors that were joined, by text.  The region itself is
    the loop without a name."""

    name: str
    lo: Affine
    hi: Affine
    pointers: _Pointers = field(default_factory=_Pointers)
    lines: list[cgen.Generable] = field(default_factory=list[cgen.Generable])
    joined: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Registers:
    """Emits promoted regions of one kernel; `vectors` collects the types and functions it needs."""

    program: Program
    families: Mapping[str, Family]
    scalar: Scalar
    spell: Callable[[str], str]
    cell: Callable[[str, list[tuple[str, Affine]]], str]
    address: Callable[[str, list[tuple[str, Affine]]], Affine | None]
    bound: Callable[[lp.Bound], str]
    layouts: Mapping[str, Layout]
    vector_bytes: int
    windows: bool = True  # not where each index is tested: a window begins before what exists
    vectors: Vectors = field(default_factory=Vectors)
    pads: dict[ex.Const, tuple[str, int]] = field(default_factory=dict[ex.Const, tuple[str, int]])
    open: list[Open] = field(default_factory=list[Open])

    def region(self, node: lp.Promoted) -> list[cgen.Generable]:
        """Accumulators, the body on them, and their stores."""
        array = self.program.array(node.array)
        self.begin(array)
        accumulators: _Accumulators = {}
        body = self._node(node.body, array, {}, (), accumulators)
        vector = self.vectors.type(array.dtype)
        names = [name for name, *_ in accumulators.values()]
        head: list[cgen.Generable] = [cgen.Statement(f"{vector} {', '.join(names)}")]
        stores = self._stores(array, accumulators, streams=node.streams)
        return [*head, *self.open[0].lines, *body, *stores]

    def begin(self, array: Array) -> None:
        """A region that holds cells of an array."""
        self.vectors.lanes = max(
            1, self.vector_bytes // (4 if value_type(array.dtype) == "float" else array.dtype.bits // 8)
        )
        self.open = [Open("", aff.const(0), aff.const(0))]

    # --- walking -----------------------------------------------------------------------------------------------------

    def _node(
        self, n: lp.Node, array: Array, env: Mapping[str, Affine], key: tuple[int, ...], acc: _Accumulators
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
                lanes = self.vectors.lanes
                trips = _trips(n)
                found: list[cgen.Generable] = []
                for b in range(-(-trips // lanes)):
                    start = _lo(n, env) + b * lanes
                    tile = Lanes(((n.name, start),), b, min(lanes, trips - b * lanes), (*key, b))
                    found += self._exec(n.body, array, n.name, env, tile, acc)
                return found
            case lp.For():
                name = self.spell(n.name)
                lo = aff.substitute(_affine(n.lo), env)
                self.open.append(Open(n.name, lo, aff.substitute(_widest(n.hi, lo), env)))
                body = self._node(n.body, array, env, key, acc)
                lines = self.open.pop().lines
                end = f"< {self.bound(n.hi + 1)}" if isinstance(n.hi, Affine) else f"<= {self.bound(n.hi)}"
                head = (f"int64_t {name} = {self.scalar.affine(lo)}", f"{name} {end}", f"++{name}")
                made = loop(*head, cgen.Block([*lines, *body]))
                last = n.hi - _affine(n.lo) if isinstance(n.hi, Affine) else None
                inner = not any(isinstance(x, lp.For) and x.run is Run.SERIAL for x in lp.walk(n.body))
                short = inner and last is not None and _short(last, body)
                return [cgen.Line(f"#pragma GCC unroll {_FEW}"), made] if short else [made]
            case lp.If(condition, then, None):
                return self._begun(condition, then, array, env, key, acc)
            case lp.Exec():  # the loop along the lanes runs once, and isl dropped it
                tile = Lanes((("", aff.const(0)),), 0, 1, (*key, 0))
                return self._exec(n, array, "", env, tile, acc)
            case lp.If() | lp.Promoted():
                raise InternalError("PH999", f"a register tile holds a {type(n).__name__}")

    def _begun(
        self,
        condition: Condition,
        then: lp.Node,
        array: Array,
        env: Mapping[str, Affine],
        key: tuple[int, ...],
        acc: _Accumulators,
    ) -> list[cgen.Generable]:
        """Initialisation that only the first portion of a reduction does; later ones go on from what is in memory."""
        before = set(acc)
        starts = self._node(then, array, env, key, acc)
        found = [line for tile, entry in acc.items() if tile not in before for line in self._fetch(array, *entry)]
        test = self.scalar.condition(aff.map_affine(condition, lambda e: aff.substitute(e, env)))
        return [branch(test, cgen.Block(starts), cgen.Block(found))]

    def _exec(
        self, n: lp.Node, array: Array, vector: str, env: Mapping[str, Affine], tile: Lanes, acc: _Accumulators
    ) -> list[cgen.Generable]:
        if isinstance(n, lp.Block) and len(n.children) == 1:
            n = n.children[0]
        assert isinstance(n, lp.Exec)
        family = self.families[n.family]
        s = family.statement
        lane = f"{vector}\0lane"
        start = dict(tile.fixed)[vector]
        at = {d: aff.substitute(e, {**env, vector: start + aff.var(lane)}) for d, e in n.at}
        name = "_".join([f"acc_{self.spell(array.name)}", *map(str, tile.key)])
        target = [(d, aff.substitute(i, at)) for d, i in s.write.index]
        if tile.key not in acc:
            acc[tile.key] = (name, target, tile, lane)
            if family.kind is Kind.UPDATE:
                self.open[0].lines += self._fetch(array, *acc[tile.key])
        if family.kind is Kind.INIT:
            assert s.op is not None
            start = literal(ex.identity(s.op, array.dtype).value, array.dtype)
            return [cgen.Statement(f"{name} = {self.vectors.splat(array.dtype)}({start})")]
        return self.step(family, array, name, at, lane, tile)

    # --- one step ----------------------------------------------------------------------------------------------------

    def step(
        self, family: Family, array: Array, name: str, at: Mapping[str, Affine], lane: str, tile: Lanes
    ) -> list[cgen.Generable]:
        """`acc = step(acc, operands...)`: loads outside the lane function, arithmetic inside."""
        s = family.statement
        operands = list(dict.fromkeys(fetched(s.value)))
        parameters: list[str] = []
        arguments: list[str] = []
        names: dict[ex.Expr, str] = {}
        for k, (old, new) in enumerate(zip(operands, (ex.substitute(o, at) for o in operands), strict=True)):
            text, kind, per_lane = self._operand(new, lane, tile)
            p = f"{chr(ord('a') + k)}" if k < 26 else f"a{k}"
            parameters.append(f"{kind} {p}")
            arguments.append(text)
            names[old] = f"{p}[i]" if per_lane else p
        if operands == [s.value] and family.kind is Kind.ASSIGN and names[s.value].endswith("[i]"):
            return [cgen.Statement(f"{name} = {arguments[0]}")]
        function = self._step_function(family, array.dtype, operands, parameters, names)
        lines = list(self._named(arguments, operands))
        given = arguments if family.kind is Kind.ASSIGN else [name, *arguments]
        return [*lines, cgen.Statement(f"{name} = {function}({', '.join(given)})")]

    def _named(self, arguments: list[str], operands: list[ex.Expr]) -> Iterator[cgen.Generable]:
        """Vectors that take several loads get a name, for all steps of this iteration."""
        for k, (text, e) in enumerate(zip(arguments, operands, strict=True)):
            if text.startswith((JOIN, WINDOW)):
                names = self.open[-1].joined
                if text not in names:
                    load = next(n for n in ex.walk(e) if isinstance(n, ex.Load))
                    names[text] = f"vec_{self.spell(load.array)}_{sum(len(o.joined) for o in self.open)}"
                    yield cgen.Initializer(cgen.Value(f"const {self.vectors.type(load.dtype)}", names[text]), text)
                arguments[k] = names[text]

    def _operand(self, e: ex.Expr, lane: str, tile: Lanes) -> tuple[str, str, bool]:
        """(argument text, parameter type, whether it differs between lanes)."""
        t = ex.dtype_of(e)
        if lane not in ex.dims_of(e):
            return self._padded_scalar(e) or bare(self.scalar.value(e)), value_type(t), False
        vector = self.vectors.type(t)
        if isinstance(e, ex.Load):
            dense = self._dense(e, lane, tile)
            if dense is not None and t.name not in NARROW:
                return f"*(const {vector} *)&{dense}", vector, True
            runs = self._runs(e, lane, tile)
            if runs is not None and t.name not in NARROW:
                return f"{self.vectors.join(t, len(runs))}({', '.join(f'&{cell}' for cell in runs)})", vector, True
        seen = self._window(e, lane, tile) if self.windows else None
        if seen is not None:
            return seen, vector, True
        items = [bare(self.scalar.value(ex.substitute(e, {lane: aff.const(i)}))) for i in range(tile.valid)]
        return f"({vector}){{{', '.join(items)}}}", vector, True

    def _window(self, e: ex.Expr, lane: str, tile: Lanes) -> str | None:
        """A masked load of what exists of a row, padding elsewhere."""
        t = ex.dtype_of(e)
        load = next((n for n in ex.walk(e) if isinstance(n, ex.Load)), None)
        w = None if load is None else window(e, lane, self.layouts[load.array])
        if w is None or tile.valid < 2 or value_type(t) != STORAGE[t.name]:
            return None
        least = [x for x in w.first if not (x.is_const and x.const <= 0)]
        first = self.bound(lp.Extreme(False, tuple(least))) if least else "0"
        last = self.bound(lp.Extreme(True, (*w.last, aff.const(w.step * (tile.valid - 1) + 1))))
        where = aff.map_condition(w.where, self._decided)
        if where != aff.TRUE:
            last = f"{self.scalar.condition(where)} ? {last} : 0"
        name = self.vectors.window(t, w.step)
        pad = literal(w.pad.value, w.pad.dtype) if w.pad is not None else literal(0, t)
        return f"{name}(&{self.cell(w.array, list(w.index))}, {first}, {last}, {pad})"

    def _padded_scalar(self, e: ex.Expr) -> str | None:
        """`where(inside, X[...], pad)` as one load through a pointer that is chosen where `inside` is known, outside
        the loops that it does not depend on: into X, or into a block of pad values as long as those loops reach.
        """
        match e:
            case ex.Select(ex.Test() as test, ex.Load() as load, ex.Const() as pad):
                offset = self.address(load.array, [(d, i) for d, i in load.index if isinstance(i, Affine)])
            case _:
                return None
        if offset is None:
            return None
        within = ex.dims_of(test)
        level = max((n for n, o in enumerate(self.open) if o.name in within), default=0)
        inner = {o.name: o for o in self.open[level + 1 :]}
        steps = [(t, c) for t, c in offset.terms if isinstance(t, Var) and t.name in inner]
        moving = Affine(tuple(steps))
        if aff.dims_of(offset - moving) & inner.keys():
            return None
        key = (test, load.array), offset - offset.const
        reach = sum(c * (inner[t.name].hi - inner[t.name].lo).const for t, c in steps)
        if any(
            c < 0 or not (inner[t.name].hi - inner[t.name].lo).is_const or inner[t.name].lo != aff.const(0)
            for t, c in steps
        ):
            return None
        pointers = self.open[level].pointers
        name, base = pointers.get(key, ("", offset.const))
        apart = offset.const - base
        scaled = reach >= _LONGEST_PAD // 2  # of all that share the pointer
        if not 0 <= apart < _LONGEST_PAD // 2:
            return None
        condition = aff.map_condition(test.condition, self._decided)
        if condition == aff.TRUE:
            return None
        block = self._pad_block(pad, apart + (0 if scaled else reach))
        if not name:
            name = f"{self.spell(load.array)}_{sum(len(o.pointers) for o in self.open)}"
            pointers[key] = name, base
            self._choose_pointer(level, name, load, self.scalar.condition(condition), offset - moving, block, scaled)
        within_row = self.scalar.affine(moving)
        index = f"in_{name} * ({within_row}) + {apart}" if scaled else self.scalar.affine(moving + apart)
        return self.scalar.from_storage(load.dtype, f"{name}[{index.removesuffix(' + 0')}]")

    def _choose_pointer(
        self, level: int, name: str, load: ex.Load, inside: str, offset: Affine, block: str, scaled: bool
    ) -> None:
        """`const float *X_0 = inside ? &X[...] : pad`; a pad too short for the inner loops is read with stride 0."""
        kind = STORAGE[load.dtype.name]
        lines = self.open[level].lines
        if scaled:
            lines.append(cgen.Statement(f"const int64_t in_{name} = {inside}"))
            inside = f"in_{name}"
        where = self.scalar.affine(offset)
        lines.append(cgen.Statement(f"const {kind} *{name} = {inside} ? &{self.spell(load.array)}[{where}] : {block}"))

    def _decided(self, c: aff.Compare) -> Condition:
        """TRUE for a comparison that holds all over the loops that are open."""
        least = c.expr.const
        ranges = {o.name: o for o in self.open}
        for term, factor in c.expr.terms:
            o = ranges.get(term.name) if isinstance(term, Var) else None
            end = None if o is None else (o.lo if factor > 0 else o.hi)
            if end is None or not end.is_const:
                return c
            least += factor * end.const
        return aff.TRUE if least >= 0 and not c.equal else c

    def _pad_block(self, pad: ex.Const, reach: int) -> str:
        """A constant block of pad values; it grows to the longest reach asked of it."""
        storage = STORAGE[pad.dtype.name]
        name = self.pads.setdefault(pad, (f"pad_{len(self.pads)}", 0))[0]
        longest = self.pads[pad] = name, max(self.pads[pad][1], reach + 1)
        value = self.scalar.to_storage(pad.dtype, literal(pad.value, pad.dtype))
        self.vectors.functions[name] = (
            f"static const {storage} {name}[{longest[1]}] = {{[0 ... {longest[1] - 1}] = {value}}};"
        )
        return name

    def _dense(self, e: ex.Load, lane: str, tile: Lanes) -> str | None:
        """The first cell, if the lanes read consecutive ones and all of them exist."""
        near = self._near(e, lane)
        exist = near is not None and (tile.valid == self.vectors.lanes or self._padded(e, lane, self.vectors.lanes))
        return near if exist else None

    def _near(self, e: ex.Load, lane: str) -> str | None:
        """The first cell, if the lanes read consecutive ones."""
        index = [(d, i) for d, i in e.index if isinstance(i, Affine)]
        first = [(d, aff.substitute(i, {lane: aff.const(0)})) for d, i in index]
        base = self.address(e.array, first)
        for i in range(1, self.vectors.lanes):
            there = self.address(e.array, [(d, aff.substitute(x, {lane: aff.const(i)})) for d, x in index])
            if base is None or there is None or there - base != aff.const(i):
                return None
        return self.cell(e.array, first)

    def _runs(self, e: ex.Load, lane: str, tile: Lanes) -> list[str] | None:
        """The first cell of each run, if the lanes read a few runs of as many consecutive cells, 2^n of them."""
        if tile.valid < self.vectors.lanes:
            return None
        index = [(d, i) for d, i in e.index if isinstance(i, Affine)]
        at = [[(d, aff.substitute(x, {lane: aff.const(i)})) for d, x in index] for i in range(self.vectors.lanes)]
        places = [self.address(e.array, i) for i in at]
        apart = [b - a if a is not None and b is not None else aff.const(0) for a, b in pairwise(places)]
        length = next((i for i, step in enumerate(apart, 1) if step != aff.const(1)), self.vectors.lanes)
        count = self.vectors.lanes // length
        if length < 2 or self.vectors.lanes % length or count & (count - 1):
            return None
        if any(step != aff.const(1) for i, step in enumerate(apart, 1) if i % length):
            return None
        return [self.cell(e.array, at[i]) for i in range(0, self.vectors.lanes, length)]

    def _padded(self, e: ex.Load, lane: str, lanes: int) -> bool:
        """Whether lanes beyond the last result still lie inside the array: a panel is whole vectors wide."""
        array = self.program.array(e.array)
        moving = [(d, i) for d, i in e.index if isinstance(i, Affine) and lane in aff.dims_of(i)]
        inner = moving[-1][0]
        extent = array.extent(inner)
        return len(moving) == 2 and extent.is_const and extent.const % lanes == 0

    def _step_function(
        self, family: Family, t: DType, operands: list[ex.Expr], parameters: list[str], names: dict[ex.Expr, str]
    ) -> str:
        s = family.statement
        kinds = "".join("v" if n.endswith("[i]") else "s" for n in names.values())
        what = "value" if s.op is None else "step"
        name = f"{self.spell(s.write.array)}_{what}" + (f"_{kinds}" if "s" in kinds or "v" not in kinds else "")
        vector = self.vectors.type(t)
        whole = self._whole(s.op, t, s.value, names)
        if whole is not None:
            body = f"  return {whole};"
        else:
            self.scalar.names, saved = dict(names), self.scalar.names
            step = (
                bare(self.scalar.value(s.value))
                if s.op is None
                else self.scalar.step(s.op, t, "acc[i]", s.value, strict=s.strict)
            )
            self.scalar.names = saved
            body = f"  for (int i = 0; i < {self.vectors.lanes}; ++i) acc[i] = {step};\n  return acc;"
            body = f"  {vector} acc;\n{body}" if s.op is None else body
        given = parameters if s.op is None else [f"{vector} acc", *parameters]
        text = f"static inline {vector} {name}({', '.join(given) or 'void'}) {{\n{body}\n}}"
        while name in self.vectors.functions and self.vectors.functions[name] != text:
            text = text.replace(f" {name}(", f" {name}_(")
            name += "_"
        self.vectors.functions[name] = text
        return name

    # --- whole vectors -----------------------------------------------------------------------------------------------

    def _whole(self, op: str | None, t: DType, value: ex.Expr, names: Mapping[ex.Expr, str]) -> str | None:
        """The step as operations on whole vectors, where C has them: sums, products, minima and maxima of one type."""
        if value_type(t) != STORAGE[t.name]:
            return None
        if op == "sum" and t.is_float and isinstance(value, ex.Binary) and value.op == "*" and value not in names:
            a, b = (self._vector(v, t, names) for v in (value.lhs, value.rhs))
            return None if a is None or b is None else f"{self.vectors.fma(t)}({bare(a)}, {bare(b)}, acc)"
        new = self._vector(value, t, names)
        if op is None:
            return None if new is None else bare(new)
        return None if new is None else bare(self.vectors.combined(ex.REDUCTIONS[op], t, "acc", new))

    def _vector(self, e: ex.Expr, t: DType, names: Mapping[ex.Expr, str]) -> str | None:
        """A value in all lanes; `x - zero` spreads a scalar without touching its sign."""
        if ex.dtype_of(e) != t:
            return None
        spread = f" - ({self.vectors.type(t)}){{0}})"
        if e in names:
            name = names[e]
            return name.removesuffix("[i]") if name.endswith("[i]") else f"({name}{spread}"
        match e:
            case ex.Const(v, _):
                return f"({literal(v, t)}{spread}"
            case ex.Binary(op, lhs, rhs) if op in ("+", "-", "*", "min", "max") or (op == "/" and t.is_float):
                a, b = self._vector(lhs, t, names), self._vector(rhs, t, names)
                return None if a is None or b is None else self.vectors.combined(op, t, a, b)
            case ex.Unary("-", arg) if t.is_float:
                a = self._vector(arg, t, names)
                return None if a is None else f"(-{a})"
            case _:
                return None

    # --- memory ------------------------------------------------------------------------------------------------------

    def _fetch(
        self, array: Array, name: str, target: list[tuple[str, Affine]], tile: Lanes, lane: str
    ) -> Iterator[cgen.Generable]:
        """An accumulator as the last portion of its reduction left it."""
        load = ex.Load(array.name, tuple(target), array.dtype)
        dense = self._dense(load, lane, tile) if tile.valid == self.vectors.lanes else None
        if dense is not None and value_type(array.dtype) == STORAGE[array.dtype.name]:
            yield cgen.Statement(f"{name} = *(const {self.vectors.type(array.dtype)} *)&{dense}")
            return
        yield cgen.Statement(f"{name} = {self.vectors.splat(array.dtype)}(0)")
        cell = self.cell(array.name, [(d, aff.substitute(x, {lane: aff.var(LANE)})) for d, x in target])
        body = cgen.Statement(f"{name}[lane] = {self.scalar.from_storage(array.dtype, cell)}")
        yield loop("int lane = 0", f"lane < {tile.valid}", "++lane", body)

    def _stores(self, array: Array, acc: _Accumulators, *, streams: bool) -> list[cgen.Generable]:
        """The tile to memory: as whole vectors, shuffled into the order of memory where need be, or lane by lane."""
        woven = self._woven(array, acc)
        if woven is None:
            return [line for entry in acc.values() for line in self._store(array, *entry)]
        vector = self.vectors.type(array.dtype)
        made: list[cgen.Generable] = []
        for s in woven.shuffles:
            text = f"{self.vectors.pick(array.dtype, s.lanes)}({s.first}, {s.second})"
            made.append(cgen.Initializer(cgen.Value(f"const {vector}", s.made), text))
        for name, cell in woven.lines:
            if woven.count < self.vectors.lanes:
                place = f"{self.vectors.part(array.dtype, woven.count)}(&{cell}, {name})"
            elif streams:
                place = f"{self.vectors.stream(array.dtype)}(&{cell}, {name})"
            else:
                place = f"*({vector} *)&{cell} = {name}"
            made.append(cgen.Statement(place))
        return made

    def _woven(self, array: Array, acc: _Accumulators) -> _Lines | None:
        """The shuffles, and each register with its first cell; None where a tile has no such form."""
        whole = all(tile.valid == self.vectors.lanes for _, _, tile, _ in acc.values())
        if not whole or array.planes or value_type(array.dtype) != STORAGE[array.dtype.name]:
            return None
        origin: Affine | None = None
        cells: dict[str, tuple[int, ...]] = {}
        index: dict[int, list[tuple[str, Affine]]] = {}
        for name, target, _, lane in acc.values():
            at = [[(d, aff.substitute(x, {lane: aff.const(i)})) for d, x in target] for i in range(self.vectors.lanes)]
            places = [self.address(array.name, i) for i in at]
            origin = places[0] if origin is None else origin
            apart = [None if origin is None or p is None else p - origin for p in places]
            known = [a.const for a in apart if a is not None and a.is_const]
            if len(known) < self.vectors.lanes:
                return None
            cells[name] = tuple(known)
            index.update(zip(known, at, strict=True))
        prefix = f"{self.spell(array.name)}_line_"
        copies: dict[str, str] = {}
        count = self.vectors.lanes
        woven = weave(cells, prefix)
        if woven is None and (more := filled(cells)) is not None:
            registers, copies, count = more
            woven = weave(registers, prefix)
        if woven is None:
            return None
        shuffles = tuple(
            replace(x, first=copies.get(x.first, x.first), second=copies.get(x.second, x.second))
            for x in woven.shuffles
        )
        return _Lines(shuffles, tuple((n, self.cell(array.name, index[first])) for n, first in woven.lines), count)

    def _store(
        self, array: Array, name: str, target: list[tuple[str, Affine]], tile: Lanes, lane: str
    ) -> Iterator[cgen.Generable]:
        load = ex.Load(array.name, tuple(target), array.dtype)
        dense = self._dense(load, lane, tile) if tile.valid == self.vectors.lanes else None
        if dense is not None and value_type(array.dtype) == STORAGE[array.dtype.name]:
            yield cgen.Statement(f"*({self.vectors.type(array.dtype)} *)&{dense} = {name}")
            return
        near = self._near(load, lane) if 1 < tile.valid < self.vectors.lanes else None
        if near is not None and value_type(array.dtype) == STORAGE[array.dtype.name]:
            yield cgen.Statement(f"{self.vectors.part(array.dtype, tile.valid)}(&{near}, {name})")
            return
        cell = self.cell(array.name, [(d, aff.substitute(x, {lane: aff.var(LANE)})) for d, x in target])
        body = cgen.Statement(f"{cell} = {self.scalar.to_storage(array.dtype, f'{name}[lane]')}")
        yield loop("int lane = 0", f"lane < {tile.valid}", "++lane", body)


def loop(start: str, condition: str, update: str, body: cgen.Generable) -> cgen.Generable:
    """`for (start; condition; update) body`; cgen takes text for the first three, but does not say so."""
    made = cast("Callable[..., cgen.Generable]", cgen.For)
    return made(start, condition, update, body)


def branch(condition: str, then: cgen.Generable, other: cgen.Generable | None) -> cgen.Generable:
    """`if (condition) then else other`; cgen takes text for the condition, but does not say so."""
    made = cast("Callable[..., cgen.Generable]", cgen.If)
    return made(condition, then, other)


def _short(last: Affine, body: Sequence[cgen.Generable]) -> bool:
    """Whether a loop is over before its branch is predicted, and small enough to be written out."""
    return last.is_const and last.const < _FEW and (last.const + 1) * len(body) <= _WRITTEN_OUT


def _affine(b: lp.Bound) -> Affine:
    assert isinstance(b, Affine)
    return b


def _widest(b: lp.Bound, lo: Affine) -> Affine:
    """An upper bound as one expression: of the least of several, one at a fixed distance from where the loop begins."""
    if isinstance(b, Affine):
        return b
    assert b.least
    ends = [_widest(a, lo) for a in b.args]
    return next((e for e in ends if (e - lo).is_const), ends[0])


def _lo(n: lp.For, env: Mapping[str, Affine]) -> Affine:
    return aff.substitute(_affine(n.lo), env)


def _trips(n: lp.For) -> int:
    span = _affine(n.hi) - _affine(n.lo) + 1
    assert span.is_const
    return span.const
