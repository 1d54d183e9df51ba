# SPDX-License-Identifier: MIT
"""A schedule tree from outside: is it one of this program, may it be spelled, and is it legal?

Loops may be ordered, tiled, shared, split and marked at will; register tiles and memory of a nest's own are taken as
the plans made them, or left out.  The oracle has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from polyhedral.errors import ArgumentError, LegalityError
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Floor
from polyhedral.ir.program import Program
from polyhedral.ir.tree import (
    Band,
    Filter,
    Leaf,
    Local,
    Member,
    Promote,
    Run,
    Stage,
    Tree,
    held,
    members_of,
    regions,
    times,
)
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.oracle.legality import primed, violation
from polyhedral.oracle.threads import PRIME, prime
from polyhedral.pipeline import Analyzed
from polyhedral.sets.instances import Family
from polyhedral.sets.isl import named
from polyhedral.text.printer import NAME

RUNS = (Run.SERIAL, Run.PARALLEL, Run.VECTOR)
"""How loops outside register tiles may run on a processor."""
LARGEST = 1 << 31
"""Numbers in times are smaller, so that those in loops fit 64 bits."""


def accepted(a: Analyzed, planned: Tree, proposed: Tree) -> Tree:
    """The proposed tree, next to the one that was `planned`.

    ArgumentError PH404 where it does not order exactly the statements of this program, PH405 where it is malformed,
    PH406 where it cannot be spelled; LegalityError PH401 with the dependence and a pair of instances where it is in a
    wrong order.
    """
    families = a.frame.families
    ids = tuple(f.id for f in families)
    shown = {f.id: f.shown for f in families}
    _complete(proposed, ids, shown)
    _spellable(planned, proposed, ids, shown)
    _one_at_a_time(a.program, families, proposed)
    wrong = violation(a.program, proposed)
    if wrong is not None:
        raise LegalityError(
            "PH401",
            f"the schedule given for {a.program.name} is not legal: {wrong.why}",
            details=(f"witness: {wrong}",),
            hints=("polyhedral show TARGET --schedule FILE checks another order", "leave --schedule out"),
            statement=wrong.then,
            point=dict(wrong.then_at),
        )
    return proposed


# --- whether it is one of this program -------------------------------------------------------------------------------


def _complete(tree: Tree, inside: tuple[str, ...], shown: Mapping[str, str]) -> None:
    """Every statement is in one place, and every band says when each of its own runs."""
    match tree:
        case Leaf():
            return
        case Band(members, child):
            for m in members:
                _member(m, inside, shown)
            _complete(child, inside, shown)
        case Filter(families, child):
            _same(families, inside, "a part", shown)
            _complete(child, families, shown)
        case InOrder(children):
            _same([f for c in children for f in c.families], inside, "a sequence", shown)
            for c in children:
                if not c.families:
                    raise _malformed("a part of a sequence has no statements")
                _complete(c.child, c.families, shown)
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            _complete(child, inside, shown)


def _member(m: Member, inside: tuple[str, ...], shown: Mapping[str, str]) -> None:
    """A loop has a name that C may have, and a time for each statement in it, of numbers that are not too large."""
    if not re.fullmatch(NAME, m.name):
        raise _malformed(f"{m.name!r} is no name for a loop")
    _same([f for f, _ in m.times], inside, f"loop {m.name}", shown)
    if any(_largest(t) >= LARGEST for _, t in m.times):
        raise _malformed(f"a number in the times of loop {m.name} is {LARGEST} or more")


def _same(found: Sequence[str], wanted: Sequence[str], where: str, shown: Mapping[str, str]) -> None:
    twice = sorted({shown[f] for f in found if list(found).count(f) > 1})
    missing = [shown[f] for f in wanted if f not in found]
    more = [shown[f] for f in found if f not in wanted]
    for names, what in ((twice, "names twice"), (missing, "leaves out"), (more, "names, from outside of it,")):
        if names:
            raise ArgumentError(
                "PH404",
                f"the schedule does not order this program: {where} {what} {', '.join(names)}",
                hints=("each statement stands in one place of the tree, and has a time in every band around it",),
                statement=names[0],
            )


def _largest(e: Affine) -> int:
    below = [_largest(t.arg) for t, _ in e.terms if isinstance(t, Floor)]
    divisors = [t.divisor for t, _ in e.terms if isinstance(t, Floor)]
    return max([abs(e.const), *(abs(c) for _, c in e.terms), *divisors, *below])


# --- whether it can be spelled ---------------------------------------------------------------------------------------


def _spellable(planned: Tree, proposed: Tree, ids: tuple[str, ...], shown: Mapping[str, str]) -> None:
    """Regions are those of the plan, memory of its own under the same loops; others run in ways that C has."""
    own = [node for node, _, _ in regions(planned, 0, ids)]
    for node, inside, _ in regions(proposed, 0, ids):
        what = f"{'registers' if isinstance(node, Promote) else 'memory of its own'} for {node.array}"
        if node not in own:
            raise _unspelled(f"{what} is not as the plan has it")
        if isinstance(node, Local):
            for f in inside:
                if _above(proposed, f, node) != _above(planned, f, node):
                    raise _unspelled(f"{what} is under other loops than in the plan, around {shown[f]}")
    for m in _free(proposed):
        if m.run not in RUNS:
            raise _unspelled(f"loop {m.name} runs as {m.run.value}, outside register tiles")
    if any(node.waits for node in _sequences(proposed)):
        raise _unspelled("threads of a device wait in it")


def _above(tree: Tree, family: str, node: Local) -> tuple[Affine, ...] | None:
    """The times of the loops above a region."""
    depth = next((d for d, n in held(tree, family) if n == node), None)
    return None if depth is None else tuple(m.time(family) for m in members_of(tree, family)[:depth])


def _free(tree: Tree) -> Iterator[Member]:
    """The members of bands outside register tiles."""
    match tree:
        case Leaf() | Promote() | Stage():
            return
        case Band(members, child):
            yield from members
            yield from _free(child)
        case Filter(_, child) | Local(_, _, child):
            yield from _free(child)
        case InOrder(children):
            for c in children:
                yield from _free(c)


def _sequences(tree: Tree) -> Iterator[InOrder]:
    match tree:
        case Leaf():
            return
        case InOrder(children):
            yield tree
            for c in children:
                yield from _sequences(c)
        case Band() | Filter() | Promote() | Local() | Stage():
            yield from _sequences(tree.child)


def _one_at_a_time(p: Program, families: Sequence[Family], tree: Tree) -> None:
    """No two instances of a statement have the same time: loops could not tell them apart."""
    every = times(tree, tuple(f.id for f in families))
    for f in families:
        dims = (*f.dims, *(d + PRIME for d in f.dims))
        other = aff.either(*(aff.negate(aff.equal(aff.var(d + PRIME) - aff.var(d))) for d in f.dims))
        same = (aff.equal(prime(t, f.dims) - t) for t, _ in every[f.id])
        domain = aff.both(f.domain, primed(f.domain, f.dims), *p.assumptions)
        found = named(dims, p.sizes, aff.both(domain, other, *same))
        if f.dims and not found.is_empty():
            at = found.sample([dict.fromkeys(found.sizes, 4), {}]) or {}
            one, two = ({d: at[d + end] for d in f.dims if d + end in at} for end in ("", PRIME))
            shown = " and ".join(f"{f.shown}({', '.join(f'{d}={v}' for d, v in x.items())})" for x in (one, two))
            raise _malformed(f"{shown} have the same time", f"every dim of {f.shown} is in the time of some loop")


def _malformed(
    why: str, hint: str = "polyhedral show TARGET --stage schedule --format json writes one"
) -> ArgumentError:
    return ArgumentError("PH405", f"this is no schedule that can be read: {why}", hints=(hint,))


def _unspelled(why: str) -> ArgumentError:
    return ArgumentError(
        "PH406",
        f"this schedule cannot be spelled: {why}",
        hints=("take register tiles and memory of a nest's own as they are, or leave the node out",),
    )
