# SPDX-License-Identifier: MIT
"""Random reductions over boxes with windows: register tiles = NumPy, for any size, layout, plan and machine.

Sizes lie below, at and above a vector; a plan is the one chosen, or any that was weighed.  150 by default; a long run:

    POLYHEDRAL_EXAMPLES=5000 POLYHEDRAL_SEED=7 pytest tests/properties/test_windows.py
"""

from __future__ import annotations

import math
import os
import random
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import pytest

from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from polyhedral.ir.program import Program, Role
from polyhedral.machine import target
from polyhedral.plans import candidates, chooser
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from tests.properties.batch import Batch, Kernel, draw_strides, layouts_of
from tests.properties.schedules import own_strides

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "150"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))
PORTION = 150
POINTS = 120_000
"""Instances of a program at most."""
LONG = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 16, 17, 19, 24, 31, 32, 33, 37, 48, 64, 65)
SHORT = (1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17)
TYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64, "u32": np.uint32}
MECHANISMS = ("window_", "slide", "window2_", "pick", "join", "stream_", "_panels[", "k_block", "pad_", "_block]")
"""What some generated text shows of each way to load, store and cut."""


@dataclass(frozen=True)
class Read:
    """One axis of an operand: `sum of factor * dim, - before`, of which `before` and `after` cells do not exist."""

    axis: str
    terms: tuple[tuple[str, int], ...]
    shift: int
    extent: int
    low: bool
    high: bool

    @property
    def text(self) -> str:
        shown = " + ".join(d if c == 1 else f"{c}*{d}" for d, c in self.terms).replace("+ -", "- ")
        return shown if not self.shift else f"{shown} {'+' if self.shift > 0 else '-'} {abs(self.shift)}"

    @property
    def tests(self) -> tuple[str, ...]:
        low, high = f"0 <= {self.text}", f"{self.text} < {self.extent}"
        return (*((low,) if self.low else ()), *((high,) if self.high else ()))


