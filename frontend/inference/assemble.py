# SPDX-License-Identifier: MIT
"""From a settled recording to a Program: reductions become statements of their own where their readers need them.

Readers come first: a reader's domain, seen through the index of its read, is what a temporary has to cover.
"""

from __future__ import annotations

import heapq
from dataclasses import replace

from frontend.inference.demand import Demand, demanded
from frontend.inference.hoisting import hoisted
from frontend.inference.jobs import Assembly, Job, Key, Wanted, before, numbers, renumbered, spelled
from frontend.inference.padding import unpadded
from frontend.inference.reads import dims_in_order, guarded_loads
from frontend.inference.settling import Context, Summary, facts_of, summary
from frontend.recorded import Padding, Recorded, Recording, Reduction, Settled
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.expr import Expr, Load
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement


def assemble(
    recording: Recording, summaries: dict[str, Summary] | None = None, names: dict[str, set[str]] | None = None
) -> Program:
    """The Program of a recording: its statements, and a temporary for every reduction that is read.

    `names` is filled with the temporaries of each reduction.
    """
    context = Context(recording, {} if summaries is None else summaries)
    build = Assembly(context, context.known, taken={a.name for a in recording.arrays})
    for n, (r, settled) in enumerate(recording.statements):
        _record(build, n, r, settled)
    for d in reversed(recording.definitions):
        _store_parts(build, build.order[d.name])
        for key in build.copies.get(d.name, ()):
            _store_reduction(build, key, d)
    _store_parts(build, -1)
    for key, (array, _) in build.stored.items():
        if names is not None and isinstance(key.definition, str):
            names.setdefault(key.definition, set()).add(array.name)
    return _program(build)


# --- statements and what they ask for --------------------------------------------------------------------------------


def _record(build: Assembly, n: int, r: Recorded, settled: Settled) -> None:
    domain = Domain(tuple(Range(*s) for s in settled.ranges), settled.guard)
    array = build.recording.array(r.target)
    assert array is not None, "a statement's target is recorded with it"
    index = r.index or tuple(_own_cell(d, extent, domain) for d, extent in array.dims)
    name = r.name.strip("%").replace("'", "")
    # A let has the name of its array; any other statement must not take that of an array.
    name = name if name == r.target and r.kind == "let" else build.fresh(name or f"S{n}")
    place = tuple(p if isinstance(p, str) else (p, 1) for p in r.position)
    job = Job(name, place, n, domain, Access(r.target, index), r.value, location=r.location)
    reduces = r.op is not None
    _enter(build, replace(job, op=r.op, accumulate=r.kind == "update") if reduces else _merged(build, job, r))


def _own_cell(dim: str, extent: Affine, domain: Domain) -> tuple[str, Affine]:
    """A let is written at its own dims; one that does not start at 0 may be stored shifted."""
    lo, hi = next((r.lo, r.hi) for r in domain.ranges if r.dim == dim)
    return dim, aff.var(dim) - lo if extent == hi - lo else aff.var(dim)


def _merged(build: Assembly, job: Job, r: Recorded) -> Job:
    """A statement that only stores one reduction, point by point, becomes that reduction."""
    load = job.value
    d = build.recording.definition(load.array) if isinstance(load, Load) else None
    if not isinstance(load, Load) or not isinstance(d, Reduction) or build.readers[d.name] != 1:
        return job
    array = build.recording.array(r.target)
    index = {f: i for f, i in load.index if isinstance(i, Affine)}
    bare = [i.as_var() for i in index.values()]
    seen = frozenset[str]().union(*(aff.dims_of(i) for _, i in job.write.index))
    if array is None or array.dtype != load.dtype or len(index) < len(load.index):
        return job
    if None in bare or sorted(map(str, bare)) != sorted(job.domain.dims) or seen != frozenset(job.domain.dims):
        return job
    if r.kind == "update" and r.target in _below(build, d):
        return job
    ranges = tuple(Range(*s) for s in summary(d, build.context).ranges)
    where = aff.map_affine(d.where, lambda e: aff.substitute(e, index))
    return replace(
        job,
        domain=Domain((*job.domain.ranges, *ranges), aff.both(job.domain.guard, where)),
        value=ex.substitute(d.body, index),
        op=d.op,
        strict=d.strict,
        location=job.location or d.location,
    )


def _below(build: Assembly, d: Reduction | Padding) -> set[str]:
    """The arrays that a definition reads, directly or through others."""
    found: set[str] = set()
    for name in [d.array] if isinstance(d, Padding) else [n.array for n in ex.loads(d.body)]:
        inner = build.recording.definition(name)
        found |= {name} if inner is None else _below(build, inner)
    return found


