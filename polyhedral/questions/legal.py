# SPDX-License-Identifier: MIT
"""Questions of legality as values: may this be tiled, fused, run in parallel, and if not, what would make it legal.

Each question builds the tree that is asked for (`polyhedral.questions.proposals`) and hands it to the oracle; every
remedy has been there too before it is told.  Applying an answer is left to `frontend.lowering.hints`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence

from polyhedral.errors import ArgumentError, DimError
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.tree import Tree
from polyhedral.oracle.legality import Pairs, Violation
from polyhedral.questions.answers import Answer, Asked, Remedy, distance_of, length
from polyhedral.questions.fusing import fuse
from polyhedral.questions.proposals import Shape, nest, step, within
from polyhedral.scheduling.schedule import original

__all__ = ["Answer", "Asked", "Remedy", "fuse", "parallel", "tile", "vectorise"]

STEEPEST = 4
"""Skewing factors that are tried."""


def proposal(q: Asked, statement: str, shape: Shape) -> tuple[Tree | None, tuple[str, ...]]:
    """The tree of a statement's cluster in the shape asked for; None where its loops hold other statements."""
    cluster = q.cluster(statement)
    if len(cluster) == 1:
        return nest(q.part(statement, shape)), cluster
    fs = q.families(*cluster)
    written = original(fs)
    return within(written, q.families(statement)[-1].id, shape) if q.legal(written, cluster) else None, cluster


def tile(q: Asked, name: str, sizes: Mapping[str, int], skews: Mapping[str, Affine] | None = None) -> Answer:
    """May the loops of a statement be tiled, in the order of `sizes` (optionally after a skew)?"""
    s = q.statement(name)
    for d, n in sizes.items():
        q.dim(s, d)
        if n < 1:
            raise ArgumentError(
                "PH402", f"tile size {d}={n} of {name} is not positive", hints=(f"{d}=8",), dim=d, statement=s
            )
    shape = Shape(tiles=tuple(sizes.items()), skews=tuple((skews or {}).items()))
    shown = ", ".join(f"{d}={n}" for d, n in sizes.items())
    question = f"tiling {name} by ({shown})" + "".join(f" after skewing {d} by {e}" for d, e in (skews or {}).items())
    tree, cluster = proposal(q, s, shape)
    if tree is None:
        return _entangled(q, question, s, cluster, tuple(sizes))
    broken = list(q.violations(tree, cluster))
    if not broken:
        return Answer(question, True, cluster, tree, hint=f'tile("{name}", {shown})')
    pair, found = min(broken, key=lambda b: length(b[1]))
    distance = distance_of(pair, found, tuple(sizes))
    remedies = tuple(_tile_remedies(q, name, s, dict(sizes))) if not skews else ()
    return Answer(
        question,
        False,
        cluster,
        tree,
        (_apart(name, pair, found, distance),),
        found,
        distance,
        _deltas(q, s, tuple(sizes)),
        remedies,
    )


def _entangled(q: Asked, question: str, s: str, cluster: Sequence[str], dims: Sequence[str]) -> Answer:
    others = ", ".join(c for c in cluster if c != s)
    if not q.legal(original(q.families(*cluster)), cluster):
        why = f"{s} and {others} are computed in one cycle, in an order that was searched for, not written"
        return Answer(question, False, tuple(cluster), None, (why,))
    why = f"the loops {', '.join(dims)} of {s} hold {others} too, and not all between the same two places"
    remedies = (Remedy(f"ask for one of {', '.join(dims)} at a time"),) if len(dims) > 1 else ()
    return Answer(question, False, tuple(cluster), None, (why,), remedies=remedies)


def _tile_remedies(q: Asked, name: str, s: str, sizes: dict[str, int]) -> Iterator[Remedy]:
    skews = _skews(q, s, tuple(sizes))
    if skews:
        tree, cluster = proposal(q, s, Shape(tiles=tuple(sizes.items()), skews=tuple(skews.items())))
        if q.legal(tree, cluster):
            words = " and ".join(f"{d} by {e} ({d}' = {d} + {e})" for d, e in skews.items())
            arguments = ", ".join(f"{d}={e}" for d, e in skews.items())
            yield Remedy(f"legal after skewing {words}", f'skew("{name}", {arguments})')
    for d in sizes:
        rest = {e: n for e, n in sizes.items() if e != d}
        if rest and not skews:
            tree, cluster = proposal(q, s, Shape(tiles=tuple(rest.items())))
            if q.legal(tree, cluster):
                shown = ", ".join(f"{e}={n}" for e, n in rest.items())
                yield Remedy(f"legal without tiling {d}", f'tile("{name}", {shown})')


def _skews(q: Asked, s: str, dims: tuple[str, ...]) -> dict[str, Affine]:
    """For each dim along which some pair steps back: the multiple of another one that makes it step forth."""
    own = [p for p in q.between(s) if not p.relaxed and set(dims) <= set(p.first.dims) & set(p.then.dims)]
    found: dict[str, Affine] = {}
    for d in dims:
        if not any(_negative(p, step(p, d)) for p in own):
            continue
        for factor, by in ((f, e) for f in range(1, STEEPEST + 1) for e in dims if e != d):
            along = aff.var(d) + aff.var(by) * factor
            if not any(_negative(p, step(p, d, along)) for p in own):
                found[d] = aff.var(by) * factor
                break
    return found


def _negative(p: Pairs, e: Affine) -> bool:
    return not p.points.where(aff.at_least(-e, 1)).is_empty()


