# SPDX-License-Identifier: MIT
"""Staging: boxes of arrays in memory that a block shares, and the copies of all its threads that fill them.

Cells that lie next to each other in both places are copied several at once, asynchronously where a device can.  What is
staged is the plan's; barriers around copies are placed by `codegen.device`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import cgen

from codegen import loops as lp
from codegen.blocks import block, branch, loop
from codegen.c import Emitter
from codegen.dialect import CUDA, Dialect
from codegen.scalar import STORAGE, Scalar
from codegen.spelling import Index
from codegen.swizzled import swizzled
from codegen.turns import digit
from polyhedral.devices import banks
from polyhedral.devices.banks import strides_of
from polyhedral.devices.plan import BlockNest
from polyhedral.devices.prices import padding
from polyhedral.devices.swizzles import DENSE, Addressing, addressing
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition, Floor, Size, Var
from polyhedral.ir.program import Array, Statement
from polyhedral.machine.device import GENERIC, Device

_FEW = 64
"""Instructions of a copy that are written out."""
_STEPS = 8
"""Steps of a reduction, and warps of a copy, whose banks are counted: where a box is swizzled they differ."""


@dataclass(frozen=True)
class Box:
    """A staged array in shared memory: its name, cells along each axis in the order in which they lie there, and where
    in the array the box begins."""

    name: str
    axes: tuple[tuple[str, int], ...]
    first: Mapping[str, Affine]
    lying: Addressing = DENSE
    copies: int = 1
    slot: str = ""
    """Which of the copies is meant."""

    @property
    def pad(self) -> int:
        """Cells after each row."""
        return self.lying.pad

    @property
    def declared(self) -> str:
        *outer, last = (n for _, n in self.axes)
        several = (self.copies,) if self.copies > 1 else ()
        own = (prod(outer) * last,) if self.lying.swizzle else (*outer, last + self.pad)
        return self.name + "".join(f"[{n}]" for n in (*several, *own))

    @property
    def cells(self) -> int:
        *outer, last = (n for _, n in self.axes)
        return self.copies * prod(outer) * (last + self.pad)

    def cell(self, at: Mapping[str, Affine]) -> Affine:
        """Where the cell so far from the first lies in a dense box."""
        strides = strides_of(self.axes, 0)
        return sum((at[d] * n for d, n in strides.items()), start=aff.const(0))

    def at(self, dim: str, value: Affine, slot: str) -> Box:
        """What the box is in another iteration of a loop."""
        first = {d: aff.substitute(e, {dim: value}) for d, e in self.first.items()}
        return replace(self, first=first, slot=slot)


@dataclass(frozen=True)
class Staging(Emitter):
    """Emits copies, and reads what was copied."""

    dialect: Dialect = CUDA
    device: Device = GENERIC
    index: str = "int64_t"
    nest: BlockNest | None = None
    shared: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Declarations of memory that a block shares, and their bytes."""
    padded: list[Box] = field(default_factory=list[Box])
    """Boxes of this kernel."""
    boxes: dict[str, Box] = field(default_factory=dict[str, Box])
    """Arrays that are read from shared memory here."""
    outside: list[Condition] = field(default_factory=list[Condition])
    """What must hold for a load from memory that an instance of a padded tile makes."""
    trips: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Least and greatest value of loop variables, where they are numbers."""
    loop_names: set[str] = field(default_factory=set[str])
    """Spellings of the loops of this kernel."""
    held: dict[str, str] = field(default_factory=dict[str, str])
    """Arrays whose cell at hand is in a register, and which."""

    def spell(self, name: str) -> str:
        made = super().spell(name)
        while made in self.dialect.reserved:
            made += "_"
        return made

    def cell(self, array: str, index: Iterable[tuple[str, Affine | str]]) -> str:
        box = self.boxes.get(array)
        if box is None:
            return super().cell(array, index)
        return self._within(box, {d: i - box.first[d] for d, i in index if isinstance(i, Affine)})

    def _within(self, box: Box, at: Mapping[str, Affine]) -> str:
        """A cell of a box, so far from its first."""
        if box.lying.swizzle is None:
            return box.name + box.slot + "".join(f"[{self.scalar.affine(at[d])}]" for d, _ in box.axes)
        rows = dict(self.nest.rows) if self.nest else {}
        return f"{box.name}{box.slot}[{swizzled(box.lying.swizzle, box.cell(at), rows, self.scalar, self._range)}]"

    def load(self, e: ex.Load, scalar: Scalar) -> str:
        if e.array in self.held:
            return self.held[e.array]
        text = super().load(e, scalar)
        if e.array in self.boxes or not self.outside:
            return text
        moved = frozenset[str]().union(*(aff.dims_of(i) for _, i in e.index if isinstance(i, Affine)))
        tests = [c for c in self.outside if aff.condition_dims(c) & moved]
        if not tests:
            return text
        t = self.program.array(e.array).dtype
        return f"({scalar.condition(aff.both(*tests))} ? {text} : ({STORAGE[t.name]})0)"

    def valued(self, value: ex.Expr) -> ex.Expr:
        """Zero padding of what is staged was copied as zeros, and is not asked for again."""

        def f(e: ex.Expr) -> ex.Expr:
            load = padding(self.program, e)
            return e if load is None or load.array not in self.boxes else load

        return ex.rewrite(value, f) if self.boxes else value

    def each(self, rows: Sequence[tuple[str, int]], body: list[cgen.Generable]) -> list[cgen.Generable]:
        """A loop over all results of a thread, unrolled."""
        for d, n in reversed(rows):
            name = self.spell(d)
            made = loop(f"{self.index} {name} = 0", f"{name} < {n}", f"++{name}", block(body))
            body = [cgen.Line("#pragma unroll"), made]
        return body

    def known(self, n: lp.For) -> dict[str, tuple[int, int]]:
        """The range of a loop's variable, while it runs; what is given back was known of the name before."""
        before = {n.name: self.trips[n.name]} if n.name in self.trips else {}
        lo = self._range(n.lo) if isinstance(n.lo, Affine) else None
        hi = self._range(n.hi) if isinstance(n.hi, Affine) else None
        if lo and hi:
            self.trips[n.name] = (lo[0], hi[1])
        return before

    def _range(self, e: Affine) -> tuple[int, int] | None:
        """Least and greatest value of an index, where its loops run between numbers."""
        low = high = e.const
        for term, c in e.terms:
            match term:
                case Var(name):
                    ends = self.trips.get(name)
                case Floor(arg, divisor):
                    inner = self._range(arg)
                    ends = (inner[0] // divisor, inner[1] // divisor) if inner else None
                case Size():
                    ends = None
            if ends is None:
                return None
            a, b = sorted((c * ends[0], c * ends[1]))
            low, high = low + a, high + b
        return low, high

    def _box(self, s: lp.Staged, copies: int = 1) -> Box:
        """Axes along which a thread's results are next to each other lie densest."""
        assert self.nest is not None
        rows = {d for d, _ in self.nest.rows}
        threads = [d for d, _ in self.nest.threads]
        a = self.program.array(s.array)
        loads = [e for e in ex.loads(self._statement.value) if e.array == s.array]

        def rank(axis: str) -> tuple[bool, int]:
            moved = frozenset[str]().union(
                *(aff.dims_of(i) for e in loads for d, i in e.index if d == axis and isinstance(i, Affine))
            )
            fastest = max((threads.index(d) for d in moved if d in threads), default=-1)
            return bool(moved & rows), fastest

        order = sorted(self.layouts[a.name].order, key=rank)
        matrix = self.nest.plan.matrix
        last = matrix.spread(a.name).last if matrix else order[-1]
        order = [*(d for d in self.layouts[a.name].order if d != last), last] if matrix else order
        sizes = {d: n for d, _, n in s.cells}
        axes = tuple((d, sizes[d]) for d in order)
        box = Box(
            self._named(f"{self.spell(s.array)}_block"), axes, {d: first for d, first, _ in s.cells}, DENSE, copies
        )
        rows_apart = matrix.spread(a.name).pad(a.dtype.bits // 8) if matrix else 0
        box = replace(box, lying=Addressing(rows_apart) if matrix else self._addressing(a, box, loads))
        self.padded.append(box)
        kind = STORAGE[a.dtype.name]
        declared = self.dialect.shared.format(type=kind, name=box.declared)
        self.shared[box.name] = (declared, box.cells * (a.dtype.bits // 8))
        return box

    def _addressing(self, a: Array, box: Box, loads: Sequence[ex.Load]) -> Addressing:
        """How a box lies so that what is copied there and read from there asks the banks the fewest times."""
        assert self.nest is not None
        plan, threads = self.nest.plan, self.nest.threads
        sizes, last = dict(box.axes), box.axes[-1][0]
        order = [d for d in self.layouts[a.name].order if sizes[d] > 1]
        if plan.threads < banks.BANKS or not order:
            return DENSE
        width, warps = self._width(a, box, order), plan.threads // banks.BANKS
        lanes = [banks.digits_of(lane, threads) for lane in range(banks.BANKS)]
        inside = {
            r.dim: r.hi.const for r in self._statement.domain.ranges if r.dim in self.nest.inside and r.hi.is_const
        }
        steps = prod(inside.values())
        accesses: list[banks.Access] = []
        for e in loads:
            index = {d: i for d, i in e.index if isinstance(i, Affine)}

            def moved(digits: Mapping[str, int], index: Mapping[str, Affine] = index) -> tuple[tuple[str, int], ...]:
                return tuple((d, sum(i.coefficient(Var(t)) * n for t, n in digits.items())) for d, i in index.items())

            rows = {d: n for d, n in self.nest.rows if any(i.coefficient(Var(d)) for i in index.values())}
            run = next((n for d, n in rows.items() if last in index and index[last].coefficient(Var(d)) == 1), 1)
            times = max(steps, 1) * warps * prod(rows.values()) // run
            bases = tuple(moved(banks.digits_of(n, tuple(inside.items()))) for n in range(min(steps, _STEPS)))
            accesses.append(banks.Access(tuple(map(moved, lanes)), run, times, bases or ((),)))
        dense = order[-1] == last
        copied = tuple(tuple(self._copied(lane, sizes, order, width).items()) for lane in range(banks.BANKS))
        bases = tuple(
            tuple(self._copied(banks.BANKS * warp, sizes, order, width).items()) for warp in range(min(warps, _STEPS))
        )
        rounds = max(prod(sizes.values()) // width // banks.BANKS, 1)
        accesses.append(banks.Access(copied, width if dense else 1, rounds * (1 if dense else width), bases))
        whole = width if dense else 1
        able = tuple(p for p in range(0, banks.BANKS + 1, whole) if self._spare(p, box.axes, box.copies))
        return addressing(tuple(accesses), box.axes, a.dtype.bits // 8, able or (0,), whole)

    @staticmethod
    def _copied(lane: int, sizes: Mapping[str, int], order: Sequence[str], width: int) -> dict[str, int]:
        """The cell that a thread copies first, as `_copy` says it."""
        found, left = dict[str, int](), lane
        for d in reversed(order):
            n = sizes[d] // width if d == order[-1] else sizes[d]
            found[d] = left % n * (width if d == order[-1] else 1)
            left //= n
        return found

    def _spare(self, pad: int, axes: Sequence[tuple[str, int]], copies: int) -> bool:
        """Whether a block has room for cells after each row, beside all that it stages."""
        assert self.nest is not None
        buffers = self.nest.plan.buffers
        staged = sum(prod(c.size for c in cells) * self._item(array) for array, cells in self.nest.staged)
        padded = sum(b.pad * prod(n for _, n in b.axes[:-1]) * b.copies for b in self.padded) * 8
        more = pad * prod(n for _, n in axes[:-1]) * copies * 8
        return staged * buffers + padded + more <= self.device.shared_block

    def _item(self, array: str) -> int:
        return self.program.array(array).dtype.bits // 8

    @property
    def _statement(self) -> Statement:
        assert self.nest is not None
        return self.program.statement(self.nest.statement)

    def _named(self, base: str) -> str:
        name = base
        while name in self.spelled.values() or name in self.shared or name in self.loop_names:
            name += "_"
        return name

    def _copy(self, s: lp.Staged, box: Box) -> list[cgen.Generable]:
        """All threads copy, neighbours what lies next to each other; cells outside the array are left at zero."""
        assert self.nest is not None
        a = self.program.array(s.array)
        threads = self.nest.plan.threads
        sizes = dict(box.axes)
        order = [d for d in self.layouts[a.name].order if sizes[d] > 1]
        width = self._width(a, box, order)
        total = prod(sizes.values()) // width
        names = {d: self._named(f"{self.spell(d)}_at") for d in order}
        turns = -(-total // threads)
        lines: list[cgen.Generable] = []
        below = 1
        for d in reversed(order):
            n = sizes[d] // width if d == order[-1] else sizes[d]
            text = digit(self._thread(), threads, below, n, total)
            text = f"({text}) * {width}" if d == order[-1] and width > 1 else text
            lines.append(cgen.Initializer(cgen.Value(f"const {self.index}", names[d]), text))
            below *= n
            self.trips[names[d]] = (0, sizes[d] - 1)
        at = {d: aff.var(names[d]) if d in names else aff.const(0) for d in sizes}
        index = [(d, box.first[d] + at[d]) for d in a.dim_names]
        tests = self._inside(a, box, index)
        source = self.cell(a.name, index)
        body = [*lines, *self._move(a, box, names, source, tests, width)]
        whole, rest = divmod(total, threads)
        if rest:
            kept = f"{self._thread()} < {rest}"
            body = [branch(f"turn < {whole} || {kept}" if whole else kept, block(body), None)]
        if turns == 1:
            return [block(body)]
        made = loop("int turn = 0", f"turn < {turns}", "++turn", block(body))
        return [cgen.Line("#pragma unroll"), made] if turns <= _FEW else [made]

    def _move(
        self, a: Array, box: Box, names: Mapping[str, str], source: str, tests: Condition, width: int
    ) -> list[cgen.Generable]:
        """One copy of `width` cells, which may have to be spread."""
        dense = self.layouts[a.name].order[-1]
        item = a.dtype.bits // 8

        def place(k: int = 0) -> str:
            at = {d: aff.var(names[d]) if d in names else aff.const(0) for d, _ in box.axes}
            return self._within(box, {**at, dense: at[dense] + k})

        kind, where = STORAGE[a.dtype.name], self.scalar.condition(tests)
        spread = width > 1 and box.axes[-1][0] != dense
        begun = self.dialect.copied[0] if box.copies > 1 and self.device.asynchronous else ""
        if begun and not spread and item * width >= 4:
            copy = cgen.Statement(begun.format(to=place(), cell=source, bytes=item * width))
            vector = self.dialect.moved.get(item * width, kind)
            zero = self.dialect.zero.format(type=vector) if width > 1 else f"({kind})0"
            to = self.dialect.at["shared"].format(type=vector, cell=place()) if width > 1 else place()
            return [copy] if tests == aff.TRUE else [branch(where, copy, cgen.Assign(to, zero))]
        if width == 1:
            return [cgen.Assign(place(), source if tests == aff.TRUE else f"{where} ? {source} : ({kind})0")]
        vector = self.dialect.moved[item * width]
        cells = self.dialect.at["memory"].format(type=vector, cell=source)
        value = cells if tests == aff.TRUE else f"{where} ? {cells} : {self.dialect.zero.format(type=vector)}"
        if not spread:
            return [cgen.Assign(self.dialect.at["shared"].format(type=vector, cell=place()), value)]
        own = self.dialect.at["own"].format(type=vector, cell="moved")
        return [
            cgen.Statement(self.dialect.own.format(type=kind, name=f"moved[{width}]")),
            cgen.Assign(own, value),
            *(cgen.Assign(place(k), f"moved[{k}]") for k in range(width)),
        ]

    def _width(self, a: Array, box: Box, order: list[str]) -> int:
        """How many cells lie next to each other in memory, aligned, in any box, and are all in the array or none."""
        layout, item, sizes = self.layouts[a.name], a.dtype.bits // 8, dict(box.axes)
        dense = layout.order[-1] if layout.order else None
        if self.checked or dense is None or dense not in order or layout.stride(dense) != 1:
            return 1
        others = [layout.stride(d) for d in layout.order[:-1]]
        first, extent = box.first[dense], a.extent(dense)
        if not extent.is_const or any(not isinstance(n, int) for n in others):
            return 1
        last = box.axes[-1][1] + box.pad if box.axes[-1][0] == dense else 0
        parts = [sizes[dense], extent.const, first.const, last, *(c for _, c in first.terms), *map(int, others)]
        return next((n // item for n in (16, 8, 4) if n > item and all(k % (n // item) == 0 for k in parts)), 1)

    def _inside(self, a: Array, box: Box, index: Index) -> Condition:
        """What must be asked before a cell of a box is read: whether the array has it."""
        sizes = dict(box.axes)
        tests: list[Condition] = []
        for d, i in index:
            ends = self._range(box.first[d])
            extent = a.extent(d)
            if ends is None or ends[0] < 0:
                tests.append(aff.at_least(i, 0))
            if ends is None or not extent.is_const or ends[1] + sizes[d] > extent.const:
                tests.append(aff.at_least(extent - i - 1))
        return aff.both(*tests)

    def _thread(self) -> str:
        return self.dialect.thread["x"]
