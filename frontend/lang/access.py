# SPDX-License-Identifier: MIT
"""Reading elsewhere: the access rules R2, R3 and R3b, padding, and the interior of an expression (R14).

Substitution into a reduction is substitution into an index, so nothing is ever captured; ranges and bounds are left to
`frontend.inference.settling`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches

from frontend.lang.arithmetic import binary, compare, select
from frontend.lang.location import here
from frontend.lang.piecewise import cases
from frontend.lang.recorder import Recorder, is_array
from frontend.lang.value import (
    Value,
    as_affine,
    as_condition,
    as_tuple,
    coerce,
    derive,
    joint,
    lift,
    merge,
    must_lift,
    of_affine,
    of_condition,
)
from frontend.recorded import Padding, Reduction
from polyhedral.errors import ArgumentError, DimError, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes as dt
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Array


def spoken(dim: str) -> str:
    """A dim as the user knows it: private dims lose their number."""
    base, private, _ = dim.partition("'")
    return base + private


def braces(dims: Iterable[str]) -> str:
    return "{" + ", ".join(sorted(map(spoken, dims))) + "}"


def title(v: Value) -> str:
    """What to call a value in a message: its array, or 'this expression'."""
    if isinstance(v.node, ex.Load) and is_array(v.node.array):
        shown = [f"{d}={_gathered(i)}" for d, i in v.node.index if not isinstance(i, Affine) or i.as_var() != d]
        return v.node.array + (f"({', '.join(shown)})" if shown else "")
    return str(v.node.affine) if isinstance(v.node, ex.Index) else "this expression"


def _gathered(index: Affine | ex.Expr) -> str:
    return str(index) if isinstance(index, Affine) else title(Value(index, ex.dims_of(index)))


# --- R2, R3: which dims are replaced ---------------------------------------------------------------------------------


def check_dim(v: Value, dim: str, doing: str) -> None:
    """PH001 unless the value has the dim."""
    if dim in v.dims:
        return
    close = get_close_matches(dim, map(spoken, v.dims), 1)
    name = title(v)
    has = f"it has {braces(v.dims)}" if v.dims else "it has no dimensions"
    guess = f". Did you mean '{close[0]}'?" if close else ""
    hint = f"write {close[0]} instead of {dim}" if close else f"the dimensions of {name} are {braces(v.dims)}"
    message = f"{doing}: {name} has no dimension named '{spoken(dim)}'; {has}{guess}"
    raise DimError("PH001", message, hints=(hint,), dim=dim, location=here())


def by_keyword(v: Value, given: Mapping[str, object]) -> Value:
    """`E(d=index)`: substitution; dims not listed pass through (R2), none is captured (R3b)."""
    for dim in given:
        check_dim(v, dim, f"{title(v)}({spoken(dim)}=...)")
    indices = {dim: _as_index(v, dim, index) for dim, index in given.items()}
    _refuse_capture(v, indices)
    return _in_pieces(v, indices)


def _in_pieces(v: Value, indices: Mapping[str, Value]) -> Value:
    """A read at an index that is affine case by case is a choice between reads, each in bounds where it is made."""
    for dim, index in indices.items():
        several = () if as_affine(index) is not None else cases(index)
        if several:
            *chosen, (_, last) = several
            result = _in_pieces(v, {**indices, dim: of_affine(last, index.spans, index.owner)})
            for holds, at in reversed(chosen):
                read = _in_pieces(v, {**indices, dim: of_affine(at, index.spans, index.owner)})
                result = select(of_condition(holds, index.spans, index.owner), read, result)
            return result
    return substitute(v, indices)


def _as_index(v: Value, dim: str, index: object) -> Value:
    """An affine index or an integer-valued expression of data; anything else is refused (PH030)."""
    value = lift(index)
    place = f"{title(v)}({spoken(dim)}=...)"
    if value is None:
        shown = "a slice" if isinstance(index, slice) else repr(index)
        raise DimError(
            "PH030",
            f"{place}: {shown} is not an index",
            hints=(f"an index is made of dims, sizes and ints: {spoken(dim)}=2*{spoken(dim)} + 1; restrict ranges with "
                   f".over({spoken(dim)}=(1, 5))",),
            dim=dim,
            location=here(),
        )  # fmt: skip
    gathers = value.dtype.is_integer and any(isinstance(n, ex.Load) for n in ex.walk(value.node))
    if as_affine(value) is not None or gathers or cases(value):
        return value
    raise DimError(
        "PH030",
        f"{place}: index is not affine: {_shown(index, value)}",
        details=("Allowed: dims, sizes, ints, + - and * // % by an int literal; ph.clip, ph.where, ... of them.",),
        hints=(f"data-dependent: {title(v)}({spoken(dim)}=idx) with an integer tensor idx "
               "(bounds then checked at run time)",),
        dim=dim,
        location=here(),
    )  # fmt: skip


def _shown(index: object, value: Value) -> str:
    return f"an expression of type {value.dtype} over {braces(value.dims)}" if value.dims else repr(index)


def _refuse_capture(v: Value, indices: Mapping[str, Value]) -> None:
    for dim, index in indices.items():
        for other in sorted((index.dims & v.dims) - indices.keys()):
            name, d, o = title(v), spoken(dim), spoken(other)
            raise DimError(
                "PH005",
                f"{name}({d}={_index_text(index)}): {name} already has a dimension named '{o}', "
                f"so this would read its diagonal",
                hints=(f"explicit diagonal {name}({d}={_index_text(index)}, {o}={o})",
                       f"in library code {o} = ph.fresh('{o}')"),
                dim=other,
                location=here(),
            )  # fmt: skip


def _index_text(index: Value) -> str:
    as_index = as_affine(index)
    return title(index) if as_index is None else str(as_index)


def by_mention(v: Value, key: object) -> Value:
    """`E[i1, i2]`: each index replaces the one dim of E that it mentions; order is irrelevant (R3)."""
    given: dict[str, object] = {}
    for index in as_tuple(key):
        if index is Ellipsis:
            continue
        dim = _mentioned(v, index, as_tuple(key))
        if dim in given:
            raise DimError(
                "PH004",
                f"{title(v)}[...]: two indices mention dimension {spoken(dim)}",
                hints=(f"say by keyword which is which: {title(v)}({spoken(dim)}=...)",),
                dim=dim,
                location=here(),
            )
        given[dim] = index
    return by_keyword(v, given) if given else v


def _mentioned(v: Value, index: object, every: tuple[object, ...]) -> str:
    value = lift(index)
    name = title(v)
    own = sorted(value.dims & v.dims) if value is not None else []
    if len(own) == 1:
        if value is not None and as_affine(value) == aff.var(own[0]):
            raise _does_nothing(v, own[0], every)
        return own[0]
    if value is None:
        raise _no_index(v, index)
    shown = _index_text(value)
    which = "mentions none of them" if not own else f"mentions several of them, {braces(own)}"
    choices = " or ".join(f"{name}({spoken(d)}={shown})" for d in (own or sorted(v.dims))[:3])
    raise DimError(
        "PH004",
        f"{name}[{shown}]: which dimension is {shown} for? {name} has {braces(v.dims)}; the index {which}",
        hints=(choices or f"{name} has no dimensions to index",),
        location=here(),
    )


def _no_index(v: Value, index: object) -> DimError:
    """PH004: a slice, None or the like between the brackets."""
    name, d = title(v), next(iter(sorted(map(spoken, v.dims))), "k")
    match index:
        case slice():
            kind, hint = "a slice", f"restrict ranges by name: {name}.over({d}=(1, 5)); {name} alone is read everywhere"
        case None:
            kind, hint = "None", f"no dim is added: without a dim {d}2, {name} goes with any; {name}({d}={d}2) renames"
        case _:
            kind, hint = repr(index), f"an index is made of dims, sizes and ints: {name}({d}={d} + 1)"
    return DimError("PH004", f"{name}[...]: {kind} is not an index", hints=(hint,), location=here())


def _does_nothing(v: Value, dim: str, every: tuple[object, ...]) -> DimError:
    """PH003: a bare own dim between the brackets, such as x of `X[x, y + 1]`."""
    name, d = title(v), spoken(dim)
    values = [i for i in map(lift, every) if i is not None]
    moved = [_index_text(i) for i in values if (at := as_affine(i)) is None or at.as_var() not in v.dims]
    alone = f"leave {d} out: {name}[{', '.join(moved)}]" if moved else f"{name} alone is read there"
    others = [spoken(o) for o in sorted(v.dims) if o != dim]
    swap = f"Transpose: {name}({others[0]}={d}, {d}={others[0]})." if others else ""
    listed = ", ".join(map(spoken, sorted(v.dims)))
    return DimError(
        "PH003",
        f"{name}[{d}] does nothing: {name} is already read at {d}={d}",
        details=(f"Indices are matched by NAME, never by position. {swap}".rstrip(),),
        hints=(
            alone,
            f"positional notation: a = {name}.order({listed}); a[{', '.join([d, *others])}]",
        ),
        dim=dim,
        location=here(),
    )


# --- substitution ----------------------------------------------------------------------------------------------------


def substitute(v: Value, indices: Mapping[str, Value]) -> Value:
    """Replace dims by indices everywhere, simultaneously; data-dependent ones become gathers."""
    affine = {d: as_affine(i) for d, i in indices.items()}
    if any(i is None for i in affine.values()):
        node = _gather(v.node, {d: i for d, i in indices.items() if affine[d] is None}, affine)
    else:
        node = ex.substitute(v.node, {d: i for d, i in affine.items() if i is not None})
    dims = (v.dims - indices.keys()).union(*(i.dims for i in indices.values()))
    kept = {d: s for d, s in v.spans.items() if d not in indices}
    spans = merge(kept, *(i.spans for i in indices.values()))
    return replace(v, node=node, dims=dims, spans=spans, owner=joint((v, *indices.values())))


def _gather(node: ex.Expr, data: Mapping[str, Value], affine: Mapping[str, Affine | None]) -> ex.Expr:
    plain = {d: i for d, i in affine.items() if i is not None}

    def index(i: Affine) -> Affine | ex.Expr:
        if not aff.dims_of(i) & data.keys():
            return aff.substitute(i, plain)
        return coerce(affine_value(i, data, plain), dt.i64).node if i.as_var() is None else data[str(i.as_var())].node

    def one(n: ex.Expr) -> ex.Expr:
        match n:
            case ex.Load(_, entries, _):
                return replace(n, index=tuple((d, index(i) if isinstance(i, Affine) else i) for d, i in entries))
            case ex.Index(i):
                return coerce(affine_value(i, data, plain), dt.i64).node
            case ex.Test(c):
                return _condition_value(c, data, plain).node
            case _:
                return n

    return ex.rewrite(node, one)


def affine_value(i: Affine, data: Mapping[str, Value], plain: Mapping[str, Affine]) -> Value:
    """An affine index as arithmetic on values, some of its dims being data."""
    total = of_affine(aff.const(i.const))
    for term, factor in i.terms:
        match term:
            case aff.Floor(arg, divisor):
                part = binary("//", affine_value(arg, data, plain), must_lift(divisor))
            case aff.Var(name) if name in data:
                part = data[name]
            case _:
                part = of_affine(aff.substitute(Affine(((term, 1),)), plain))
        total = binary("+", total, binary("*", part, must_lift(factor)))
    return total


def _condition_value(c: Condition, data: Mapping[str, Value], plain: Mapping[str, Affine]) -> Value:
    match c:
        case aff.Compare(e, equal):
            return binary("==" if equal else ">=", affine_value(e, data, plain), must_lift(0))
        case aff.And(args) | aff.Or(args):
            parts = [_condition_value(a, data, plain) for a in args]
            result = of_condition(aff.TRUE if isinstance(c, aff.And) else aff.FALSE)
            for part in parts:
                result = conjunction(result, part) if isinstance(c, aff.And) else binary("|", result, part)
            return result
        case _:
            return binary("==", _condition_value(c.arg, data, plain), must_lift(False))


def conjunction(a: Value, b: Value) -> Value:
    """`a & b`, leaving out what is plainly true."""
    if as_condition(a) == aff.TRUE:
        return derive(b.node, (a, b), b.weak)
    return derive(a.node, (a, b), a.weak) if as_condition(b) == aff.TRUE else binary("&", a, b)


# --- R14: padding and interiors --------------------------------------------------------------------------------------

MODES = ("constant", "edge", "reflect", "wrap")


def padding_of(recorder: Recorder, v: Value) -> Padding | None:
    """The padding that a value is, read at its own dims."""
    if not isinstance(v.node, ex.Load) or not isinstance(p := recorder.definitions.get(v.node.array), Padding):
        return None
    return p if v.node == replace(recorder.read(p.array).node, array=p.name) else None


def pad(
    recorder: Recorder,
    array: Array,
    value: object,
    widths: Mapping[str, object],
    mode: str,
    within: Padding | None = None,
) -> Value:
    """The array, or the array as `within` pads it along other dims, readable beyond its edges; coordinates are kept."""
    own = recorder.read(array.name)
    if mode not in MODES:
        raise ArgumentError(
            "PH040",
            f"{array.name}.pad: there is no mode '{mode}'",
            hints=(f"one of {', '.join(MODES)}; dimensions of {array.name}: {braces(array.dim_names)}",),
            location=here(),
        )
    fill = coerce(must_lift(value, "the padding value"), array.dtype).node
    if not isinstance(fill, ex.Const):
        raise ArgumentError(
            "PH040",
            f"{array.name}.pad: the padding value must be a number that fits {array.dtype}",
            hints=(f"ph.orelse(expr, fallback) allows any fallback along {braces(widths)}",),
            location=here(),
        )
    sides: list[tuple[str, int, int]] = []
    for dim, width in widths.items():
        check_dim(own, dim, f"{array.name}.pad({spoken(dim)}=...)")
        if within is not None and dim in within.reach:
            raise ArgumentError(
                "PH040",
                f"{array.name}.pad({spoken(dim)}={width!r}): {spoken(dim)} is padded already, by {within.reach[dim]}",
                hints=(f"say it at once: {array.name}.pad({spoken(dim)}=(1, 2))",),
                dim=dim,
                location=here(),
            )
        sides.append((dim, *_width(array.name, dim, width)))
    name = recorder.unique(f"{array.name}_pad")
    recorder.define(Padding(name, array.name, tuple(sides), mode, fill, here(), within))
    return replace(own, node=replace(own.node, array=name))


def _width(name: str, dim: str, width: object) -> tuple[int, int]:
    match width:
        case int(both) if both >= 0:
            return both, both
        case (int(low), int(high)) if low >= 0 and high >= 0:
            return low, high
        case _:
            raise _bad_width(name, dim, width)


def _bad_width(name: str, dim: str, width: object) -> ArgumentError:
    return ArgumentError(
        "PH040",
        f"{name}.pad({spoken(dim)}={width!r}): a width is a non-negative int or a pair (low, high) of them",
        hints=(f"{name}.pad({spoken(dim)}=(1, 2))",),
        dim=dim,
        location=here(),
    )


def interior(recorder: Recorder, v: Value) -> Value:
    """Where all accesses of an expression are in bounds (`ph.inside`)."""
    result = of_condition(aff.TRUE, v.spans, v.owner)
    for load in dict.fromkeys(ex.loads(v.node)):
        result = conjunction(result, _in_bounds(recorder, load))
    return result


def _in_bounds(recorder: Recorder, load: ex.Load) -> Value:
    definition = recorder.definitions.get(load.array)
    if isinstance(definition, Reduction):
        plain = {d: i for d, i in load.index if isinstance(i, Affine)}
        return _reduction_interior(recorder, definition, plain)
    array = recorder.arrays[definition.array if definition is not None else load.array]
    wider = definition.reach if definition is not None else {}
    result = of_condition(aff.TRUE)
    for dim, index in load.index:
        low, high = wider.get(dim, (0, 0))
        limit = array.extent(dim) + high
        if isinstance(index, Affine):
            result = conjunction(result, of_condition(_affine_bounds(dim, index, low, limit)))
        else:
            data = Value(index, ex.dims_of(index))
            below = binary("<", data, of_affine(limit))
            fits = conjunction(binary(">=", data, must_lift(-low)), below)
            read = interior(recorder, data)  # the index may itself be read only where its own accesses are in bounds
            if as_condition(read) != aff.TRUE:
                fits = conjunction(read, select(read, fits, must_lift(False)))
            result = conjunction(result, fits)
    return result


def _affine_bounds(dim: str, index: Affine, low: int, limit: Affine) -> Condition:
    if index.as_var() == dim:
        return aff.TRUE  # a bare dim takes its range from this very array
    sides = (compare(">=", index, aff.const(-low)), compare("<", index, limit))
    return aff.both(*(c for c in sides if not _plainly_true(c)))


def _plainly_true(c: Condition) -> bool:
    """A comparison of sizes alone that holds because sizes are not negative."""
    match c:
        case aff.Compare(e, equal=False):
            return e.const >= 0 and all(isinstance(t, aff.Size) and f > 0 for t, f in e.terms)
        case _:
            return c == aff.TRUE


def _reduction_interior(recorder: Recorder, r: Reduction, at: Mapping[str, Affine]) -> Value:
    """All accesses of the body in bounds for every value of the bound dims: each bound at its worst value."""
    body = interior(recorder, Value(r.body, ex.dims_of(r.body)))
    condition = as_condition(body)
    ranges = _bound_ranges(recorder, r)
    if condition is None or any(d not in ranges for d in aff.condition_dims(condition) & set(r.bound)):
        raise Unsupported(
            "PH900",
            f"the interior of a reduction over {braces(r.bound)} cannot be derived here",
            hints=(f"name it first: inner = ph.let(...) over {braces(r.free)}, then ph.orelse(inner, fallback)",),
            location=here(),
        )
    worst = aff.map_affine(condition, lambda e: _smallest(e, ranges))
    return of_condition(aff.map_affine(worst, lambda e: aff.substitute(e, dict(at))))


def _bound_ranges(recorder: Recorder, r: Reduction) -> dict[str, tuple[Affine, Affine]]:
    ranges = {d: (lo, hi) for d, lo, hi in r.declared}
    for load in ex.loads(r.body):
        array = recorder.arrays.get(load.array)
        for dim, index in load.index if array is not None else ():
            name = index.as_var() if isinstance(index, Affine) else None
            if name in r.bound and array is not None:
                ranges.setdefault(str(name), (aff.const(0), array.extent(dim)))
    return ranges


def _smallest(e: Affine, ranges: Mapping[str, tuple[Affine, Affine]]) -> Affine:
    at: dict[str, Affine] = {}
    for dim in aff.dims_of(e) & ranges.keys():
        lo, hi = ranges[dim]
        at[dim] = lo if e.coefficient(aff.Var(dim)) >= 0 else hi - 1
    return aff.substitute(e, at)
