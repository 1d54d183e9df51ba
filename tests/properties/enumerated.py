# SPDX-License-Identifier: MIT
"""Dependences by enumeration: instances as Python tuples, no integer sets, nothing of `polyhedral.sets.dependences`.

Also the trace oracle: from the interpreter's access log alone, which order of instances keeps the program's meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.evaluate import points
from polyhedral.ir.interpreter import cell_domain
from polyhedral.ir.program import Program, Role, Statement
from polyhedral.ir.tree import Run, Tree, times
from polyhedral.sets.instances import Family, Kind, families

Point = tuple[int, ...]
Instance = tuple[str, Point]
Pair = tuple[Instance, Instance]


@dataclass(frozen=True)
class Touch:
    """An instance touches a cell; `any_cell` when data decides which (then `cell` holds None in those places)."""

    family: Family
    point: Point
    cell: tuple[int | None, ...]
    writes: bool

    @property
    def instance(self) -> Instance:
        return self.family.id, self.point


def instances_of(f: Family, sizes: Mapping[str, int]) -> list[Point]:
    """The points of a family, from the interpreter's own enumeration."""
    domain = cell_domain(f.statement) if f.kind is Kind.INIT else f.statement.domain
    found = points(domain, sizes)
    if not f.dims:
        return [()] if _rank_zero(f, domain, sizes) else []
    columns = [found[d].tolist() for d in f.dims]
    return list(dict.fromkeys(zip(*columns, strict=True)))


def _rank_zero(f: Family, domain: object, sizes: Mapping[str, int]) -> bool:
    condition = domain.condition  # type: ignore[attr-defined]
    return bool(aff.holds(condition, {}, sizes)) if not aff.condition_dims(condition) else True


def touches(p: Program, sizes: Mapping[str, int]) -> dict[str, list[Touch]]:
    """Every access of every instance, by array; branches whose affine condition fails do not read."""
    found: dict[str, list[Touch]] = {a.name: [] for a in p.arrays}
    for f in families(p):
        for point in instances_of(f, sizes):
            at = dict(zip(f.dims, point, strict=True))
            s = f.statement
            if f.kind is not Kind.INIT:
                for load in _loads(s.value, at, sizes):
                    index = tuple(aff.evaluate(i, at, sizes) if isinstance(i, Affine) else None for _, i in load.index)
                    extents = [aff.evaluate(e, {}, sizes) for _, e in p.array(load.array).dims]
                    if all(n > 0 if i is None else 0 <= i < n for i, n in zip(index, extents, strict=True)):
                        found[load.array].append(Touch(f, point, index, False))
            cell = tuple(aff.evaluate(i, at, sizes) for _, i in s.write.index)
            found[s.write.array].append(Touch(f, point, cell, True))
    return found


def _loads(e: ex.Expr, at: Mapping[str, int], sizes: Mapping[str, int]) -> Iterator[ex.Load]:
    if isinstance(e, ex.Load):
        yield e
    if isinstance(e, ex.Select):
        yield from _loads(e.cond, at, sizes)
        known = _truth(e.cond, at, sizes)
        if known is not False:
            yield from _loads(e.then, at, sizes)
        if known is not True:
            yield from _loads(e.other, at, sizes)
        return
    for c in ex.children(e):
        yield from _loads(c, at, sizes)


def _truth(e: ex.Expr, at: Mapping[str, int], sizes: Mapping[str, int]) -> bool | None:
    """The truth of the affine part of a condition, None where data decides."""
    match e:
        case ex.Test(c):
            return bool(aff.holds(c, at, sizes))
        case ex.Unary("not", a):
            inner = _truth(a, at, sizes)
            return None if inner is None else not inner
        case ex.Binary("and" | "or" as op, a, b):
            known = {_truth(a, at, sizes), _truth(b, at, sizes)}
            decides = op == "or"
            return decides if decides in known else None if None in known else not decides
        case _:
            return None


