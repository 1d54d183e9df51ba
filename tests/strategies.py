# SPDX-License-Identifier: MIT
"""Random well-formed small programs, and inputs for them.

Programs are in bounds, defined and ordered by construction, so that whatever a compiler does with them must give what
the interpreter gives; integers stay small enough not to overflow, floats are small whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import numpy as np
from hypothesis import strategies as st

from polyhedral import affine as aff
from polyhedral import expr as ex
from polyhedral.affine import Affine, Condition
from polyhedral.dtypes import DType, bool_, f32, f64, i32, i64
from polyhedral.program import Access, Array, Domain, Program, Range, Role, Statement

Draw = st.DrawFn


def inputs_for(program: Program, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Small values for the inputs of a program, diagonally dominant where they are square."""
    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for a in program.with_role(Role.INPUT, Role.INOUT):
        shape = tuple(aff.evaluate(e, {}, sizes) for _, e in a.dims)
        if a.dtype == bool_:
            value = rng.integers(0, 2, shape).astype(bool)
        elif a.dtype.is_integer:
            value = rng.integers(0 if a.dtype.kind == "u" else -3, 4, shape).astype(a.dtype.numpy)
        else:
            value = rng.integers(-4, 5, shape).astype(np.float32)
            if len(shape) == 2 and shape[0] == shape[1]:
                value = (value + value.T + 32 * np.eye(shape[0])).astype(np.float32)
            value = value.astype(a.dtype.numpy)
        made[a.name] = np.asarray(value)
    return made


@st.composite
def programs(draw: Draw, updates: bool = True) -> Program:
    """A program with fixed small extents: inputs, then equations or updates, and the last array returned."""
    dtype = draw(st.sampled_from((f32, f64, i32, i64)))
    fresh = count()
    arrays: list[Array] = [
        Array(f"X{i}", _dims(draw, ("a", "b", "c")), dtype, Role.INPUT) for i in range(draw(st.integers(1, 3)))
    ]
    statements: list[Statement] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("map", "map", "reduce", "recurrence", *(("update",) if updates else ()))))
        step = {"map": _map, "reduce": _reduce, "recurrence": _recurrence, "update": _update}[kind]
        step(draw, arrays, statements, dtype, next(fresh))
    return Program("random", (), tuple(arrays), tuple(statements))


def _dims(draw: Draw, names: tuple[str, ...], least: int = 0) -> tuple[tuple[str, Affine], ...]:
    n = draw(st.integers(0, len(names)))
    return tuple((d, aff.const(draw(st.integers(least, 5)))) for d in names[:n])


def _extent(e: Affine) -> int:
    assert e.is_const
    return e.const


