# SPDX-License-Identifier: MIT
"""Text of one kernel for a device: blocks and threads instead of loops, memory that a block shares, registers.

The same for CUDA and OpenCL but for the words of `codegen.dialect`.  Which part of a program is one kernel is decided
in `codegen.kernels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import prod

import cgen

from codegen import loops as lp
from codegen import unrolled
from codegen.blocks import block, braced, branch, loop
from codegen.c import cut
from codegen.scalar import STORAGE, bare
from codegen.staging import Box
from codegen.teams import Team, unit
from codegen.tiles import Tiles
from polyhedral.devices.barriers import Step, place
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Array, Statement
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import Kind

OWN = (
    "fault", "cell", "turn", "span", "other", "moved",
    *(f"{what}_{a}" for what in ("thread", "threads", "block", "blocks") for a in "xyz"),
)  # fmt: skip
"""Words that kernels declare themselves."""


def own_name(word: str) -> str:
    """The name of a variable of ours, which is no user's: its spelling is the word."""
    return f"\0{word}"


@dataclass(frozen=True)
class DeviceEmitter(Tiles):
    """Emits kernels of one program; what a kernel declares is collected while it is printed."""

    words: dict[str, str] = field(default_factory=dict[str, str])
    """Loops over blocks that are no loops, since there is a block for each iteration: which block this is."""
    strides: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Loops whose iterations are shared out in turns: which of those who take part this is, and how many they are."""
    waits: frozenset[str] = frozenset()
    """Families after which the tree has the threads of a block wait."""
    waited: set[str] = field(default_factory=set[str])
    """Those after which they do."""

    # --- cells -------------------------------------------------------------------------------------------------------

    # --- loops -------------------------------------------------------------------------------------------------------

    def kernel(self, n: lp.Node) -> list[cgen.Generable]:
        """Statements for what one thread runs."""
        match n:
            case lp.Block(children):
                apart = self.nest is not None and self.nest.phases and len({*map(self._phase, children)}) > 1
                return self._phases(n) if apart else [g for c in children for g in self.kernel(c)]
            case lp.If(condition, then, orelse):
                first = self.kernel(then)
                if orelse is None:
                    return [branch(self.scalar.condition(condition), block(first), None)]
                return [branch(self.scalar.condition(condition), braced(first), block(self.kernel(orelse)))]
            case lp.For():
                return self._guarded(n) if n.run in (Run.THREAD, Run.TEAM) else self._loop(n)
            case lp.Promoted():
                return self._region(n)
            case lp.Local():
                return self._local(n)
            case lp.Staged():
                return self._staged(n)
            case lp.Exec():
                return self._instance(n)

    # --- phases ------------------------------------------------------------------------------------------------------

    def _phase(self, n: lp.Node) -> str | None:
        """The statement that a node runs, if it is one alone."""
        found = {self.families[x.family].statement.name for x in lp.walk(n) if isinstance(x, lp.Exec)}
        return next(iter(found)) if len(found) == 1 else None

    def _phases(self, n: lp.Block) -> list[cgen.Generable]:
        """Statements one after another, with a barrier where the tree says so, and one in the end where the block then
        goes on to further rows, whose memory is the same.
        """
        assert self.nest is not None
        parts = [(name, list(nodes)) for name, nodes in groupby(n.children, self._phase)]
        again = any(b in self.strides for b in self.nest.blocks)
        lines: list[cgen.Generable] = []
        for at, (name, nodes) in enumerate(parts):
            lines += self._one_phase(name, nodes)
            ran = {x.family for c in nodes for x in lp.walk(c) if isinstance(x, lp.Exec)} & self.waits
            self.waited.update(ran)
            if ran or (again and at == len(parts) - 1):
                lines.append(cgen.Statement(self.dialect.fence))
        return lines

    def _one_phase(self, name: str | None, nodes: Sequence[lp.Node]) -> list[cgen.Generable]:
        """What a phase does in rows that there are, on the threads that have a part in it."""
        assert self.nest is not None
        body = [g for c in nodes for g in self.kernel(c)]
        shared_out = next(x.team for x in self.nest.phases if x.statement == name) is not None
        if shared_out and any(isinstance(x, lp.Promoted) for c in nodes for x in lp.walk(c)):
            return body
        tests = [*self.nest.within]
        if not shared_out and self.nest.team:
            tests.append(aff.equal(aff.var(self.nest.team[0])))
        where = aff.both(*tests)
        return body if where == aff.TRUE else [branch(self.scalar.condition(where), block(body), None)]

    def _local(self, n: lp.Local) -> list[cgen.Generable]:
        """Rows that the threads of a block share."""
        array = self.program.array(n.array)
        self.first[n.array] = {d: first for d, first, _ in n.cells}
        cells = max(prod(e.const for _, e in cut(array, n).dims), 1)
        kind = STORAGE[array.dtype.name]
        declared = self.dialect.shared.format(type=kind, name=f"{self.spell(n.array)}[{cells}]")
        self.shared[n.array] = declared, cells * (array.dtype.bits // 8)
        return self.kernel(n.body)

    def _instance(self, n: lp.Exec) -> list[cgen.Generable]:
        return self.execute(n, self.held.get(self.families[n.family].statement.write.array))

    def _guarded(self, n: lp.For) -> list[cgen.Generable]:
        """The digit of a thread is declared above; where there are more threads than iterations, some wait."""
        count = dict(self.nest.threads).get(n.name) if self.nest else None
        if self.nest and self.nest.team and n.name == self.nest.team[0]:
            count = self.nest.team[1]
        body = self.kernel(n.body)
        exact = n.lo == aff.const(0) and isinstance(n.hi, Affine) and n.hi == aff.const((count or 0) - 1)
        if exact:
            return body
        name = aff.var(n.name)
        tests = [lp.at_most(n.lo, name), lp.at_most(name, n.hi)]
        return [branch(self.scalar.condition(aff.both(*tests)), block(body), None)]

    def _loop(self, n: lp.For) -> list[cgen.Generable]:
        known = self.tiled(n)
        known = self._ahead(n) if known is None else known
        if known is not None:
            return known
        name = self.spell(n.name)
        if n.name in self.words:
            self.known(n)
            made = cgen.Initializer(cgen.Value(f"const {self.index}", name), self.words[n.name])
            return [made, *self.kernel(n.body)]
        before = self.known(n)
        body = block(self.kernel(n.body))
        self.trips.pop(n.name, None)
        self.trips.update(before)
        step = f"++{name}" if n.step == 1 else f"{name} += {n.step}"
        hi = n.hi + 1 if isinstance(n.hi, Affine) else None
        end = f"{name} < {self.scalar.affine(hi)}" if hi is not None else f"{name} <= {self.bound(n.hi)}"
        start = self.bound(n.lo)
        if n.name in self.strides:
            mine, all_of = self.strides[n.name]
            mine, all_of = self.spell(mine), self.spell(all_of)
            start = mine if start == "0" else f"{start} + {mine}" if n.step == 1 else f"{start} + {n.step} * {mine}"
            step = f"{name} += {all_of}" if n.step == 1 else f"{name} += {n.step} * {all_of}"
        made = loop(f"{self.index} {name} = {start}", end, step, body)
        if n.run is Run.UNROLL:
            return [cgen.Line("#pragma unroll"), made]
        several = unrolled.times(n) if self.nest is not None and n.name not in self.strides else 1
        return [cgen.Line(f"#pragma unroll {several}"), made] if several > 1 else [made]

    # --- shared memory -----------------------------------------------------------------------------------------------

    def _staged(self, n: lp.Staged) -> list[cgen.Generable]:
        """All staged arrays of a portion: copies, and what reads them, with barriers where one needs the other."""
        staged, body = _chain(n)
        boxes = {s.array: self._box(s) for s in staged}
        copies = [g for s in staged for g in self._copy(s, boxes[s.array])]
        used = self._reading(boxes, body)
        places = tuple((b.name, 0) for b in boxes.values())
        waits = place((Step(writes=places), Step(reads=places)))
        wait = [cgen.Statement(self.dialect.barrier)]
        return [*copies, *(wait if 0 in waits else []), *used, *(wait if 1 in waits else [])]

    def _reading(self, boxes: Mapping[str, Box], body: lp.Node) -> list[cgen.Generable]:
        """What reads staged arrays."""
        self.boxes.update(boxes)
        used = self.kernel(body)
        for name in boxes:
            del self.boxes[name]
        return used

    def _ahead(self, n: lp.For) -> list[cgen.Generable] | None:
        """A loop over portions whose next one is copied while one is used; None where that cannot be told."""
        plan = self.nest.plan if self.nest else None
        known = isinstance(n.hi, Affine) and n.hi.is_const and n.lo == aff.const(0) and n.step == 1
        if plan is None or plan.buffers != 2 or not isinstance(n.body, lp.Staged) or not known:
            return None
        assert isinstance(n.hi, Affine)
        staged, body = _chain(n.body)
        boxes = {s.array: self._box(s, 2) for s in staged}
        name, last = self.spell(n.name), n.hi.const
        _, end, wait = self.dialect.copied if self.device.asynchronous else ("", "", "")
        before = self.known(n)
        ended = [cgen.Statement(end)] if end else []
        ready = [*([cgen.Statement(wait)] if wait else []), cgen.Statement(self.dialect.barrier)]
        first = [g for s in staged for g in self._copy(s, boxes[s.array].at(n.name, aff.const(0), "[0]"))]
        self.trips[n.name] = (0, max(last - 1, 0))
        later = aff.var(n.name) + 1
        following = [g for s in staged for g in self._copy(s, boxes[s.array].at(n.name, later, f"[({name} + 1) % 2]"))]
        self.trips[n.name] = (0, last)
        used = self._reading({a: replace(b, slot=f"[{name} % 2]") for a, b in boxes.items()}, body)
        self.trips.pop(n.name)
        self.trips.update(before)
        places = [(b.name, ahead) for ahead in (0, 1) for b in boxes.values()]
        now, next_ = tuple(places[: len(boxes)]), tuple(places[len(boxes) :])
        assert place((Step(writes=next_), Step(reads=now)), 2) == (1,)
        if last == 0:
            return [*first, *ended, *ready, *self._loop_of(n, name, [*used, cgen.Statement(self.dialect.barrier)])]
        copies = branch(f"{name} < {last}", cgen.Block([*following, *ended]), None)
        return [*first, *ended, *ready, *self._loop_of(n, name, [copies, *used, *ready])]

    def _loop_of(self, n: lp.For, name: str, body: list[cgen.Generable]) -> list[cgen.Generable]:
        assert isinstance(n.hi, Affine)
        end = f"{name} < {self.scalar.affine(n.hi + 1)}"
        return [loop(f"{self.index} {name} = 0", end, f"++{name}", block(body))]

    # --- registers ---------------------------------------------------------------------------------------------------

    def _region(self, n: lp.Promoted) -> list[cgen.Generable]:
        """Results in registers of a thread: set or loaded first, those of an epilogue computed from them, all stored
        last; those of a team combined in between.
        """
        if self.nest is None:
            return self.kernel(n.body)
        regions: list[lp.Promoted] = [n]
        while isinstance(regions[-1].body, lp.Promoted):
            regions.append(regions[-1].body)
        body = regions[-1].body
        if self.nest.plan.matrix:
            return self.results(regions, body, self.kernel(body))
        s, rows = self._reduction(body), self.nest.rows
        team = self.nest.team if any(isinstance(x, lp.For) and x.run is Run.TEAM for x in lp.walk(body)) else None
        assert s.op is not None
        array = self.program.array(s.write.array)
        within = aff.both(*self.nest.within) if self.nest.padded and (team or not self.nest.phases) else aff.TRUE
        held = {r.array: self._registers(r.array) for r in regions}
        lines: list[cgen.Generable] = [
            cgen.Statement(f"{STORAGE[self.program.array(a).dtype.name]} {name}" + "".join(f"[{n}]" for _, n in rows))
            for a, (name, _) in held.items()
        ]
        acc, target = held[array.name][1], self.target(array, body)
        begins = any(isinstance(x, lp.Exec) and self.families[x.family].kind is Kind.INIT for x in lp.walk(body))
        if not begins:
            empty = unit(self.scalar, s.op, array.dtype)
            lines += self.each(rows, [cgen.Assign(acc, empty if team else self._or(within, target, empty))])
        self.held.update({a: text for a, (_, text) in held.items()})
        if team:
            made = self.kernel(body)
            lines += [branch(self.scalar.condition(within), block(made), None)] if within != aff.TRUE else made
            lines += self._combined(array, s.op, acc, team)
            mine = aff.both(within, aff.equal(aff.var(team[0])))
            stored = cgen.Assign(target, acc if begins else self._added(array, s.op, target, acc))
            lines.append(branch(self.scalar.condition(mine), stored, None))
        else:
            self.outside.extend(aff.conjuncts(within))
            lines += self.kernel(body)
            self.outside.clear()
            for r in regions:
                if r.stored:
                    stored = cgen.Assign(self.target(self.program.array(r.array), body), held[r.array][1])
                    last = stored if within == aff.TRUE else branch(self.scalar.condition(within), stored, None)
                    lines += self.each(rows, [last])
        for r in regions:
            del self.held[r.array]
        return lines

    def _reduction(self, body: lp.Node) -> Statement:
        """The reduction whose results a region holds."""
        ran = (self.families[x.family] for x in lp.walk(body) if isinstance(x, lp.Exec))
        return next(f.statement for f in ran if f.kind is not Kind.ASSIGN)

    def _registers(self, array: str) -> tuple[str, str]:
        """The name of the registers that hold an array's cells, and the one at hand."""
        assert self.nest is not None
        name = self._named(f"acc_{self.spell(array)}")
        return name, name + "".join(f"[{self.spell(d)}]" for d, _ in self.nest.rows)

    def _added(self, array: Array, op: str, target: str, held: str) -> str:
        """What was in memory, with what a team has found."""
        old, new = (self.scalar.from_storage(array.dtype, v) for v in (target, held))
        return bare(self.scalar.to_storage(array.dtype, self.scalar.combine(op, array.dtype, old, new)))

    def _or(self, within: Condition, text: str, other: str) -> str:
        return text if within == aff.TRUE else f"{self.scalar.condition(within)} ? {text} : {other}"

    def _combined(self, array: Array, op: str, held: str, team: tuple[str, int]) -> list[cgen.Generable]:
        """The partial results of a team in its first thread."""
        assert self.nest is not None
        name, threads = team
        return Team(
            self.scalar, self.dialect, self.device.warp, self.spell(name), threads, self.nest.plan.threads,
            lambda count: self._team_memory(array, count),
        ).combined(op, array.dtype, held)  # fmt: skip

    def _team_memory(self, array: Array, count: int) -> str:
        """Memory that a block shares for so many partial results."""
        name = self._named(f"team_{self.spell(array.name)}")
        kind = STORAGE[array.dtype.name]
        declared = self.dialect.shared.format(type=kind, name=f"{name}[{count}]")
        self.shared[name] = (declared, count * array.dtype.bits // 8)
        return name


def _chain(n: lp.Staged) -> tuple[list[lp.Staged], lp.Node]:
    """All that is staged at once, and what is done with it."""
    staged: list[lp.Staged] = []
    body: lp.Node = n
    while isinstance(body, lp.Staged):
        staged.append(body)
        body = body.body
    return staged, body
