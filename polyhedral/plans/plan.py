# SPDX-License-Identifier: MIT
"""Plans: how reductions over boxes become register-tiled, vectorised nests.

Says which statements can have one and rewrites the program for the plans chosen by `polyhedral.plans.candidates`:
operands are copied into the layouts that the nests want, and what does not fill a tile is split off.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import prod

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.operands import Operand, box, extents_of
from polyhedral.ir.program import Array, Domain, Program, Statement, fresh
from polyhedral.machine.target import Target
from polyhedral.plans.ahead import ahead
from polyhedral.plans.blocked import Blocked, in_blocks
from polyhedral.plans.blocks import blocks
from polyhedral.plans.candidates import Choice
from polyhedral.plans.chooser import Chooser
from polyhedral.plans.epilogue import Epilogue, epilogues, fused
from polyhedral.plans.maps import map_plan, parts
from polyhedral.plans.plannable import find, unplannable, unsuitable
from polyhedral.plans.register_plan import RegisterPlan, even
from polyhedral.plans.remainders import beside
from polyhedral.plans.stores import storing, streamed
from polyhedral.plans.tiles import itemsize
from polyhedral.plans.visits import balanced
from polyhedral.rewrites.mask import hull
from polyhedral.rewrites.privatise import privatise
from polyhedral.rewrites.relay import Relaid, named, relay, use
from polyhedral.rewrites.split import split
from polyhedral.transforms.share import Nest

SMALL = 50_000
"""Fewer instances than this are not worth a plan."""
PRIVATE = 1 << 16
"""Instances for each core from which on a reduction to few results is shared out."""


@dataclass(frozen=True)
class Planned:
    """A program rewritten for its plans, the plan of each statement that has one, and layouts of the arrays it made;
    `choices` are what the plans of a statement, before it was split, were chosen by; `nests` are those of statements
    that were planned for common blocks.
    """

    program: Program
    plans: Mapping[str, RegisterPlan]
    layouts: Mapping[str, Layout]
    remarks: tuple[Remark, ...] = ()
    choices: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    nests: tuple[Nest, ...] = ()
    blocks: Mapping[tuple[str, ...], bool] = field(default_factory=dict[tuple[str, ...], bool])
    """Which statements could run in common blocks, and whether they do."""


def plan_program(
    p: Program,
    layouts: Mapping[str, Layout],
    target: Target,
    constants: frozenset[str] = frozenset(),
    small: int = SMALL,
    near: Set[str] = frozenset(),
    known: Chooser | None = None,
) -> Planned:
    """Plan every reduction of at least `small` instances that allows it; `constants` are arrays whose re-laying costs
    nothing at a call, and `near` those that the statement which makes them leaves in a cache; `known` has plans for the
    same machine and constants.
    """
    taken = {a.name for a in p.arrays} | {s.name for s in p.statements}
    p, every = _privatised(p, layouts, target, taken)
    statements: list[Statement] = []
    arrays = list(p.arrays)
    plans: dict[str, RegisterPlan] = {}
    choices: dict[str, Choice] = {}
    copies: dict[object, Relaid] = {}
    chooser = known or Chooser(target, constants)
    blocked, remarks, decided = _blocked(p, every, chooser, small, near)
    where = {name: b for b in blocked for name in b.blocks.members}
    local = frozenset(name for b in blocked for name in b.blocks.local)
    found = {
        s.name: where[s.name].plans[s.name] if s.name in where else find(p, s, every, chooser, small)
        for s in p.statements
        if s.op is not None
    }
    chosen = {n: f.plan for n, f in found.items() if isinstance(f.plan, Choice) and n not in where}
    after, notes = epilogues(p, chosen, every, target, constants, [b.blocks.members for b in blocked])
    remarks += notes
    elsewhere = {name for e in after.values() for name in e.names}
    names: dict[str, list[str]] = {}
    asked: set[tuple[str, int]] = set()
    for s in p.statements:
        if s.name in elsewhere:
            continue
        block = where.get(s.name)
        names[s.name] = [s.name]
        if s.op is None:
            least = sys.maxsize if s.write.array in near else small
            found_parts = [(block.map(p, s), None)] if block else _mapped(p, s, every, target, taken, least)
            for part, plan in found_parts:
                statements.append(part)
                plans |= {part.name: plan} if plan else {}
            continue
        choice, within = found[s.name].plan, found[s.name].within
        if isinstance(choice, RegisterPlan):
            statements.append(s)
            far = ahead(s, choice, {a.name: a for a in arrays if a.name not in local}, every, target)
            plans[s.name] = replace(choice, ahead=tuple(x for x in far if x not in asked))
            asked.update(far)
            continue
        if isinstance(choice, str):
            remarks.append(Remark("no register tile", choice, s.name))
            statements.append(s)
            continue
        then = after.get(s.name, Epilogue())
        only = then.only(p, s, choice.plan)
        tail = [fused(e, s, choice) for e in then.statements]
        choice = choice if block else _settled(p, choice, tail, only, every, target)
        choices[s.name] = choice
        made, pieces = _rewritten(p, choice, copies, taken, target if block is None else replace(target, cores=1))
        names[s.name] = [part.name for part, _ in pieces]
        for r in made:
            arrays.append(r.array)
            every[r.array.name] = row_major(r.array)
            copy = replace(r.copy, position=s.position, location=s.location)
            found_parts = _mapped(replace(p, arrays=tuple(arrays)), copy, every, target, taken, small)
            names[copy.name] = [part.name for part, _ in found_parts]
            for part, plan in found_parts:
                statements.append(part)
                plans |= {part.name: plan} if plan else {}
        for part, own in pieces:
            tile = block.tile(s, own.tile) if block else own.tile
            loops = tuple(e for e in within if not aff.dims_of(e) & {*own.written})  # what is written out has no ends
            statements.append(hull(part, loops, tile) if within else part)
            mine = [_over(part, e, taken) for e in tail]
            statements += mine
            settled = replace(choice, statement=part, plan=own)
            settled = settled if block else _settled(p, settled, mine, only, every, target)
            far = ahead(part, settled.plan, {a.name: a for a in arrays if a.name not in local}, every, target)
            plans[part.name] = replace(settled.plan, epilogue=tuple(e.name for e in mine), only=only, ahead=far)
    nests = tuple(b.nest(p, names) for b in blocked)
    nests += tuple(n for s, own in names.items() if s not in where and (n := beside(own, plans, statements)))
    program = replace(p, arrays=tuple(arrays), statements=tuple(statements))
    made_layouts = {n: lay for n, lay in every.items() if n not in layouts}
    return Planned(program, plans, made_layouts, tuple(remarks), choices, nests, decided)


def _blocked(
    p: Program, layouts: Mapping[str, Layout], chooser: Chooser, small: int, near: Set[str]
) -> tuple[list[Blocked], list[Remark], dict[tuple[str, ...], bool]]:
    """The statements that run in common blocks, why others that could do not, and which of both there are."""
    made: list[Blocked] = []
    remarks: list[Remark] = []
    decided: dict[tuple[str, ...], bool] = {}
    for b in blocks(p, layouts, chooser.target, near) if small < sys.maxsize else ():
        found, said = in_blocks(p, b, layouts, chooser, small)
        made += [found] if found else []
        remarks.append(said)
        decided[b.members] = found is not None
    return made, remarks, decided


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
            and not unplannable(p, s, layouts, PRIVATE * target.cores)
        ):
            extents = extents_of(s)
            long = [d for d in s.reduced if extents[d] >= 2 * target.cores]
            if long and prod(extents[d] for d in s.kept) < target.cores:
                found = privatise(s, dtype, long[0], target.cores, lambda base: fresh(base, taken))
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
    if len(stored) != 1:
        return choice
    (own,), plan = stored, replace(choice.plan, streams=False)
    out = layouts[own.write.array]
    fills = choice.prediction.fills_memory
    if own != choice.statement:
        fills = storing(p, own, plan, out, target) > choice.prediction.work / 2
    return replace(choice, plan=streamed(p, own, plan, out, target)) if fills else choice


def _over(part: Statement, e: Statement, taken: set[str]) -> Statement:
    """A statement of an epilogue over the rows of a part of its reduction."""
    ranges = {r.dim: r for r in part.domain.ranges}
    cut = Domain(tuple(ranges[r.dim] for r in e.domain.ranges))
    if cut == e.domain:
        return e
    dims = "".join(f"_{r.dim}" for r in e.domain.ranges if r != ranges[r.dim] and r.lo != ranges[r.dim].lo)
    return replace(e, name=fresh(f"{e.name}{dims}", taken) if dims else e.name, domain=cut)


def _mapped(
    p: Program, s: Statement, layouts: Mapping[str, Layout], target: Target, taken: set[str], small: int
) -> list[tuple[Statement, RegisterPlan | None]]:
    """A statement that is no reduction in parts, those with whole tiles with a plan."""
    plan = None if unsuitable(p, s, layouts, small) else map_plan(p, s, layouts, target)
    if plan is None:
        return [(s, None)]
    lanes = target.lanes(itemsize(s))
    return list(parts(s, plan, lanes, lambda d: fresh(f"{s.name}_{d}", taken)))


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
                pieces = [(_relaid(p, t, own, o, d, step, copies, taken), own) for t, own in pieces]
    return list(copies.values())[before:], pieces


def _relaid(
    p: Program,
    t: Statement,
    plan: RegisterPlan,
    o: Operand,
    dim: str,
    unit: int,
    copies: dict[object, Relaid],
    taken: set[str],
) -> Statement:
    """The statement reading a copy of an operand, in panels of whole units, the one already made where another reads
    the same cells.
    """
    a = p.array(o.load.array)
    order = (*(loop.dim for loop in plan.loops), *plan.order)
    r = relay(a, o, box(t.domain), dim, plan.tile(dim), order, "copy", unit)
    assert r is not None
    key = r.array.dims, r.copy.domain, r.copy.value
    if key not in copies:
        copies[key] = named(r, fresh(f"{a.name}_panels", taken))
    return use(t, named(r, copies[key].array.name))


def _split(
    s: Statement, plan: RegisterPlan, dim: str, unit: int, taken: set[str], cores: int
) -> list[tuple[Statement, RegisterPlan]]:
    """Whole tiles, and what is left over with smaller ones."""
    r = next(r for r in s.domain.ranges if r.dim == dim)
    start, n = r.lo.const, r.hi.const - r.lo.const
    if n % plan.tile(dim) == 0:
        return [(s, plan)]
    size, count = even(n, plan.tile(dim), unit)
    own = plan.with_tile(dim, min(size, n))
    whole = min(size * count, n - n % min(size, n))
    if whole == n:
        return [(s, own if own == plan else _in_balance(s, own, cores))]
    full, rest = split(s, dim, start + whole, fresh(f"{s.name}_{dim}", taken))
    return [(full, _in_balance(full, own, cores)), *_split(rest, own, dim, unit, taken, cores)]


def _in_balance(s: Statement, plan: RegisterPlan, cores: int) -> RegisterPlan:
    """The plan of a part whose parallel loop may have become too short, with a longer one in front."""
    extents = extents_of(s)
    if plan.trips(extents)[0] >= cores:
        return plan
    return replace(plan, loops=balanced(plan, extents, cores))
