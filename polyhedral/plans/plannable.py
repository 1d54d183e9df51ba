# SPDX-License-Identifier: MIT
"""Which statements can have a plan, and the plan of one reduction: by choice, or along its lanes.

A statement that runs in blocks is planned as one block of it.  What becomes of the program is left to
`polyhedral.plans.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import tied
from polyhedral.ir.program import Domain, Program, Range, Role, Statement, reads, touched
from polyhedral.plans.candidates import Choice
from polyhedral.plans.chooser import Chooser
from polyhedral.plans.lane_plan import lane_plan
from polyhedral.plans.register_plan import RegisterPlan
from polyhedral.plans.tiles import ALONE, Within
from polyhedral.rewrites.mask import mask
from polyhedral.sets import isl


@dataclass(frozen=True)
class Found:
    """The plan of a statement or why it has none, the inequalities that it is masked by, and its predicted cycles."""

    plan: Choice | RegisterPlan | str
    within: tuple[Affine, ...] = ()
    cycles: float = 0.0


@dataclass(frozen=True)
class View:
    """One block of a statement: how long it is along the common dims, the program and the layouts with the arrays that
    only the block sees cut to it, and what it may not do.
    """

    sizes: Mapping[str, int]
    program: Program
    layouts: Mapping[str, Layout]
    within: Within = field(default=ALONE)

    def cut(self, s: Statement) -> Statement:
        ranges = (Range(r.dim, r.lo, aff.const(self.sizes.get(r.dim, r.hi.const))) for r in s.domain.ranges)
        return replace(s, domain=Domain(tuple(ranges), s.domain.guard))


def find(
    p: Program,
    s: Statement,
    layouts: Mapping[str, Layout],
    chooser: Chooser,
    small: int,
    view: View | None = None,
) -> Found:
    """The plan of a reduction that has the least predicted cycles, of the whole or of one block of it, and the
    inequalities that it is masked by: where no box of the dims can be, it is tiled along those that no guard ties
    together.
    """
    masked = mask(p, s) if s.domain.guard != TRUE else None
    whole = masked.statement if masked else s
    reason = unplannable(p, whole, layouts, small)
    if reason:
        return Found(reason)
    q = view or View({}, p, layouts)
    part = q.cut(whole)
    along = None if masked else lane_plan(part, q.layouts, chooser.target)
    choice = chooser.best(q.program, part, q.layouts, q.within) if set(s.kept) - tied(whole) else None
    if along is not None and (choice is None or (not choice.preferred and along[1] < choice.prediction.total)):
        return Found(along[0], cycles=along[1])
    if choice is None:
        return Found("its guard ties its results together" if tied(whole) else "its result is a single value")
    choice = replace(choice, statement=whole, plan=_fitted(choice.plan, q.sizes)) if view else choice
    return Found(choice, masked.within if masked else (), choice.prediction.total)


def _fitted(plan: RegisterPlan, sizes: Mapping[str, int]) -> RegisterPlan:
    """The plan with no tile longer than a block."""
    for d, size in sizes.items():
        plan = plan.with_tile(d, min(plan.tile(d), size)) if d not in plan.order else plan
    return plan


def unplannable(p: Program, s: Statement, layouts: Mapping[str, Layout], small: int) -> str | None:
    """Why a statement keeps its plain nest, or None."""
    if s.op not in ("sum", "prod", "max", "min"):
        return "it is no sum, product, maximum or minimum"
    if s.domain.guard != TRUE and not set(s.dims) - tied(s):
        return "its guard ties all its dims together"
    return unsuitable(p, replace(s, domain=Domain(s.domain.ranges)), layouts, small)


def unsuitable(p: Program, s: Statement, layouts: Mapping[str, Layout], small: int) -> str | None:
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
