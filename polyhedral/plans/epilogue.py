# SPDX-License-Identifier: MIT
"""Epilogues: which statements are computed on the register tile of a reduction, before its results are stored.

    sum(o, x) = ...; relu(o, x) = max(sum + bias(o), 0); out(o, x) = relu + X(o, x)    ->    one tile, which stores out

Those that read what the tile makes at its own cells alone, and whose other operands are there before it runs.  How a
reduction gets its tile is left to `polyhedral.plans.plan`; that the order is kept, to the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log2, prod

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine
from polyhedral.ir.cluster import components
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import Operand, extents_of, fetched, operands
from polyhedral.ir.program import Access, Domain, Program, Range, Role, Statement, reads
from polyhedral.machine.prices import BARRIER, rate
from polyhedral.machine.target import Target
from polyhedral.plans.candidates import Choice
from polyhedral.plans.register_plan import RegisterPlan
from polyhedral.plans.stores import instructions, lane_steps, loading, vector_steps
from polyhedral.plans.tiles import itemsize
from polyhedral.rewrites.fuse_dims import fuse_dims

LONGEST = 8
"""Statements that one tile computes at most after its reduction."""
VALUES = ("f32", "f64", "i32", "i64", "u32", "u64")
"""Types whose values are the same in a register as in memory."""


@dataclass(frozen=True)
class Epilogue:
    """Statements over the dims of a reduction's own, in the order in which they run on its tile."""

    statements: tuple[Statement, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(e.name for e in self.statements)

    def only(self, p: Program, s: Statement, plan: RegisterPlan) -> frozenset[str]:
        """The arrays that nothing but the tile of a reduction sees; one that is done in portions is stored between."""
        portions = any(loop.dim in plan.order for loop in plan.loops)
        return self.hidden(p, s) - ({s.write.array} if portions else set())

    def hidden(self, p: Program, s: Statement) -> frozenset[str]:
        """The arrays of a reduction and its epilogue that no other statement sees."""
        tile = {s.name, *self.names}
        arrays = (e.write.array for e in (s, *self.statements))
        return frozenset(
            n for n in arrays if p.array(n).role is Role.TEMPORARY and {t.name for t in p.users[n]} <= tile
        )


@dataclass
class Groups:
    """Statements that run together, in an order of the whole program: cycles, and tiles with their epilogues."""

    program: Program
    rank: dict[str, int] = field(default_factory=dict[str, int])
    leader: dict[str, str] = field(default_factory=dict[str, str])
    members: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def __post_init__(self) -> None:
        p = self.program
        edges = {(w.name, s.name) for s in p.statements for load in reads(s) for w in self.writers(load.array)}
        order = [s.name for s in p.statements]
        for n, cluster in enumerate(components(order, edges)):
            self.members[cluster[0]] = list(cluster)
            for name in cluster:
                self.rank[name], self.leader[name] = n, cluster[0]

    def place(self, s: Statement) -> int:
        """Where a statement stands in an order of the whole program."""
        return self.rank[s.name]

    def writers(self, array: str) -> Iterator[Statement]:
        return (s for s in self.program.users.get(array, ()) if s.write.array == array)

    def join(self, e: str, s: str) -> None:
        """One more statement of a group."""
        gone = self.members.pop(self.leader[e])
        self.members[self.leader[s]] += gone
        for name in gone:
            self.leader[name] = self.leader[s]

    def alone(self, name: str) -> bool:
        return len(self.members[self.leader[name]]) == 1

    def waits(self, arrays: Sequence[str], s: str) -> bool:
        """Whether something of these arrays is only there once the group of a statement has run."""
        target, seen = self.leader[s], set[str]()
        first = min(self.rank[name] for name in self.members[target])
        left = [w.name for array in arrays for w in self.writers(array)]
        while left:
            group = self.leader[left.pop()]
            if group == target:
                return True
            if group in seen or max(self.rank[name] for name in self.members[group]) <= first:
                continue
            seen.add(group)
            for name in self.members[group]:
                left += [w.name for load in reads(self.program.statement(name)) for w in self.writers(load.array)]
        return False


def epilogues(
    p: Program,
    choices: Mapping[str, Choice],
    layouts: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str] = frozenset(),
    together: Sequence[Sequence[str]] = (),
) -> tuple[dict[str, Epilogue], tuple[Remark, ...]]:
    """For each reduction with a plan, what is computed on its tile; and why what reads one is not.  Statements that run
    `together` stay so.
    """
    lanes = {name: _Lanes(p, p.statement(name), c, layouts, target) for name, c in choices.items()}
    return followers(p, choices, layouts, lambda name, own, held: lanes[name].pays(own, held), constants, together)


