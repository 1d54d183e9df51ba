# SPDX-License-Identifier: MIT
"""Layouts and trees that hints ask for; each hint is judged by the oracle before it is applied.

Which hints are legal is `polyhedral.questions.legal`' to say, which trees they stand for
`polyhedral.questions.proposals`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from frontend.lowering.hints import Hints
from polyhedral.errors import ArgumentError
from polyhedral.ir import affine as aff
from polyhedral.ir.cluster import components
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Program, Role
from polyhedral.ir.tree import Band, Filter, Run, Tree, bands, members_of
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import Analyzed
from polyhedral.questions.answers import Answer, Asked
from polyhedral.questions.legal import fuse, parallel, tile
from polyhedral.questions.proposals import Part, Shape, fused, nest, within
from polyhedral.scheduling.schedule import original
from polyhedral.transforms.vectorise import vectorise


def hinted_layouts(p: Program, chosen: Hints) -> dict[str, Layout]:
    """The layouts asked for, of results and intermediates."""
    found: dict[str, Layout] = {}
    for array, order in chosen.layouts:
        a = next((a for a in p.arrays if a.name == array), None)
        if a is None:
            raise ArgumentError(
                "PH402", f"{p.name} has no tensor {array!r}", hints=(f"it has {', '.join(a.name for a in p.arrays)}",)
            )
        if sorted(order) != sorted(a.dim_names):
            raise ArgumentError(
                "PH402",
                f"layout({array!r}, {' '.join(order)!r}): {array} has {{{', '.join(a.dim_names)}}}",
                hints=("name each dim once",),
            )
        if a.role in (Role.INPUT, Role.INOUT, Role.CONSTANT):
            raise ArgumentError(
                "PH403",
                f"layout({array!r}): {array} is an input, and inputs keep the caller's strides at present",
                hints=(f"pass {array} as an array laid out as {' '.join(order)}",),
            )
        found[array] = row_major(a, order)
    return found


# --- schedules -------------------------------------------------------------------------------------------------------


def apply_hints(analyzed: Analyzed, tree: Tree, chosen: Hints) -> Tree:
    """The tree with every hint applied; LegalityError PH401 with the dependence, a witness and a remedy for one that is
    not legal.  `tree` is the whole program's, one cluster after the other, as `polyhedral.scheduling`
    makes it."""
    if not chosen.nests:
        return tree
    q = Asked(analyzed)
    shapes = _shapes(q, chosen)
    parts = _clusters(q, tree)
    groups = _groups(q, chosen)
    for statement, shape in shapes.items():
        group = next((g for g in groups if statement in g), None)
        if group is None:
            cluster = q.cluster(statement)
            parts[cluster] = _alone(q, statement, shape, parts[cluster])
    for group in groups:
        old = {s: parts.pop(q.cluster(s)) for s in group}
        parts[tuple(group)] = _together(q, group, chosen, shapes, old)
    made = _assembled(q, parts)
    wrong = violation(analyzed.program, made, q.pairs)
    if wrong is not None:
        raise _refused(str(chosen), tuple(shapes), str(wrong)).error()
    return made


def _refused(question: str, statements: tuple[str, ...], why: str) -> Answer:
    return Answer(question, False, statements or ("program",), None, (why,))


def _shapes(q: Asked, chosen: Hints) -> dict[str, Shape]:
    """What is asked of each statement, each hint judged on its own first so that an error names the one at fault."""
    shapes: dict[str, Shape] = {}
    for name, by in chosen.skews:
        s = q.statement(name)
        for d, e in by:
            q.dim(s, d)
            for other in aff.dims_of(e):
                q.dim(s, other)
        old = shapes.get(s, Shape())
        shapes[s] = replace(old, skews=(*old.skews, *by))
    for name, sizes in chosen.tiles:
        s = q.statement(name)
        old = shapes.get(s, Shape())
        answer = tile(q, name, dict(sizes), dict(old.skews))
        if not answer:
            raise answer.error()
        shapes[s] = replace(old, tiles=(*old.tiles, *sizes))
    for dim, name in chosen.parallels:
        answer = parallel(q, dim, name)
        if not answer and not shapes:
            raise answer.error()
        for s in _having(q, dim, name):
            shapes[s] = replace(shapes.get(s, Shape()), parallel=dim)
    return shapes


def _having(q: Asked, dim: str, name: str | None) -> list[str]:
    """The statements that a parallel hint is about; where a dim is reduced, only a hint by name means it."""
    if name is not None:
        return [q.statement(name)]
    return [s.name for s in q.analyzed.program.statements if dim in q.families(s.name)[-1].dims]


def _clusters(q: Asked, tree: Tree) -> dict[tuple[str, ...], Tree]:
    """The part of the tree that orders each cluster."""
    if len(q.clusters) == 1:
        return {q.clusters[0]: tree}
    assert isinstance(tree, InOrder)
    names = {f.id: f.statement.name for f in q.analyzed.frame.families}
    found = {frozenset(names[f] for f in c.families): c.child for c in tree.children}
    return {c: found[frozenset(c)] for c in q.clusters}


def _assembled(q: Asked, parts: Mapping[tuple[str, ...], Tree]) -> Tree:
    """Clusters one after the other, in an order that the dependences allow."""
    owner = {s: str(i) for i, c in enumerate(parts) for s in c}
    edges = [(owner[a], owner[b]) for a, b in q.analyzed.dependences.edges if owner[a] != owner[b]]
    trees = {str(i): (c, t) for i, (c, t) in enumerate(parts.items())}
    rank = [s.name for s in q.analyzed.program.statements]
    nodes = sorted(trees, key=lambda i: min(rank.index(s) for s in trees[i][0]))
    order = [i for c in components(nodes, edges) for i in c]
    filters = [Filter(tuple(f.id for f in q.families(*trees[i][0])), trees[i][1]) for i in order]
    return filters[0].child if len(filters) == 1 else InOrder(tuple(filters))


# --- one cluster -----------------------------------------------------------------------------------------------------


def _alone(q: Asked, statement: str, shape: Shape, old: Tree) -> Tree:
    """One statement in the shape asked for; its parallel dim outermost if that is legal, else where it stands."""
    cluster = q.cluster(statement)
    family = q.families(statement)[-1].id
    if len(cluster) > 1:
        made = within(original(q.families(*cluster)), family, shape)
        tries = [made] if made is not None else []
    else:
        firsts = ((shape.parallel,), ()) if shape.parallel and not shape.tiles and not shape.skews else ((),)
        tries = [nest(_part(q, statement, replace(shape, first=first), old)) for first in firsts]
    for tree in tries:
        if q.legal(tree, cluster):
            return _finished(q, tree, cluster, old, shape.parallel is None)
    raise _refusal(q, f"the nest asked for {statement}", tries, cluster).error()


def _refusal(q: Asked, question: str, tries: Sequence[Tree], statements: tuple[str, ...]) -> Answer:
    if not tries:
        return _refused(question, statements, "other statements stand between its loops")
    _, found = next(iter(q.violations(tries[-1], statements)))
    return replace(_refused(question, statements, str(found)), violation=found)


def _part(q: Asked, statement: str, shape: Shape, old: Tree) -> Part:
    """The statement, its dims in the order that the schedule chose from strides."""
    part = q.part(statement, shape)
    if not part.simple:
        return part
    at: dict[str, int] = {}
    for i, m in enumerate(members_of(old, part.main.id)):
        at |= dict.fromkeys(aff.dims_of(m.time(part.main.id)), i)
    return replace(part, order=tuple(sorted(part.order, key=lambda d: at.get(d[0], 0))))


def _finished(q: Asked, tree: Tree, statements: Sequence[str], old: Tree, free: bool) -> Tree:
    """Cores and lanes where the old tree had them, as far as the oracle allows."""
    runs = {m.run for b in bands(old) for m in b.members}
    if free and Run.PARALLEL in runs and isinstance(tree, Band):
        for i in range(len(tree.members)):
            members = tuple(replace(m, run=Run.PARALLEL) if i == k else m for k, m in enumerate(tree.members))
            marked = replace(tree, members=members)
            if q.legal(marked, statements):
                tree = marked
                break
    if Run.VECTOR in runs and q.legal(vectorise(tree), statements):
        return vectorise(tree)
    return tree


# --- fused statements ------------------------------------------------------------------------------------------------


def _groups(q: Asked, chosen: Hints) -> list[tuple[str, ...]]:
    """Statements that fusions tie together, in program order."""
    groups: list[set[str]] = []
    for one, two, _ in chosen.fusions:
        both = {q.statement(one), q.statement(two)}
        for s in both:
            if len(q.cluster(s)) > 1:
                raise _refused(
                    f"fusing {one} and {two}", tuple(both), f"{s} is computed in one cycle with {q.cluster(s)}"
                ).error()
        touching = [g for g in groups if g & both]
        groups = [g for g in groups if g not in touching] + [both.union(*touching)]
    flat = [s for c in q.clusters for s in c]
    return [tuple(sorted(g, key=flat.index)) for g in groups]


def _together(
    q: Asked, group: Sequence[str], chosen: Hints, shapes: Mapping[str, Shape], old: Mapping[str, Tree]
) -> Tree:
    """A group of statements under the loops that all its fusions share."""
    at: tuple[str, ...] | None = None
    for one, two, dims in chosen.fusions:
        if q.statement(one) in group:
            answer = fuse(q, one, two, dims, shapes)
            if not answer:
                raise answer.error()
            assert isinstance(answer.tree, Band)
            mine = dims or tuple(m.name.removesuffix("_tile") for m in answer.tree.members)
            at = mine if at is None else tuple(d for d in at if d in mine)
    parts = [_part(q, s, shapes.get(s, Shape()), old[s]) for s in group]
    tree = fused(parts, at or ())
    if not q.legal(tree, group):
        raise _refusal(q, f"fusing {' and '.join(group)}", [tree], tuple(group)).error()
    free = not any(p.shape.parallel for p in parts)
    return _finished(q, tree, group, InOrder(tuple(Filter((), t) for t in old.values())), free)
