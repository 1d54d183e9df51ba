# SPDX-License-Identifier: MIT
"""Phases: the parts of a kernel between which memory changes hands.

`restrict` promises that what one pointer writes no other reads, for as long as the function runs that takes them (C11,
6.7.3.1).  Arrays that share memory are therefore taken by different functions, one after another.  What shares memory
is decided in `polyhedral.whole.storage`, how a function is spelled in `codegen.c`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from codegen.loops import Block, Exec, If, Node, Promoted, walk
from polyhedral.errors import InternalError
from polyhedral.ir import affine as aff
from polyhedral.sets.instances import Family, references
from polyhedral.whole.storage import Sharing


@dataclass(frozen=True)
class Phase:
    """Loops that one function runs, and the arrays that they touch."""

    root: Node
    arrays: frozenset[str]


def phases(root: Node, families: Mapping[str, Family], shared: Sharing) -> tuple[Phase, ...]:
    """The loops cut where they stand one after another, as seldom as will keep every pair in `shared` apart."""
    whole = Phase(root, touched(root, families))
    if shared.apart(whole.arrays):
        return (whole,)
    made: list[Phase] = []
    for part in _parts(root):
        here = Phase(part, touched(part, families))
        if not shared.apart(here.arrays):
            raise InternalError(
                "PH999", f"arrays that share memory are needed at once: {', '.join(sorted(here.arrays))}"
            )
        joined = made[-1].arrays | here.arrays if made else here.arrays
        if made and shared.apart(joined):
            made[-1] = Phase(_joined(made[-1].root, part), joined)
        else:
            made.append(here)
    return tuple(made)


def _parts(node: Node) -> Iterator[Node]:
    """What runs one after another; a condition around several stands around each, since it only asks for sizes."""
    match node:
        case Block(children):
            for c in children:
                yield from _parts(c)
        case If(condition, then, orelse):
            for part in _parts(then):
                yield If(condition, part)
            for part in _parts(orelse) if orelse is not None else ():
                yield If(aff.negate(condition), part)
        case _:
            yield node


def _joined(a: Node, b: Node) -> Node:
    return Block((*(a.children if isinstance(a, Block) else (a,)), b))


def touched(node: Node, families: Mapping[str, Family]) -> frozenset[str]:
    """The arrays that loops touch."""
    found: set[str] = set()
    for n in walk(node):
        match n:
            case Exec(family, _):
                found |= {r.array for r in references(families[family])}
            case Promoted(array):
                found.add(array)
            case _:
                pass
    return frozenset(found)
