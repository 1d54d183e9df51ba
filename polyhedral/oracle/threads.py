# SPDX-License-Identifier: MIT
"""Threads: what a loop or a sequence inside a kernel orders, where its instances run on different threads.

    band y: block
      band x: thread                    threads of a block meet only where the sequence says so,
        sequence                        those of different blocks nowhere before the kernel ends
        - S0    band t: thread
        - threads wait for each other
        - S1    band t: thread

The tree alone says who runs an instance: the digits of blocks, threads and teams above it.  That the order itself is
the right one is `polyhedral.oracle.legality`'s to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.tree import Band, Filter, Leaf, Local, Member, Promote, Run, Stage, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.sets.instances import Family
from polyhedral.sets.isl import NamedSet

PRIME = "'"
ON_DEVICE = (Run.BLOCK, Run.THREAD, Run.TEAM)
_TOGETHER = (Run.PARALLEL, Run.VECTOR, Run.LANES, Run.BLOCK, Run.THREAD, Run.TEAM, Run.MATRIX)
"""Iterations of these are at once: what they may share is said by legality, not by order."""


@dataclass(frozen=True)
class Turn:
    """A sequence above a leaf, and which of its children the leaf is in."""

    sequence: InOrder
    child: int


Node = Member | Turn | Promote | Local | Stage


@dataclass(frozen=True)
class Race:
    """Pairs of instances on different threads that nothing keeps apart."""

    points: NamedSet
    why: str


def prime(e: Affine, dims: Sequence[str]) -> Affine:
    return aff.substitute(e, {d: aff.var(d + PRIME) for d in dims})


def path(tree: Tree, family: str) -> tuple[Node, ...]:
    """What is above one family's leaf, outermost first."""
    match tree:
        case Leaf():
            return ()
        case Filter(_, child):
            return path(child, family)
        case Promote(_, child) | Local(_, _, child) | Stage(_, _, child):
            return (tree, *path(child, family))
        case Band(members, child):
            return (*members, *path(child, family))
        case InOrder(children):
            at = next((k for k, c in enumerate(children) if family in c.families), None)
            return () if at is None else (Turn(tree, at), *path(children[at].child, family))


def on_device(tree: Tree, family: str) -> bool:
    """Whether an instance is run by a thread that the tree names."""
    return any(isinstance(n, Member) and n.run in ON_DEVICE for n in path(tree, family))


def race(tree: Tree, first: Family, then: Family, array: str, points: NamedSet) -> Race | None:
    """Pairs of instances that touch a cell, one of them on another thread, with no wait between them."""
    a, b = path(tree, first.id), path(tree, then.id)
    if not any(isinstance(n, Member) and n.run in ON_DEVICE for n in (*a, *b)):
        return None
    left = points
    for k, (x, y) in enumerate(zip(a, b, strict=False)):
        parting = _Parting(first, then, array, a, b, k)
        if isinstance(x, Turn) and isinstance(y, Turn) and x.child != y.child:
            return None if _launched(a[:k]) else _apart(parting, left)
        if not isinstance(x, Member) or not isinstance(y, Member):
            continue
        later = prime(y.time(then.id), then.dims) - x.time(first.id)
        crossing = _differ(left, later)
        waits = x.run is Run.HOST and _launched(a[:k])
        found = None if crossing is None or waits else _across(parting, x.run, crossing)
        if found is not None:
            return found
        left = left.where(aff.equal(later))
    return None


def _launched(above: Sequence[Node]) -> bool:
    """Whether what is below is kernels, which run one after another."""
    return all(isinstance(n, Turn) or (isinstance(n, Member) and n.run is Run.HOST) for n in above)


def shared_by_threads(tree: Tree, family: str, node: Local) -> bool:
    """Whether memory of its own begins inside a loop over the threads of a block, all of which share it."""
    above = path(tree, family)
    end = next((k for k, n in enumerate(above) if n is node), 0)
    return any(isinstance(n, Member) and n.run in (Run.THREAD, Run.TEAM) for n in above[:end])


