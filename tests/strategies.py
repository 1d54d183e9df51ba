# SPDX-License-Identifier: MIT
"""Random well-formed small programs, and inputs for them.

Programs are in bounds, defined and ordered by construction, so that whatever a compiler does with them must give what
the interpreter gives.  In a `whole` program floats stay small whole numbers, whose sums are exact in any order; other
float programs return every array, so that each equation can be checked for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import strategies as st

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.dtypes import DType, bool_, f32, f64, i8, i16, i32, i64, u8, u32
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement

Draw = st.DrawFn


def inputs_for(
    program: Program, sizes: Mapping[str, int], seed: int = 0, values: str = "whole"
) -> dict[str, np.ndarray]:
    """Inputs of a program: small whole numbers, diagonally dominant where they are square; or floats that are "real"
    or "special" (NaN, infinities and denormals among them), or integers of any size ("any")."""
    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for a in program.with_role(Role.INPUT, Role.INOUT):
        shape = tuple(aff.evaluate(e, {}, sizes) for _, e in a.dims)
        if a.dtype == bool_:
            value = rng.integers(0, 2, shape).astype(bool)
        elif a.dtype.is_integer and values == "any":
            info = np.iinfo(a.dtype.numpy)
            value = rng.integers(info.min, info.max, shape, dtype=a.dtype.numpy, endpoint=True)
        elif a.dtype.is_integer:
            value = rng.integers(0 if a.dtype.kind == "u" else -3, 4, shape).astype(a.dtype.numpy)
        elif values in ("real", "special"):
            value = np.asarray(rng.standard_normal(shape))
            if values == "special":
                odd = rng.choice([np.nan, np.inf, -np.inf, 1e-310, 0.0, 1.0], shape)
                value = np.where(rng.random(shape) < 0.3, odd, value)
            value = value.astype(a.dtype.numpy)
        else:
            value = rng.integers(-4, 5, shape).astype(np.float32)
            if len(shape) == 2 and shape[0] == shape[1]:
                value = (value + value.T + 32 * np.eye(shape[0])).astype(np.float32)
            value = value.astype(a.dtype.numpy)
        made[a.name] = np.asarray(value)
    return made


@dataclass
class Draft:
    """A program in the making; `whole` keeps its values small (see the file's docstring), `static` lets no data
    decide what is read.
    """

    draw: Draw
    dtype: DType
    whole: bool
    static: bool = False
    arrays: list[Array] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether values do not depend on the order of sums."""
        return self.whole or not self.dtype.is_float

    def kind(self) -> bool:
        return self.draw(st.booleans())

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def one_of(self, *options: object):  # type: ignore[no-untyped-def]
        return self.draw(st.sampled_from(options))


DTYPES = (f32, f64, i32, i64, f32, f64, i32, i8, u8, i16, u32)


@st.composite
def programs(draw: Draw, updates: bool = True, dtypes: tuple[DType, ...] = DTYPES) -> Program:
    """A program with fixed small extents: inputs, then equations or updates in any order of the text.

    Without `updates` there is no memory, and no data decides what is read.
    """
    dtype = draw(st.sampled_from(dtypes))
    draft = Draft(draw, dtype, draw(st.booleans()), static=not updates)
    draft.arrays += [
        Array(f"X{i}", _dims(draft, ("a", "b", "c")), dtype, Role.INPUT) for i in range(draft.number(1, 3))
    ]
    if updates and draft.kind():
        draft.arrays.append(Array("K", _dims(draft, ("a", "b")), i64, Role.INPUT))
    kinds = ["map", "map", "reduce", "reduce", "recurrence", "greatest"]
    if updates and draft.exact:
        kinds += ["update", "update", "accumulate"]
    for n in range(draft.number(1, 4)):
        _KINDS[draw(st.sampled_from(kinds))](draft, n)
    statements = draft.statements
    if draft.kind():
        statements = draw(st.permutations(statements))
    return Program("whole" if draft.whole else "wild", (), tuple(_hidden(draft)), tuple(statements))


def _hidden(d: Draft) -> list[Array]:
    """Some results that are not returned, where nothing needs to see them."""
    if not d.exact:
        return d.arrays
    last = d.arrays[-1].name
    return [
        replace(a, role=Role.TEMPORARY) if a.role is Role.OUTPUT and a.name != last and d.number(0, 2) == 0 else a
        for a in d.arrays
    ]


def _dims(d: Draft, names: tuple[str, ...], least: int = 0) -> tuple[tuple[str, Affine], ...]:
    n = d.number(0, len(names))
    return tuple((name, aff.const(d.number(least, 5))) for name in names[:n])


def _extent(e: Affine) -> int:
    assert e.is_const
    return e.const


# --- values ----------------------------------------------------------------------------------------------------------


def _index(d: Draft, ranges: Mapping[str, int], extent: int) -> Affine | ex.Expr | None:
    """An index over dims in [0, range) that stays in [0, extent), or None when there is none; sometimes a gather."""
    if extent <= 0:
        return None
    if any(a.name == "K" for a in d.arrays) and d.number(0, 7) == 0:
        gathered = _gather(d, ranges, extent)
        if gathered is not None:
            return gathered
    return d.one_of(*_indices(d, ranges, extent))


def _indices(d: Draft, ranges: Mapping[str, int], extent: int) -> list[Affine]:
    options: list[Affine] = [aff.const(d.number(0, extent - 1))]
    for name, n in ranges.items():
        v = aff.var(name)
        options.append(v % extent if extent > 1 else aff.const(0))
        for scale in (1, 2):
            slack = extent - 1 - scale * max(n - 1, 0)
            if slack >= 0:
                shift = d.number(0, slack)
                options += [v * scale + shift, aff.const(scale * max(n - 1, 0) + shift) - v * scale] * 2
        if (n - 1) // 2 < extent:
            options.append(v // 2)
    for a, n in ranges.items():
        for b, m in ranges.items():
            if a < b and max(n - 1, 0) + max(m - 1, 0) < extent:
                options += [aff.var(a) + aff.var(b)] * 3
    return options


def _gather(d: Draft, ranges: Mapping[str, int], extent: int) -> ex.Expr | None:
    """An index from the table K, clipped."""
    table = next(a for a in d.arrays if a.name == "K")
    at = [(name, _index(replace(d, arrays=[]), ranges, _extent(e))) for name, e in table.dims]
    if any(i is None for _, i in at):
        return None
    low = ex.Binary("max", ex.Load("K", tuple(at), i64), ex.Const(0, i64))  # type: ignore[arg-type]
    return ex.Binary("min", low, ex.Const(extent - 1, i64))


def _load(d: Draft, arrays: list[Array], ranges: Mapping[str, int]) -> ex.Expr | None:
    a = d.one_of(*arrays)
    index = tuple((name, _index(d, ranges, _extent(e))) for name, e in a.dims)
    if any(i is None for _, i in index):
        return None
    load = ex.Load(a.name, index, a.dtype)  # type: ignore[arg-type]
    return load if a.dtype == d.dtype else ex.Cast(d.dtype, load)


def _literal(d: Draft) -> ex.Const:
    v = d.number(0 if d.dtype.kind == "u" else -3, 3)
    return ex.Const(float(v) if d.dtype.is_float else v, d.dtype)


def _number(v: int, dtype: DType) -> ex.Const:
    return ex.Const(float(v) if dtype.is_float else v, dtype)


def _bounded(d: Draft, e: ex.Expr) -> ex.Expr:
    """In a whole program values stay within +-1000 (or what the type holds), so that no sum of them overflows."""
    if not d.whole:
        return e
    high = min(1000, 100 if d.dtype.bits == 8 else 1000)
    low = 0 if d.dtype.kind == "u" else -high
    return ex.Binary("min", ex.Binary("max", e, _number(low, d.dtype)), _number(high, d.dtype))


def _value(d: Draft, arrays: list[Array], ranges: Mapping[str, int], depth: int = 2) -> ex.Expr:
    if depth == 0 or d.number(0, 3) == 0:
        return _load(d, arrays, ranges) or _literal(d)
    kind = d.one_of("+", "-", "*", "*", "min", "max", "select", "choose", "neg", "abs", "index", "divide", "share")
    one = _value(d, arrays, ranges, depth - 1)
    match kind:
        case "select":
            return ex.Select(ex.Test(_condition(d, ranges)), one, _value(d, arrays, ranges, depth - 1))
        case "choose" if not d.static:
            return _choice(d, one, *(_value(d, arrays, ranges, depth - 1) for _ in range(2)), ranges)
        case "neg" | "abs":
            return ex.Unary("-" if kind == "neg" else "abs", one)
        case "index" if ranges:
            name = d.one_of(*sorted(ranges))
            i = d.one_of(aff.var(name) * 2 - 1, aff.var(name) // 2, 3 - aff.var(name) % 3)
            return ex.Binary("+", one, ex.Cast(d.dtype, ex.Index(i, i64)))
        case "index" | "choose":
            return one
        case "divide":
            return _quotient(d, one, _value(d, arrays, ranges, depth - 1))
        case "share":
            return ex.Binary("+", ex.Binary("*", one, one), one)
        case _:
            return ex.Binary(kind, one, _value(d, arrays, ranges, depth - 1))


def _choice(d: Draft, one: ex.Expr, other: ex.Expr, third: ex.Expr, ranges: Mapping[str, int]) -> ex.Expr:
    """A Select that data decides, perhaps together with an affine condition."""
    test: ex.Expr = ex.Binary(d.one_of("<", "<=", "==", "!="), one, other)
    if d.kind():
        test = ex.Binary(d.one_of("and", "or"), test, ex.Test(_condition(d, ranges)))
    return ex.Select(ex.Unary("not", test) if d.kind() else test, other, third)


def _quotient(d: Draft, one: ex.Expr, other: ex.Expr) -> ex.Expr:
    """Integers by anything, zero included; floats by what is positive, so that no zero's sign is seen."""
    if not d.dtype.is_float:
        return ex.Binary(d.one_of("//", "%"), one, other)
    positive = ex.Binary("+", ex.Unary("abs", other), _number(1, d.dtype))
    return one if d.whole else ex.Binary(d.one_of("/", "//", "%"), one, positive)


def _condition(d: Draft, ranges: Mapping[str, int]) -> Condition:
    if not ranges:
        return aff.at_least(aff.const(d.number(-1, 0)))
    names = sorted(ranges)

    def one() -> Condition:
        a, b = d.one_of(*names), d.one_of(*names)
        c = d.number(-2, 4)
        if d.kind():
            return aff.at_least(aff.var(a) - aff.var(b) + c - 1)
        return aff.equal(aff.var(a) % 2) if d.kind() else aff.at_least(aff.const(c) - aff.var(a))

    return {0: one, 1: lambda: aff.either(one(), one()), 2: lambda: aff.both(one(), one())}[d.number(0, 2)]()


# --- statements ------------------------------------------------------------------------------------------------------


def _box(ranges: Mapping[str, int]) -> tuple[Range, ...]:
    return tuple(Range(d, aff.const(0), aff.const(n)) for d, n in ranges.items())


def _space(d: Draft, names: tuple[str, ...] = ("i", "j", "k")) -> dict[str, int]:
    return {name: d.number(0, 6) for name in names[: d.number(0, len(names))]}


def _target(name: str, ranges: Mapping[str, int], dtype: DType, role: Role = Role.OUTPUT) -> tuple[Array, Access]:
    array = Array(name, tuple((d, aff.const(n)) for d, n in ranges.items()), dtype, role)
    return array, Access(name, tuple((d, aff.var(d)) for d in ranges))


def _map(d: Draft, n: int) -> None:
    """Pointwise, perhaps in two pieces: split by a condition, or below and above the diagonal."""
    ranges = _space(d)
    array, write = _target(f"Y{n}", ranges, d.dtype)
    box = _box(ranges)
    if list(ranges) == ["i", "j"] and ranges["j"] >= ranges["i"] and d.kind():
        edge = aff.var("i") + 1
        parts = [Domain((box[0], Range("j", aff.const(0), edge))), Domain((box[0], Range("j", edge, box[1].hi)))]
    else:
        cut = _condition(d, ranges) if d.kind() else aff.TRUE
        parts = [Domain(box, guard) for guard in (cut, aff.negate(cut)) if guard != aff.FALSE]
    for part, domain in enumerate(parts):
        value = _bounded(d, _value(d, d.arrays, ranges))
        d.statements.append(Statement(f"S{n}_{part}", domain, write, value, position=(len(d.statements),)))
    d.arrays.append(array)


def _reduce(d: Draft, n: int) -> None:
    """A reduction over one or two dims, perhaps triangular or guarded."""
    ranges = _space(d, ("i", "j"))
    array, write = _target(f"Y{n}", ranges, d.dtype)
    over = {name: d.number(0, 4) for name in ("k", "l")[: d.number(1, 2)]}
    box = _box({**ranges, **over})
    every = {**ranges, **over}
    if ranges and d.kind():
        box = (*_box(ranges), Range("k", aff.const(0), aff.var("i") + 1), *_box({x: over[x] for x in list(over)[1:]}))
        every["k"] = max(ranges["i"], 1)
    guard = _condition(d, every) if d.kind() else aff.TRUE
    op = d.one_of("sum", "sum", "max", "min", "prod")
    value = _bounded(d, _value(d, d.arrays, every))
    if op == "prod" and d.whole:
        low = 0 if d.dtype.kind == "u" else -1
        value = ex.Binary("min", ex.Binary("max", value, _number(low, d.dtype)), _number(1, d.dtype))
    if op in ("max", "min") and d.whole:
        guard = aff.TRUE  # an empty maximum is infinite, and so would be everything after it
        if any(r.hi.is_const and r.hi.const == 0 for r in box[len(ranges) :]):
            op = "sum"
    parts = guard.args if isinstance(guard, aff.And) else (guard,)
    guard = aff.both(*(c for c in parts if aff.condition_dims(c) & set(over)))  # so that every cell is defined
    at = (len(d.statements),)
    d.statements.append(Statement(f"S{n}", Domain(box, guard), write, value, op, strict=d.kind(), position=at))
    d.arrays.append(array)


def _greatest(d: Draft, n: int) -> None:
    """The least k at which a value is greatest, in two reductions."""
    ranges = _space(d, ("i", "j"))
    every = {**ranges, "k": d.number(1, 5)}
    array, write = _target(f"Y{n}", ranges, d.dtype)
    index, first = _target(f"I{n}", ranges, i64)
    value = _bounded(d, _value(d, d.arrays, every, 1))
    best = ex.Load(array.name, write.index, d.dtype)
    found = ex.Binary("==", value, best)
    where = ex.Select(found, ex.Index(aff.var("k"), i64), ex.Const(every["k"], i64))
    at = len(d.statements)
    d.statements.append(Statement(f"S{n}_0", Domain(_box(every)), write, value, "max", position=(at,)))
    d.statements.append(Statement(f"S{n}_1", Domain(_box(every)), first, where, "min", position=(at + 1,)))
    d.arrays += [index, array]


def _recurrence(d: Draft, n: int) -> None:
    """z reads z at a lexicographically smaller (or always greater) point, guarded at the border."""
    ranges = _space(d) or {"i": d.number(1, 6)}
    array, write = _target(f"Z{n}", ranges, d.dtype)
    names = list(ranges)
    lead = d.number(0, len(names) - 1)
    shift = {name: d.number(-1, 1) for name in names[lead + 1 :]}
    step = d.number(1, 2) * d.one_of(1, 1, -1)
    back = {names[lead]: aff.var(names[lead]) - step, **{name: aff.var(name) + s for name, s in shift.items()}}
    inside = aff.both(*(aff.between(0, i, aff.const(ranges[name])) for name, i in back.items()))
    previous = ex.Load(array.name, tuple((name, back.get(name, aff.var(name))) for name in names), d.dtype)
    border = _value(d, d.arrays, ranges, 1)
    combined = ex.Binary(d.one_of("+", "max", "-"), previous, _value(d, d.arrays, ranges, 1))
    value = _bounded(d, ex.Select(ex.Test(inside), combined, border))
    d.statements.append(Statement(f"S{n}", Domain(_box(ranges)), write, value, position=(len(d.statements),)))
    d.arrays.append(array)


def _update(d: Draft, n: int) -> None:
    """Updates of an inout array under ordered loops, parted at any depth; or under one, the cells in no order."""
    old = [a for a in d.arrays if a.role is Role.INOUT]
    if old and d.kind():
        array = d.one_of(*old)
        ranges = {name: _extent(e) for name, e in array.dims}
        write = Access(array.name, tuple((name, aff.var(name)) for name in ranges))
    else:
        ranges = {name: d.number(1, 5) for name in ("i", "j")[: d.number(1, 2)]}
        array, write = _target(f"U{n}", ranges, d.dtype, Role.INOUT)
    loops = {"t": d.number(1, 3), **ranges} if not ranges or d.kind() else ranges
    first = len(d.statements)
    free = "t" in loops and d.number(0, 2) == 0
    others = [a for a in d.arrays if a.name != array.name]
    level = 0 if free else d.number(0, len(loops) - 1)
    for part in range(d.number(1, 3)):
        at: tuple[int | str, ...] = (first,)
        for depth, name in enumerate(["t"] if free else list(loops)):
            at = (*at, name, part if depth == level else 0)
        guard = _condition(d, loops) if d.kind() else aff.TRUE
        value = _value(d, others if free else [*others, array, array], loops)
        if free and d.kind():
            value = ex.Binary("+", value, ex.Load(array.name, write.index, d.dtype))
        value = _bounded(d, value)
        d.statements.append(Statement(f"S{n}_{part}", Domain(_box(loops), guard), write, value, position=at))
    if array not in d.arrays:
        d.arrays.append(array)


def _accumulate(d: Draft, n: int) -> None:
    """A reduction on top of what memory holds."""
    ranges = {name: d.number(1, 5) for name in ("i", "j")[: d.number(0, 2)]}
    array, write = _target(f"A{n}", ranges, d.dtype, Role.INOUT)
    every = {**ranges, "k": d.number(0, 4)}
    for part in range(d.number(1, 2)):
        value = _bounded(d, _value(d, d.arrays, every))
        at = (len(d.statements),)
        op = d.one_of("sum", "max", "min")
        domain = Domain(_box(every), _condition(d, every) if d.kind() else aff.TRUE)
        d.statements.append(Statement(f"S{n}_{part}", domain, write, value, op, True, d.kind(), at))
    d.arrays.append(array)


_KINDS = {
    "map": _map, "reduce": _reduce, "recurrence": _recurrence, "greatest": _greatest, "update": _update,
    "accumulate": _accumulate,
}  # fmt: skip
