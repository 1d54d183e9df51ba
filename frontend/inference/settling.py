# SPDX-License-Identifier: MIT
"""Finding the range of every dim of a recorded statement: rules R9 (pinned), R10 (inferred) and R11 (origin).

Verdicts over the finished domains (bounds, definedness, order) are `polyhedral.checks.check`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from frontend.inference.ranges import Unclear, in_rounds
from frontend.inference.reads import (
    Facts,
    Interval,
    Need,
    Pin,
    Requires,
    dims_in_order,
    guarded_loads,
    settled_by,
    spoken,
)
from frontend.recorded import Padding, Recorded, Recording, Reduction, Settled, unsided
from polyhedral.errors import DimError, DomainError, InternalError, Location
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import TRUE, Affine, Condition
from polyhedral.ir.expr import Expr
from polyhedral.sets.isl import named

T = TypeVar("T")


@dataclass(frozen=True)
class Summary:
    """A reduction as its readers see it: the ranges of its bound dims, and the facts about its free dims."""

    ranges: tuple[tuple[str, Affine, Affine], ...]
    facts: Facts


@dataclass(frozen=True)
class Context:
    """A recording; `summaries` grows as reductions are first met and may be shared by a whole trace.

    `reader` is the statement under inspection, for messages.
    """

    recording: Recording
    summaries: dict[str, Summary] = field(default_factory=dict[str, Summary])
    reader: str | None = None

    @property
    def known(self) -> Condition:
        """Everything assumed about sizes so far."""
        return self.recording.known


def settle(r: Recorded, recording: Recording, summaries: dict[str, Summary] | None = None) -> Settled:
    """The range of every dim of a statement; raises DimError (PH010) or DomainError (PH110-PH112).

    `summaries` may be one dict for the whole trace: definitions never change, so each is looked at once.
    """
    context = Context(recording, {} if summaries is None else summaries, r.name)
    facts = facts_of(r.value, context, own=r.target if r.kind == "equation" else None)
    dims, given, why = _given(r)
    where = _Where(r.name, r.location)

    array = recording.array(r.target)
    written = tuple((d, i, array.extent(d)) for d, i in r.index) if array is not None else ()
    pins = [p for p in facts.pins if p.dim not in given]
    pins += [
        Pin(v, extent, r.target, d, written=True)
        for d, i, extent in written
        if (v := i.as_var()) is not None and v not in given
    ]
    needs = (*facts.needs, *(Need(r.target, d, i, aff.const(0), extent) for d, i, extent in written))

    ranges, agreed = agree(pins, context.known, where)
    why |= {d: p.reason for p in reversed(pins) for d in [p.dim]}
    requires = _once((*agreed, *facts.requires))
    known = aff.both(context.known, *(c for c, _ in requires))
    ranges, because, unclear = in_rounds(dims, given | ranges, needs, r.when, known)
    why |= {d: f"{spoken(d)} has the largest range for which {n.text} is in bounds" for d, n in because.items()}
    if unclear is not None or any(d not in ranges for d in dims):
        _refuse(dims, ranges, needs, unclear, where)
    if r.kind == "let":
        for d in because:
            _starts_at_zero(d, ranges[d], because[d], where)
    return Settled(
        tuple((d, *ranges[d]) for d in dims),
        r.when,
        requires,
        tuple((d, why.get(d, f"{spoken(d)} is bounded by the enclosing condition")) for d in dims),
    )


def inside(e: Expr, recording: Recording, summaries: dict[str, Summary] | None = None) -> Condition:
    """Where all accesses of an expression are in bounds, as a condition over its dims (`ph.inside`, rule R14)."""
    parts: list[Condition] = []
    for n in facts_of(e, Context(recording, {} if summaries is None else summaries)).needs:
        if not n.bound and n.when == TRUE:
            parts.append(n.holds)
            continue
        names = sorted(n.dims | aff.condition_dims(n.when) - {b for b, _, _ in n.bound})
        box = aff.both(*(aff.between(lo, aff.var(b), hi) for b, lo, hi in n.bound))
        bad = named((*names, *(b for b, _, _ in n.bound)), (), aff.both(box, n.when, aff.negate(n.holds))).only(names)
        parts.append((named(names, bad.sizes) - bad).condition())
    return aff.both(*parts)


def summary(d: Reduction, context: Context) -> Summary:
    """What a reduction asks of its readers, computed once for each definition."""
    known = context.summaries.get(d.name)
    if known is not None:
        return known
    facts = facts_of(d.body, context)
    where = _Where(context.reader or d.name.strip("%"), d.location, dict(d.shown))
    given = {b: (lo, hi) for b, lo, hi in d.declared}
    bound_pins: list[Pin] = []
    free_pins: list[Pin] = []
    for p in facts.pins:
        if p.dim not in given:
            (bound_pins if p.dim in d.bound else free_pins).append(p)
    pinned, agreed = agree(bound_pins, context.known, where)
    open_dims = {p.dim: (aff.const(0), p.extent) for p in reversed(free_pins)}
    assumed = aff.both(context.known, *(c for c, _ in agreed))
    ranges, _, unclear = in_rounds((*d.bound, *d.free), open_dims | pinned | given, facts.needs, d.where, assumed)
    if any(b not in ranges for b in d.bound):
        _refuse(d.bound, ranges, facts.needs, unclear, where)
    spans = {b: ranges[b] for b in d.bound}
    needs = (n.for_all(spans, d.where) for n in facts.needs if n.dims & set(d.free))
    done = Summary(
        tuple((b, *r) for b, r in spans.items()),
        Facts(_distinct(free_pins), _distinct(needs), _once((*agreed, *facts.requires))),
    )
    context.summaries[d.name] = done
    return done


def facts_of(e: Expr, context: Context, own: str | None = None) -> Facts:
    """The facts of an expression's reads; reads of the array `own`, being defined, do not pin."""
    pins: list[Pin] = []
    needs: list[Need] = []
    requires: Requires = ()
    for load, when in guarded_loads(e):
        index = {d: i for d, i in load.index if isinstance(i, Affine)}
        definition = context.recording.definition(load.array)
        if isinstance(definition, Reduction):
            inner = summary(definition, context).facts
            requires += inner.requires
            pins += [
                Pin(v, p.extent, p.array, p.axis)
                for p in inner.pins
                if p.dim in index and p.array != own and (v := index[p.dim].as_var()) is not None
            ]
            new = [n.at(index).for_all({}, when) for n in inner.needs if n.dims <= index.keys()]
        else:
            array = context.recording.array(load.array if definition is None else definition.array)
            if array is None:
                raise InternalError("PH999", f"{load.array} is read but never recorded")
            widths = definition.reach if isinstance(definition, Padding) else {}
            new = list[Need]()
            for d, i in index.items():
                v, extent, (low, high) = i.as_var(), array.extent(d), widths.get(d, (0, 0))
                if v is not None and array.name != own:
                    pins.append(Pin(v, extent, array.name, d))
                new.append(Need(array.name, d, i, aff.const(-low), extent + high, when))
        needs += [n for n in new if n.dims and not settled_by(n.when, n)]
    return Facts(_distinct(pins), _distinct(needs), _once(requires))


