# SPDX-License-Identifier: MIT
"""Random reductions over products: boxes, triangles and guards, factors through affine indices, every semiring.

Arrays are exactly as long as what is read of them, so that one read more leaves them; a judge says how far results may
be from the interpreter's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.dtypes import DType, bool_, f16, f32, f64, i32, i64, u8
from polyhedral.ir.evaluate import Evaluator, combiner, points, rows
from polyhedral.ir.interpreter import run
from polyhedral.ir.memory import memory_of
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement

KINDS = (
    ("sum", "*", f32), ("sum", "*", f32), ("sum", "*", f64), ("sum", "*", i32), ("sum", "*", u8), ("sum", "and", i64),
    ("max", "+", f32), ("min", "+", f64), ("max", "min", i32), ("min", "max", f32), ("any", "and", bool_),
    ("all", "or", bool_), ("max", "+", i32), ("prod", "*", f64), ("sum", "*", f16),
)  # fmt: skip


def contraction(seed: int, whole: bool = True) -> Program:
    """One reduction over up to six factors; `whole` leaves out what makes floats inexact."""
    rng = random.Random(seed)
    op, times, dtype = rng.choice(KINDS)
    domain, kept = _domain(rng)
    arrays: list[Array] = []
    leaf = bool_ if times == "and" else dtype
    factors = [_factor(rng, domain, leaf, arrays, whole) for _ in range(rng.choice((3, 2, 4, 5, 6, 1)))]
    value = _grouped(rng, factors, times)
    if times == "and" and dtype != bool_:
        value = ex.Cast(dtype, value)
    elif times == "*" and dtype.kind == "f" and not whole and rng.randint(0, 3) == 0:
        value = ex.Binary("/", value, _factor(rng, domain, leaf, arrays, whole))
    out = Array("out", tuple((d, aff.const(9)) for d in kept), dtype, Role.TEMPORARY)
    s = Statement(
        "out", domain, Access("out", tuple((d, aff.var(d) + 1) for d in kept)), value, op,
        strict=rng.randint(0, 7) == 0, position=(0,),
    )  # fmt: skip
    return _returning(Program("whole" if whole else "wild", (), (*arrays, out), (s,)), s, dtype)


def _returning(p: Program, s: Statement, dtype: DType) -> Program:
    """The results in an output that is defined wherever they are not."""
    cells = tuple(Range(d, aff.const(0), aff.const(9)) for d, _ in s.write.index)
    made = _cells(s)
    at = tuple((d, aff.var(d)) for d, _ in s.write.index)
    zero = ex.Const(False if dtype == bool_ else 0.0 if dtype.is_float else 0, dtype)
    value = ex.Select(ex.Test(made), ex.Load("out", at, dtype), zero)
    array = Array("result", tuple((d, aff.const(9)) for d, _ in s.write.index), dtype, Role.OUTPUT)
    last = Statement("result", Domain(cells), Access("result", at), value, position=(1,))
    return Program(p.name, (), (*p.arrays, array), (s, last))


def _cells(s: Statement) -> aff.Condition:
    """Where the array written has results, over its own dims."""
    hidden = set(s.reduced)
    parts = s.domain.condition.args if isinstance(s.domain.condition, aff.And) else (s.domain.condition,)
    back = {d: aff.var(d) - 1 for d, _ in s.write.index}
    own = aff.both(*(c for c in parts if not aff.condition_dims(c) & hidden))
    return aff.map_affine(own, lambda e: aff.substitute(e, back))


def _domain(rng: random.Random) -> tuple[Domain, tuple[str, ...]]:
    names = "abcde"[: rng.choice((3, 4, 2, 5, 1))]
    kept = tuple(names[: rng.randint(0, len(names) - 1)])
    ranges: list[Range] = []
    for n, d in enumerate(names):
        lo = aff.const(rng.choice((0, 0, 0, 1, -1)))
        hi = lo + rng.choice((3, 2, 4, 3, 2, 4, 3, 2, 1, 0))
        outer = [x for x in names[:n] if d not in kept or x in kept]
        if outer and rng.randint(0, 4) == 0:
            hi = aff.var(rng.choice(outer)) + rng.randint(0, 2)
        ranges.append(Range(d, lo, hi))
    guard: aff.Condition = aff.TRUE
    for _ in range(rng.choice((0, 1, 0, 1, 2))):
        one, other = rng.sample(names, 2) if len(names) > 1 else (names[0], names[0])
        e = aff.var(one) - aff.var(other) * rng.choice((1, 1, 1, 2)) + rng.choice((1, 2, 0, -1))
        guard = aff.both(guard, aff.equal(e) if rng.randint(0, 3) == 0 else aff.at_least(e))
    return Domain(tuple(ranges), guard), kept


def _grouped(rng: random.Random, factors: list[ex.Expr], times: str) -> ex.Expr:
    left = list(factors)
    while len(left) > 1:
        n = rng.randint(0, len(left) - 2)
        left[n : n + 2] = [ex.Binary(times, left[n], left[n + 1])]
    return left[0]


def _factor(rng: random.Random, domain: Domain, dtype: DType, arrays: list[Array], whole: bool) -> ex.Expr:
    kind = rng.choice(("load",) * 8 + ("pad", "index", "difference", "const", "call"))
    read = _load(rng, domain, dtype, arrays)
    match kind:
        case "pad":
            d = rng.choice(domain.dims)
            inside = ex.Test(aff.at_least(aff.var(d), 1))
            return ex.Select(inside, read, ex.Const(False if dtype == bool_ else 0.0 if dtype.is_float else 0, dtype))
        case "index" if dtype != bool_:
            return ex.Cast(dtype, ex.Index(aff.var(rng.choice(domain.dims)) % 3, i64))
        case "difference" if dtype != bool_:
            return ex.Binary("-", read, _load(rng, domain, dtype, arrays))
        case "const" if dtype != bool_:
            return ex.Const(2.0 if dtype.is_float else 2, dtype)
        case "call" if dtype.kind == "f" and not whole:
            return ex.Call("tanh", (read,))
        case _:
            return read


def _load(rng: random.Random, domain: Domain, dtype: DType, arrays: list[Array]) -> ex.Expr:
    """A read of an array made for it, as long as the domain needs; f16 is read as what is computed in."""
    dims = rng.sample(domain.dims, min(rng.choice((1, 2, 2, 2, 1, 0)), len(domain.dims)))
    index: list[Affine] = [aff.var(d) for d in dims]
    if len(dims) > 1 and rng.randint(0, 2) == 0:
        index[:2] = [index[0] * rng.choice((1, 2)) + index[1] * rng.choice((1, -1))]
    env: Mapping[str, np.ndarray] = points(domain, {})
    made: list[tuple[str, Affine]] = []
    extents: list[tuple[str, Affine]] = []
    for n, i in enumerate(index):
        values = np.atleast_1d(np.asarray(aff.evaluate(i, env, {})))
        least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        made.append((f"x{n}", i - least))
        extents.append((f"x{n}", aff.const(most - least + 1)))
    stored = f16 if dtype == f32 and rng.randint(0, 4) == 0 else dtype
    name = f"X{len(arrays)}"
    arrays.append(Array(name, tuple(extents), stored, Role.INPUT))
    load = ex.Load(name, tuple(made), stored)
    return load if stored == dtype else ex.Cast(dtype, load)


# --- judging ---------------------------------------------------------------------------------------------------------


def values_for(p: Program, seed: int, special: bool = False) -> dict[str, np.ndarray]:
    """Small whole numbers for a `whole` program, else reals, some of them infinite or no number if `special`."""
    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for a in p.with_role(Role.INPUT):
        shape = tuple(e.const for _, e in a.dims)
        if a.dtype == bool_:
            value = rng.random(shape) < 0.7
        elif a.dtype.kind != "f":
            value = rng.integers(0 if a.dtype.kind == "u" else -3, 4, shape)
        elif p.name == "whole":
            value = rng.integers(-3, 4, shape)
        else:
            value = np.asarray(rng.standard_normal(shape))
            if special:
                odd = rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], shape)
                value = np.where(rng.random(shape) < 0.2, odd, value)
        made[a.name] = np.asarray(value).astype(a.dtype.numpy)
    return made


def disagreement(p: Program, q: Program, inputs: Mapping[str, np.ndarray]) -> str | None:
    """How the results of a rewritten program differ from those of the program by more than its rewrites promise."""
    want, got = run(p, inputs)["result"], run(q, inputs)["result"]
    s = p.statement("out")
    if p.name == "whole" or s.strict or s.op not in ("sum", "prod") or want.dtype.kind != "f":
        loose = s.op in ("max", "min") and not s.strict  # a NaN of inf - inf may be hidden by a greater infinity
        odd = np.isnan(want) & ~np.isfinite(got) if loose and want.dtype.kind == "f" else np.zeros(want.shape, bool)
        same = (got == want) | ((got != got) & (want != want)) | odd
        return None if bool(same.all()) else f"{got} should be {want}"
    bound = _bound(p, s, inputs)
    with np.errstate(all="ignore"):
        close = np.abs(got.astype(np.longdouble) - want) <= bound
    kept = np.where(np.isnan(want), ~np.isfinite(got), np.where(np.isinf(want), got == want, close))
    return None if bool(kept.all()) else f"{got} should be {want} within {bound}"


def _bound(p: Program, s: Statement, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """gamma(n) * sum |x| on both sides (Higham 2002), with one rounding for each term and each operation of a term."""
    memory = memory_of(p, inputs, {})
    evaluator = Evaluator(memory, s)
    with np.errstate(all="ignore"):
        every = rows(s.domain, {})
        value, _ = evaluator.value(s.value, every)
        cells = evaluator.cells(every)
        dtype = value.dtype
        size = np.full(len(memory.values["out"]), 1 if s.op == "prod" else 0, np.longdouble)
        combiner(s.op or "sum").at(size, cells, np.abs(value).astype(np.longdouble))
        count = np.bincount(cells, minlength=len(size)) + 8
        unit = np.finfo(dtype).eps / 2
        gamma = count * unit / (1 - count * unit)
        flat = 2 * gamma * size + np.finfo(dtype).smallest_subnormal * 8 * count
    return flat.reshape(memory.shapes["out"])