def _enter(build: Assembly, job: Job) -> None:
    """Keep a job, after replacing its padded reads and its costly parts; its readings become demands."""
    value = _without_padding(build, job)
    blocked = build.memory | {job.write.array}

    def place(part: Expr, when: Condition) -> Load:
        general, index = _generalised(build, part)
        key = Key(general)
        _want(build, key, job, Demand(job.domain, index, when), top=True)
        return Load(f"%part{build.wanted[key].number}", index, ex.dtype_of(part))

    value = hoisted(value, job.domain, lambda load: load.array not in blocked, place)
    job = replace(job, value=value)
    build.jobs.append(job)
    for load, when in guarded_loads(value):
        d = build.recording.definition(load.array)
        if isinstance(d, Reduction):
            key, index = _key_of(build, job, d, load)
            known = tuple((f, i) for f, i in index if isinstance(i, Affine))
            _want(build, key, job, Demand(job.domain, known, when), top=key.owner is None)


def _without_padding(build: Assembly, job: Job) -> Expr:
    def inner(node: Expr) -> Expr:
        padding = build.recording.definition(node.array) if isinstance(node, Load) else None
        if not isinstance(node, Load) or not isinstance(padding, Padding):
            return node
        array = build.recording.array(padding.array)
        assert array is not None, "a padding belongs to an array"
        return unpadded(node, padding, array, job.domain)

    return ex.rewrite(job.value, inner)


def _generalised(build: Assembly, part: Expr) -> tuple[Expr, tuple[tuple[str, Affine], ...]]:
    """A part over the user's dims, so that equal parts under different fresh dims share one temporary."""
    dims = dims_in_order(part)
    names = spelled(build, dims)
    at = {d: aff.var(n) for d, n in names.items() if d != n}
    return ex.substitute(part, at) if at else part, tuple((names[d], aff.var(d)) for d in dims)


def _key_of(build: Assembly, job: Job, d: Reduction, load: Load) -> tuple[Key, tuple[tuple[str, Affine | Expr], ...]]:
    """The temporary that a load reads, and where: loop dims come first if its value changes as the loops run."""
    index = dict(load.index)
    if d.name not in build.memory:
        return Key(d.name), tuple((f, index[f]) for f in d.free)
    fixed = {f: v for f, i in index.items() if isinstance(i, Affine) and (v := i.as_var()) in job.loops}
    rest = tuple((_apart(f, job.loops), index[f]) for f in d.free if f not in fixed)
    return Key(d.name, job.owner, tuple(fixed.items())), (*((v, aff.var(v)) for v in job.loops), *rest)


def _apart(dim: str, loops: tuple[str, ...]) -> str:
    """A free dim may carry the name of a loop that it is not: it is then another dim of the copy."""
    return f"{dim}'free" if dim in loops else dim


def _want(build: Assembly, key: Key, job: Job, demand: Demand, top: bool) -> None:
    """Add a demand; a shared temporary stands before the first of its readers, outside all loops."""
    place = job.place[:1] if top else job.place
    wanted = build.wanted.get(key)
    if wanted is None:
        wanted = build.wanted[key] = Wanted(len(build.wanted), place, job.location)
        if isinstance(key.definition, str):
            build.copies.setdefault(key.definition, []).append(key)
        else:
            order = -_latest(build, key.definition), -_extent_of(key.definition), wanted.number
            heapq.heappush(build.parts, (*order, key))
    wanted.place = min(wanted.place, place, key=numbers)
    wanted.demands.append(demand)


# --- temporaries -----------------------------------------------------------------------------------------------------


def _store_reduction(build: Assembly, key: Key, d: Reduction | Padding) -> None:
    assert isinstance(d, Reduction), "paddings are read through"
    wanted = build.wanted[key]
    summed = summary(d, build.context)
    fixed = dict(key.fixed)
    loops = tuple(p for p in wanted.place if isinstance(p, str))
    fresh = {f: _apart(f, loops) for f in d.free if f not in fixed}
    at = {f: aff.var(v) for f, v in (fixed | fresh).items()}
    name = build.fresh(d.name.strip("%").replace("'", ""))
    box = demanded((*loops, *fresh.values()), wanted.demands, build.known, summed.facts.at(at), name)
    where = aff.map_affine(d.where, lambda e: aff.substitute(e, at))
    ranges = tuple(Range(*s) for s in summed.ranges)
    domain = Domain((*box.ranges, *ranges), aff.both(box.guard, where))
    write = _stored(build, key, name, box, d)
    place = (*wanted.place[:-1], before(wanted.place[-1], build.order[d.name], 0, wanted.number))
    value = ex.substitute(d.body, at)
    location = d.location or wanted.location
    _enter(build, Job(name, place, key.owner, domain, write, value, d.op, False, d.strict, location))


def _stored(build: Assembly, key: Key, name: str, box: Domain, what: Reduction | Expr) -> Access:
    """Declare the temporary of a box and give its cell: arrays start at 0, wherever the box does."""
    shown = spelled(build, box.dims)
    dtype = what.dtype if isinstance(what, Reduction) else ex.dtype_of(what)
    array = Array(name, tuple((shown[r.dim], r.hi - r.lo) for r in box.ranges), dtype, Role.TEMPORARY)
    build.stored[key] = array, tuple(r.lo for r in box.ranges)
    return Access(name, tuple((shown[r.dim], aff.var(r.dim) - r.lo) for r in box.ranges))