def _index(draw: Draw, ranges: Mapping[str, int], extent: int) -> Affine | None:
    """A quasi-affine index over dims in [0, range) that stays in [0, extent), or None when there is none."""
    if extent <= 0:
        return None
    options: list[Affine] = [aff.const(draw(st.integers(0, extent - 1)))]
    for d, n in ranges.items():
        v = aff.var(d)
        options.append(v % extent if extent > 1 else aff.const(0))
        for scale in (1, 2):
            slack = extent - 1 - scale * max(n - 1, 0)
            if slack >= 0:
                shift = draw(st.integers(0, slack))
                options += [v * scale + shift, aff.const(scale * max(n - 1, 0) + shift) - v * scale] * 2
        if (n - 1) // 2 < extent:
            options.append(v // 2)
    for d, n in ranges.items():
        for e, m in ranges.items():
            if d < e and max(n - 1, 0) + max(m - 1, 0) < extent:
                options += [aff.var(d) + aff.var(e)] * 3
    return draw(st.sampled_from(options))


def _load(draw: Draw, arrays: list[Array], ranges: Mapping[str, int]) -> ex.Expr | None:
    a = draw(st.sampled_from(arrays))
    index = tuple((d, _index(draw, ranges, _extent(e))) for d, e in a.dims)
    return None if any(i is None for _, i in index) else ex.Load(a.name, index, a.dtype)  # type: ignore[arg-type]


def _literal(draw: Draw, dtype: DType) -> ex.Const:
    v = draw(st.integers(-3, 3))
    return ex.Const(float(v) if dtype.is_float else v, dtype)


def _leaf(draw: Draw, arrays: list[Array], ranges: Mapping[str, int], dtype: DType) -> ex.Expr:
    return _load(draw, arrays, ranges) or _literal(draw, dtype)


def _bounded(e: ex.Expr, dtype: DType) -> ex.Expr:
    """Integers stay within +-1000, so that no sum of them overflows."""
    if not dtype.is_integer:
        return e
    low = ex.Binary("max", e, ex.Const(-1000, dtype))
    return ex.Binary("min", low, ex.Const(1000, dtype))


def _value(draw: Draw, arrays: list[Array], ranges: Mapping[str, int], dtype: DType, depth: int = 2) -> ex.Expr:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return _leaf(draw, arrays, ranges, dtype)
    kind = draw(st.sampled_from(("+", "-", "*", "min", "max", "select", "neg", "abs", "index")))
    one = _value(draw, arrays, ranges, dtype, depth - 1)
    match kind:
        case "select":
            return ex.Select(ex.Test(_condition(draw, ranges)), one, _value(draw, arrays, ranges, dtype, depth - 1))
        case "neg":
            return ex.Unary("-", one)
        case "abs":
            return ex.Unary("abs", one)
        case "index" if ranges:
            d = draw(st.sampled_from(sorted(ranges)))
            return ex.Binary("+", one, ex.Cast(dtype, ex.Index(aff.var(d) * 2 - 1, i64)))
        case "index":
            return one
        case _:
            return ex.Binary(kind, one, _value(draw, arrays, ranges, dtype, depth - 1))


def _condition(draw: Draw, ranges: Mapping[str, int]) -> Condition:
    if not ranges:
        return aff.at_least(aff.const(draw(st.integers(-1, 0))))
    names = sorted(ranges)

    def one() -> Condition:
        d, e = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        c = draw(st.integers(-2, 4))
        if draw(st.booleans()):
            return aff.at_least(aff.var(d) - aff.var(e) + c - 1)
        return aff.equal(aff.var(d) % 2) if draw(st.booleans()) else aff.at_least(aff.const(c) - aff.var(d))

    return {0: one, 1: lambda: aff.either(one(), one()), 2: lambda: aff.both(one(), one())}[draw(st.integers(0, 2))]()


def _box(ranges: Mapping[str, int]) -> tuple[Range, ...]:
    return tuple(Range(d, aff.const(0), aff.const(n)) for d, n in ranges.items())


def _space(draw: Draw, names: tuple[str, ...] = ("i", "j", "k")) -> dict[str, int]:
    return {d: draw(st.integers(0, 6)) for d in names[: draw(st.integers(0, len(names)))]}


def _target(name: str, ranges: Mapping[str, int], dtype: DType, role: Role = Role.OUTPUT) -> tuple[Array, Access]:
    array = Array(name, tuple((d, aff.const(n)) for d, n in ranges.items()), dtype, role)
    return array, Access(name, tuple((d, aff.var(d)) for d in ranges))


def _map(draw: Draw, arrays: list[Array], statements: list[Statement], dtype: DType, n: int) -> None:
    """Pointwise, perhaps in two pieces split by a condition."""
    ranges = _space(draw)
    array, write = _target(f"Y{n}", ranges, dtype)
    cut = _condition(draw, ranges) if draw(st.booleans()) else aff.TRUE
    for part, guard in enumerate((cut, aff.negate(cut))):
        if guard != aff.FALSE:
            value = _bounded(_value(draw, arrays, ranges, dtype), dtype)
            at = (len(statements),)
            statements.append(Statement(f"S{n}_{part}", Domain(_box(ranges), guard), write, value, position=at))
    arrays.append(array)


def _reduce(draw: Draw, arrays: list[Array], statements: list[Statement], dtype: DType, n: int) -> None:
    """A reduction over one or two dims, perhaps triangular or guarded."""
    ranges = _space(draw, ("i", "j"))
    array, write = _target(f"Y{n}", ranges, dtype)
    over = {d: draw(st.integers(0, 4)) for d in ("k", "l")[: draw(st.integers(1, 2))]}
    box = _box({**ranges, **over})
    every = {**ranges, **over}
    if ranges and draw(st.booleans()):
        box = (*_box(ranges), Range("k", aff.const(0), aff.var("i") + 1), *_box({d: over[d] for d in list(over)[1:]}))
        every["k"] = max(ranges["i"], 1)
    guard = _condition(draw, every) if draw(st.booleans()) else aff.TRUE
    op = draw(st.sampled_from(("sum", "max", "min", "prod")))
    value = _bounded(_value(draw, arrays, every, dtype), dtype)
    if op == "prod":
        value = ex.Binary("min", ex.Binary("max", value, _unit(-1, dtype)), _unit(1, dtype))
    if op in ("max", "min"):
        guard = aff.TRUE  # an empty maximum is infinite, and so would be everything after it
        if any(r.hi.is_const and r.hi.const == 0 for r in box[len(ranges) :]):
            op = "sum"
    parts = guard.args if isinstance(guard, aff.And) else (guard,)
    guard = aff.both(*(c for c in parts if aff.condition_dims(c) & set(over)))  # so that every cell is defined
    statements.append(
        Statement(
            f"S{n}", Domain(box, guard), write, value, op, strict=draw(st.booleans()), position=(len(statements),)
        )
    )
    arrays.append(array)


def _unit(v: int, dtype: DType) -> ex.Const:
    return ex.Const(float(v) if dtype.is_float else v, dtype)


def _recurrence(draw: Draw, arrays: list[Array], statements: list[Statement], dtype: DType, n: int) -> None:
    """z reads z at a lexicographically smaller point, guarded at the border."""
    ranges = _space(draw) or {"i": draw(st.integers(1, 6))}
    array, write = _target(f"Z{n}", ranges, dtype)
    names = list(ranges)
    lead = draw(st.integers(0, len(names) - 1))
    shift = {d: draw(st.integers(-1, 1)) for d in names[lead + 1 :]}
    back = {
        names[lead]: aff.var(names[lead]) - draw(st.integers(1, 2)),
        **{d: aff.var(d) + s for d, s in shift.items()},
    }
    inside = aff.both(*(aff.between(0, i, aff.const(ranges[d])) for d, i in back.items()))
    previous = ex.Load(array.name, tuple((d, back.get(d, aff.var(d))) for d in names), dtype)
    border = _value(draw, arrays, ranges, dtype, 1)
    step = ex.Binary(draw(st.sampled_from(("+", "max", "-"))), previous, _value(draw, arrays, ranges, dtype, 1))
    value = _bounded(ex.Select(ex.Test(inside), step, border), dtype)
    at = (len(statements),)
    statements.append(Statement(f"S{n}", Domain(_box(ranges)), write, value, position=at))
    arrays.append(array)


def _update(draw: Draw, arrays: list[Array], statements: list[Statement], dtype: DType, n: int) -> None:
    """Updates of a fresh inout array under up to three ordered loops; every dim is ordered."""
    ranges = {d: draw(st.integers(1, 5)) for d in ("i", "j")[: draw(st.integers(1, 2))]}
    array, write = _target(f"U{n}", ranges, dtype, Role.INOUT)
    loops = {"t": draw(st.integers(1, 3)), **ranges} if draw(st.booleans()) else ranges
    first = len(statements)
    sources = [*(a for a in arrays if a.role is not Role.INOUT), array]
    for part in range(draw(st.integers(1, 2))):
        at: tuple[int | str, ...] = (first,)
        for d in loops:
            at = (*at, d, part if d == list(loops)[-1] else 0)
        guard = _condition(draw, loops) if draw(st.booleans()) else aff.TRUE
        value = _bounded(_value(draw, sources, loops, dtype), dtype)
        statements.append(Statement(f"S{n}_{part}", Domain(_box(loops), guard), write, value, position=at))
    arrays.append(array)
