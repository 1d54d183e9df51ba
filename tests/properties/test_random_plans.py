# SPDX-License-Identifier: MIT
"""Random statements that plans are made for: boxes of many points, read and written with any strides.

Vectors are short and no cache keeps a result, so that tiles, leftovers, shuffles, stores past the caches and partial
results all occur.  A longer run:  POLYHEDRAL_EXAMPLES=5000 pytest tests/properties/test_random_plans.py
"""

from __future__ import annotations

import os
import random
from collections import Counter

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType, f32, f64, i32, i64
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.machine import target
from polyhedral.text.printer import to_text
from tests.properties.batch import Batch
from tests.properties.schedules import compiled, interned
from tests.strategies import inputs_for

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "500"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))


def drawn(rng: random.Random) -> Program:
    """One statement over up to four dims: a reduction over some of them, or none."""
    extents = {d: rng.choice((1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17)) for d in rng.sample("ijkl", rng.randint(1, 4))}
    dims = list(extents)
    t = rng.choice((f32, f32, f64, f64, i32, i64))
    reduced = rng.sample(dims, rng.choice((0, 0, 1, 1, 2))) if len(dims) > 1 else rng.choice(([], dims))
    kept = [d for d in dims if d not in reduced]
    arrays: list[Array] = []
    loads: list[ex.Expr] = []
    for n in range(rng.randint(1, 3)):
        array, load = _operand(rng, f"X{n}", extents, t)
        arrays.append(array)
        loads.append(load)
    value = loads[0]
    for e in loads[1:]:
        value = ex.Binary(rng.choice(("+", "*", "*", "min", "max", "-")), value, e)
    out = Array("out", tuple((d, aff.const(extents[d])) for d in kept), t, Role.OUTPUT)
    box = Domain(tuple(Range(d, aff.const(0), aff.const(extents[d])) for d in dims), _guard(extents, kept))
    op = rng.choice(("sum", "sum", "max", "min")) if reduced else None
    statement = Statement("S", box, Access("out", tuple((d, aff.var(d)) for d in kept)), value, op)
    return Program("plans", (), (*arrays, out), (statement,))


def _guard(extents: dict[str, int], kept: list[str]) -> aff.Condition:
    """What leaves every result something to reduce: a stride that ties dims, as of the inverse of a window, or none."""
    reduced = [d for d in extents if d not in kept and extents[d] > 1]
    rng = random.Random(f"{extents} {kept}")
    if not kept or not reduced or rng.random() < 0.8:
        return aff.TRUE
    k, r, s = rng.choice(kept), rng.choice(reduced), rng.choice(reduced)
    if r != s and extents[k] <= 2 * (extents[r] - 1) + extents[s]:
        return aff.equal(aff.var(k) - aff.var(r) * 2 - aff.var(s))
    apart = aff.var(k) - aff.var(r)
    return aff.equal(apart - apart // 2 * 2)


def _operand(rng: random.Random, name: str, extents: dict[str, int], t: DType) -> tuple[Array, ex.Expr]:
    """A load with any of the dims, some of them strided or shifted; sometimes padded."""
    dims = rng.sample(list(extents), rng.randint(1, len(extents)))
    sizes: dict[str, int] = {}
    index: list[tuple[str, aff.Affine | ex.Expr]] = []
    for d in dims:
        step, shift = rng.choice((1, 1, 1, 2)), rng.choice((0, 0, 1))
        sizes[d] = step * (extents[d] - 1) + shift + 1
        index.append((d, aff.var(d) * step + shift))
    load: ex.Expr = ex.Load(name, tuple(index), t)
    if rng.random() < 0.15:
        d, i = rng.choice(index)
        assert isinstance(i, aff.Affine)
        inside = aff.between(0, i - 1, aff.const(sizes[d]))
        moved = tuple((n, at - 1 if n == d and isinstance(at, aff.Affine) else at) for n, at in index)
        pad = ex.Const(0.0 if t.is_float else 0, t)
        load = ex.Select(ex.Test(inside), ex.Load(name, moved, t), pad)
    return Array(name, tuple((d, aff.const(sizes[d])) for d in dims), t, Role.INPUT), load


def test_compiled_is_interpreted():
    rng = random.Random(SEED)
    batch, seen = Batch(), Counter[str]()
    marks = ("acc_", "_line_", "stream_", "join", "_of_", "rest_", "_panels", "_value")
    for _ in range(EXAMPLES):
        p = interned(drawn(rng))
        inputs = inputs_for(p, {}, rng.randrange(1 << 30), rng.choice(("real", "special", "whole")))
        kernel = compiled(p, {}, inputs, run(p, inputs), rng, "narrow vectors")
        seen.update(m for m in marks if m in kernel.source.text)
        batch.add(kernel)
    wrong = [f"{bad}\n{to_text(k.program)}\n{k.source.text}" for k, bad in batch.results() if bad is not None]
    batch.close()
    assert not wrong, f"{len(wrong)} failures\n" + "\n".join(wrong[:3])
    host = target.host(1)
    rare = () if host.vector == host.line else ("join",)  # with short vectors
    assert EXAMPLES < 300 or all(seen[m] for m in marks if m not in rare), seen