def _apart(name: str, pair: Pairs, v: Violation, distance: Sequence[tuple[str, int]]) -> str:
    """`u(t,x) -> u(t+1,x-1) has distance (1,-1), negative in x`; the pair itself where it has no distance."""
    if not distance or pair.first.statement.name != pair.then.statement.name:
        return str(v)
    source = ",".join(d for d, _ in distance)
    sink = ",".join(d + (f"{n:+d}" if n else "") for d, n in distance)
    numbers = ",".join(str(n) for _, n in distance)
    negative = [d for d, n in distance if n < 0]
    tail = f", negative in {' and '.join(negative)}" if negative else f", and {v.why}"
    return f"{name}({source}) -> {name}({sink}) has distance ({numbers}){tail}"


def _deltas(q: Asked, s: str, dims: Sequence[str]) -> str | None:
    """All distances of a statement to itself, over some dims: `{(1,x): -1<=x<=1}`."""
    own = [p for p in q.flow if p.first.statement.name == s == p.then.statement.name and not p.relaxed]
    own = [p for p in own if set(dims) <= set(p.first.dims) & set(p.then.dims)]
    if not own:
        return None
    head: list[str] = []
    bounds: list[str] = []
    for d in dims:
        ends = [_ends(p, step(p, d)) for p in own]
        lows, highs = [e[0] for e in ends], [e[1] for e in ends]
        low = min((v for v in lows if v is not None), default=None) if None not in lows else None
        high = max((v for v in highs if v is not None), default=None) if None not in highs else None
        head.append(str(low) if low is not None and low == high else d)
        if head[-1] == d:
            bounds.append((f"{low}<=" if low is not None else "") + d + (f"<={high}" if high is not None else ""))
    return f"{{({','.join(head)}): {', '.join(b for b in bounds if '<' in b)}}}".replace(": }", "}")


def _ends(p: Pairs, e: Affine) -> tuple[int | None, int | None]:
    """The least and greatest value of a distance for all sizes, where they are numbers."""
    low, high = p.points.image({"d": e}).bounds("d")
    ends: list[int | None] = []
    for pieces, pick in ((low, min), (high, max)):
        numbers = [a.const for _, a in pieces if a.is_const]
        ends.append(pick(numbers) if numbers and len(numbers) == len(pieces) else None)
    return ends[0], ends[1]


# --- parallel and vector loops ---------------------------------------------------------------------------------------


def parallel(q: Asked, dim: str, name: str | None = None) -> Answer:
    """May the iterations of a dim run at once (in one statement, or in all that have it)?"""
    return _at_once(q, dim, name, "running {} in parallel", lambda first: Shape(first=first, parallel=dim), "parallel")


def vectorise(q: Asked, dim: str, name: str | None = None) -> Answer:
    """May the iterations of a dim be the lanes of a vector?"""
    return _at_once(q, dim, name, "running {} in vector lanes", lambda first: Shape(vector=dim), None)


def _at_once(
    q: Asked, dim: str, name: str | None, words: str, shape: Callable[[tuple[str, ...]], Shape], verb: str | None
) -> Answer:
    every = [s.name for s in q.analyzed.program.statements]
    wanted = [q.statement(name)] if name else [s for s in every if dim in q.families(s)[-1].dims]
    if not wanted:
        have = list(dict.fromkeys(d for s in every for d in q.families(s)[-1].dims))
        near = difflib.get_close_matches(dim, have, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"its dims are {', '.join(have)}"
        raise DimError("PH001", f"{q.analyzed.program.name} has no dimension named {dim!r}", dim=dim, hints=(hint,))
    question = words.format(dim) + (f" in {name}" if name else "")
    inside: list[str] = []
    tree: Tree | None = None
    for s in wanted:
        q.dim(s, dim)
        answer = _one_at_once(q, dim, s, question, shape, verb)
        if not answer:
            return answer
        inside += answer.reasons
        tree = answer.tree
    return Answer(
        question,
        True,
        tuple(wanted),
        tree if len(wanted) == 1 else None,
        tuple(dict.fromkeys(inside)),
        hint=f"{verb}({dim})" if verb else None,
    )


def _one_at_once(
    q: Asked, dim: str, s: str, question: str, shape: Callable[[tuple[str, ...]], Shape], verb: str | None
) -> Answer:
    broken: list[tuple[Pairs, Violation]] = []
    cluster = q.cluster(s)
    for first in ((dim,), ()):
        tree, cluster = proposal(q, s, shape(first))
        if tree is None:
            return _entangled(q, question, s, cluster, (dim,))
        broken = list(q.violations(tree, cluster))
        if not broken:
            carried = () if first or verb is None else _carriers(q, s, dim)
            return Answer(question, True, cluster, tree, carried)
    pair, found = min(broken, key=lambda b: length(b[1]))
    family = q.families(s)[-1]
    why = _apart(s, pair, found, distance_of(pair, found, family.dims))
    if pair.relaxed:
        why = f"{dim} is reduced: all its iterations add to one cell of {pair.array}"
    others = [d for d in family.dims if d != dim and verb and _may_be_parallel(q, s, d)]
    remedies = tuple(Remedy(f"legal for {d}", f"{verb}({d})") for d in others)
    return Answer(question, False, cluster, tree, (why,), found, distance_of(pair, found, family.dims), None, remedies)


def _may_be_parallel(q: Asked, s: str, d: str) -> bool:
    shapes = (Shape(first=(d,), parallel=d), Shape(parallel=d))
    return any(q.legal(*proposal(q, s, shape)) for shape in shapes)


def _carriers(q: Asked, s: str, dim: str) -> tuple[str, ...]:
    order = q.part(s).dims()
    outer = order[: order.index(dim)]
    return (f"in {s} inside {', '.join(outer)}",) if outer else ()
