# SPDX-License-Identifier: MIT
"""Mapping: a program made ready for a device, statement by statement, in digits that blocks and threads stand for.

The tree of each statement is `polyhedral.devices.nest`'s; the schedule puts them in order and the oracle judges them
all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from polyhedral.devices.chooser import choose_blocks
from polyhedral.devices.plan import BlockNest, BlockPlan, Phase
from polyhedral.devices.prices import BlockPrice, price
from polyhedral.devices.rows import Rows, rows_cost, rows_of
from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Condition, Floor
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Program, Statement, fresh, reads
from polyhedral.ir.tree import Cells, Fold
from polyhedral.machine.device import Device
from polyhedral.plans.epilogue import Epilogue, followers
from polyhedral.rewrites.strip import Digits, Stripped, strip

NOTHING = Epilogue()


@dataclass(frozen=True)
class Divided:
    """A program over digits, and the nest of each statement that has one."""

    program: Program
    nests: Mapping[str, BlockNest]
    remarks: tuple[Remark, ...] = ()
    prices: tuple[tuple[str, BlockPrice | None], ...] = ()
    """What each kernel is predicted to take, by the statement that it begins with; None where nothing predicts it."""


def divide(p: Program, layouts: Mapping[str, Layout], device: Device, alone: frozenset[str]) -> Divided:
    """The program in the digits of plans for the statements that do not depend on themselves, `alone`; all others stay
    as they are.
    """
    remarks: list[Remark] = []
    plans: dict[str, BlockPlan] = {}
    for s in p.statements:
        plan = choose_blocks(p, s, layouts, device) if s.name in alone else None
        if plan is None:
            why = "it depends on itself" if s.name not in alone else "its dims are tied, or their order is given"
            remarks.append(Remark("no blocks of its own", why, s.name))
        else:
            plans[s.name] = plan
    leaders = [n for n, plan in plans.items() if p.statement(n).op and not p.statement(n).accumulate and not plan.team]
    after, notes = followers(p, leaders, layouts, _always)
    remarks += notes
    inside = {e for epilogue in after.values() for e in epilogue.names}
    rows = rows_of(p, plans, layouts, device, {*after, *inside})
    inside |= {e.name for company in rows.values() for e in company.statements[1:]}
    statements: list[Statement] = []
    nests: dict[str, BlockNest] = {}
    prices: list[tuple[str, BlockPrice | None]] = []
    for s in p.statements:
        if s.name in inside:
            continue
        if s.name not in plans:
            statements.append(s)
            prices.append((s.name, None))
            continue
        found = rows_cost(p, rows[s.name], plans[s.name], device) if s.name in rows else None
        prices.append((s.name, found or price(p, s, plans[s.name], layouts, device)))
        if s.name in rows:
            made, nest = divide_rows(p, rows[s.name], plans[s.name])
            statements += made
            nests[s.name] = nest
            continue
        made, nest, notes = divide_statement(p, s, plans[s.name], device, after.get(s.name, NOTHING))
        statements += made
        nests[s.name] = nest
        remarks += notes
    return Divided(replace(p, statements=tuple(statements)), nests, tuple(remarks), tuple(prices))


def _always(leader: str, own: Statement, held: Collection[str]) -> bool:
    """A pass over memory that is saved is worth what a thread of a device computes more."""
    return True


def divide_statement(
    p: Program, s: Statement, plan: BlockPlan, device: Device, after: Epilogue = NOTHING
) -> tuple[tuple[Statement, ...], BlockNest, tuple[Remark, ...]]:
    """A statement and its epilogue in the digits of its plan, and the nest over them; what does not fit in shared
    memory stays out.
    """
    taken = {*s.dims, *p.sizes, *(a.name for a in p.arrays)}
    parts = _parts(s, plan, taken)
    digits = {d: Digits(tuple(own.values())) for d, own in parts.items()}
    made = strip(s, digits)
    nest = _nest(s, plan, parts, made)
    staged, notes = _staged(p, made.statement, plan, nest, device)
    nest = replace(nest, staged=staged, epilogue=after.names, only=after.hidden(p, s) if after.names else frozenset())
    tail = (strip(e, {d: n for d, n in digits.items() if d in e.dims}).statement for e in after.statements)
    return (made.statement, *tail), nest, notes


class _Part(Enum):
    """What a digit of a dim stands for; its name says so too."""

    BLOCK = "block"
    RUN = "run"
    THREAD = "thread"
    ROW = "row"
    PORTION = "part"
    INSIDE = "in"
    STEP = "step"


_Parts = Mapping[str, Mapping[_Part, tuple[str, int | None]]]
"""The digits of each dim that is cut, from the most significant to the least: a name, and how many values."""


def divide_rows(p: Program, rows: Rows, plan: BlockPlan) -> tuple[tuple[Statement, ...], BlockNest]:
    """Statements that a block runs one after another in digits, those of rows and of the team the same for all."""
    assert plan.team is not None
    first = rows.statements[0]
    taken = {*(d for s in rows.statements for d in s.dims), *p.sizes, *(a.name for a in p.arrays)}
    parts = _parts(first, plan, taken)
    digit = parts[plan.team[0]][_Part.THREAD]
    kept = {d: Digits(tuple(own.values())) for d, own in parts.items() if d in first.kept}
    made: list[Statement] = []
    phases: list[Phase] = []
    portions = {plan.team[0]: parts[plan.team[0]][_Part.PORTION][0]}
    for s, team in zip(rows.statements, rows.teams, strict=True):
        own = dict(kept)
        loops = [d for d in s.dims if d not in first.kept]
        if team is not None:
            portion = portions.get(team) or fresh(f"{team}_{_Part.PORTION.value}", taken)
            portions[team] = portion
            own[team] = Digits(((portion, None), digit))
            loops[loops.index(team)] = portion
        cut = strip(s, own)
        made.append(cut.statement)
        phases.append(Phase(s.name, digit[0] if team is not None else None, tuple(loops)))
    nest = _nest(first, plan, parts, strip(first, kept))
    arrays = {s.write.array: s.write.index for s in rows.statements}
    folds = tuple((array, _folds(arrays[array], plan, nest, parts)) for array in rows.kept)
    names = tuple(s.name for s in rows.statements[1:])
    only = frozenset(rows.kept)
    return tuple(made), replace(nest, inside=(), epilogue=names, only=only, phases=tuple(phases), kept=folds)


def _folds(index: Sequence[tuple[str, Affine]], plan: BlockPlan, nest: BlockNest, parts: _Parts) -> tuple[Fold, ...]:
    """The rows that a block has of an array, by its loops."""
    rows = {c.dim: c.size for c in plan.cuts}
    found: list[Fold] = []
    for axis, i in index:
        dim = i.as_var()
        if dim not in rows:
            continue
        loop = parts[dim][_Part.BLOCK][0] if dim in parts and _Part.BLOCK in parts[dim] else dim
        if loop in nest.blocks:
            found.append(Fold(axis, rows[dim], len(nest.blocks) - nest.blocks.index(loop)))
    return tuple(found)


def _parts(s: Statement, plan: BlockPlan, taken: set[str]) -> _Parts:
    extent = {r.dim: r.hi - r.lo for r in s.domain.ranges}
    found: dict[str, dict[_Part, tuple[str, int | None]]] = {}

    def cut(dim: str, *digits: tuple[_Part, int | None]) -> None:
        found[dim] = {part: (fresh(f"{dim}_{part.value}", taken), n) for part, n in digits}

    for c in plan.cuts:
        if c.size == 1:
            continue
        within = ((_Part.RUN, c.outer), (_Part.THREAD, c.threads), (_Part.ROW, c.inner))
        whole = extent[c.dim].is_const and extent[c.dim].const <= c.size
        first = () if whole else ((_Part.BLOCK, None),)
        cut(c.dim, *first, *((part, n) for part, n in within if n > 1))
    for d, n in plan.portions:
        if plan.team and plan.team[0] == d:
            cut(d, (_Part.PORTION, None), (_Part.THREAD, plan.team[1]))
        elif plan.matrix and plan.matrix.k == d:
            depth = plan.matrix.depth
            cut(d, (_Part.PORTION, None), (_Part.INSIDE, n // depth), (_Part.STEP, depth))
        elif n > 1:
            cut(d, (_Part.PORTION, None), (_Part.INSIDE, n))
    return found


def _nest(s: Statement, plan: BlockPlan, parts: _Parts, made: Stripped) -> BlockNest:
    """Which digit runs on what."""
    kept = [c.dim for c in plan.cuts]

    def those(dims: Iterable[str], part: _Part) -> list[tuple[str, int]]:
        digits = (parts[d][part] for d in dims if d in parts and part in parts[d])
        return [(name, n or 1) for name, n in digits]

    blocks = [
        d if d not in parts else parts[d][_Part.BLOCK][0] for d in kept if d not in parts or _Part.BLOCK in parts[d]
    ]
    portions, inside = list[str](), list[str]()
    for d, n in plan.portions:
        if d not in parts:
            (portions if n == 1 else inside).append(d)
            continue
        first = parts[d][_Part.PORTION][0]
        if _Part.INSIDE in parts[d]:
            portions.append(first)
            inside.append(parts[d][_Part.INSIDE][0])
        else:
            inside.append(first)
    return BlockNest(
        s.name,
        plan,
        tuple(blocks),
        tuple(those(plan.lanes, _Part.THREAD)),
        (*those(kept, _Part.RUN), *those(kept, _Part.ROW)),
        tuple(portions),
        tuple(inside),
        (parts[plan.team[0]][_Part.THREAD][0], plan.team[1]) if plan.team else None,
        within=tuple(c for d, c in made.within.items() if c != TRUE and d in kept),
        depth=parts[plan.matrix.k][_Part.STEP][0] if plan.matrix else None,
    )


def _staged(
    p: Program, s: Statement, plan: BlockPlan, nest: BlockNest, device: Device
) -> tuple[tuple[tuple[str, tuple[Cells, ...]], ...], tuple[Remark, ...]]:
    """The box of each staged array in digits, as long as they fit."""
    inner = {**dict(nest.threads), **dict(nest.rows)}
    ranges = {r.dim: r for r in s.domain.ranges}
    moving = {d: (0, n - 1) for d, n in inner.items()}
    for d in (*nest.inside, *([nest.depth] if nest.depth else [])):
        moving[d] = (ranges[d].lo.const, (ranges[d].hi - 1).const) if ranges[d].hi.is_const else (0, 0)
    found: list[tuple[str, tuple[Cells, ...]]] = []
    notes: list[Remark] = []
    left = device.shared_block
    for array in plan.staged:
        boxes = [_box(load, moving) for load in reads(s) if load.array == array]
        box = _hull(boxes)
        if box is None or any(not ranges[d].hi.is_const for d in nest.inside):
            notes.append(Remark(f"{array} is not staged", "what a block reads of it is no box of known size", s.name))
            continue
        item = p.array(array).dtype.bits // 8
        last = plan.matrix.spread(array).last if plan.matrix else None
        need = item * plan.buffers
        for c in box:
            need *= c.size + (plan.matrix.spread(array).pad(item) if plan.matrix and c.axis == last else 0)
        if need > left:
            why = f"that takes {need} bytes of shared memory, and {left} are left"
            notes.append(Remark(f"{array} is not staged", why, s.name))
            continue
        left -= need
        found.append((array, box))
    return tuple(found), tuple(notes)


def _box(load: ex.Load, moving: Mapping[str, tuple[int, int]]) -> tuple[Cells, ...] | None:
    """The cells that a load reads while some dims move."""
    cells: list[Cells] = []
    for axis, i in load.index:
        if not isinstance(i, Affine):
            return None
        first, size = i, 1
        for term, c in i.terms:
            if isinstance(term, Floor) and aff.dims_of(term.arg) & moving.keys():
                return None
            if isinstance(term, aff.Var) and term.name in moving:
                lo, hi = moving[term.name]
                first = first - aff.var(term.name) * c + (lo if c > 0 else hi) * c
                size += abs(c) * (hi - lo)
        cells.append(Cells(axis, first, size))
    return tuple(cells)


def _hull(boxes: list[tuple[Cells, ...] | None]) -> tuple[Cells, ...] | None:
    """One box around several that lie at fixed distances."""
    known = [b for b in boxes if b is not None]
    if not known or len(known) < len(boxes):
        return None
    hull: list[Cells] = []
    for along in zip(*known, strict=True):
        apart = [c.first - along[0].first for c in along]
        if not all(a.is_const for a in apart):
            return None
        low = min(a.const for a in apart)
        high = max(a.const + c.size for a, c in zip(apart, along, strict=True))
        hull.append(Cells(along[0].axis, along[0].first + low, high - low))
    return tuple(hull)


def dropped(nests: Mapping[str, BlockNest], statement: str) -> tuple[Condition, ...]:
    """The conditions that a padded nest does not test around its loops."""
    nest = next((n for n in nests.values() if statement in n.statements), None)
    return nest.within if nest is not None and nest.padded else ()