def _distinct(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))


def _once(requires: Requires) -> Requires:
    """Each equation once, whichever side it was met from."""
    found: dict[object, tuple[Condition, str]] = {}
    for c, text in requires:
        found.setdefault(unsided(c), (c, text))
    return tuple(found.values())


# --- pinned dims -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Where:
    """The statement or reduction under inspection, for messages."""

    name: str
    location: Location | None
    shown: Mapping[str, str] = field(default_factory=dict[str, str])

    def spoken(self, dim: str) -> str:
        return self.shown.get(dim, spoken(dim))


def _given(r: Recorded) -> tuple[tuple[str, ...], dict[str, Interval], dict[str, str]]:
    """The statement's dims, ordered loops first; the ranges that the user gave; and the words for those."""
    mentioned: dict[str, None] = {}
    for _, i in r.index:
        mentioned |= dict.fromkeys(sorted(aff.dims_of(i)))
    mentioned |= dict.fromkeys(dims_in_order(r.value)) | dict.fromkeys(sorted(aff.condition_dims(r.when)))
    dims = dict.fromkeys(loop.dim for loop in r.loops)
    # A let's dims print in the order in which the user meets them; ranges given by `over` may be used by later ones.
    dims |= dict.fromkeys(d for d, _, _ in r.over if d in mentioned) | mentioned
    given: dict[str, Interval] = {}
    why: dict[str, str] = {}
    for d, lo, hi in r.declared:
        given[d] = (lo, hi)
        size = f"has the declared size {hi}" if lo == aff.const(0) else f"has the declared range {lo} to {hi - 1}"
        why[d] = f"{spoken(d)} {size}"
    for d, lo, hi in r.over:
        given[d] = (lo, hi)
        why[d] = f"{spoken(d)} has the range {lo} <= {spoken(d)} < {hi} given by over"
    for loop in r.loops:
        if loop.lo is not None and loop.hi is not None:
            given[loop.dim] = (loop.lo, loop.hi)
            why[loop.dim] = f"{spoken(loop.dim)} has the range {loop.lo} <= {spoken(loop.dim)} < {loop.hi} of its loop"
    return tuple(dims), {d: r for d, r in given.items() if d in dims}, why