@dataclass(frozen=True)
class _Parting:
    """Two families whose instances a node of their common path orders, the one at `k`."""

    first: Family
    then: Family
    array: str
    a: tuple[Node, ...]
    b: tuple[Node, ...]
    k: int


def _across(p: _Parting, run: Run, crossing: NamedSet) -> Race | None:
    """What is wrong with pairs in different iterations of one loop."""
    if run in (Run.TEAM, Run.MATRIX) and not _registers(p.a[: p.k], p.array):
        return Race(crossing, "each thread has a partial result, which no registers hold")
    return None if run in _TOGETHER else _apart(p, crossing)


def _apart(p: _Parting, points: NamedSet) -> Race | None:
    """The pairs among those that a serial step tells apart which are on different threads without a wait."""
    below = p.a[p.k :], p.b[p.k :]
    held = _registers(p.a[: p.k], p.array)
    mine, others = (dict(_digits(nodes, (Run.THREAD,) if held else (Run.THREAD, Run.TEAM))) for nodes in below)
    if any(isinstance(n, Member) and n.run is Run.BLOCK for nodes in below for n in nodes):
        return Race(points, "they are in one kernel, on blocks that do not wait for each other")
    copied = any(isinstance(n, Stage) and n.array == p.array for nodes in below for n in nodes)
    team = not held and any(isinstance(n, Member) and n.run is Run.TEAM for nodes in below for n in nodes)
    apart = points if copied or team else _on_others(p, mine, others, points)
    if apart is None or apart.is_empty():
        return None
    if held:
        return Race(apart, f"{p.array} is held in registers of different threads")
    return None if _waits(p) else Race(apart, "they are on different threads, and no wait is between them")


def _on_others(
    p: _Parting, mine: Mapping[str, Member], others: Mapping[str, Member], points: NamedSet
) -> NamedSet | None:
    """The pairs whose digits of threads differ; all of them where the two do not have the same."""
    if mine.keys() != others.keys():
        return points
    differ = [prime(m.time(p.then.id), p.then.dims) for m in others.values()]
    own = [mine[d].time(p.first.id) for d in others]
    wrong = [_differ(points, b - a) for a, b in zip(own, differ, strict=True)]
    return next((w for w in wrong if w is not None), None)


def _digits(nodes: Sequence[Node], runs: Sequence[Run]) -> Iterator[tuple[str, Member]]:
    for n in nodes:
        if isinstance(n, Member) and n.run in runs:
            yield n.name, n


def _registers(above: Sequence[Node], array: str) -> bool:
    return any(isinstance(n, Promote) and n.array == array for n in above)


def _waits(p: _Parting) -> bool:
    """Whether all threads meet between the two: after one child of the sequence and before another, or, around a loop,
    in the sequence that is all of its body.
    """
    around = isinstance(p.a[p.k], Member)
    mine, others = (_next_turn(nodes[p.k :]) for nodes in (p.a, p.b))
    if mine is None or others is None or mine.sequence is not others.sequence:
        return False
    if around:
        return any(w >= mine.child or w < others.child for w in mine.sequence.waits)
    lo, hi = sorted((mine.child, others.child))
    return any(lo <= w < hi for w in mine.sequence.waits)


def _next_turn(nodes: Sequence[Node]) -> Turn | None:
    """The sequence that is all of the body of the loop that nodes begin with, or that they begin with."""
    first = 1 if isinstance(nodes[0], Member) else 0
    found = next((n for n in nodes[first:] if not isinstance(n, (Promote, Local))), None)
    return found if isinstance(found, Turn) else None


def _differ(points: NamedSet, e: Affine) -> NamedSet | None:
    """The points at which an expression is not zero, some of them at least."""
    if e.is_const:
        return None if e.const == 0 or points.is_empty() else points
    for c in (aff.at_least(e, 1), aff.at_least(-e, 1)):
        some = points.where(c)
        if not some.is_empty():
            return some
    return None
