# SPDX-License-Identifier: MIT
"""Who runs an instance and when, by enumeration: every thread of every block walks the tree, waits and all.

A second opinion on `polyhedral.oracle.threads`, which asks integer sets; nothing here does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from polyhedral.ir import affine as aff
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Band, Filter, Leaf, Local, Member, Promote, Run, Stage, Tree, families_of
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.sets.instances import families
from tests.properties.enumerated import Instance, Pair, instances_of, ordered_pairs

DIGITS = (Run.BLOCK, Run.THREAD)


@dataclass(frozen=True)
class Moment:
    """When an instance runs: in which kernel, on which block and thread, after how many waits, as which of its own."""

    kernel: int
    block: tuple[int, ...]
    thread: tuple[int, ...]
    waits: int
    turn: int

    def before(self, other: Moment) -> bool:
        if self.kernel != other.kernel:
            return self.kernel < other.kernel
        if self.block != other.block:
            return False
        return self.turn < other.turn if self.thread == other.thread else self.waits < other.waits


def moments(p: Program, sizes: Mapping[str, int], tree: Tree) -> dict[Instance, Moment]:
    """Of every instance; digits that nothing gives are 0.  Parts of the outermost sequence are kernels."""
    every = {f.id: list(instances_of(f, sizes)) for f in families(p)}
    dims = {f.id: f.dims for f in families(p)}
    found: dict[Instance, Moment] = {}
    for kernel, part in enumerate(_kernels(tree)):
        values: dict[Run, dict[str, set[int]]] = {run: {} for run in DIGITS}
        for m in (m for m in _members(part) if m.run in DIGITS):
            own = values[m.run].setdefault(m.name, {0})
            own |= {_value(m, f, dims[f], q, sizes) for f, _ in m.times for q in every[f]}
        digits = {**values[Run.BLOCK], **values[Run.THREAD]}
        for numbers in product(*map(sorted, digits.values())):
            blocks = len(values[Run.BLOCK])
            at = dict(zip(digits, numbers, strict=True))
            walk = _Walk(every, dims, sizes, at, kernel, numbers[:blocks], numbers[blocks:], found)
            walk.node(part, {f: every[f] for f in families_of(part) or tuple(every)}, frozenset(at))
    return found


def _value(m: Member, f: str, dims: Sequence[str], point: tuple[int, ...], sizes: Mapping[str, int]) -> int:
    return aff.evaluate(m.time(f), dict(zip(dims, point, strict=True)), sizes)


@dataclass
class _Walk:
    """One thread on its way through a kernel; what it runs is `found`."""

    every: Mapping[str, list[tuple[int, ...]]]
    dims: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    at: Mapping[str, int]
    kernel: int
    block: tuple[int, ...]
    thread: tuple[int, ...]
    found: dict[Instance, Moment]
    waits: int = 0
    turn: int = 0

    def node(self, node: Tree, left: Mapping[str, list[tuple[int, ...]]], unseen: frozenset[str]) -> None:
        match node:
            case Leaf():
                first = all(self.at[d] == 0 for d in unseen)
                for f, q in ((f, q) for f, points in left.items() for q in points if first):
                    self.found[f, q] = Moment(self.kernel, self.block, self.thread, self.waits, self.turn)
                    self.turn += 1
            case Filter(inside, child):
                self.node(child, {f: left[f] for f in inside}, unseen)
            case InOrder(children, waits):
                for k, c in enumerate(children):
                    self.node(c, left, unseen)
                    self.waits += k in waits
            case Band():
                self.band(node, left, unseen)
            case Promote() | Local() | Stage():
                self.node(node.child, left, unseen)

    def band(self, node: Band, left: Mapping[str, list[tuple[int, ...]]], unseen: frozenset[str]) -> None:
        one, rest = node.members[0], node.members[1:]
        below = Band(rest, node.child) if rest else node.child

        def time(f: str, q: tuple[int, ...]) -> int:
            return _value(one, f, self.dims[f], q, self.sizes)

        times = {time(f, q) for f, _ in one.times for q in self.every[f]}
        for t in [self.at[one.name]] if one.run in DIGITS else sorted(times):
            self.node(below, {f: [q for q in qs if time(f, q) == t] for f, qs in left.items()}, unseen - {one.name})


def raced(p: Program, sizes: Mapping[str, int], tree: Tree) -> Pair | None:
    """A pair of instances whose order, or being apart, nothing keeps."""
    at = moments(p, sizes, tree)
    for why, pairs in ordered_pairs(p, sizes).items():
        for a, b in sorted(pairs):
            if not (at[a].before(at[b]) or (why == "relaxed" and at[b].before(at[a]))):
                return a, b
    return None


def _kernels(tree: Tree) -> Iterator[Tree]:
    match tree:
        case InOrder(children):
            for c in children:
                yield from (Filter(c.families, t) for t in _kernels(c.child))
        case _:
            yield tree


def _members(tree: Tree) -> Iterator[Member]:
    match tree:
        case Leaf():
            return
        case InOrder(children):
            for c in children:
                yield from _members(c)
        case Band(members, child):
            yield from members
            yield from _members(child)
        case _:
            yield from _members(tree.child)