def time(s: Statement, at: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(at[p] if isinstance(p, str) else p for p in s.position)


def must_precede(p: Program, a: Touch, b: Touch) -> str | None:
    """Why a's instance must come before b's ("ordered" or "relaxed": not at once), or None."""
    if not (a.writes or b.writes):
        return None
    stored = p.array((a if a.writes else b).family.statement.write.array)
    if b.writes and stored.planes and _later_plane(dict(stored.planes), stored.dim_names, a.cell, b.cell):
        return "ordered"
    if any(i is not None and j is not None and i != j for i, j in zip(a.cell, b.cell, strict=True)):
        return None
    sa, sb = a.family.statement, b.family.statement
    same = sa.name == sb.name
    update = a.family.kind is Kind.UPDATE and b.family.kind is Kind.UPDATE
    if a.writes and b.writes and same and update:
        if not sa.strict:
            return "relaxed" if a.point != b.point else None
        return "ordered" if _when(p, a) < _when(p, b) else None
    starts = a.writes and b.writes and same and (a.family.kind, b.family.kind) == (Kind.INIT, Kind.UPDATE)
    if p.array(sa.write.array if a.writes else sb.write.array).role is Role.INOUT:
        ta = time(sa, dict(zip(a.family.dims, a.point, strict=True)))
        tb = time(sb, dict(zip(b.family.dims, b.point, strict=True)))
        first = starts or (not same and p.statements.index(sa) < p.statements.index(sb))
        return "ordered" if ta < tb or (ta == tb and first) else None
    return "ordered" if starts or (a.writes and not b.writes) else None


def _when(p: Program, a: Touch) -> tuple[tuple[int, ...], Point]:
    """Where an update of a strict reduction stands: memory first goes by position."""
    s = a.family.statement
    memory = p.array(s.write.array).role is Role.INOUT
    return (time(s, dict(zip(a.family.dims, a.point, strict=True))) if memory else ()), a.point


def _later_plane(planes: Mapping[str, int], names: Sequence[str], a: Sequence, b: Sequence) -> bool:
    """Whether b is a later cell that is stored where a is."""

    def later(d: str, i: int | None, j: int | None) -> bool:
        if i is None or j is None:
            return True
        return j > i and (j - i) % planes[d] == 0 if d in planes else i == j

    return all(later(d, i, j) for d, i, j in zip(names, a, b, strict=True))


def ordered_pairs(p: Program, sizes: Mapping[str, int]) -> dict[str, set[Pair]]:
    """All pairs of instances, by why: "ordered" and "relaxed"."""
    found: dict[str, set[Pair]] = {"ordered": set(), "relaxed": set()}
    for name, here in touches(p, sizes).items():
        for a, b in _meeting(here, shared=bool(p.array(name).planes)):
            why = must_precede(p, a, b)
            if why is not None:
                found[why].add((a.instance, b.instance))
    return found


def _meeting(here: Sequence[Touch], *, shared: bool) -> Iterator[tuple[Touch, Touch]]:
    """Pairs of which one writes, and whose cells may be one: any two where cells share their place in memory."""
    vague = [t for t in here if shared or None in t.cell]
    known: dict[object, list[Touch]] = {}
    for t in here:
        if not shared and None not in t.cell:
            known.setdefault(t.cell, []).append(t)
    for a in here:
        others = here if shared or None in a.cell else [*known[a.cell], *vague]
        yield from ((a, b) for b in others if a.writes or b.writes)


def broken_pair(p: Program, sizes: Mapping[str, int], tree: Tree) -> Pair | None:
    """A pair of instances whose order a tree does not keep, found by evaluating the time of every instance."""
    at = times(tree, tuple(f.id for f in families(p)))
    dims = {f.id: f.dims for f in families(p)}

    def when(instance: Instance) -> list[tuple[int, Run]]:
        f, point = instance
        env = dict(zip(dims[f], point, strict=True))
        return [(aff.evaluate(t, env, sizes), run) for t, run in at[f]]

    for why, pairs in ordered_pairs(p, sizes).items():
        for a, b in sorted(pairs):
            if not _kept(when(a), when(b), relaxed=why == "relaxed"):
                return a, b
    return None


def _kept(a: Sequence[tuple[int, Run]], b: Sequence[tuple[int, Run]], *, relaxed: bool) -> bool:
    for (ta, run), (tb, _) in zip(a, b, strict=False):
        if ta != tb:
            if run is Run.LANES:  # partial results are for reductions whose order is free
                return relaxed
            return run not in (Run.PARALLEL, Run.VECTOR) and (relaxed or ta < tb)
    return relaxed


# --- the trace oracle ------------------------------------------------------------------------------------------------


def disagreement(p: Program, sizes: Mapping[str, int], trace: Sequence[tuple], order: Sequence[Instance]) -> str | None:
    """The first thing in an executed order that the interpreter's log does not allow, or None.

    `trace` is what `interpreter.run(trace=[])` collected.
    """
    place = {instance: k for k, instance in enumerate(order)}
    if len(place) != len(order):
        return "an instance ran twice"
    main = {f.statement.name: f for f in families(p) if f.kind is not Kind.INIT}
    inits = {f.statement.name: f for f in families(p) if f.kind is Kind.INIT}
    logged = {(main[name].id, tuple(point[d] for d in main[name].dims)) for name, point, _, _ in trace}
    started = {(f.id, q) for f in inits.values() for q in instances_of(f, sizes)}
    if logged | started != set(place):
        return f"not the same instances: {sorted((logged | started) ^ set(place))[:3]}"
    return _order(p, trace, place, main, inits)


def _order(p, trace, place, main, inits) -> str | None:  # type: ignore[no-untyped-def]
    """Per cell, every access in the interpreter's order: (time, instance, writes, statement)."""
    cells: dict[object, list[tuple[tuple[int, ...], Instance, bool, Statement, bool]]] = {}
    for name, point, reads, write in trace:
        f = main[name]
        instance = (f.id, tuple(point[d] for d in f.dims))
        t = time(f.statement, point)
        for cell in reads:
            cells.setdefault(cell, []).append((t, instance, False, f.statement, False))
        cells.setdefault(write, []).append((t, instance, True, f.statement, False))
        if name in inits:
            g = inits[name]
            start = (g.id, tuple(point[d] for d in g.dims))
            cells.setdefault(write, []).append((t, start, True, f.statement, True))
    text = {s.name: n for n, s in enumerate(p.statements)}
    for (array, _), every in cells.items():
        memory = p.array(array).role is Role.INOUT
        touched = list(dict.fromkeys((t, a, w, s.name, s.op is not None, i) for t, a, w, s, i in every))
        writers = [x for x in touched if x[2]]
        for one in touched:
            for other in touched if one[2] else writers:
                if place[one[1]] > place[other[1]] and _first(memory, text, one, other):
                    return f"{one[1]} must run before {other[1]}, for a cell of {array}"
    return _strict(trace, place, main)


def _first(memory, text, one, other) -> bool:  # type: ignore[no-untyped-def]
    """Whether an access comes before another instance's of the same cell, of which at least one writes."""
    (ta, _, wa, sa, reduces, ia), (tb, _, wb, sb, _, ib) = one, other
    if sa == sb and wa and wb and reduces:
        if ia and not ib:
            return not memory or ta <= tb
        if not ia and not ib:
            return False
    if memory:
        return ta < tb or (ta == tb and (text[sa] < text[sb] if sa != sb else not wa and wb))
    return wa and not wb


def _strict(trace, place, main) -> str | None:  # type: ignore[no-untyped-def]
    last: dict[tuple[str, object], int] = {}
    for name, point, _, write in trace:
        f = main[name]
        if f.statement.strict:
            k = place[f.id, tuple(point[d] for d in f.dims)]
            if last.get((name, write), -1) > k:
                return f"strict {name} is out of order"
            last[name, write] = k
    return None