def followers(
    p: Program,
    leaders: Collection[str],
    layouts: Mapping[str, Layout],
    pays: Callable[[str, Statement, Collection[str]], bool],
    constants: frozenset[str] = frozenset(),
    together: Sequence[Sequence[str]] = (),
) -> tuple[dict[str, Epilogue], tuple[Remark, ...]]:
    """What is computed on the tile of each leading reduction, as far as it `pays`, which is asked of its name, of a
    statement over its dims, and of the arrays that it holds.
    """
    groups = Groups(p)
    for first, *rest in together:
        for name in rest:
            groups.join(name, first)
    once = _once(p, constants)
    found: dict[str, Epilogue] = {}
    remarks: dict[str, Remark] = {}
    for name in sorted((n for n in leaders if n not in once), key=groups.rank.__getitem__):
        s = p.statement(name)
        tile = _Tile(p, s, layouts, pays, {s.write.array: s.write.index})
        waiting = _readers(p, s)
        while waiting and len(tile.made) < LONGEST:
            waiting.sort(key=groups.place, reverse=True)
            e = waiting.pop()
            taken = tile.taken(e, groups) if groups.alone(e.name) else "it is computed with others"
            if isinstance(taken, str):
                remarks[e.name] = Remark(f"not computed on the register tile of {name}", taken, e.name)
                continue
            remarks.pop(e.name, None)
            groups.join(e.name, name)
            tile.made.append(taken)
            tile.index[e.write.array] = taken.write.index
            waiting += [t for t in _readers(p, e) if t not in waiting]
        if tile.made:
            found[name] = Epilogue(tuple(tile.made))
    return found, tuple(remarks.values())


def _readers(p: Program, s: Statement) -> list[Statement]:
    """The statements that read what one writes, and reduce nothing."""
    return [t for t in p.users[s.write.array] if t.op is None and t is not s and t.write.array != s.write.array]


def _once(p: Program, constants: frozenset[str]) -> frozenset[str]:
    """The statements that depend on nothing but what is constant, which run at the first call."""
    known, found = set(constants), set[str]()
    for s in p.statements:
        if all(load.array in known for load in reads(s)):
            known.add(s.write.array)
            found.add(s.name)
    return frozenset(found)


@dataclass
class _Tile:
    """A reduction, its epilogue so far, and how the cells of each of their arrays follow from its dims."""

    program: Program
    statement: Statement
    layouts: Mapping[str, Layout]
    pays: Callable[[str, Statement, Collection[str]], bool]
    index: dict[str, tuple[tuple[str, Affine], ...]]
    made: list[Statement] = field(default_factory=list[Statement])

    def taken(self, e: Statement, groups: Groups) -> Statement | str:
        """A statement over the dims of the reduction, or why it is not computed on its tile."""
        reason = self._unsuitable(e)
        if reason:
            return reason
        own = self._renamed(e)
        if isinstance(own, str):
            return own
        if groups.waits([load.array for load in reads(e) if load.array not in self.index], self.statement.name):
            return "what it reads is only there when the whole reduction is"
        worth = self.pays(self.statement.name, own, self.index)
        return own if worth else "its operands or results do not lie along the lanes of the tile"

    def _unsuitable(self, e: Statement) -> str | None:
        p, s = self.program, self.statement
        rows = [c for c in aff.conjuncts(s.domain.guard) if not aff.condition_dims(c) & set(s.reduced)]
        if e.strict or e.accumulate or e.ordered or e.domain.guard != TRUE or rows:
            return "its order is fixed, or its domain is not a box"
        arrays = [p.array(n) for n in dict.fromkeys((e.write.array, *(load.array for load in reads(e))))]
        if any(a.role is Role.INOUT or a.planes for a in arrays):
            return "it reads or writes memory that other statements update"
        if sum(1 for t in p.users[e.write.array] if t.write.array == e.write.array) > 1:
            return "others write to the same array"
        if any(not isinstance(i, Affine) for load in reads(e) for _, i in load.index):
            return "it gathers"
        if any(not isinstance(st, int) for a in arrays for _, st in self.layouts[a.name].strides):
            return "its strides are only known at run time"
        widths = {_width(p.array(n).dtype.name, p.array(n).dtype.bits) for n in (s.write.array, e.write.array)}
        held = [p.array(load.array).dtype.name for load in reads(e) if load.array in self.index]
        if len(widths) > 1 or any(t not in VALUES for t in held):
            return "its values do not have the width of the tile's"
        branches = [n for n in fetched(e.value) if isinstance(n, ex.Select)]
        if any(load.array in self.index for n in branches for load in ex.loads(n)):
            return "it reads the tile in a branch"
        return None

    def _renamed(self, e: Statement) -> Statement | str:
        """The statement over the dims of the reduction, of which every instance reads its own cells."""
        apart = "it does not read the tile's own cells alone"
        named: dict[str, str] = {}
        for load in reads(e):
            at = dict(load.index)
            for axis, mine in self.index.get(load.array, ()):
                there, here = mine.as_var(), at[axis]
                var = here.as_var() if isinstance(here, Affine) else None
                if there is None or var is None or named.setdefault(var, there) != there:
                    return apart
        ranges = {r.dim: r for r in self.statement.domain.ranges if r.dim in self.statement.kept}
        if len(set(named.values())) < len(named) or set(named.values()) != ranges.keys() or set(named) != set(e.dims):
            return apart
        own = {named[r.dim]: (r.lo, r.hi) for r in e.domain.ranges}
        if any((r.lo, r.hi) != own[d] for d, r in ranges.items()):
            return "it covers other cells than the tile's"
        at = {d: aff.var(there) for d, there in named.items()}
        write = Access(e.write.array, tuple((d, aff.substitute(i, at)) for d, i in e.write.index))
        domain = Domain(tuple(Range(d, *own[d]) for d in ranges))
        return replace(e, domain=domain, write=write, value=ex.substitute(e.value, at))