def agree(pins: Sequence[Pin], known: Condition, where: _Where) -> tuple[dict[str, Interval], Requires]:
    """The first pin of each dim gives its range; the others must agree, now or as an equation to check at the call."""
    first: dict[str, Pin] = {}
    requires: dict[Condition, str] = {}
    for p in pins:
        leader = first.setdefault(p.dim, p)
        if leader.extent == p.extent:
            continue
        same = aff.equal(leader.extent, p.extent)
        if same in requires:
            continue
        dim = where.spoken(p.dim)
        both = f"both are indexed by dimension {dim} in statement {where.name}"
        if same == aff.FALSE or (_related(leader, p, known) and named((), (), aff.both(same, known)).is_empty()):
            raise DimError(
                "PH010",
                f"{where.name}: sizes disagree: {_size(leader)} but {_size(p)} ({both})",
                hints=(f"if they are different axes rename one: {p.array}({p.axis}={dim}2)",),
                statement=where.name,
                dim=dim,
                location=where.location,
            )
        requires[same] = f"{leader.source} == {p.source}: {both}"
    return {d: (aff.const(0), p.extent) for d, p in first.items()}, tuple(requires.items())


def _related(a: Pin, b: Pin, known: Condition) -> bool:
    """May something be known of these two sizes together?  Two different symbolic sizes by themselves can agree."""
    plain = len(a.extent.terms) == len(b.extent.terms) == 1 and a.extent.const == b.extent.const == 0
    return not plain or bool((aff.sizes_of(a.extent) | aff.sizes_of(b.extent)) & aff.condition_sizes(known))


def _size(p: Pin) -> str:
    return p.source if str(p.extent) == p.source else f"{p.source} = {p.extent}"


# --- refusals --------------------------------------------------------------------------------------------------------


def _starts_at_zero(dim: str, range_: Interval, need: Need, where: _Where) -> None:
    lo, hi = range_
    if lo == aff.const(0):
        return
    d = where.spoken(dim)
    shift = lo if lo.is_const else aff.const(1)
    raise DomainError(
        "PH112",
        f"{where.name}: largest in-bounds range of {d} is {lo} <= {d} < {hi}, which does not start at 0",
        details=(f"{need.text} has to stay in bounds",),
        hints=(
            *((f".over({d}={hi}) leaves out {d} = {lo}",) if lo.is_const and lo.const < 0 else ()),
            f"shift: write {spoken(str(aff.var(dim) + shift))} for {d}",
            f"{need.array}.pad({need.axis}={abs(shift.const)})",
            f".over({d}=({lo}, {hi}))",
        ),
        statement=where.name,
        dim=d,
        location=where.location,
    )


def _refuse(
    dims: Sequence[str], ranges: Mapping[str, Interval], needs: Sequence[Need], unclear: Unclear | None, where: _Where
) -> NoReturn:
    """Say why some dims have no range: bounded by several sizes, from one side, together only, or by nothing."""
    code, hints = "PH110", ()
    if unclear is not None:
        d = where.spoken(unclear.dim)
        if unclear.low and unclear.high:
            end = " and ".join(str(e) for e in (unclear.high if len(unclear.high) > 1 else unclear.low))
            message = f"the range of {d} depends on which is smaller of {end}"
        else:
            message = f"nothing bounds dimension {d} from {'above' if unclear.low else 'below'}"
        hints = (f".over({d}=(lo, hi))",)
    else:
        missing = [d for d in dims if d not in ranges]
        together = next((n for n in needs if n.dims & set(missing)), None)
        d = where.spoken(missing[0])
        if together is None:
            message = f"nothing bounds dimension {d} (used only as a value)"
            hints = (f"ph.dims({d}=10) or .over({d}=N)",)
        else:
            code = "PH111"
            names = sorted(map(where.spoken, together.dims - ranges.keys()))
            d = where.spoken(next(m for m in missing if m in together.dims))
            message = (
                f"the range of {' and '.join(names)} is ambiguous: they occur only together, in {together.text}; "
                "give one a size, the other is then inferred"
            )
            hints = (f"ph.dims({names[0]}=10) or .over({names[0]}=N)",)
    raise DomainError(
        code, f"{where.name}: {message}", hints=hints, statement=where.name, dim=d, location=where.location
    )
