# SPDX-License-Identifier: MIT
"""The question of fusion: may two statements share loops, and if not, at fewer dims, after a shift, or by recomputing?

Trees are built by `polyhedral.questions.proposals`; every remedy that is told has been to the oracle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from polyhedral.errors import ArgumentError
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.tree import Filter
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.oracle.legality import PRIME, Pairs, Violation
from polyhedral.questions.answers import Answer, Asked, Remedy, distance_of, length
from polyhedral.questions.proposals import Part, Shape, fused, nest, step
from polyhedral.sets.instances import Kind, is_memory


def common(q: Asked, one: str, two: str) -> tuple[str, ...]:
    """The dims that two statements could share loops over."""
    a, b = q.part(one), q.part(two)
    return tuple(d for d in a.dims() if d in a.kept and d in b.kept)


def fuse(
    q: Asked, one: str, two: str, at: Iterable[str] | None = None, shapes: Mapping[str, Shape] | None = None
) -> Answer:
    """May two statements share the loops over `at` (by default: all that they can)?"""
    s, t = q.statement(one), q.statement(two)
    if s == t:
        raise ArgumentError("PH402", f"{one} and {two} are one statement", hints=("name two statements",), statement=s)
    if at is None:
        shared: tuple[str, ...] = ()
        for d in common(q, s, t):
            if _fuse(q, (one, two), (s, t), (*shared, d), shapes or {}, remedies=False):
                shared = (*shared, d)
        return _fuse(q, (one, two), (s, t), shared or common(q, s, t), shapes or {})
    dims = tuple(at)
    for d in dims:
        for who in (s, t):
            q.dim(who, d)
            if d not in q.part(who).kept:
                why = f"{d} is reduced in {who}: its sum is only there after the whole loop over {d}"
                fewer = tuple(e for e in dims if e in common(q, s, t))
                hint = Remedy(f"fuse at ({', '.join(fewer)})") if fewer else None
                return Answer(_fusing(one, two, dims), False, (s, t), None, (why,), remedies=(hint,) if hint else ())
    return _fuse(q, (one, two), (s, t), dims, shapes or {})


def _fusing(one: str, two: str, at: Sequence[str]) -> str:
    return f"fusing {one} and {two}" + (f" at ({', '.join(at)})" if at else "")


def _fuse(
    q: Asked,
    names: tuple[str, str],
    pair: tuple[str, str],
    at: tuple[str, ...],
    shapes: Mapping[str, Shape],
    *,
    remedies: bool = True,
) -> Answer:
    question = _fusing(*names, at)
    parts = [q.part(n, shapes.get(n, Shape())) for n in _in_order(q, pair)]
    tree = fused(parts, at)
    among = [*pair, *_cut(q, pair)]
    if len(among) > 2:
        rest = [n for n in among if n not in pair]
        order = (
            Filter(tuple(f.id for f in q.families(*pair)), tree),
            *(Filter(q.part(n).ids, nest(q.part(n))) for n in rest),
        )
        tree = InOrder(order)
    broken = list(q.violations(tree, among))
    if not broken:
        return Answer(question, True, pair, tree, hint=f'fuse("{names[0]}", "{names[1]}", at="{" ".join(at)}")')
    found_pair, found = min(broken, key=lambda b: (b[0].first.kind is Kind.INIT, length(b[1])))
    held = ", ".join(n for n in among if n not in pair)
    reasons = (*_fusion_reasons(q, found_pair, found, at), *((f"{held} must run between the two",) if held else ()))
    found_remedies = (
        tuple(_fuse_remedies(q, pair, parts, at, [p for p, _ in broken])) if remedies and len(among) == 2 else ()
    )
    return Answer(question, False, pair, tree, reasons, found, distance_of(found_pair, found, at), None, found_remedies)


def _in_order(q: Asked, pair: tuple[str, str]) -> tuple[str, ...]:
    flat = [n for c in q.clusters for n in c]
    return tuple(sorted(pair, key=flat.index))


def _cut(q: Asked, pair: tuple[str, str]) -> list[str]:
    """Statements that must run after one of the two and before the other."""
    edges = q.analyzed.dependences.edges

    def reach(starts: set[str], forward: bool) -> set[str]:
        seen, queue = set[str](), list(starts)
        while queue:
            n = queue.pop()
            for a, b in edges:
                x, y = (a, b) if forward else (b, a)
                if x == n and y not in seen:
                    seen.add(y)
                    queue.append(y)
        return seen

    first, second = _in_order(q, pair)
    return sorted((reach({first}, True) & reach({second}, False)) - set(pair))


def _fusion_reasons(q: Asked, pair: Pairs, v: Violation, at: Sequence[str]) -> Iterator[str]:
    def shown(who: str, point: tuple[tuple[str, int], ...]) -> str:
        return f"{who}({', '.join(f'{d}={n}' for d, n in point)})"

    cell = _cell(pair, v)
    then, first = shown(v.then, v.then_at), shown(v.first, v.first_at)
    if pair.first.statement.write.array == v.array:
        yield f"{then} reads {v.array}{cell}, which {first} produces LATER in the fused order"
    else:
        yield f"{then} overwrites {v.array}{cell}, which {first} reads LATER in the fused order"
    ranges = [(d, *_reach(pair, d)) for d in at if d in pair.first.dims and d in pair.then.dims]
    words = [_range(d, low, high) for d, low, high in ranges if (low, high) != ("0", "0")]
    yield f"dependence {v.first} -> {v.then}: " + (f"reads {', '.join(words)}" if words else f"through {v.array}")


def _range(d: str, low: str, high: str) -> str:
    """`x .. x+K-1 (distance 0 .. K-1 in x)`."""

    def at(e: str) -> str:
        return d if e == "0" else f"{d}{e}" if e.startswith("-") else f"{d}+{e}"

    return (
        f"{at(low)} (distance {low} in {d})"
        if low == high
        else f"{at(low)} .. {at(high)} (distance {low} .. {high} in {d})"
    )


def _cell(pair: Pairs, v: Violation) -> str:
    """The cell that both touch, by its named index."""
    at = aff.both(
        *(aff.equal(aff.var(d), n) for d, n in v.first_at), *(aff.equal(aff.var(d + PRIME), n) for d, n in v.then_at)
    )
    sample = pair.points.where(at).sample()
    writer = pair.first if pair.first.statement.write.array == v.array else pair.then
    point = dict(v.first_at if writer is pair.first else v.then_at)
    if sample is None:
        return ""
    index = writer.statement.write.index
    return "(" + ", ".join(f"{d}={aff.evaluate(i, point, sample)}" for d, i in index) + ")"


def _reach(p: Pairs, d: str) -> tuple[str, str]:
    """How far ahead (as `K-1`) the first lies of the second along a dim: least and greatest."""
    low, high = p.points.image({"d": -step(p, d)}).bounds("d")

    def text(pieces: Sequence[tuple[object, Affine]]) -> str:
        return str(pieces[0][1]).replace(" ", "") if len({e for _, e in pieces}) == 1 else "?"

    return text(low), text(high)


def _fuse_remedies(
    q: Asked, pair: tuple[str, str], parts: Sequence[Part], at: tuple[str, ...], broken: Sequence[Pairs]
) -> Iterator[Remedy]:
    first, second = parts
    for n in range(len(at) - 1, 0, -1):
        if q.legal(fused(parts, at[:n]), pair):
            shown = ", ".join(at[:n])
            yield Remedy(f"fuse at ({shown})", f'fuse("{first.name}", "{second.name}", at="{" ".join(at[:n])}")')
            break
    shifts = _shifts(broken, second, at)
    if shifts:
        shape = replace(second.shape, skews=(*second.shape.skews, *shifts.items()))
        if q.legal(fused((first, replace(second, shape=shape)), at), pair):
            words = " and ".join(f"{second.name} by {str(e).replace(' ', '')} in {d}" for d, e in shifts.items())
            yield Remedy(f"shift {words}")
    p = q.analyzed.program
    if first.simple and not is_memory(p, first.main.statement.write.array):
        folds = [_reach(b, d)[1] for b in broken[:1] for d in at if d in b.first.dims and d in b.then.dims]
        known = [f for f in folds if f not in ("?", "0")]
        work = f" ({' * '.join(_plus_one(f) for f in known)}-fold work)" if known else ""
        yield Remedy(f"recompute {first.name}{work}")


def _plus_one(text: str) -> str:
    """How many instances a distance of 0 .. text spans: `K-1` gives `K`."""
    if text.lstrip("-").isdigit():
        return str(int(text) + 1)
    return text.removesuffix("-1") if text.endswith("-1") else f"({text}+1)"


def _shifts(broken: Sequence[Pairs], second: Part, at: Sequence[str]) -> dict[str, Affine]:
    """How much later the second must run, along each shared dim in which the first lies ahead."""
    found: dict[str, Affine] = {}
    for p in broken:
        for d in at:
            if d not in p.first.dims or d not in p.then.dims or p.then.statement.name != second.name:
                continue
            ends = {e for _, e in p.points.image({"d": -step(p, d)}).bounds("d")[1]}
            if len(ends) == 1:
                e = ends.pop()
                if not (e.is_const and e.const <= 0):
                    found[d] = e
    return found
