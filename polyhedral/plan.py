# SPDX-License-Identifier: MIT
"""Plans: how reductions over boxes become register-tiled, vectorised nests.

Says which statements can have one and rewrites the program for the plans chosen by `polyhedral.candidates`: operands
are copied into the layouts that the nests want, and what does not fill a tile is split off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import TRUE, Affine
from polyhedral.candidates import Choice, balanced, best, kept
from polyhedral.errors import Remark
from polyhedral.isl import named
from polyhedral.lane_plan import lane_plan
from polyhedral.layout import Layout, row_major
from polyhedral.maps import map_plan, parts
from polyhedral.operands import box, extents_of
from polyhedral.program import Program, Role, Statement, reads
from polyhedral.register_plan import RegisterPlan
from polyhedral.rewrites.relay import Relaid, relay, use
from polyhedral.rewrites.split import split
from polyhedral.stores import streamed
from polyhedral.target import Target

SMALL = 50_000
"""Fewer instances than this are not worth a plan."""


@dataclass(frozen=True)
class Planned:
    """A program rewritten for its plans, the plan of each statement that has one, and layouts of the arrays it made;
    `choices` are what the plans of a statement, before it was split, were chosen by.
    """

    program: Program
    plans: Mapping[str, RegisterPlan]
    layouts: Mapping[str, Layout]
    remarks: tuple[Remark, ...] = ()
    choices: Mapping[str, Choice] = field(default_factory=dict[str, Choice])


def plan_program(
    p: Program,
    layouts: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str] = frozenset(),
    small: int = SMALL,
) -> Planned:
    """Plan every reduction of at least `small` instances that allows it; `constants` are arrays whose re-laying costs
    nothing at a call.
    """
    statements: list[Statement] = []
    arrays = list(p.arrays)
    plans: dict[str, RegisterPlan] = {}
    choices: dict[str, Choice] = {}
    every = dict(layouts)
    remarks: list[Remark] = []
    taken = {a.name for a in p.arrays} | {s.name for s in p.statements}
    for s in p.statements:
        if s.op is None:
            for part, plan in _mapped(p, s, every, target, taken, small):
                statements.append(part)
                plans |= {part.name: plan} if plan else {}
            continue
        reason = _unplannable(p, s, every, small)
        along = None if reason else lane_plan(s, every, target)
        choice = None if reason or not kept(s) else best(p, s, every, target, constants)
        if along is not None and (choice is None or along[1] < choice.prediction.total):
            statements.append(s)
            plans[s.name] = along[0]
            continue
        if choice is None:
            reason = reason or (None if kept(s) else "its result is a single value")
            if reason:
                remarks.append(Remark("no register tile", reason, s.name))
            statements.append(s)
            continue
        choices[s.name] = choice
        made, pieces = _rewritten(p, s, choice, taken, target)
        for r in made:
            arrays.append(r.array)
            every[r.array.name] = row_major(r.array)
            copy = replace(r.copy, position=s.position, location=s.location)
            for part, plan in _mapped(replace(p, arrays=tuple(arrays)), copy, every, target, taken, small):
                statements.append(part)
                plans |= {part.name: plan} if plan else {}
        for part, plan in pieces:
            statements.append(part)
            past = choice.prediction.fills_memory
            plans[part.name] = streamed(p, part, plan, every[part.write.array], target) if past else plan
    program = replace(p, arrays=tuple(arrays), statements=tuple(statements))
    return Planned(program, plans, {n: lay for n, lay in every.items() if n not in layouts}, tuple(remarks), choices)


def _mapped(
    p: Program, s: Statement, layouts: Mapping[str, Layout], target: Target, taken: set[str], small: int
) -> list[tuple[Statement, RegisterPlan | None]]:
    """A statement that is no reduction in parts, those with whole tiles with a plan."""
    plan = None if _unsuitable(p, s, layouts, small) else map_plan(p, s, layouts, target)
    return [(s, None)] if plan is None else list(parts(s, plan, lambda d: _fresh(f"{s.name}_{d}", taken)))


def _unplannable(p: Program, s: Statement, layouts: Mapping[str, Layout], small: int) -> str | None:
    """Why a statement keeps its plain nest, or None."""
    if s.op not in ("sum", "prod", "max", "min"):
        return "it is no sum, product, maximum or minimum"
    return _unsuitable(p, s, layouts, small)


def _unsuitable(p: Program, s: Statement, layouts: Mapping[str, Layout], small: int) -> str | None:
    """Why no plan fits, whatever the statement computes, or None."""
    if s.strict or s.accumulate or s.ordered:
        return "its order is fixed"
    if s.domain.guard != TRUE or any(r.lo != aff.const(0) or not r.hi.is_const for r in s.domain.ranges):
        return "its domain is not a box of known size"
    if prod(r.hi.const for r in s.domain.ranges) < max(small, 1):
        return "it is small"
    touched = [s.write.array, *(load.array for load in reads(s))]
    if any(p.array(n).role is Role.INOUT for n in touched) or s.write.array in touched[1:]:
        return "it reads or writes memory that other statements update"
    if any(not isinstance(i, Affine) for load in reads(s) for _, i in load.index):
        return "it gathers"
    if any(not isinstance(st, int) for n in touched for _, st in layouts[n].strides):
        return "its strides are only known at run time"
    if ex.dtype_of(s.value).name not in ("f32", "f64", "i32", "i64", "u32", "u64"):
        return f"it computes {ex.dtype_of(s.value)}"
    return None if _own_cells(s) else "several of its rows share a cell"


def _own_cells(s: Statement) -> bool:
    """Whether every row of a statement has a cell of its own: tiles, and the parts it is split into, take that for
    granted.
    """
    rows = kept(s)
    alone = {d for _, i in s.write.index for d in aff.dims_of(i) if i.as_var() == d}
    if alone.issuperset(rows):
        return True
    other = {d: aff.var(f"{d}'") for d in rows}
    box_of = aff.both(*(aff.between(r.lo, aff.var(r.dim), r.hi) for r in s.domain.ranges if r.dim in other))
    both = aff.both(box_of, aff.map_affine(box_of, lambda e: aff.substitute(e, other)))
    meet = aff.both(*(aff.equal(i - aff.substitute(i, other)) for _, i in s.write.index))
    differ = aff.either(*(aff.negate(aff.equal(aff.var(d) - other[d])) for d in rows))
    return named((*rows, *(f"{d}'" for d in rows)), (), aff.both(both, meet, differ)).is_empty()


# --- rewriting -------------------------------------------------------------------------------------------------------


def _rewritten(
    p: Program, s: Statement, choice: Choice, taken: set[str], target: Target
) -> tuple[list[Relaid], list[tuple[Statement, RegisterPlan]]]:
    """Re-lay operands, then split off what does not fill a tile; each part with its own plan."""
    t, plan = choice.statement, choice.plan
    ranges = box(t.domain)
    order = (*(loop.dim for loop in plan.loops), *plan.order)
    made: list[Relaid] = []
    for o, dim, panel in choice.relaid:
        a = p.array(o.load.array)
        r = relay(a, o, ranges, dim, panel, order, _fresh(f"{a.name}_panels", taken))
        assert r is not None
        made.append(r)
        t = use(t, r)
    pieces = [(t, plan)]
    for d in (plan.vector, *(d for d, _ in plan.rows)):
        pieces = [q for part, own in pieces for q in _split(part, own, d, taken, target.cores)]
    return made, pieces


def _split(
    s: Statement, plan: RegisterPlan, dim: str, taken: set[str], cores: int
) -> list[tuple[Statement, RegisterPlan]]:
    r = next(r for r in s.domain.ranges if r.dim == dim)
    size, n = plan.tile(dim), r.hi.const
    whole = n - n % size
    if whole == n:
        return [(s, plan)]
    smaller = _with_tile(plan, dim, n - whole)
    if whole == 0:
        return [(s, _in_balance(s, smaller, cores))]
    full, rest = split(s, dim, whole, _fresh(f"{s.name}_{dim}", taken))
    return [(full, plan), (rest, _in_balance(rest, smaller, cores))]


def _in_balance(s: Statement, plan: RegisterPlan, cores: int) -> RegisterPlan:
    """The plan of a part whose parallel loop may have become too short, with a longer one in front."""
    extents = extents_of(s)
    if plan.trips(extents)[0] >= cores:
        return plan
    return replace(plan, loops=balanced(plan, extents, cores))


def _with_tile(plan: RegisterPlan, dim: str, size: int) -> RegisterPlan:
    loops = tuple(replace(x, size=min(x.size, size)) if x.dim == dim else x for x in plan.loops)
    if dim == plan.vector:
        return replace(plan, width=size, loops=loops)
    return replace(plan, rows=tuple((d, size if d == dim else r) for d, r in plan.rows), loops=loops)


def _fresh(base: str, taken: set[str]) -> str:
    """A name that nothing else has; `taken` grows by it."""
    name = base
    while name in taken:
        name += "_"
    taken.add(name)
    return name
