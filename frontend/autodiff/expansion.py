# SPDX-License-Identifier: MIT
"""Array expansion: updates in place as equations, every value over time in a cell of its own.

    for t < T, 1 <= x < X.x at (0, t, 0, x, 0):  u = u + u(x=x - 1)           u is memory

    u_0 = u                                                                   what it holds at first
    u_S0(t=t, x=x) = where(t >= 1, u_S0(t=t - 1), u_0) + where(x >= 2, u_S0(x=x - 1), u_0(x=x - 1))
    u = where(x >= 1 and T >= 1, u_S0(t=T - 1), u_0)                          what it holds in the end

Each read finds its last writer, exactly (Feautrier 1991).  What follows knows equations alone, and so has an adjoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from frontend.autodiff.boxes import box
from frontend.autodiff.naming import fresh, renamed
from polyhedral.checks.bounds import verdicts
from polyhedral.checks.check import require_order
from polyhedral.errors import Remark, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.derivatives import cast
from polyhedral.ir.expr import Expr
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.sets.instances import Family, Kind, guarded_loads, precedes
from polyhedral.sets.isl import NamedSet, named

COMBINED = {"sum": "+", "prod": "*", "max": "max", "min": "min"}
"""The operator that adds one more value to what a cell holds."""


@dataclass(frozen=True)
class Expanded:
    """A program without updates, but for a copy in the end, and the array that holds what each memory held at first."""

    program: Program
    initial: Mapping[str, str]
    remarks: tuple[Remark, ...] = ()


def touches_memory(p: Program, through: frozenset[str]) -> bool:
    """Whether statements that define one of these arrays read or write memory."""
    memory = {a.name for a in p.with_role(Role.INOUT)}
    return bool(memory & through) or any(memory & {*s.touched} for s in p.statements if s.write.array in through)


def expand(p: Program) -> Expanded:
    """The program in single assignment; PH900 where the writer of what is read cannot be told before it runs."""
    _, preconditions = verdicts(p)
    context = aff.both(*p.assumptions, *(c.condition for c in preconditions))
    require_order(p, context)
    return _Expansion(p, context).run()


@dataclass(frozen=True)
class _Version:
    """The values that one statement gives to memory: an array over its instances, from `least` on along each dim."""

    statement: Statement
    place: int
    array: Array
    dims: tuple[str, ...]
    least: tuple[Affine, ...]

    def cell(self, at: Mapping[str, Affine]) -> tuple[tuple[str, Affine], ...]:
        return tuple((d, at[d] - lo) for d, lo in zip(self.dims, self.least, strict=True))

    @property
    def condition(self) -> Condition:
        """The instances that write, once each."""
        hidden = set(self.statement.dims) - set(self.dims)
        parts = aff.conjuncts(self.statement.domain.condition)
        return aff.both(*(c for c in parts if not aff.condition_dims(c) & hidden))


@dataclass
class _Expansion:
    """One expansion in progress."""

    program: Program
    context: Condition
    taken: set[str] = field(default_factory=set[str])
    arrays: list[Array] = field(default_factory=list[Array])
    statements: list[Statement] = field(default_factory=list[Statement])
    versions: dict[str, list[_Version]] = field(default_factory=dict[str, list[_Version]])
    initial: dict[str, Array] = field(default_factory=dict[str, Array])

    def run(self) -> Expanded:
        p = self.program
        self.taken |= {a.name for a in p.arrays} | {s.name for s in p.statements}
        for a in p.with_role(Role.INOUT):
            self.initial[a.name] = self._new(fresh(f"{a.name}_0", self.taken), a.dims, a)
            self.versions[a.name] = []
        for place, s in enumerate(p.statements):
            if s.write.array in self.initial:
                self.versions[s.write.array].append(self._version(s, place))
        for name, first in self.initial.items():
            self._copy(first, ex.Load(name, _cell(first), first.dtype))
        for place, s in enumerate(p.statements):
            self._rewritten(s, place)
        for name in self.initial:
            if self.versions[name]:
                self._finally(p.array(name))
        arrays = (*p.arrays, *self.arrays)
        why = "a derivative goes through them"
        remarks = tuple(
            Remark(f"{v.array.name} keeps every value that {name} is given", why, v.array.name)
            for name, versions in self.versions.items()
            for v in versions
        )
        initial = {name: first.name for name, first in self.initial.items()}
        return Expanded(replace(p, arrays=arrays, statements=tuple(self.statements)), initial, remarks)

    # arrays of values -----------------------------------------------------------------------------------------------

    def _new(self, name: str, dims: tuple[tuple[str, Affine], ...], like: Array) -> Array:
        made = replace(like, name=name, dims=dims, role=Role.TEMPORARY)
        self.arrays.append(made)
        return made

    def _version(self, s: Statement, place: int) -> _Version:
        seen = frozenset[str]().union(*(aff.dims_of(i) for _, i in s.write.index))
        dims = tuple(d for d in s.dims if s.op is None or d in seen or d in s.ordered)
        self._require_one_writer(s, dims)
        around = box(r for r in s.domain.ranges if r.dim in dims)
        least = tuple(aff.const(0) if lo.is_const and lo.const >= 0 else lo for lo, _ in around.values())
        extents = tuple((d, hi - lo) for (d, (_, hi)), lo in zip(around.items(), least, strict=True))
        memory = self.program.array(s.write.array)
        array = self._new(fresh(f"{memory.name}_{s.name}", self.taken), extents, memory)
        return _Version(s, place, array, dims, least)

    def _require_one_writer(self, s: Statement, dims: tuple[str, ...]) -> None:
        """A reduction gives each cell one value at a time: what it sums over is free of order, and of other cells."""
        if s.op is None:
            return
        hidden = set(s.dims) - set(dims)
        bare = {i.as_var() for _, i in s.write.index}
        bounds = [e for r in s.domain.ranges if r.dim in dims for e in (r.lo, r.hi)]
        tied = any(aff.dims_of(e) & hidden for e in bounds)
        if tied or not set(dims) <= bare | set(s.ordered) or (set(s.ordered) & set(s.reduced) and not s.accumulate):
            raise Unsupported(
                "PH900",
                f"the gradient goes through {s.write.array}, which {s.name} combines in several steps of an outer loop",
                hints=("reduce into a ph.let first, then update with it", "write it with ph.var and equations"),
                statement=s.name,
                location=s.location,
            )

    # statements -----------------------------------------------------------------------------------------------------

    def _copy(self, into: Array, value: Expr) -> None:
        every = Domain(tuple(Range(d, aff.const(0), e) for d, e in into.dims))
        name = into.name if into.role is Role.TEMPORARY else fresh(f"{into.name}_end", self.taken)
        write = Access(into.name, tuple((d, aff.var(d)) for d in into.dim_names))
        self.statements.append(Statement(name, every, write, value))

    def _rewritten(self, s: Statement, place: int) -> None:
        value = self._value(s, place)
        if s.write.array not in self.initial:
            self.statements.append(replace(s, value=value, position=(0,)))
            return
        v = next(v for v in self.versions[s.write.array] if v.place == place)
        write = Access(v.array.name, v.cell({d: aff.var(d) for d in v.dims}))
        whole = replace(s, write=write, value=value, position=(0,), accumulate=False)
        if s.op is None or not s.accumulate:
            self.statements.append(whole)
            return
        domain = Domain(
            tuple(r for r in s.domain.ranges if r.dim in v.dims),
            aff.both(*(c for c in aff.conjuncts(s.domain.guard) if aff.condition_dims(c) <= set(v.dims))),
        )
        before = ex.Load(s.write.array, s.write.index, v.array.dtype)
        held = self._found(before, s, place, named(v.dims, (), aff.both(self.context, v.condition)))
        more = value
        if whole.reduced:
            part = self._new(fresh(f"{v.array.name}_part", self.taken), v.array.dims, v.array)
            part = self.arrays[-1] = replace(part, dtype=ex.dtype_of(value))
            self.statements.append(replace(whole, name=part.name, write=replace(write, array=part.name)))
            more = ex.Load(part.name, write.index, part.dtype)
        assert s.op is not None
        total = ex.Binary(COMBINED[s.op], held, cast(more, v.array.dtype))
        self.statements.append(replace(whole, domain=domain, value=total, op=None))

    def _finally(self, a: Array) -> None:
        """What memory holds in the end, cell by cell."""
        every = aff.both(*(aff.between(0, aff.var(d), e) for d, e in a.dims))
        points = named(a.dim_names, (), aff.both(self.context, every))
        value = self._choice(ex.Load(a.name, _cell(a), a.dtype), self._sources(_cell(a), a.name, points, None), points)
        self._copy(a, value)

    def _value(self, s: Statement, place: int) -> Expr:
        """The value with every read of memory replaced by reads of what was last written."""
        when: dict[ex.Load, Condition] = {}
        for load, holds in guarded_loads(s.value):
            if load.array in self.initial:
                when[load] = aff.either(when[load], holds) if load in when else holds
        if not when:
            return s.value

        def one(node: Expr) -> Expr:
            if not isinstance(node, ex.Load) or node not in when:
                return node
            inside = aff.both(self.context, s.domain.condition, when[node])
            return self._found(node, s, place, named(s.dims, (), inside))

        return ex.rewrite(s.value, one)

    # last writers ---------------------------------------------------------------------------------------------------

    def _found(self, load: ex.Load, s: Statement, place: int, points: NamedSet) -> Expr:
        index = tuple((d, i) for d, i in load.index if isinstance(i, Affine))
        if len(index) < len(load.index):
            raise Unsupported(
                "PH900",
                f"the gradient goes through {load.array}, which {s.name} reads at a place that data decides",
                details=("which update was the last there is known only when it runs",),
                hints=(f"read a copy that is not updated any more: ph.let({load.array})",),
                statement=s.name,
                location=s.location,
            )
        reader = Family("", Kind.ASSIGN, s, s.dims, aff.TRUE, place)
        return self._choice(load, self._sources(index, load.array, points, reader), points)

    def _sources(
        self, index: Sequence[tuple[str, Affine]], array: str, points: NamedSet, reader: Family | None
    ) -> list[tuple[NamedSet, ex.Load]]:
        """The last writer of a cell before each point, as pieces of the points."""
        versions = self.versions[array]
        depth = max((len(v.statement.position) for v in versions), default=0)
        width = max((len(v.dims) for v in versions), default=0)
        times = tuple(n for k in range(depth) for n in (f"there@{k}", f"time@{k}"))
        order = (*times, "place@", *(f"free@{k}" for k in range(width)))
        every: NamedSet | None = None
        for v in versions:
            earlier = points.over((*points.dims, *order)).where(_writes(v, index, order, reader))
            every = earlier if every is None else every | earlier
        if every is None:
            return []
        found: list[tuple[NamedSet, ex.Load]] = []
        for domain, at in every.latest(order):
            v = next(v for v in versions if aff.const(v.place) == at["place@"])
            names = _names(v)
            cell = v.cell({d: at[names[d]] for d in v.dims})
            found.append((domain, ex.Load(v.array.name, cell, v.array.dtype)))
        return found

    def _choice(self, load: ex.Load, sources: list[tuple[NamedSet, ex.Load]], points: NamedSet) -> Expr:
        """Between the sources, and what memory held at first where there is none."""
        first = replace(load, array=self.initial[load.array].name)
        together: dict[ex.Load, NamedSet] = {}
        for domain, source in sources:
            together[source] = together[source] | domain if source in together else domain
        tested: list[tuple[Condition, ex.Load]] = []
        left = points
        for source, domain in together.items():
            tested.append((domain.gist(left).condition(), source))
            left = left - domain
        value: Expr = first
        if left.is_empty() and tested:
            value = tested.pop()[1]
        for condition, source in reversed(tested):
            value = ex.Select(ex.Test(condition), source, value)
        return value


def _cell(a: Array) -> tuple[tuple[str, Affine], ...]:
    return tuple((d, aff.var(d)) for d in a.dim_names)


def _names(v: _Version) -> dict[str, str]:
    """Where each dim of a writer stands among the coordinates of time."""
    position = v.statement.position
    free = iter(d for d in v.dims if d not in position)
    return {p: f"time@{k}" for k, p in enumerate(position) if isinstance(p, str)} | {
        d: f"free@{k}" for k, d in enumerate(free)
    }


def _writes(
    v: _Version, index: Sequence[tuple[str, Affine]], order: tuple[str, ...], reader: Family | None
) -> Condition:
    """The instance at a time writes the cell, before the reader runs."""
    names = _names(v)
    s = renamed(v.statement, names)
    at = {d: aff.var(n) for d, n in names.items()}
    condition = aff.map_affine(v.condition, lambda e: aff.substitute(e, at))
    written = dict(s.write.index)
    parts = [condition, aff.equal(aff.var("place@"), v.place), *(aff.equal(written[d], i) for d, i in index)]
    for k, p in enumerate(_padded(s, order)):
        parts.append(aff.equal(aff.var(f"there@{k}"), 0 if p is None else 1))
        if not isinstance(p, str):
            parts.append(aff.equal(aff.var(f"time@{k}"), p or 0))
    parts += [aff.equal(aff.var(n)) for n in order if n.startswith("free@") and n not in names.values()]
    if reader is not None:
        parts.append(precedes(Family("", Kind.ASSIGN, s, s.dims, aff.TRUE, v.place), reader, ""))
    return aff.both(*parts)


def _padded(s: Statement, order: tuple[str, ...]) -> Iterator[int | str | None]:
    """The position as far as the deepest one goes; a position comes before those that continue it."""
    for k in range(sum(n.startswith("time@") for n in order)):
        yield s.position[k] if k < len(s.position) else None