@dataclass(frozen=True)
class _Lanes:
    """A reduction on the vectors of a processor, and what it takes there to compute more on its tile."""

    program: Program
    statement: Statement
    choice: Choice
    layouts: Mapping[str, Layout]
    target: Target

    def pays(self, own: Statement, held: Collection[str]) -> bool:
        """Whether operands across the lanes, and results stored lane by lane, cost less than a pass of its own."""
        c, lanes = self.choice, self.target.lanes(itemsize(self.statement))
        t = fused(own, self.statement, c)
        tile = dict(c.plan.rows)
        vectors = prod(extents_of(t).values()) / lanes
        more = self._storing(t, tile, lanes) - 1.0
        if {u.name for u in self.program.users[self.statement.write.array]} == {self.statement.name, own.name}:
            more -= self._storing(c.statement, tile, lanes)
        for o in operands(t, self.layouts):
            if o.load.array in held or c.plan.vector not in o.dims or o.dense(c.plan.vector):
                continue
            more += _loading(o, c.plan, lanes, self.layouts[o.load.array])
        size = array_bytes(self.program.array(self.statement.write.array))
        pass_ = 2.0 * size / rate(size, self.target) + 2.0 * vectors + BARRIER * self.target.cores
        return vectors * more <= pass_

    def _storing(self, t: Statement, tile: Mapping[str, int], lanes: int) -> float:
        """Instructions that store one vector of the results of a statement of the tile; narrow ones go lane by lane."""
        if self.program.array(t.write.array).dtype.name not in VALUES:
            return float(lanes)
        plan, out = self.choice.plan, self.layouts[t.write.array]
        return instructions(t, vector_steps(t, plan.vector, plan.width, out), tile, out, lanes)


def _width(name: str, bits: int) -> int:
    """Bits of a value in a register; floats narrower than 32 bits are computed in 32."""
    return 32 if name in ("f16", "bf16", "f8e4m3", "f8e5m2") else bits


def _loading(o: Operand, plan: RegisterPlan, lanes: int, layout: Layout) -> float:
    """Instructions that load one vector of an operand whose lanes are no neighbours: run by run, lane by lane, or along
    the rows and then through shuffles.
    """
    rows = max((r for d, r in plan.rows if o.value == o.load and o.stride(d) == 1), default=1)
    across = (1.0 + log2(lanes)) * lanes / min(rows, lanes)
    return min(loading(lane_steps(o, plan.vector, lanes, layout), lanes), across)


def fused(e: Statement, s: Statement, choice: Choice) -> Statement:
    """A statement over the dims of a reduction, with those two in one that are one in the reduction's plan."""
    t = choice.statement
    pair = [d for d in s.dims if d not in t.dims]
    if not pair:
        return e
    a, b = pair
    both = fuse_dims(s, a, b, choice.plan.vector).write == t.write
    return fuse_dims(e, *((a, b) if both else (b, a)), choice.plan.vector)