@dataclass
class Case:
    """One reduction: extents of its dims, how operands are read, and what is computed of them."""

    sizes: dict[str, int]
    reduced: tuple[str, ...]
    dtype: str
    op: str
    value: str
    pad: float
    X: tuple[Read, ...]
    W: tuple[Read, ...] = ()
    out: tuple[str, ...] = ()
    extra: tuple[str, str, int] | None = None
    operands: dict[str, tuple[Read, ...]] = field(default_factory=dict)

    def text(self) -> str:
        number = "-inf" if self.pad == -math.inf else f"{self.pad}" if self.dtype[0] == "f" else f"{int(self.pad)}"
        shown: dict[str, str] = {}
        lines = ["program windows"]
        for name, axes in self.operands.items():
            lines.append(f"  input {name}: {self.dtype}[{', '.join(f'{r.axis}: {r.extent}' for r in axes)}]")
            where = ", ".join(f"{r.axis}={r.text}" for r in axes)
            shown[name] = f"{name}({where})" if where else name
        tests = [t for r in self.X for t in r.tests]
        if self.extra is not None:
            a, b, c = self.extra
            tests.append(f"{a} <= {b} + {c}")
        if tests:
            shown["X"] = f"where([{' and '.join(tests)}], {shown['X']}, {number})"
        box = ", ".join(f"{d} < {self.sizes[d]}" for d in self.out)
        over = ", ".join(f"{d} < {self.sizes[d]}" for d in self.reduced)
        lines.append(f"  output out: {self.dtype}[{', '.join(f'{d}: {self.sizes[d]}' for d in self.out)}]")
        lines.append(f"  S: for {box}:  out = {self.op}[{over}] {self.value.format(**shown)}")
        return "\n".join(lines) + "\n"

    def expected(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """What NumPy makes of it over the whole box, and the bound of a sum or product of floats."""
        dims = (*self.out, *self.reduced)
        at = {d: np.arange(self.sizes[d]).reshape([-1 if d == e else 1 for e in dims]) for d in dims}
        read: dict[str, np.ndarray] = {}
        exists = np.array(True)
        for name, axes in self.operands.items():
            where = [sum((c * at[d] for d, c in r.terms), np.int64(r.shift)) for r in axes]
            clipped = tuple(np.clip(i, 0, r.extent - 1) for i, r in zip(where, axes, strict=True))
            read[name] = inputs[name][clipped]
            if name == "X":
                exists = reduce(np.logical_and, ((i >= 0) & (i < r.extent) for i, r in zip(where, axes, strict=True)))
        if self.extra is not None:
            a, b, c = self.extra
            exists = exists & (at[a] <= at[b] + c)
        kind = TYPES[self.dtype]
        X, W = np.where(exists, read["X"], kind(self.pad)), read.get("W", np.zeros((), kind))
        assert X.dtype == kind
        with np.errstate(all="ignore"):
            value = np.broadcast_to(_VALUES[self.value](X, W), [self.sizes[d] for d in dims])
            value = value.reshape(*value.shape[: len(self.out)], -1)
            if self.op in ("max", "min"):
                return (np.max if self.op == "max" else np.min)(value, axis=-1), None
            combine = np.sum if self.op == "sum" else np.prod
            if self.dtype[0] != "f":
                return combine(value, axis=-1, dtype=kind), None
            size = combine(np.abs(value.astype(np.longdouble)), axis=-1)
            want = combine(value.astype(np.longdouble), axis=-1)
        steps = (value.shape[-1] + 2) * np.finfo(kind).eps / 2
        tiny = np.finfo(kind).smallest_subnormal * (value.shape[-1] + 2)
        return want.astype(kind), 2 * steps / (1 - steps) * size + tiny


_VALUES = {
    "{X} * {W}": lambda X, W: X * W,
    "{X} + {W}": lambda X, W: X + W,
    "min({X}, {W})": np.minimum,
    "({X} - {W}) * ({X} - {W})": lambda X, W: (X - W) * (X - W),
    "{X}": lambda X, W: X,
    "{X} * {X}": lambda X, W: X * X,
}
KINDS = {
    "full": ("b o y x", "c ky kx", "b c", "o c ky kx"),
    "channels last": ("y x o", "ky kx c", "c", "ky kx c o"),
    "depthwise": ("b c y x", "ky kx", "b c", "c ky kx"),
    "grouped": ("b g o y x", "c ky kx", "b g c", "g o c ky kx"),
    "involution": ("b c y x", "ky kx", "b c", "b y x ky kx"),
    "along a row": ("b o x", "c kx", "b c", "o c kx"),
    "capsules": ("o y x p r", "c ky kx q", "c p q", "o c ky kx q r"),
    "pooled": ("b c y x", "ky kx", "b c", ""),
    "product": ("i j", "k", "i k", "k j"),
    "batched product": ("b i j", "k", "b i k", "b k j"),
    "by a vector": ("i", "k", "i k", "k"),
}
"""Dims of the result, reduced ones, those that X has beside its windows, and those of W."""


def drawn(rng: random.Random) -> Case:
    kind = rng.choice(list(KINDS))
    kept, reduced, own, weights = (tuple(x.split()) for x in KINDS[kind])
    while True:
        sizes = {d: rng.choice(LONG if d in "yxijo" else SHORT) for d in (*kept, *reduced)}
        sizes |= {d: rng.choice((1, 2, 3, 3, 4, 5, 7)) for d in ("ky", "kx") if d in sizes}
        sizes |= {d: rng.choice((1, 2, 3, 4, 4, 8)) for d in ("p", "q", "r") if d in sizes}
        if "k" in sizes:
            sizes["k"] = rng.choice((1, 3, 16, 64, 127, 256, 257, 300, 512, 523, 700))
        if math.prod(sizes.values()) <= POINTS:
            break
    dtype = rng.choice(("f32", "f32", "f32", *TYPES))
    op = rng.choice(("sum", "sum", "sum", "max", "min", "prod"))
    value = rng.choice(["{X} * {W}"] * 4 + list(_VALUES)[1:4]) if weights else rng.choice(list(_VALUES)[4:])
    if op == "prod" and dtype[0] == "f" and weights:  # one that underflows before it meets an infinity is right
        value = rng.choice(("{X} * {W}", "min({X}, {W})"))
    pads = [0.0, 0.0, 1.0] + ([-math.inf] if dtype[0] == "f" and op in ("max", "min") else [])
    axes = [Read(d, ((d, 1),), 0, sizes[d], False, False) for d in own]
    padded = rng.random() < 0.7
    axes += [_slid(rng, d, sizes, padded) for d in ("y", "x") if f"k{d}" in sizes]
    rng.shuffle(axes)
    W = [Read(d, ((d, 1),), 0, sizes[d], False, False) for d in _in_some_order(rng, weights)]
    order = tuple(rng.sample(kept, len(kept)))
    extra = (rng.choice(kept), rng.choice(reduced), rng.randint(0, 8)) if rng.random() < 0.07 else None
    made = Case(sizes, reduced, dtype, op, value, rng.choice(pads), tuple(axes), tuple(W), order, extra)
    made.operands = {"X": made.X} | ({"W": made.W} if "{W}" in value else {})
    return made


def _in_some_order(rng: random.Random, dims: Sequence[str]) -> Sequence[str]:
    return dims if rng.random() < 0.5 else rng.sample(dims, len(dims))


def _slid(rng: random.Random, d: str, sizes: Mapping[str, int], padded: bool) -> Read:
    """An axis that a window slides along: a stride, a dilation, perhaps turned round, padding on both sides."""
    stride, apart = rng.choice((1, 1, 1, 2, 2, 3)), rng.choice((1, 1, 1, 2))
    before, after = (rng.randint(0, 3) if padded else 0 for _ in range(2))
    reach = stride * (sizes[d] - 1) + apart * (sizes[f"k{d}"] - 1)
    if reach + 1 - before - after < 1:
        before = after = 0
    extent = max(1, reach + 1 - before - after + rng.choice((0, 0, 1, 2)))
    turned = rng.random() < 0.15
    shift = apart * (sizes[f"k{d}"] - 1) - before if turned else -before
    terms = [(d, stride), (f"k{d}", -apart if turned else apart)]
    return Read(d, tuple(terms), shift, extent, bool(before) or rng.random() < 0.1, bool(after) or rng.random() < 0.1)


def filled(rng: random.Random, case: Case) -> dict[str, np.ndarray]:
    """Floats near one where they are multiplied up, sometimes with what is not finite; integers of any size."""
    made: dict[str, np.ndarray] = {}
    np_rng = np.random.default_rng(rng.randrange(1 << 30))
    odd = rng.random() < 0.25
    for name, axes in case.operands.items():
        shape, kind = tuple(r.extent for r in axes), TYPES[case.dtype]
        if case.dtype[0] == "f":
            v = np_rng.uniform(0.95, 1.05, shape) if case.op == "prod" else np_rng.standard_normal(shape)
            v = v * np_rng.choice([-1.0, 1.0], shape)
            if odd:
                v = np.where(np_rng.random(shape) < 0.02, np_rng.choice([np.nan, np.inf, -np.inf], shape), v)
            made[name] = v.astype(kind)
        else:
            info = np.iinfo(kind)
            made[name] = np_rng.integers(info.min, info.max, shape, kind, endpoint=True)
    return made


# --- kernels ---------------------------------------------------------------------------------------------------------


def strides_of(rng: random.Random, p: Program) -> dict[str, dict[str, int]]:
    """As written, with padded rows, or in any order and direction."""
    found: dict[str, dict[str, int]] = {}
    for a in p.arrays:
        how = rng.choice(("plain", "plain", "pitch", "any"))
        found[a.name] = draw_strides(rng, a, {}, plain=how != "any")
        if how == "pitch" and a.dim_names:
            last = a.dim_names[-1]
            pitch = a.extent(last).const + rng.choice((1, 3, 7, 16))
            outer = {d: s // a.extent(last).const * pitch for d, s in found[a.name].items() if d != last}
            found[a.name] = {**outer, last: 1}
    return found


def machine(rng: random.Random, cores: int) -> target.Target:
    """This one; also without caches and with slow memory, where results stream, with few registers, without masks."""
    found = target.host(cores)
    if rng.random() < 0.2:
        found = replace(found, l3=0, bytes_per_cycle=0.25)
    if rng.random() < 0.15 and found.vector > 32:
        found = replace(found, vector=32, registers=16)
    return replace(found, masked=found.masked or rng.random() < 0.2)


def weighed(rng: random.Random):
    """In place of the best plan, any."""

    def chosen(*given):  # type: ignore[no-untyped-def]
        every = candidates.choices(*given)
        if not every or rng.random() < 0.4:
            return candidates.best(*given)
        relaid = rng.choice(sorted({len(c.relaid) for c in every}))
        return rng.choice([c for c in every if len(c.relaid) == relaid])

    return chosen


def kernel(case: Case, rng: random.Random, patch: pytest.MonkeyPatch) -> Kernel:
    p = parse(case.text())
    inputs = filled(rng, case)
    expected, bound = case.expected(inputs)
    strides = strides_of(rng, p)
    threads = rng.randint(1, 2)
    on = machine(rng, threads)
    patch.setattr(session, "_target", lambda root, cores: on)
    patch.setattr(chooser, "best", weighed(rng))
    built = driver.lower(p, layouts_of(p, strides, at_run_time=False), Options(threads=threads, plan_above=1))
    for a in built.program.arrays:
        if a.role is not Role.CONSTANT and a.name not in strides:
            strides[a.name] = own_strides(a, built.layouts[a.name], {})
    plans = {n: str(c.plan) for n, c in built.choices.items()}
    what = f"{on.vector} bytes, l3={on.l3}, {strides}, {plans}"
    bounds = {"out": np.zeros(expected.shape) if bound is None else bound}
    skew = rng.choice((0, 0, None, 1, 3, 8))
    arrays = built.program.arrays
    return Kernel(p, arrays, {}, built.source, strides, inputs, {"out": expected}, what, threads, bounds, skew)


def collected(first: int, count: int, wrong: list[str]) -> list[Kernel]:
    found: list[Kernel] = []
    for n in range(first, first + count):
        rng = random.Random(SEED * 1_000_003 + n)
        case = drawn(rng)
        with pytest.MonkeyPatch.context() as patch:
            try:
                k = kernel(case, rng, patch)
                found.append(replace(k, what=f"case {n}, {k.what}"))
            except Exception as e:
                shown = traceback.format_exc(limit=-5)
                wrong.append(f"case {n}: {shown}\n{type(e).__name__}: {e}\n{case.text()}")
    return found


def test_register_tiles_are_numpy():
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    for first in range(0, EXAMPLES, PORTION):
        batch = Batch(size=25)
        for k in collected(first, min(PORTION, EXAMPLES - first), wrong):
            seen.update(m for m in MECHANISMS if m in k.source.text)
            seen["acc_"] += "acc_" in k.source.text
            batch.add(k)
        for k, problem in batch.results():
            if problem is not None:
                wrong.append(f"{k.what}, {k.threads} threads, skew {k.skew}: {problem}\n{to_text(k.program)}")
        batch.close()
    assert not wrong, f"{len(wrong)} failures\n" + "\n".join(wrong[:8])
    assert seen["acc_"] >= 0.8 * EXAMPLES, seen
    host = target.host(1)
    if SEED == 0 and EXAMPLES >= 150 and host.masked:
        rare = () if host.vector == host.line else ("stream_", "join", "slide")  # with short vectors
        assert all(seen[m] for m in MECHANISMS if m not in rare), seen
