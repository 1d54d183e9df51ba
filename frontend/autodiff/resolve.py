# SPDX-License-Identifier: MIT
"""Define what a trace promised: the arrays of `ph.grad` and its like, in the order in which they were asked for.

The program afterwards is one program for the optimiser, forward and backward alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from frontend.autodiff.active import active, flow
from frontend.autodiff.expansion import expand, touches_memory
from frontend.autodiff.forward import Forward, Moved
from frontend.autodiff.order import in_order
from frontend.autodiff.reverse import Reverse, Wanted
from frontend.autodiff.rules import without
from frontend.recorded import Gradient, Promise, Rule
from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Access, Domain, Program, Range, Statement
from polyhedral.rewrites.share_parts import share_parts


@dataclass(frozen=True)
class Resolved:
    """A program with its derivatives, and what of them is slow or large by nature."""

    program: Program
    remarks: tuple[Remark, ...] = ()


def resolve(
    p: Program, promises: Sequence[Promise], held: frozenset[str] = frozenset(), rules: Sequence[Rule] = ()
) -> Resolved:
    """The program with a definition for every promised array that it reads or returns; `held` arrays are constants.

    What a derivative goes through is not updated in place: such a program is expanded first, whose `initial` arrays
    stand for what arguments held when they came.
    """
    initial: dict[str, str] = {}
    remarks: dict[Remark, None] = {}
    for g in promises:
        known = {a.name for a in p.arrays}
        if not known & set(g.results):
            continue
        alike = aff.same_sizes(aff.both(*p.assumptions))
        p = _one_spelling(p, alike)
        if not initial and touches_memory(p, _way(p, g, held, rules)):
            expanded = expand(p)
            p, initial = expanded.program, dict(expanded.initial)
            remarks |= dict.fromkeys(expanded.remarks)
            held |= initial.keys()  # the copies in the end are made for the caller alone
        p = share_parts(p)
        taken = known | {a.name for a in p.arrays} | {s.name for s in p.statements}
        if isinstance(g, Gradient):
            by = {initial.get(w, w): r for w, r in zip(g.wrt, g.results, strict=True) if r in known}
            mode = Reverse(p, Wanted(g.outputs, by, g.along, alike, held, rules, g.location), taken)
        else:
            outputs = tuple((o, r) for o, r in zip(g.outputs, g.results, strict=True) if r in known)
            moved = {initial.get(w, w): t for w, t in g.wrt}
            mode = Forward(p, Moved(outputs, moved, held, g.location), taken)
        mode.run()
        remarks |= dict.fromkeys(mode.remarks)
        p = replace(p, arrays=(*p.arrays, *mode.arrays.values()), statements=(*p.statements, *mode.statements))
        p = in_order(p)
    p = without(p, [n for rule in rules for n in rule.cotangents]) if rules else p
    return Resolved(p, tuple(remarks))


def _way(p: Program, g: Promise, held: frozenset[str], rules: Sequence[Rule]) -> frozenset[str]:
    """The arrays that a derivative passes through."""
    f = flow(p, held, rules)
    outputs = [o for o, _ in g.outputs] if isinstance(g, Gradient) else g.outputs
    wrt = g.wrt if isinstance(g, Gradient) else [w for w, _ in g.wrt]
    return frozenset[str]().union(*(active(f, outputs, w, g.location) for w in wrt))


def _one_spelling(p: Program, at: Mapping[str, Affine]) -> Program:
    """The statements with equal sizes spelled alike, so that equal ranges look equal."""
    if not at:
        return p

    def one(e: Affine) -> Affine:
        return aff.substitute(e, {}, at)

    def statement(s: Statement) -> Statement:
        ranges = tuple(Range(r.dim, one(r.lo), one(r.hi)) for r in s.domain.ranges)
        write = Access(s.write.array, tuple((d, one(i)) for d, i in s.write.index))
        guard = aff.map_affine(s.domain.guard, one)
        return replace(s, domain=Domain(ranges, guard), write=write, value=ex.substitute(s.value, {}, at))

    return replace(p, statements=tuple(map(statement, p.statements)))
