# SPDX-License-Identifier: MIT
"""Does each access stay inside its array: proved, true for some sizes only, or refuted with a point (API rule R12).

An access that is a shifted dim whose range fits is settled by comparing affine forms; the others ask isl, over the few
dims that matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from polyhedral.errors import BoundsError, Location
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Access, Program, Statement
from polyhedral.ir.reach import reach
from polyhedral.sets.instances import cells, guarded_loads
from polyhedral.sets.isl import NamedSet, named

FLOORS = (8, 4, 1, 0)
"""Witnesses are sought with all sizes at least this, in turn."""


@dataclass(frozen=True)
class Use:
    """One dim of one access: `array.dim` is read or written at `index`, where `condition` holds."""

    statement: str
    verb: str
    access: Access
    dim: str
    index: Affine
    extent: Affine
    dims: tuple[str, ...]
    condition: Condition
    location: Location | None
    read: tuple[ex.Expr, ex.Load] | None = field(default=None, compare=False)
    """The value that a read is part of, and the read."""

    @property
    def reach(self) -> tuple[Affine, Affine]:
        """lo <= index < hi, with the padding that the user gave."""
        own = (aff.const(0), self.extent)
        return own if self.read is None else reach(*self.read, self.dim, self.extent)

    def within(self, at: Mapping[str, int]) -> str:
        """The range there is, at these sizes: `X.x is in [0, 8)`."""
        lo, hi = (aff.evaluate(e, {}, at) for e in self.reach)
        padded = "" if (lo, hi) == (0, aff.evaluate(self.extent, {}, at)) else " with its padding"
        return f"{self.access.array}.{self.dim}{padded} is in [{lo}, {hi})"

    @property
    def outside(self) -> Condition:
        return aff.either(aff.at_least(-self.index, 1), aff.at_least(self.index - self.extent))


@dataclass(frozen=True)
class Precondition:
    """What the sizes must satisfy for an access to be in bounds; it need only hold where the statement runs at all."""

    condition: Condition
    use: Use

    @property
    def statement(self) -> str:
        return self.use.statement

    @property
    def access(self) -> str:
        return str(self.use.access)

    @property
    def location(self) -> Location | None:
        return self.use.location

    def __str__(self) -> str:
        return f"{self.statement} {self.use.verb} {self.access}: needs {self.condition}"


@dataclass(frozen=True)
class Proof:
    """The verdict on one access of a statement: `proved` or `conditional`."""

    statement: str
    verb: str
    access: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.statement} {self.verb} {self.access}: {self.verdict}"


def verdicts(p: Program) -> tuple[tuple[Proof, ...], tuple[Precondition, ...]]:
    """The verdict on each access, and what remains to be checked at each call; raises PH101 for a refuted access."""
    proofs: dict[tuple[str, str, str], str] = {}
    pending: dict[tuple[Condition, Use], Precondition] = {}
    for s in p.statements:
        question = _Question(p, s)
        for use in question.uses():
            key = (use.statement, use.verb, str(use.access))
            condition = question.ask(use)
            if condition is not None:
                pending[condition, use] = Precondition(condition, use)
                proofs[key] = "conditional"
            proofs.setdefault(key, "proved")
    return tuple(Proof(*k, v) for k, v in proofs.items()), tuple(pending.values())


def violation(precondition: Precondition, sizes: Mapping[str, int]) -> BoundsError | None:
    """The PH102 error at these sizes, with a point; None where the access is in bounds after all."""
    if aff.holds(precondition.condition, {}, sizes):
        return None
    use = precondition.use
    fixed = {n: aff.const(v) for n, v in sizes.items()}
    condition = aff.map_affine(aff.both(use.condition, use.outside), lambda e: aff.substitute(e, {}, fixed))
    point = named(use.dims, (), condition).sample()
    if point is None:
        return None
    value, extent = aff.evaluate(use.index, point, sizes), aff.evaluate(use.extent, {}, sizes)
    mentioned = aff.condition_sizes(precondition.condition)
    name = f"{use.access.array}.{use.dim}"
    return BoundsError(
        "PH102",
        f"{use.statement} {use.verb} {use.access} out of bounds for these sizes: needs {precondition.condition}",
        details=(
            f"counterexample at ({_assigned(point, use.dims)}) with {_assigned(sizes, sorted(mentioned))}:",
            f"{name} = {use.index} = {value}, but {use.within(sizes)}",
        ),
        hints=(f"call with sizes for which {precondition.condition}", *_hints(use, value, extent)),
        statement=use.statement,
        dim=use.dim,
        point={d: point[d] for d in use.dims},
        sizes=sizes,
        location=use.location,
    )


@dataclass(frozen=True)
class _Question:
    """The accesses of one statement; sets over the same dims and conditions are built once."""

    program: Program
    statement: Statement

    @cached_property
    def runs(self) -> dict[tuple[tuple[str, ...], Condition, tuple[str, ...]], NamedSet]:
        return {}

    @cached_property
    def shift(self) -> dict[str, tuple[Affine, Affine]]:
        return {r.dim: (r.lo, r.hi) for r in self.statement.domain.ranges}

    def uses(self) -> Iterator[Use]:
        """Every dim of every access that is not in bounds at a glance."""
        s = self.statement
        domain = s.domain.condition
        seen: dict[tuple[str, str, Affine, Condition], None] = {}
        for load, when in guarded_loads(s.value):
            access = Access(load.array, tuple((d, i) for d, i in load.index if isinstance(i, Affine)))
            for d, i in access.index:
                if (load.array, d, i, when) not in seen:
                    seen[load.array, d, i, when] = None
                    yield self.use("reads", access, d, i, s.dims, aff.both(domain, when), load)
        dims, where = cells(s) if s.op is not None else (s.dims, domain)
        for d, i in s.write.index:
            yield self.use("writes", s.write, d, i, dims, where)

    def use(
        self,
        verb: str,
        access: Access,
        d: str,
        i: Affine,
        dims: tuple[str, ...],
        condition: Condition,
        load: ex.Load | None = None,
    ) -> Use:
        s = self.statement
        extent = self.program.array(access.array).extent(d)
        read = None if load is None else (s.value, load)
        return Use(s.name, verb, access, d, i, extent, dims, condition, s.location, read)

    def ask(self, use: Use) -> Condition | None:
        """None where the access is in bounds; else the condition on the sizes for which it is."""
        if self.obvious(use):
            return None
        local = self.running(use, *_restricted(use, _near(use)))
        if local.where(use.outside).is_empty():
            return None
        whole = self.running(use, use.dims, use.condition)
        bad = whole.where(use.outside)
        if bad.is_empty():
            return None
        context = whole.params()
        good = context - bad.params()
        if good.is_empty():
            return self.never(use, bad)
        simple = local.params()
        condition = (simple - local.where(use.outside).params()).gist(simple).condition()
        return condition if condition != aff.FALSE else good.gist(context).condition()

    def never(self, use: Use, bad: NamedSet) -> Condition:
        """The sizes for which the statement runs and does not come to a read that is always out of bounds."""
        runs = self.running(use, self.statement.dims, self.statement.domain.condition).params()
        good = runs - bad.params()
        if good.is_empty():
            raise self.refuted(use, bad)
        return good.gist(runs).condition()

    def obvious(self, use: Use) -> bool:
        """A dim plus a number, whose range lies inside by comparing affine forms."""
        match use.index.terms:
            case ((aff.Var(d), 1),):
                lo, hi = self.shift[d]
                low, high = lo + use.index.const, use.extent - hi - use.index.const
                return low.is_const and high.is_const and min(low.const, high.const) >= 0
            case ():
                return use.extent.is_const and use.index.const in range(use.extent.const)
            case _:
                return False

    def running(self, use: Use, dims: tuple[str, ...], condition: Condition) -> NamedSet:
        sizes = tuple(sorted(aff.sizes_of(use.index) | aff.sizes_of(use.extent)))
        known = self.runs.get((dims, condition, sizes))
        if known is None:
            every = aff.both(condition, *self.program.assumptions)
            known = self.runs[dims, condition, sizes] = named(dims, sizes, every)
        return known

    def refuted(self, use: Use, bad: NamedSet) -> BoundsError:
        point = witness(bad)
        value, extent = aff.evaluate(use.index, point, point), aff.evaluate(use.extent, {}, point)
        name = f"{use.access.array}.{use.dim}"
        details = [f"{name} = {use.index} = {value}, but {use.within(point)}"]
        for d in sorted(aff.dims_of(use.index)):
            if self.shift[d] == (Affine(), use.extent):
                details.append(f"{d} takes the whole of {name}")
        return BoundsError(
            "PH101",
            f"statement {use.statement} {use.verb} {use.access} out of bounds",
            details=(f"counterexample: {at(point, use.dims, bad.sizes)}", *details),
            hints=_hints(use, value, extent),
            statement=use.statement,
            dim=use.dim,
            point={d: point[d] for d in use.dims},
            sizes={n: point[n] for n in bad.sizes},
            location=use.location,
        )


def _near(use: Use) -> frozenset[str]:
    """The dims that decide about an access: those of its index, and those that share a condition with them."""
    near = set(aff.dims_of(use.index))
    parts = [aff.condition_dims(c) for c in aff.conjuncts(use.condition)]
    grown = True
    while grown:
        more = near.union(*(p for p in parts if p & near))
        grown, near = more != near, more
    return frozenset(near)


def _restricted(use: Use, near: frozenset[str]) -> tuple[tuple[str, ...], Condition]:
    kept = [c for c in aff.conjuncts(use.condition) if aff.condition_dims(c) <= near]
    return tuple(d for d in use.dims if d in near), aff.both(*kept)


def witness(bad: NamedSet) -> dict[str, int]:
    """A small readable point of a set that has one."""
    point = bad.sample([{n: floor for n in bad.sizes} for floor in FLOORS])
    assert point is not None, "the set is not empty"
    return point


def at(point: Mapping[str, int], dims: tuple[str, ...], sizes: tuple[str, ...]) -> str:
    """`at (x=7) with sizes X.x=8`"""
    shown = f"at ({_assigned(point, dims)})" if dims else "always"
    return shown + (f" with sizes {_assigned(point, sizes)}" if sizes else "")


def _assigned(values: Mapping[str, int], names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{n}={values[n]}" for n in names)


def _hints(use: Use, value: int, extent: int) -> tuple[str, ...]:
    array, d = use.access.array, use.dim
    if use.verb == "writes":
        moved = sorted(aff.dims_of(use.index))
        how = f", or `with ph.over({moved[0]}=(lo, hi)):` around both" if moved else ""
        return (f"make {array}.{d} larger, or restrict the domain with .over{how}",)
    before, after = use.reach[0], use.reach[1] - use.extent
    lo, hi = max(-before.const, -value), max(after.const, value - extent + 1)
    access = ", ".join(f"{k}={i}" for k, i in use.access.index if i.as_var() != k)
    return (
        f"{array}.pad({d}=({lo}, {hi}))" + (f"({access})" if access else ""),
        f"ph.orelse({use.access}, fallback)",
        f"restrict {', '.join(sorted(aff.dims_of(use.index))) or d} with .over",
    )
