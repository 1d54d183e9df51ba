# SPDX-License-Identifier: MIT
"""The statement graph: statements as boxes in the loop nests that run them, arrays on the ways between, with bytes.

Reads a program and its tree; how shapes are written is `frontend.pictures.svg`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod

from frontend.pictures.svg import LINE, PAD, arrow, dot, label, path, picture, rect, width_of
from frontend.units import readable
from polyhedral.ir import affine as aff
from polyhedral.ir.program import Array, Program, Role, Statement, reads
from polyhedral.ir.tree import Band, Filter, Promote, Run, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.sets.instances import Kind, families
from polyhedral.whole.storage import steps

_GAP, _LANE = 10, 22


@dataclass(frozen=True)
class Cluster:
    """Statements of one top-level loop nest, and the loops that they share."""

    loops: str
    statements: tuple[tuple[str, str], ...]
    """Name and what it computes, in one line."""


@dataclass(frozen=True)
class Flow:
    """An array: its role, how large it is, who writes and who reads it."""

    array: str
    role: Role
    size: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    clusters: tuple[Cluster, ...]
    flows: tuple[Flow, ...]

    def __str__(self) -> str:
        lines: list[str] = []
        for k, c in enumerate(self.clusters):
            lines += [f"{k}: {c.loops}", *(f"   {n}: {what}" for n, what in c.statements)]
        for f in self.flows:
            ways = [
                f" from {', '.join(f.writers)}" if f.writers else "",
                f" to {', '.join(f.readers)}" if f.readers else "",
            ]
            lines.append(f"{f.role.value} {f.array}: {f.size}{''.join(ways)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        return {
            "clusters": [{"loops": c.loops, "statements": [n for n, _ in c.statements]} for c in self.clusters],
            "arrays": {
                f.array: {"role": f.role.value, "size": f.size, "from": list(f.writers), "to": list(f.readers)}
                for f in self.flows
            },
        }


def graph(p: Program, tree: Tree, sizes: Mapping[str, int]) -> Graph:
    """Who hands what to whom, in the order of the tree."""
    every = families(p)
    step = {f: k for k, s in enumerate(steps(tree)) for f in s}
    groups: dict[int, list[Statement]] = {}
    for f in every:
        if f.kind is not Kind.INIT:
            groups.setdefault(step.get(f.id, 0), []).append(f.statement)
    ids = {f.statement.name: f.id for f in every if f.kind is not Kind.INIT}
    clusters = tuple(
        Cluster(_loops(tree, ids[group[0].name]), tuple((s.name, _formula(s)) for s in group))
        for _, group in sorted(groups.items())
    )
    order = [n for c in clusters for n, _ in c.statements]
    return Graph(clusters, tuple(_flow(p, a, sizes, order) for a in p.arrays))


def _flow(p: Program, a: Array, sizes: Mapping[str, int], order: list[str]) -> Flow:
    named = {s.name: s for s in p.statements}
    writers = tuple(n for n in order if named[n].write.array == a.name)
    readers = tuple(n for n in order if any(load.array == a.name for load in reads(named[n])))
    return Flow(a.name, a.role, size_of(a, sizes), writers, readers)


def size_of(a: Array, sizes: Mapping[str, int]) -> str:
    """Bytes at known sizes, else the type and extents: what memory it takes."""
    if all(aff.sizes_of(e) <= sizes.keys() for _, e in a.stored):
        cells = prod(max(aff.evaluate(e, {}, sizes), 0) for _, e in a.stored)
        return readable(cells * a.dtype.numpy.itemsize)
    return f"{a.dtype}[{', '.join(f'{d}: {e}' for d, e in a.stored)}]"


def _formula(s: Statement) -> str:
    found = ", ".join(dict.fromkeys(load.array for load in reads(s)))
    how = f" = {s.op}[{', '.join(s.reduced)}] of " if s.op is not None else " from "
    return f"{s.write}{how}{found or 'no array'}"


def _loops(tree: Tree, family: str) -> str:
    """The outermost loops of the nest that a family stands in."""
    match tree:
        case InOrder(children):
            return next((_loops(c.child, family) for c in children if family in c.families), "once")
        case Filter(_, child) | Promote(_, child):
            return _loops(child, family)
        case Band(members, _):
            return "for " + ", ".join(
                m.name + (f" ({m.run.value})" if m.run is not Run.SERIAL else "") for m in members
            )
        case _:
            return "once"


# --- DOT -------------------------------------------------------------------------------------------------------------


def dot_text(g: Graph) -> str:
    lines = ["digraph statements {", "  node [shape=box, fontname=monospace];"]
    for k, c in enumerate(g.clusters):
        lines += [f"  subgraph cluster_{k} {{", f"    label={json.dumps(c.loops)};"]
        lines += [f"    {json.dumps(f's:{n}')} [label={json.dumps(n)}];" for n, _ in c.statements]
        lines.append("  }")
    for f in g.flows:
        shown = json.dumps(f"{f.array} ({f.size})")
        outer = json.dumps(f"a:{f.array}")
        if f.role is not Role.TEMPORARY:
            lines.append(f"  {outer} [label={shown}, shape=oval];")
        sources = [json.dumps(f"s:{w}") for w in f.writers] if f.role is Role.TEMPORARY else [outer]
        lines += [f"  {s} -> {json.dumps(f's:{r}')} [label={shown}];" for s in sources for r in f.readers]
        lines += [f"  {json.dumps(f's:{w}')} -> {outer};" for w in f.writers if f.role is not Role.TEMPORARY]
    return "\n".join([*lines, "}"])


# --- SVG -------------------------------------------------------------------------------------------------------------


class _Place(Enum):
    """Where a box stands: what comes from outside above, statements in their nests, what leaves below."""

    IN = "in"
    NEST = "nest"
    OUT = "out"


_Box = tuple[_Place, str]


@dataclass
class _Column:
    """Boxes from the top down: where each begins, and the line of each array at it; `y` is where the next one goes."""

    arrays: Mapping[_Box, tuple[str, ...]]
    width: float
    top: dict[_Box, float] = field(default_factory=dict[_Box, float])
    shapes: list[str] = field(default_factory=list[str])
    y: float = 4.0

    def add(self, who: _Box, text: str, kind: str, inset: float = 0) -> None:
        high = max(1.4 * LINE, 12 + 9 * len(self.arrays[who]))
        self.top[who] = self.y
        self.shapes.append(rect(kind, 4 + inset, self.y, self.width - 2 * inset, high))
        self.shapes.append(label(text, 4 + inset + PAD, self.y + LINE - 3))
        self.y += high + 5

    def nest(self, c: Cluster) -> None:
        self.y += _GAP / 2
        start, at = self.y, len(self.shapes)
        self.y += LINE + 4
        for name, what in c.statements:
            self.add((_Place.NEST, name), f"{name}: {what}", "statement", PAD)
        around = [rect("cluster", 4, start, self.width, self.y - start), label(c.loops, 4 + PAD, start + LINE - 3)]
        self.shapes[at:at] = around
        self.y += _GAP

    def port(self, who: _Box, array: str) -> float:
        return self.top[who] + 10 + 9 * self.arrays[who].index(array)


def svg(g: Graph) -> str:
    """Nests from the top down; to their right each array has a line of its own, from who writes it (a dot) to who reads
    it (arrows).
    """
    column = _column(g)
    left = far = 4 + column.width
    spans = {f.array: [column.port(e, f.array) for e in _ends(f)] for f in g.flows if _ends(f)}
    taken = [y for ys in spans.values() for y in ys]
    lanes: list[float] = []
    marks: list[str] = []
    for f in sorted((f for f in g.flows if f.array in spans), key=lambda f: min(spans[f.array])):
        lo, hi = min(spans[f.array]), max(spans[f.array])
        lane = next((i for i, until in enumerate(lanes) if until + LINE < lo), len(lanes))
        lanes[lane : lane + 1] = [hi]
        x, text = left + _LANE * (lane + 1), f"{f.array} {f.size}"
        column.shapes.append(path(f"M {x:.0f} {lo:.0f} V {hi:.0f}"))
        column.shapes += _ticks(f, column, left, x)
        at = _free(lo, hi, taken)
        taken.append(at)
        marks.append(label(text, x + 5, at + 4, "halo"))
        far = max(far, x + 5 + width_of(text))
    return picture([*column.shapes, *marks], far + PAD, column.y)


def _free(lo: float, hi: float, taken: Sequence[float]) -> float:
    """A height for the name of a line, near its middle, away from what crosses there."""
    middle = (lo + hi) / 2
    tries = sorted((middle + 3 * k for k in range(-40, 41)), key=lambda y: abs(y - middle))
    return next((y for y in tries if lo <= y <= hi and all(abs(y - t) >= 8 for t in taken)), middle)


def _ticks(f: Flow, column: _Column, left: float, x: float) -> Iterator[str]:
    for place, name in _ends(f):
        y = column.port((place, name), f.array)
        yield path(f"M {left:.0f} {y:.0f} H {x:.0f}")
        source = place is _Place.IN or (place is _Place.NEST and name in f.writers)
        yield dot(left + 3, y) if source else arrow(left, y)


def _ends(f: Flow) -> tuple[_Box, ...]:
    """Every box that a flow touches; what comes from outside, or leaves, has a box of its own."""
    comes = [(_Place.IN, f.array)] if f.role in (Role.INPUT, Role.INOUT, Role.CONSTANT) else []
    leaves = [(_Place.OUT, f.array)] if f.role in (Role.OUTPUT, Role.INOUT) else []
    return (*comes, *((_Place.NEST, n) for n in dict.fromkeys((*f.writers, *f.readers))), *leaves)


def _column(g: Graph) -> _Column:
    """Inputs, nests with their statements, outputs."""
    outer = {e: f"{f.role.value} {f.array}" for f in g.flows for e in _ends(f) if e[0] is not _Place.NEST}
    inner = {(_Place.NEST, n): f"{n}: {what}" for c in g.clusters for n, what in c.statements}
    touched = {b: tuple(f.array for f in g.flows if b in _ends(f)) for b in (*outer, *inner)}
    texts = (*outer.values(), *inner.values(), *(c.loops for c in g.clusters))
    column = _Column(touched, max(map(width_of, texts), default=0) + 4 * PAD)
    for b in (b for b in outer if b[0] is _Place.IN):
        column.add(b, outer[b], "array")
    for c in g.clusters:
        column.nest(c)
    for b in (b for b in outer if b[0] is _Place.OUT):
        column.add(b, outer[b], "array")
    return column
