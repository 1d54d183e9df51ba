# SPDX-License-Identifier: MIT
"""Schedules of one program: what the compiler chooses under several options, and random legal transform sequences.

Each candidate tree is first asked of the oracle; those that it refuses are kept, as faults that execution should show.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import numpy as np

from codegen.c import Source, emit
from codegen.lower import lower
from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.errors import Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Array, Domain, Program, Range, Role, Statement
from polyhedral.ir.tree import Band, Filter, Leaf, Member, Promote, Run, Tree, bands
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.machine.target import Target, host
from polyhedral.oracle.legality import Pairs, obligations, violation
from polyhedral.pipeline import Analyzed, analyze
from polyhedral.scheduling.schedule import original
from polyhedral.sets.isl_schedule import isl_schedule
from polyhedral.transforms.tile import tile
from polyhedral.transforms.wavefront import wavefront
from tests.properties.batch import Kernel, draw_strides, layouts_of

COMPILED = {
    "default": Options(threads=2),
    "serial": Options(threads=1, parallel=False, tile=0),
    "small tiles": Options(threads=2, tile=2),
    "register tiles": Options(threads=2, plan_above=1),
    "narrow vectors": Options(threads=2, plan_above=1),
    "checked": Options(threads=1, checked=True),
}
NARROW = Target("narrow", vector=16, registers=16, l3=0, cores=2, masked=True)
"""Short vectors, so that small extents fill them, and no last cache, so that every result may be stored past it."""


@dataclass
class Proposals:
    """Trees for one program: `legal` as (what, tree), `refused` as (what, tree, why)."""

    program: Program
    rng: random.Random
    analyzed: Analyzed = field(init=False)
    pairs: tuple[Pairs, ...] = field(init=False)
    refused: list[tuple[str, Tree, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.analyzed = analyze(self.program)
        self.pairs = obligations(self.program)

    def accepts(self, what: str, tree: Tree) -> bool:
        why = violation(self.program, tree, self.pairs)
        if why is not None:
            self.refused.append((what, tree, str(why)))
        return why is None

    def starts(self) -> Iterator[tuple[str, Tree]]:
        """The order of the text, isl's schedule of everything at once, and the compiler's."""
        fr, deps = self.analyzed.frame, self.analyzed.dependences
        yield "as written", original(fr.families)
        for proximity in (deps.proximity, None):
            found = isl_schedule(fr, fr.families, deps.validity, deps.coincidence, proximity, operations=300_000)
            if found is not None:
                yield "isl", found

    def legal(self, steps: int = 4) -> tuple[str, Tree] | None:
        """A random legal tree: a legal start, then transforms, each kept only if the oracle agrees."""
        legal = [(what, t) for what, t in self.starts() if self.accepts(what, t)]
        if not legal:
            return None
        what, tree = self.rng.choice(legal)
        for _ in range(self.rng.randint(0, steps)):
            how, changed = transformed(tree, self.rng)
            if changed != tree and self.accepts(f"{what}, {how}", changed):
                what, tree = f"{what}, {how}", changed
        return what, tree


# --- transforms ------------------------------------------------------------------------------------------------------


def transformed(tree: Tree, rng: random.Random) -> tuple[str, Tree]:
    """One random change of one band or sequence, legal or not."""
    found = [b for b in bands(tree) if b.members]
    sequences = list(_sequences(tree))
    if sequences and (not found or rng.random() < 0.15):
        chosen = rng.choice(sequences)
        children = list(chosen.children)
        i = rng.randrange(len(children) - 1) if len(children) > 1 else 0
        children[i : i + 2] = children[i : i + 2][::-1]
        return "swap", substituted(tree, chosen, InOrder(tuple(children)))
    if not found:
        return "nothing", tree
    band = rng.choice(found)
    how = rng.choice(list(CHANGES))
    return how, substituted(tree, band, CHANGES[how](band, rng))


def _tile(b: Band, rng: random.Random) -> Tree:
    return tile(b, [rng.choice((0, 2, 2, 3, 32)) for _ in b.members])


def _interchange(b: Band, rng: random.Random) -> Tree:
    return replace(b, members=tuple(rng.sample(b.members, len(b.members))))


def _wavefront(b: Band, rng: random.Random) -> Tree:
    return wavefront(b) if len(b.members) > 1 else b


def _mark(b: Band, rng: random.Random) -> Tree:
    at, run = rng.randrange(len(b.members)), rng.choice((Run.PARALLEL, Run.PARALLEL, Run.VECTOR, Run.LANES, Run.UNROLL))
    return replace(b, members=tuple(replace(m, run=run) if i == at else m for i, m in enumerate(b.members)))


def _reverse(b: Band, rng: random.Random) -> Tree:
    at = rng.randrange(len(b.members))

    def turned(m: Member) -> Member:
        return replace(m, times=tuple((f, -t) for f, t in m.times))

    return replace(b, members=tuple(turned(m) if i == at else m for i, m in enumerate(b.members)))


def _skew(b: Band, rng: random.Random) -> Tree:
    if len(b.members) < 2:
        return b
    i, j = rng.sample(range(len(b.members)), 2)
    by = rng.choice((1, 2, -1))
    times = tuple((f, t + b.members[i].time(f) * by) for f, t in b.members[j].times)
    return replace(b, members=tuple(replace(m, times=times) if k == j else m for k, m in enumerate(b.members)))


def _split(b: Band, rng: random.Random) -> Tree:
    if len(b.members) < 2:
        return b
    at = rng.randrange(1, len(b.members))
    return replace(b, members=b.members[:at], child=replace(b, members=b.members[at:]))


CHANGES: Mapping[str, Callable[[Band, random.Random], Tree]] = {
    "tile": _tile, "interchange": _interchange, "wavefront": _wavefront, "mark": _mark, "reverse": _reverse,
    "skew": _skew, "split": _split, "parallel": _mark,
}  # fmt: skip


def _sequences(tree: Tree) -> Iterator[InOrder]:
    match tree:
        case Leaf():
            return
        case InOrder(children):
            yield tree
            for c in children:
                yield from _sequences(c)
        case Filter(_, child) | Promote(_, child) | Band(_, child):
            yield from _sequences(child)


def substituted(tree: Tree, old: Tree, new: Tree) -> Tree:
    """The tree with the node `old` (by identity) replaced."""
    if tree is old:
        return new
    match tree:
        case Leaf():
            return tree
        case InOrder(children):
            return InOrder(tuple(Filter(c.families, substituted(c.child, old, new)) for c in children))
        case Filter(_, child) | Promote(_, child) | Band(_, child):
            return replace(tree, child=substituted(child, old, new))


# --- programs ------------------------------------------------------------------------------------------------------


def interned(p: Program) -> Program:
    """Equal sub-expressions of a statement as one node."""

    def one(s: Statement) -> Statement:
        known: dict[ex.Expr, ex.Expr] = {}
        return replace(s, value=ex.rewrite(s.value, lambda e: known.setdefault(e, e)))

    return replace(p, statements=tuple(one(s) for s in p.statements))


def symbolic(p: Program, chosen: int) -> tuple[Program, dict[str, int]]:
    """The same program with one extent, wherever it bounds a range or an array, as a size `n` of that value."""
    n = aff.size("n")

    def one(e: Affine) -> Affine:
        return n if e == aff.const(chosen) else e

    arrays = tuple(replace(a, dims=tuple((d, one(e)) for d, e in a.dims)) for a in p.arrays)
    statements = tuple(
        replace(s, domain=Domain(tuple(Range(r.dim, r.lo, one(r.hi)) for r in s.domain.ranges), s.domain.guard))
        for s in p.statements
    )
    return replace(p, sizes=("n",), arrays=arrays, statements=statements), {"n": chosen}


# --- kernels ---------------------------------------------------------------------------------------------------------


def kernels(
    p: Program,
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    rng: random.Random,
    runs: Sequence[str],
    free: int = 1,
    alternative: tuple[Program, Mapping[str, int]] | None = None,
) -> Iterator[Kernel]:
    """The program under some of the compiler's options, and `free` random legal trees; `alternative` is the same one
    with a symbolic size, compiled with strides that are only known at run time.
    """
    for what in runs:
        yield compiled(p, {}, inputs, expected, rng, what)
    if alternative is not None:
        with suppress(Unsupported):  # for other sizes the equations may have no order
            yield compiled(alternative[0], alternative[1], inputs, expected, rng, rng.choice(list(COMPILED)))
    if free:
        proposals = Proposals(p, rng)
        for _ in range(free):
            found = proposals.legal()
            if found is not None:
                yield from_tree(proposals.analyzed, inputs, expected, rng, *found)


def compiled(p: Program, sizes: Mapping[str, int], inputs, expected, rng: random.Random, what: str) -> Kernel:  # type: ignore[no-untyped-def]
    """What the driver makes of a program under one choice of options; it lays out temporaries itself."""
    outside = [a for a in p.arrays if a.role not in (Role.TEMPORARY, Role.CONSTANT)]
    strides = {a.name: draw_strides(rng, a, sizes, plain=rng.random() < 0.4) for a in outside}
    at_run_time = bool(sizes) or rng.random() < 0.15
    machine = NARROW if what == "narrow vectors" else host(2)
    with patch.object(session, "_target", lambda root, cores: replace(machine, cores=cores)):
        built = driver.lower(p, layouts_of(p, strides, at_run_time=at_run_time), COMPILED[what])
    for a in built.program.arrays:
        if a.name not in strides:
            strides[a.name] = own_strides(a, built.layouts[a.name], sizes)
    described = f"{what}{' (symbolic)' if sizes else ''}"
    return Kernel(p, built.program.arrays, sizes, built.source, strides, inputs, expected, described, rng.randint(1, 2))


def own_strides(a: Array, layout: Layout, sizes: Mapping[str, int]) -> dict[str, int]:
    """The strides of a layout that the driver chose; those it left to run time are dense in its order."""
    strides: dict[str, int] = {}
    step = 1
    for d in reversed(layout.order):
        given = layout.stride(d)
        strides[d] = given if isinstance(given, int) else step
        step = max(step, abs(strides[d]) * max(aff.evaluate(dict(a.stored)[d], {}, sizes), 1))
    return strides


def from_tree(a: Analyzed, inputs, expected, rng: random.Random, what: str, tree: Tree) -> Kernel:  # type: ignore[no-untyped-def]
    """The kernel of a given tree."""
    p = a.program
    strides = {x.name: draw_strides(rng, x, {}, plain=rng.random() < 0.4) for x in p.arrays}
    layouts = layouts_of(p, strides, at_run_time=False)
    source: Source = emit(p, a.frame.families, lower(a.frame, tree), layouts)
    return Kernel(p, p.arrays, {}, source, strides, inputs, expected, what, rng.randint(1, 2))