def _store_parts(build: Assembly, last: int) -> None:
    """Give a statement to each costly part whose latest definition is number `last` or later, largest parts first."""
    while build.parts and -build.parts[0][0] >= last:
        key = heapq.heappop(build.parts)[-1]
        part, wanted = key.definition, build.wanted[key]
        assert not isinstance(part, str), "reductions are stored in the order of their making"
        dims = dims_in_order(part)
        name = build.fresh(_verb(part))
        box = demanded(dims, wanted.demands, build.known, facts_of(part, build.context), name)
        write = _stored(build, key, name, box, part)
        place = (before(wanted.place[0], _latest(build, part), _extent_of(part), wanted.number),)
        _enter(build, Job(name, place, None, box, write, part, location=wanted.location))


def _latest(build: Assembly, part: Expr) -> int:
    return max((build.order.get(n.array, -1) for n in ex.loads(part)), default=-1)


def _extent_of(part: Expr) -> int:
    return sum(1 for _ in ex.walk(part))


def _verb(part: Expr) -> str:
    """A name after the outermost costly operation."""
    for node in ex.walk(part):
        match node:
            case ex.Call(fn, _):
                return fn
            case ex.Binary("/" | "**" as op, _, _):
                return "quotient" if op == "/" else "power"
            case _:
                pass
    return "part"


# --- the finished program --------------------------------------------------------------------------------------------


def _program(build: Assembly) -> Program:
    recording = build.recording
    jobs = sorted(build.jobs, key=lambda j: numbers(j.place))
    numbered = renumbered([j.place for j in jobs])
    statements = tuple(_finished(build, j, numbered[j.place]) for j in jobs)
    touched = {n.array for s in statements for n in ex.loads(s.value)} | {s.write.array for s in statements}
    kept = (Role.INPUT, Role.OUTPUT, Role.INOUT)
    touched |= {a.name for a in recording.arrays if a.role in kept}
    for g in reversed(recording.promises):
        if touched & set(g.results):
            touched |= g.needed
    arrays = [a for a in recording.arrays if a.name in touched]
    arrays += [a for a, _ in (build.stored[k] for k in sorted(build.stored, key=lambda k: build.stored[k][0].name))]
    assumptions = aff.conjuncts(build.known)
    used = {n for a in arrays for _, e in a.dims for n in aff.sizes_of(e)}.union(
        recording.sizes, *(aff.condition_sizes(c) for c in assumptions), *map(_sizes_of, statements)
    )
    return Program(recording.name, tuple(sorted(used)), tuple(arrays), statements, assumptions)


def _sizes_of(s: Statement) -> set[str]:
    found = set(aff.condition_sizes(s.domain.condition))
    for node in ex.walk(s.value):
        match node:
            case ex.Index(a):
                found |= aff.sizes_of(a)
            case Load(_, index, _):
                found |= {n for _, i in index if isinstance(i, Affine) for n in aff.sizes_of(i)}
            case ex.Test(c):
                found |= aff.condition_sizes(c)
            case _:
                pass
    return found.union(*(aff.sizes_of(i) for _, i in s.write.index))


def _finished(build: Assembly, job: Job, position: tuple[int | str, ...]) -> Statement:
    """A job with its temporaries in place of definitions and its dims as the user spelled them."""

    def final(node: Expr) -> Expr:
        if not isinstance(node, Load):
            return node
        d = build.recording.definition(node.array)
        if isinstance(d, Reduction):
            key, index = _key_of(build, job, d, node)
        elif node.array in build.loaded:
            key, index = build.loaded[node.array], node.index
        else:
            return node
        array, least = build.stored[key]
        cells = zip(array.dim_names, index, least, strict=True)
        return Load(array.name, tuple((d, _shifted(i, lo)) for d, (_, i), lo in cells), array.dtype)

    names = spelled(build, job.domain.dims)
    at = {d: aff.var(n) for d, n in names.items() if d != n}

    def one(e: Affine) -> Affine:
        return aff.substitute(e, at)

    return Statement(
        job.name,
        Domain(
            tuple(Range(names[r.dim], one(r.lo), one(r.hi)) for r in job.domain.ranges),
            aff.map_affine(job.domain.guard, one),
        ),
        Access(job.write.array, tuple((d, one(i)) for d, i in job.write.index)),
        ex.substitute(ex.rewrite(job.value, final), at),
        job.op,
        job.accumulate,
        job.strict,
        tuple(names[p] if isinstance(p, str) else p for p in position),
        job.location,
    )


def _shifted(index: Affine | Expr, least: Affine) -> Affine | Expr:
    if isinstance(index, Affine):
        return index - least
    return index if least == aff.const(0) else ex.Binary("-", index, ex.Index(least, ex.dtype_of(index)))
