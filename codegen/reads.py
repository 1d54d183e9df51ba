# SPDX-License-Identifier: MIT
"""Operands of a register tile: one load where lanes are neighbours, a few where they are runs, a masked one at the ends
of a row, lane by lane otherwise.

Padding that is the same for all lanes is a choice between two pointers, made outside the loops it does not depend on.
What is computed with operands is left to `codegen.steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cgen

from codegen import loops as lp
from codegen.lanes import Lanes, affine_index, dense, near, runs
from codegen.scalar import NARROW, STORAGE, bare, literal, value_type
from codegen.slides import Slide
from codegen.spelling import LANE, Spelling
from codegen.vectors import JOIN, KEPT, SLIDE, WINDOW
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition, Var
from polyhedral.ir.dtypes import DType
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Array, Program
from polyhedral.plans.windows import window

_LINE = 64
"""Bytes of a line of memory."""
_LONGEST_PAD = 2048
"""Elements of pad values that a kernel carries; longer reaches read one of them with stride 0."""
_Pointers = dict[tuple[tuple[Condition, str], Affine], list[tuple[str, int]]]


@dataclass
class Open:
    """A loop around the statement being emitted, with what is computed once in each of its iterations: pointers, by
    condition and address, with the offset each was made for; vectors that have a name, by text; texts of operands.  The
    region itself is the loop without a name."""

    name: str
    lo: Affine
    hi: Affine
    pointers: _Pointers = field(default_factory=_Pointers)
    lines: list[cgen.Generable] = field(default_factory=list[cgen.Generable])
    joined: dict[str, str] = field(default_factory=dict[str, str])
    asked: set[object] = field(default_factory=set[object])
    texts: dict[object, tuple[str, str, bool]] = field(default_factory=dict[object, tuple[str, str, bool]])


@dataclass
class Reads:
    """Reads under the loops that are `open`, the region itself first."""

    c: Spelling
    program: Program
    layouts: Mapping[str, Layout]
    windows: bool  # not where each index is tested: a window begins before what exists
    pads: dict[ex.Const, tuple[str, int]] = field(default_factory=dict[ex.Const, tuple[str, int]])
    open: list[Open] = field(default_factory=list[Open])
    ahead: Mapping[str, int] = field(default_factory=dict[str, int])
    """Arrays that are asked for so many elements before they are loaded."""
    cells: dict[str, tuple[object, str, str | None]] = field(default_factory=dict[str, tuple[object, str, str | None]])
    """What is asked for but once, its first cell, and that of the innermost loop, by the text that loads it."""

    def enter(self, loop: Open) -> None:
        """What follows is done within a loop."""
        self.open.append(loop)
        self.c.scalar.enter(loop.name, self.c.scalar.span(loop.lo), self.c.scalar.span(loop.hi))

    def leave(self) -> list[cgen.Generable]:
        """The lines to stand first in the loop that ends."""
        loop = self.open.pop()
        self.c.scalar.leave(loop.name)
        return loop.lines

    def operand(self, e: ex.Expr, lane: str, tile: Lanes, *, keep: bool = False) -> tuple[str, str, bool]:
        """(argument text, parameter type, whether it differs between lanes); a vector to `keep` is loaded once."""
        known, key = self.open[-1].texts, (e, lane, tile.valid, keep)
        if key not in known:
            known[key] = self._operand(e, lane, tile, keep=keep)
        return known[key]

    def _operand(self, e: ex.Expr, lane: str, tile: Lanes, *, keep: bool) -> tuple[str, str, bool]:
        t = ex.dtype_of(e)
        if lane not in ex.dims_of(e):
            text = self._padded_scalar(e) or bare(self.c.scalar.value(e))
            return self._asked(e, text, text), value_type(t), False
        vector = self.c.vectors.type(t)
        if isinstance(e, ex.Load):
            first = dense(self.c, self.program.array(e.array), e, lane, tile)
            if first is not None and t.name not in NARROW:
                text = f"*(const {vector} *)&{first}"
                return self._asked(e, first, f"{self.c.vectors.kept(t)}({text})" if keep else text), vector, True
            firsts = runs(self.c, e, lane, tile)
            if firsts is not None and t.name not in NARROW:
                cells = ", ".join(f"&{cell}" for cell in firsts)
                return f"{self.c.vectors.join(t, len(firsts))}({cells})", vector, True
            first = near(self.c, e, lane) if self.windows and 1 < tile.valid < self.c.vectors.lanes else None
            if first is not None and value_type(t) == STORAGE[t.name]:
                text = f"{self.c.vectors.window(t, 1)}(&{first}, 0, {tile.valid}, {literal(0, t)})"
                return self._asked(e, first, text), vector, True
        seen = self._window(e, lane, tile) if self.windows else None
        if seen is not None:
            return seen, vector, True
        items = [bare(self.c.scalar.value(ex.substitute(e, {lane: aff.const(i)}))) for i in range(tile.valid)]
        return f"({vector}){{{', '.join(items)}}}", vector, True

    def slid(self, s: Slide, lane: str, tile: Lanes) -> tuple[list[cgen.Generable], str]:
        """(lines that load one vector or two, the text that makes one of both)."""
        t = ex.dtype_of(s.first)
        parts = [(s.first, s.valid), *([(s.then, s.more)] if s.by and s.more else [])]
        texts = [self.operand(e, lane, replace(tile, valid=n), keep=True)[0] for e, n in parts]
        lines, names = self.named(texts, [e for e, _ in parts])
        return lines, f"{self.c.vectors.slide(t, s.by)}({names[0]}, {names[-1]})" if s.by else names[0]

    def _asked(self, e: ex.Expr, first: str, text: str) -> str:
        """The text that loads a vector or a scalar; where its array is asked for ahead, with its first cell kept in
        mind.  All of one line of memory are asked for together.
        """
        if isinstance(e, ex.Load) and e.array in self.ahead:
            at = [
                (d, aff.substitute(i, {v: aff.const(0) for v in aff.dims_of(i) if v.endswith(LANE)}))
                for d, i in affine_index(e)
            ]
            place = self.c.address(e.array, at)
            what = text if place is None else (e.array, place - place.const, place.const * (e.dtype.bits // 8) // _LINE)
            self.cells[text] = what, first, self._begun(e)
        return text

    def mask(self, e: ex.Test, lane: str, t: DType) -> tuple[str, str, bool]:
        """(text, type, whether it differs between lanes) of a test that decides which of two values is taken."""
        if lane not in ex.dims_of(e):
            return bare(self.c.scalar.value(e)), "int", False
        parts: list[str] = []
        for c in aff.conjuncts(e.condition):
            assert isinstance(c, aff.Compare)
            step = c.expr.coefficient(Var(lane))
            first = self.c.scalar.affine(c.expr - aff.var(lane) * step)
            parts.append(f"{self.c.vectors.mask(t)}({first}, {step})")
        return " & ".join(parts), self.c.vectors.mask_type(t), True

    def named(self, arguments: Sequence[str], operands: Sequence[ex.Expr]) -> tuple[list[cgen.Generable], list[str]]:
        """Vectors that take several loads, or are read again, get a name for all steps of this iteration: (their lines,
        the arguments).
        """
        lines: list[cgen.Generable] = []
        given = list(arguments)
        names = self.open[-1].joined
        for text, e in zip(arguments, operands, strict=True):
            what, first, begun = self.cells.get(text, (None, "", None))
            if what is None or what in self.open[-1].asked:
                continue
            assert isinstance(e, ex.Load)
            self.open[-1].asked.add(what)
            if begun is None:
                lines.append(cgen.Statement(f"__builtin_prefetch(&{first} + {self.ahead[e.array]})"))
            elif begun not in self.open[-2].asked:
                self.open[-2].asked.add(begun)
                self.open[-2].lines.append(cgen.Statement(f"__builtin_prefetch(&{begun} + {self.ahead[e.array]})"))
        for k, (text, e) in enumerate(zip(arguments, operands, strict=True)):
            if text.startswith((JOIN, KEPT, SLIDE, WINDOW)):
                if text not in names:
                    load = next(n for n in ex.walk(e) if isinstance(n, ex.Load))
                    names[text] = f"vec_{self.c.spell(load.array)}_{sum(len(o.joined) for o in self.open)}"
                    kind = f"const {self.c.vectors.type(load.dtype)}"
                    lines.append(cgen.Initializer(cgen.Value(kind, names[text]), text))
                given[k] = names[text]
        return lines, given

    def _begun(self, e: ex.Load) -> str | None:
        """Where the innermost loop stays within a line, the cell it begins at: one request before it serves all."""
        inner = self.open[-1]
        place = self.c.address(e.array, affine_index(e))
        last = inner.hi - inner.lo
        if len(self.open) < 2 or place is None or not last.is_const:
            return None
        reach = abs(place.coefficient(Var(inner.name))) * last.const * (e.dtype.bits // 8)
        if not 0 < reach < _LINE:
            return None
        start = {inner.name: inner.lo} | {d: aff.const(0) for d in ex.dims_of(e) if d.endswith(LANE)}
        return self.c.cell(e.array, [(d, aff.substitute(i, start)) for d, i in affine_index(e)])

    def _window(self, e: ex.Expr, lane: str, tile: Lanes) -> str | None:
        """A masked load of what exists of a row, padding elsewhere."""
        t = ex.dtype_of(e)
        load = next((n for n in ex.walk(e) if isinstance(n, ex.Load)), None)
        w = None if load is None else window(e, lane, self.layouts[load.array])
        if w is None or tile.valid < 2 or value_type(t) != STORAGE[t.name]:
            return None
        least = [x for x in w.first if not (x.is_const and x.const <= 0)]
        first = self.c.bound(lp.Extreme(False, tuple(least))) if least else "0"
        last = self.c.bound(lp.Extreme(True, (*w.last, aff.const(w.step * (tile.valid - 1) + 1))))
        pad = w.pad or ex.Const(0, t)
        cell = self._chosen(w.where, w.array, w.index, pad, w.step * (self.c.vectors.lanes - 1), masked=True)
        where = self.c.scalar.decided(w.where)
        if cell is None and where != aff.TRUE:
            last = f"{self.c.scalar.condition(where)} ? {last} : 0"
        cell = cell or self.c.cell(w.array, list(w.index))
        return f"{self.c.vectors.window(t, w.step)}(&{cell}, {first}, {last}, {literal(pad.value, pad.dtype)})"

    def _padded_scalar(self, e: ex.Expr) -> str | None:
        """`where(inside, X[...], pad)` as one load through a chosen pointer."""
        match e:
            case ex.Select(ex.Test(inside), ex.Load() as load, ex.Const() as pad):
                cell = self._chosen(inside, load.array, affine_index(load), pad)
                return None if cell is None else self.c.scalar.from_storage(load.dtype, cell)
            case _:
                return None

    def _chosen(
        self,
        inside: Condition,
        array: str,
        index: Sequence[tuple[str, Affine]],
        pad: ex.Const,
        beyond: int = 0,
        *,
        masked: bool = False,
    ) -> str | None:
        """A cell, and those up to `beyond` it, through a pointer that is chosen where `inside` is known, outside the
        loops that it does not depend on: into the array, or into a block of pad values as long as those loops reach.
        None where nothing is to be chosen, or no such pointer is known; where loads are `masked`, the mask may say it,
        also for all but one of several rows that lie too far apart for one pointer: so many do not fit the registers.
        """
        offset = self.c.address(array, list(index))
        if offset is None:
            return None
        within = aff.condition_dims(inside)
        level = max((n for n, o in enumerate(self.open) if o.name in within), default=0)
        inner = {o.name: o for o in self.open[level + 1 :]}
        steps = [(inner[t.name], c) for t, c in offset.terms if isinstance(t, Var) and t.name in inner]
        moving = sum(((aff.var(o.name) - o.lo) * c for o, c in steps), aff.const(0))
        if aff.dims_of(offset - moving) & inner.keys():
            return None
        key = (inside, array), offset - offset.const
        if any(c < 0 or not (o.hi - o.lo).is_const for o, c in steps):
            return None
        reach = beyond + sum(c * (o.hi - o.lo).const for o, c in steps)
        condition = self.c.scalar.decided(inside)
        if condition == aff.TRUE:
            return None
        pointers = self.open[level].pointers.setdefault(key, [])
        near = ((n, b) for n, b in pointers if 0 <= offset.const - b < _LONGEST_PAD // 2)
        name, base = next(near, ("", offset.const))
        if masked and pointers and not name:
            return None
        apart = offset.const - base
        scaled = reach - beyond >= _LONGEST_PAD // 2  # of all that share the pointer
        block = self._pad_block(pad, apart + (beyond if scaled else reach))
        if not name:
            name = f"{self.c.spell(array)}_{sum(len(made) for o in self.open for made in o.pointers.values())}"
            pointers.append((name, base))
            test = self.c.scalar.condition(condition)
            self._choose_pointer(level, name, self.program.array(array), test, offset - moving, block, scaled)
        within_row = self.c.scalar.affine(moving)
        index_text = f"in_{name} * ({within_row}) + {apart}" if scaled else self.c.scalar.affine(moving + apart)
        return f"{name}[{index_text.removesuffix(' + 0')}]"

    def _choose_pointer(
        self, level: int, name: str, array: Array, inside: str, offset: Affine, block: str, scaled: bool
    ) -> None:
        """`const float *X_0 = inside ? &X[...] : pad`; a pad too short for the inner loops is read with stride 0."""
        kind = STORAGE[array.dtype.name]
        lines = self.open[level].lines
        if scaled:
            lines.append(cgen.Statement(f"const int64_t in_{name} = {inside}"))
            inside = f"in_{name}"
        there = f"&{self.c.spell(array.name)}[{self.c.scalar.affine(offset)}]"
        lines.append(cgen.Statement(f"const {kind} *{name} = {inside} ? {there} : {block}"))

    def _pad_block(self, pad: ex.Const, reach: int) -> str:
        """A constant block of pad values; it grows to the longest reach asked of it."""
        storage = STORAGE[pad.dtype.name]
        name = self.pads.setdefault(pad, (f"pad_{len(self.pads)}", 0))[0]
        longest = self.pads[pad] = name, max(self.pads[pad][1], reach + 1)
        value = self.c.scalar.to_storage(pad.dtype, literal(pad.value, pad.dtype))
        self.c.vectors.functions[name] = (
            f"static const {storage} {name}[{longest[1]}] = {{[0 ... {longest[1] - 1}] = {value}}};"
        )
        return name
