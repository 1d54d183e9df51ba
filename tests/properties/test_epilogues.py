# SPDX-License-Identifier: MIT
"""Random reductions with pointwise statements after them, computed on the reductions' register tiles: compiled is
interpreted.

Prices are put aside and plans drawn, so that leftovers, portions of reductions, operands across the lanes and results
that nothing stores all occur.  A longer run:  POLYHEDRAL_EXAMPLES=5000 pytest tests/properties/test_epilogues.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from codegen import crossed
from polyhedral import pipeline
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType, bf16, f32, f64, i32, i64
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.plans import candidates, chooser, epilogue
from polyhedral.text.printer import to_text
from polyhedral.whole.recompute import Recomputed
from tests.properties.batch import Batch
from tests.properties.schedules import compiled, interned
from tests.strategies import inputs_for

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "120"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))
NAMES = "stuvw"
"""The dims of the statements after a reduction, in whatever order."""


@contextmanager
def eager(rng: random.Random) -> Iterator[None]:
    """Whatever may be computed on a tile is, and any plan that is weighed may be the one."""

    def drawn(p, s, layouts, target, constants, within):  # type: ignore[no-untyped-def]
        found = candidates.choices(p, s, layouts, target, constants, within)
        if isinstance(s.value, ex.Select) and s.value.eager:
            found = [c for c in found if not any(loop.dim in c.plan.order for loop in c.plan.loops)]
        cut = [c for c in found if any(loop.dim in c.plan.order for loop in c.plan.loops)]
        return rng.choice(cut if cut and rng.random() < 0.4 else found) if found else None

    with ExitStack() as stack:
        stack.enter_context(patch.object(chooser, "best", drawn))
        stack.enter_context(patch.object(pipeline, "simplify", lambda p, *_: (p, ())))
        stack.enter_context(patch.object(pipeline, "recompute", lambda p, *_, **__: Recomputed(p)))
        stack.enter_context(patch.object(crossed, "LEAST", 2))
        stack.enter_context(patch.object(epilogue._Lanes, "pays", lambda *_: True))
        yield


class _Draft:
    """What has been drawn so far: a reduction to `kept` dims, and statements over dims of other names."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.dtype: DType = rng.choice((f32, f32, f32, f64, i32, i64))
        kept = rng.sample("xyzn", rng.choice((1, 2, 2, 3)))
        self.kept = {d: rng.choice((1, 2, 3, 4, 5, 7, 8, 9, 12, 17)) for d in kept}
        self.arrays: dict[str, Array] = {}
        self.statements: list[Statement] = []
        self.made: list[str] = []

    def array(self, name: str, dims: Mapping[str, int], role: Role, dtype: DType | None = None) -> Array:
        sizes = tuple((d, aff.const(e)) for d, e in dims.items())
        self.arrays[name] = Array(name, sizes, dtype or self.dtype, role)
        return self.arrays[name]

    def reduction(self) -> None:
        rng = self.rng
        reduced = {d: rng.choice((1, 2, 3, 8, 9)) for d in rng.sample("kl", rng.choice((1, 1, 2)))}
        every = {**self.kept, **reduced}
        loads: list[ex.Expr] = []
        for n in range(2):
            dims = rng.sample(list(every), rng.randint(1, len(every)))
            dims = list(dict.fromkeys((*dims, *reduced))) if n == 0 else dims
            self.array(f"A{n}", {d: every[d] for d in dims}, Role.INPUT)
            loads.append(ex.Load(f"A{n}", tuple((d, aff.var(d)) for d in dims), self.dtype))
        guard: aff.Condition = aff.TRUE
        if rng.random() < 0.15:  # a triangle
            guard = aff.at_least(aff.var(rng.choice(list(self.kept))) - aff.var(next(iter(reduced))))
        box = Domain(tuple(Range(d, aff.const(0), aff.const(e)) for d, e in every.items()), guard)
        value = ex.Binary(rng.choice(("*", "*", "+")), loads[0], loads[1])
        self.array("T", self.kept, Role.TEMPORARY)
        write = Access("T", tuple((d, aff.var(d)) for d in self.kept))
        self.statements.append(Statement("R", box, write, value, rng.choice(("sum", "sum", "max", "min"))))
        self.made.append("T")

    def after(self, n: int) -> None:
        """One more statement, of what was made at its own cells, and of others."""
        rng = self.rng
        dims = list(self.kept)
        named = (
            dict(zip(dims, rng.sample(NAMES, len(dims)), strict=True)) if rng.random() < 0.5 else {d: d for d in dims}
        )
        operands: list[ex.Expr] = []
        for name in dict.fromkeys(rng.choices(self.made, k=rng.choice((1, 1, 2)))):
            operands.append(self.own(name, named))
        operands += [self.other(n, k, named) for k in range(rng.choice((0, 1, 1, 2)))]
        value = operands[0]
        for e in operands[1:]:
            value = ex.Binary(rng.choice(("+", "-", "max", "min", "*")), value, e)
        if rng.random() < 0.4:
            value = ex.Binary("max", value, ex.Const(0.0 if self.dtype.is_float else 0, self.dtype))
        if rng.random() < 0.1:
            test = ex.Binary("<", value, ex.Const(1.0 if self.dtype.is_float else 1, self.dtype))
            value = ex.Select(test, value, operands[0])
        last, dtype = f"E{n}", self.dtype
        if self.dtype == f32 and rng.random() < 0.15:
            dtype, value = bf16, ex.Cast(bf16, value)
        order = rng.sample(dims, len(dims))
        self.array(last, {d: self.kept[d] for d in order}, Role.TEMPORARY, dtype)
        ranges = [Range(named[d], aff.const(0), aff.const(self.kept[d])) for d in rng.sample(dims, len(dims))]
        write = Access(last, tuple((d, aff.var(named[d])) for d in order))
        self.statements.append(Statement(last, Domain(tuple(ranges)), write, value))
        if dtype != bf16:
            self.made.append(last)

    def own(self, name: str, named: Mapping[str, str]) -> ex.Expr:
        """The cell of an instance; sometimes another one, which no tile has."""
        index = {d: aff.var(named[d]) for d in self.arrays[name].dim_names}
        if self.rng.random() < 0.1:
            d = self.rng.choice(list(index))
            index[d] = self.kept[d] - 1 - index[d]
        return ex.Load(name, tuple(index.items()), self.arrays[name].dtype)

    def other(self, n: int, k: int, named: Mapping[str, str]) -> ex.Expr:
        """An operand over some of the dims, in any order; strided or shifted along one."""
        rng = self.rng
        dims = rng.sample(list(self.kept), rng.randint(0, len(self.kept)))
        index: dict[str, aff.Affine | ex.Expr] = {}
        sizes: dict[str, int] = {}
        for d in dims:
            step, shift = rng.choice((1, 1, 1, 2)), rng.choice((0, 0, 1))
            sizes[d] = step * (self.kept[d] - 1) + shift + 1
            index[d] = aff.var(named[d]) * step + shift
        name = f"B{n}_{k}"
        self.array(name, sizes, Role.INPUT)
        load = ex.Load(name, tuple(index.items()), self.dtype)
        if dims and rng.random() < 0.15:
            d = rng.choice(dims)
            inside = aff.between(1, aff.var(named[d]), aff.const(self.kept[d]))
            return ex.Select(ex.Test(inside), load, ex.Const(0.0 if self.dtype.is_float else 0, self.dtype))
        return load

    def program(self) -> Program:
        read = {load.array for s in self.statements for load in ex.loads(s.value)}
        seen = {n for n in self.made if self.rng.random() < 0.15}
        outputs = {s.write.array for s in self.statements} - read | seen
        arrays = [Array(a.name, a.dims, a.dtype, Role.OUTPUT) if a.name in outputs else a for a in self.arrays.values()]
        return Program("whole", (), tuple(arrays), tuple(self.statements))


