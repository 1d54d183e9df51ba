# SPDX-License-Identifier: MIT
"""Plans: how reductions over boxes become register-tiled, vectorised nests.

Says which statements can have one and rewrites the program for the plans chosen by `polyhedral.candidates`: operands
are copied into the layouts that the nests want, and what does not fill a tile is split off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral import isl
from polyhedral.affine import TRUE, Affine
from polyhedral.candidates import Choice, itemsize
from polyhedral.chooser import Chooser
from polyhedral.epilogue import Epilogue, epilogues, fused
from polyhedral.errors import Remark
from polyhedral.lane_plan import lane_plan
from polyhedral.layout import Layout, row_major
from polyhedral.maps import map_plan, parts
from polyhedral.operands import Operand, box, extents_of, tied
from polyhedral.program import Array, Domain, Program, Role, Statement, reads, touched
from polyhedral.register_plan import RegisterPlan, even
from polyhedral.rewrites.mask import hull, mask
from polyhedral.rewrites.privatise import privatise
from polyhedral.rewrites.relay import Relaid, named, relay, use
from polyhedral.rewrites.split import split
from polyhedral.stores import streamed
from polyhedral.target import Target
from polyhedral.visits import balanced

SMALL = 50_000
"""Fewer instances than this are not worth a plan."""
PRIVATE = 1 << 16
"""Instances for each core from which on a reduction to few results is shared out."""


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
    taken = {a.name for a in p.arrays} | {s.name for s in p.statements}
    p, every = _privatised(p, layouts, target, taken)
    statements: list[Statement] = []
    arrays = list(p.arrays)
    plans: dict[str, RegisterPlan] = {}
    choices: dict[str, Choice] = {}
    remarks: list[Remark] = []
    copies: dict[object, Relaid] = {}
    chooser = Chooser(target, constants)
    nests = {s.name: _found(p, s, every, chooser, small) for s in p.statements if s.op is not None}
    chosen = {name: found for name, (found, _) in nests.items() if isinstance(found, Choice)}
    after, notes = epilogues(p, chosen, every, target, constants)
    remarks += notes
    elsewhere = {name for e in after.values() for name in e.names}
    for s in p.statements:
        if s.name in elsewhere:
            continue
        if s.op is None:
            for part, plan in _mapped(p, s, every, target, taken, small):
                statements.append(part)
                plans |= {part.name: plan} if plan else {}
            continue
        found, within = nests[s.name]
        if isinstance(found, RegisterPlan):
            statements.append(s)
            plans[s.name] = found
            continue
        if isinstance(found, str):
            remarks.append(Remark("no register tile", found, s.name))
            statements.append(s)
            continue
        choice = found
        then = after.get(s.name, Epilogue())
        only = then.only(p, s, choice.plan)
        tail = [fused(e, s, choice) for e in then.statements]
        choices[s.name] = choice = _settled(p, choice, tail, only, every, target)
        made, pieces = _rewritten(p, choice, copies, taken, target)
        for r in made:
            arrays.append(r.array)
            every[r.array.name] = row_major(r.array)
            copy = replace(r.copy, position=s.position, location=s.location)
            for part, plan in _mapped(replace(p, arrays=tuple(arrays)), copy, every, target, taken, small):
                statements.append(part)
                plans |= {part.name: plan} if plan else {}
        for part, plan in pieces:
            statements.append(hull(part, within, plan.tile) if within else part)
            mine = [_over(part, e, taken) for e in tail]
            statements += mine
            own = _settled(p, replace(choice, statement=part, plan=plan), mine, only, every, target)
            plans[part.name] = replace(own.plan, epilogue=tuple(e.name for e in mine), only=only)
    program = replace(p, arrays=tuple(arrays), statements=tuple(statements))
    return Planned(program, plans, {n: lay for n, lay in every.items() if n not in layouts}, tuple(remarks), choices)


def _found(
    p: Program, s: Statement, layouts: Mapping[str, Layout], chooser: Chooser, small: int
) -> tuple[Choice | RegisterPlan | str, tuple[Affine, ...]]:
    """The plan of a reduction, along its lanes or by choice, or why it has none; and the inequalities that it is masked
    by: where no box of the dims can be, it is tiled along those that no guard ties together.
    """
    masked = mask(p, s) if s.domain.guard != TRUE else None
    s = masked.statement if masked else s
    reason = _unplannable(p, s, layouts, small)
    if reason:
        return reason, ()
    along = lane_plan(s, layouts, chooser.target) if masked is None else None
    choice = chooser.best(p, s, layouts) if set(s.kept) - tied(s) else None
    if along is not None and (choice is None or along[1] < choice.prediction.total):
        return along[0], ()
    if choice is None:
        return "its guard ties its results together" if tied(s) else "its result is a single value", ()
    return choice, masked.within if masked else ()


def _privatised(
    p: Program, layouts: Mapping[str, Layout], target: Target, taken: set[str]
) -> tuple[Program, dict[str, Layout]]:
    """Long reductions to fewer results than there are cores in blocks, one for each core."""
    statements: list[Statement] = []
    made: list[Array] = []
    for s in p.statements:
        dtype = p.array(s.write.array).dtype
        if (
            target.cores > 1
            and s.domain.guard == TRUE
            and dtype == ex.dtype_of(s.value)
            and not _unplannable(p, s, layouts, PRIVATE * target.cores)
        ):
            extents = extents_of(s)
            long = [d for d in s.reduced if extents[d] >= 2 * target.cores]
            if long and prod(extents[d] for d in s.kept) < target.cores:
                found = privatise(s, dtype, long[0], target.cores, lambda base: _fresh(base, taken))
                made.append(found.array)
                statements += [*found.parts, found.combined]
                continue
        statements.append(s)
    program = replace(p, arrays=(*p.arrays, *made), statements=tuple(statements))
    return program, {**layouts, **{a.name: row_major(a) for a in made}}


def _settled(
    p: Program,
    choice: Choice,
    tail: Sequence[Statement],
    only: frozenset[str],
    layouts: Mapping[str, Layout],
    target: Target,
) -> Choice:
    """The choice with its results, or those of its epilogue, stored past the caches where that pays, which orders its
    loops, and they copies; those that are `only` in registers are not stored at all.
    """
    stored = [t for t in (choice.statement, *tail) if t.write.array not in only]
    if not choice.prediction.fills_memory or len(stored) != 1:
        return choice
    plan = replace(choice.plan, streams=False)
    return replace(choice, plan=streamed(p, stored[0], plan, layouts[stored[0].write.array], target))


def _over(part: Statement, e: Statement, taken: set[str]) -> Statement:
    """A statement of an epilogue over the rows of a part of its reduction."""
    ranges = {r.dim: r for r in part.domain.ranges}
    cut = Domain(tuple(ranges[r.dim] for r in e.domain.ranges))
    if cut == e.domain:
        return e
    dims = "".join(f"_{r.dim}" for r in e.domain.ranges if r != ranges[r.dim] and r.lo != ranges[r.dim].lo)
    return replace(e, name=_fresh(f"{e.name}{dims}", taken) if dims else e.name, domain=cut)


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
    if s.domain.guard != TRUE and not set(s.dims) - tied(s):
        return "its guard ties all its dims together"
    return _unsuitable(p, replace(s, domain=Domain(s.domain.ranges)), layouts, small)


def _unsuitable(p: Program, s: Statement, layouts: Mapping[str, Layout], small: int) -> str | None:
    """Why no plan fits, whatever the statement computes, or None."""
    if s.strict or s.accumulate or s.ordered:
        return "its order is fixed"
    if s.domain.guard != TRUE or any(r.lo != aff.const(0) or not r.hi.is_const for r in s.domain.ranges):
        return "its domain is not a box of known size"
    if prod(r.hi.const for r in s.domain.ranges) < max(small, 1):
        return "it is small"
    arrays = touched(s)
    if any(p.array(n).role is Role.INOUT for n in arrays) or any(load.array == s.write.array for load in reads(s)):
        return "it reads or writes memory that other statements update"
    if any(not isinstance(i, Affine) for load in reads(s) for _, i in load.index):
        return "it gathers"
    if any(not isinstance(st, int) for n in arrays for _, st in layouts[n].strides):
        return "its strides are only known at run time"
    if ex.dtype_of(s.value).name not in ("f32", "f64", "i32", "i64", "u32", "u64"):
        return f"it computes {ex.dtype_of(s.value)}"
    return None if _own_cells(s) else "several of its rows share a cell"


def _own_cells(s: Statement) -> bool:
    """Whether every row of a statement has a cell of its own: tiles, and the parts it is split into, take that for
    granted.
    """
    rows = s.kept
    alone = {d for _, i in s.write.index for d in aff.dims_of(i) if i.as_var() == d}
    if alone.issuperset(rows):
        return True
    other = {d: aff.var(f"{d}'") for d in rows}
    box_of = aff.both(*(aff.between(r.lo, aff.var(r.dim), r.hi) for r in s.domain.ranges if r.dim in other))
    both = aff.both(box_of, aff.map_affine(box_of, lambda e: aff.substitute(e, other)))
    meet = aff.both(*(aff.equal(i - aff.substitute(i, other)) for _, i in s.write.index))
    differ = aff.either(*(aff.negate(aff.equal(aff.var(d) - other[d])) for d in rows))
    return isl.named((*rows, *(f"{d}'" for d in rows)), (), aff.both(both, meet, differ)).is_empty()


# --- rewriting -------------------------------------------------------------------------------------------------------


def _rewritten(
    p: Program, choice: Choice, copies: dict[object, Relaid], taken: set[str], target: Target
) -> tuple[list[Relaid], list[tuple[Statement, RegisterPlan]]]:
    """Split into parts whose tiles are all whole, each with its own plan, and re-lay their operands: parts along the
    dim of the panels have copies of their own, all others share one.  `copies` are those of the whole program, which
    grow by those that this statement is the first to read.
    """
    before = len(copies)
    pieces = [(choice.statement, choice.plan)]
    unit = target.lanes(itemsize(choice.statement))
    dims = (choice.plan.vector, *(d for d, _ in choice.plan.rows))
    for d in dims:
        step = unit if d == choice.plan.vector else 1
        pieces = [q for part, own in pieces for q in _split(part, own, d, step, taken, target.cores)]
        for o, dim, _ in choice.relaid:
            if dim == d:
                pieces = [(_relaid(p, t, own, o, d, copies, taken), own) for t, own in pieces]
    return list(copies.values())[before:], pieces


def _relaid(
    p: Program,
    t: Statement,
    plan: RegisterPlan,
    o: Operand,
    dim: str,
    copies: dict[object, Relaid],
    taken: set[str],
) -> Statement:
    """The statement reading a copy of an operand, the one already made where another reads the same cells."""
    a = p.array(o.load.array)
    order = (*(loop.dim for loop in plan.loops), *plan.order)
    r = relay(a, o, box(t.domain), dim, plan.tile(dim), order, "copy")
    assert r is not None
    key = r.array.dims, r.copy.domain, r.copy.value
    if key not in copies:
        copies[key] = named(r, _fresh(f"{a.name}_panels", taken))
    return use(t, named(r, copies[key].array.name))


def _split(
    s: Statement, plan: RegisterPlan, dim: str, unit: int, taken: set[str], cores: int
) -> list[tuple[Statement, RegisterPlan]]:
    """Whole tiles, and what is left over with smaller ones."""
    r = next(r for r in s.domain.ranges if r.dim == dim)
    start, n = r.lo.const, r.hi.const - r.lo.const
    size, count = even(n, plan.tile(dim), unit)
    own = _with_tile(plan, dim, min(size, n))
    whole = min(size * count, n - n % min(size, n))
    if whole == n:
        return [(s, own if own == plan else _in_balance(s, own, cores))]
    full, rest = split(s, dim, start + whole, _fresh(f"{s.name}_{dim}", taken))
    return [(full, _in_balance(full, own, cores)), *_split(rest, own, dim, unit, taken, cores)]


def _in_balance(s: Statement, plan: RegisterPlan, cores: int) -> RegisterPlan:
    """The plan of a part whose parallel loop may have become too short, with a longer one in front."""
    extents = extents_of(s)
    if plan.trips(extents)[0] >= cores:
        return plan
    return replace(plan, loops=balanced(plan, extents, cores))


def _with_tile(plan: RegisterPlan, dim: str, size: int) -> RegisterPlan:
    loops = tuple(replace(x, size=x.size // plan.tile(dim) * size) if x.dim == dim else x for x in plan.loops)
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
