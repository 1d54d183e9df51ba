# SPDX-License-Identifier: MIT
"""Define what a trace promised: the arrays of `ph.grad` and its like, in the order in which they were asked for.

The program afterwards is one program for the optimiser, forward and backward alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from frontend.autodiff.forward import Forward, Moved
from frontend.autodiff.reverse import Reverse, Wanted
from frontend.recorded import Gradient, Promise
from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import Affine
from polyhedral.program import Access, Domain, Program, Range, Statement
from polyhedral.rewrites.share_parts import share_parts


def resolve(p: Program, promises: Sequence[Promise], held: frozenset[str] = frozenset()) -> Program:
    """The program with a definition for every promised array that it reads or returns; `held` arrays are constants."""
    for g in promises:
        known = {a.name for a in p.arrays}
        if not known & set(g.results):
            continue
        alike = aff.same_sizes(aff.both(*p.assumptions))
        p = share_parts(_one_spelling(p, alike))
        taken = known | {a.name for a in p.arrays} | {s.name for s in p.statements}
        if isinstance(g, Gradient):
            by = {w: r for w, r in zip(g.wrt, g.results, strict=True) if r in known}
            mode = Reverse(p, Wanted(g.outputs, by, g.along, alike, held, g.location), taken)
        else:
            outputs = tuple((o, r) for o, r in zip(g.outputs, g.results, strict=True) if r in known)
            mode = Forward(p, Moved(outputs, dict(g.wrt), held, g.location), taken)
        mode.run()
        p = replace(p, arrays=(*p.arrays, *mode.arrays.values()), statements=(*p.statements, *mode.statements))
        p = _in_order(p)
    return p


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


def _in_order(p: Program) -> Program:
    """Statements after what they read, as far as circles allow, the groups of one place in the text together."""
    groups: dict[int | str, list[Statement]] = {}
    for n, s in enumerate(p.statements):
        groups.setdefault(s.position[0] if s.ordered or len(s.position) > 1 else -1 - n, []).append(s)
    writers: dict[str, list[int | str]] = {}
    for key, members in groups.items():
        for s in members:
            writers.setdefault(s.write.array, []).append(key)
    done: dict[int | str, None] = {}

    def visit(start: int | str) -> None:
        stack: list[tuple[int | str, bool]] = [(start, False)]
        entered: set[int | str] = set()
        while stack:
            key, left = stack.pop()
            if left:
                done.setdefault(key)
            elif key not in done and key not in entered:
                entered.add(key)
                stack.append((key, True))
                below = [w for s in groups[key] for r in ex.loads(s.value) for w in writers.get(r.array, ())]
                stack += [(w, False) for w in reversed(below)]

    for key in groups:
        visit(key)
    return replace(
        p,
        statements=tuple(replace(s, position=(n, *s.position[1:])) for n, key in enumerate(done) for s in groups[key]),
    )