def drawn(rng: random.Random) -> Program:
    draft = _Draft(rng)
    draft.reduction()
    for n in range(rng.choice((1, 1, 2, 3))):
        draft.after(n)
    return draft.program()


def test_compiled_is_interpreted():
    rng = random.Random(SEED)
    batch, seen = Batch(), Counter[str]()
    for _ in range(EXAMPLES):
        p = interned(drawn(rng))
        inputs = inputs_for(p, {}, rng.randrange(1 << 30), "whole")
        what = rng.choice(("narrow vectors", "narrow vectors", "narrow vectors", "register tiles"))
        with eager(rng):
            kernel = compiled(p, {}, inputs, run(p, inputs), rng, what)
        text = kernel.source.text
        seen.update(e.name for e in p.statements if e.op is None and f"acc_{e.name}" in text)
        seen["not stored"] += "T" not in kernel.source.buffers
        seen["across"] += "_row_0_0" in text
        batch.add(kernel)
    wrong = [f"{k.what}: {bad}\n{to_text(k.program)}\n{k.source.text}" for k, bad in batch.results() if bad is not None]
    batch.close()
    assert not wrong, f"{len(wrong)} failures\n" + "\n".join(wrong[:3])
    assert EXAMPLES < 100 or (all(seen[m] > EXAMPLES / 20 for m in ("E0", "E1", "not stored")) and seen["across"]), seen
