# SPDX-License-Identifier: MIT
"""Many kernels in one call of the C compiler, run on memory with guard cells, and held against the equations.

A kernel's text is made by the ordinary `emit`; here only its file-scope names get a number, so that many fit into one
translation unit.
"""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from codegen.c import Source
from codegen.runtime.cc import compile_shared
from codegen.runtime.native import Native, address, load
from frontend.environment import session
from frontend.environment.options import Options
from polyhedral.errors import ToolchainError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.evaluate import Evaluator, combiner, rows
from polyhedral.ir.interpreter import cell_domain
from polyhedral.ir.layout import Layout, runtime_stride
from polyhedral.ir.memory import Memory
from polyhedral.ir.program import Array, Program, Role, Statement

Arrays = Mapping[str, np.ndarray]
GUARD = 16


@dataclass(frozen=True)
class Kernel:
    """One schedule of one program as C, and everything needed to run and judge it; `arrays` are those of the kernel.

    Where there are `bounds`, results may be as far from those expected, and the equations are not asked.  Arrays begin
    `skew` elements after a cache line, or anywhere.
    """

    program: Program
    arrays: Sequence[Array]
    sizes: Mapping[str, int]
    source: Source
    strides: Mapping[str, Mapping[str, int]]
    inputs: Arrays
    expected: Arrays
    what: str
    threads: int = 1
    bounds: Arrays | None = None
    skew: int | None = None


# --- layouts ---------------------------------------------------------------------------------------------------------


def draw_strides(rng: random.Random, a: Array, sizes: Mapping[str, int], plain: bool = False) -> dict[str, int]:
    """A stride in elements for each dim: any order of the dims, some reversed, some padded."""
    names = list(a.dim_names)
    if not plain:
        rng.shuffle(names)
    strides: dict[str, int] = {}
    step = 1
    for d in reversed(names):
        if not plain and rng.random() < 0.2:
            step += rng.randint(1, 3)
        strides[d] = -step if not plain and rng.random() < 0.2 else step
        step *= max(aff.evaluate(dict(a.stored)[d], {}, sizes), 1)
    return strides


def layouts_of(p: Program, strides: Mapping[str, Mapping[str, int]], *, at_run_time: bool) -> dict[str, Layout]:
    """Layouts with these strides as numbers, or under names that the kernel takes as arguments."""
    return {
        a.name: Layout(
            a.name,
            tuple((d, runtime_stride(a.name, d) if at_run_time else strides[a.name][d]) for d in a.dim_names),
        )
        for a in p.arrays
        if a.name in strides
    }


def guarded(
    shape: Sequence[int], strides: Sequence[int], dtype: np.dtype, skew: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(memory, view, guards): `guards` marks the cells around and between those of the view, whose first cell in memory
    lies `skew` elements after the begin of a cache line."""
    low = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0 and n > 0)
    high = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0 and n > 0)
    line = 64 // dtype.itemsize
    memory = np.frombuffer(bytearray(b"\x4d" * ((high - low + 1 + line + 2 * GUARD) * dtype.itemsize)), dtype).copy()
    guards = np.ones(memory.shape, bool)
    begin = GUARD if skew is None else GUARD + (skew - address(memory) // dtype.itemsize - GUARD) % line

    def view(base: np.ndarray) -> np.ndarray:
        start = base[begin - low :]
        return np.lib.stride_tricks.as_strided(start, shape, [s * base.itemsize for s in strides])

    view(guards)[...] = False
    return memory, view(memory), guards


# --- compiling -------------------------------------------------------------------------------------------------------


def isolated(text: str, number: int) -> str:
    """The text with every name at file scope made its own."""
    names = set(re.findall(r"^static [^=;{\n(]*?\b(\w+)(?=\(|\[)", text, re.M))
    names |= set(re.findall(r"^(?:static )?__attribute__\(\(noinline, noipa.*?\)\) void (\w+)\(", text, re.M))
    names |= set(re.findall(r"^static inline __attribute__\(\(always_inline\)\) \w+ (\w+)\(", text, re.M))
    names |= set(re.findall(r"^extern const \w+ (\w+)\[", text, re.M))
    names |= set(re.findall(r"^typedef \w+ (\w+) ", text, re.M))
    names |= set(re.findall(r"^int32_t (\w+)\(void \*const", text, re.M))
    names -= {"__attribute__"}
    return re.sub(rf"\b({'|'.join(sorted(map(re.escape, names)))})\b", rf"\1_{number}", text)


@dataclass
class Batch:
    """Collects kernels; compiles them in the background, `size` at a time, and runs them."""

    size: int = 40
    extra: tuple[str, ...] = ()
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="polyhedral-batch-")))
    waiting: list[Kernel] = field(default_factory=list)
    compiled: list[tuple[list[Kernel], Future[Path]]] = field(default_factory=list)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))
    numbers: Iterator[int] = field(default_factory=count)
    ran: int = 0

    def add(self, kernel: Kernel) -> None:
        self.waiting.append(kernel)
        if len(self.waiting) >= self.size:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            chunk, self.waiting = self.waiting, []
            self.compiled.append((chunk, self.pool.submit(self._compile, chunk)))

    def _compile(self, chunk: list[Kernel]) -> Path:
        here = session.current()
        path = self.folder / f"{next(self.numbers)}.so"
        text = "\n".join(isolated(k.source.text, i) for i, k in enumerate(chunk))
        path.write_bytes(compile_shared(text, here.compiler(Options()), timeout=600, extra=self.extra))
        return path

    def close(self) -> None:
        self.pool.shutdown()
        shutil.rmtree(self.folder)

    def results(self) -> Iterator[tuple[Kernel, str | None]]:
        """Each kernel with what is wrong with its result, None when nothing is."""
        self.flush()
        done, self.compiled = self.compiled, []
        for chunk, future in done:
            yield from self._judged(chunk, future.result)

    def _judged(self, chunk: list[Kernel], path_of: Callable[[], Path]) -> Iterator[tuple[Kernel, str | None]]:
        """Run a portion; one that does not compile is halved until the culprit stands alone."""
        try:
            path = path_of()
        except ToolchainError as error:
            if len(chunk) == 1:
                yield chunk[0], str(error)
                return
            for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                yield from self._judged(part, lambda part=part: self._compile(part))
            return
        for i, k in enumerate(chunk):
            native = load(path, f"{k.source.symbol}_{i}", session.current().team)
            self.ran += 1
            yield k, run(k, native)
        path.unlink()  # no path is used twice: the loader would give the library that it has


def run(k: Kernel, native: Native) -> str | None:
    """What is wrong after one call."""
    memory, views, guards = {}, {}, {}
    for a in k.arrays:
        if a.role is Role.CONSTANT:
            continue
        shape = tuple(max(0, aff.evaluate(e, {}, k.sizes)) for _, e in a.stored)
        strides = [k.strides[a.name][d] for d in a.dim_names]
        memory[a.name], views[a.name], guards[a.name] = guarded(shape, strides, a.dtype.numpy, k.skew)
        if a.name in k.inputs:
            views[a.name][...] = k.inputs[a.name]
    values = [k.sizes[n] if n in k.sizes else _stride(k, n) for n in k.source.sizes]
    before = {n: m[guards[n]].tobytes() for n, m in memory.items()}
    fault = native([address(views[n]) for n in k.source.buffers], values, k.threads)
    if fault:
        return f"the kernel reports fault {fault}"
    for n, m in memory.items():
        if m[guards[n]].tobytes() != before[n]:
            return f"{n}: cells outside the array were written"
    got = {a.name: views[a.name] for a in k.program.with_role(Role.OUTPUT, Role.INOUT)}
    for n, value in k.inputs.items():
        if n not in got and not same(views[n], value):
            return f"{n}: an input was written"
    if k.bounds is not None:
        return next((x for n in got if (x := beyond(n, got[n], k.expected[n], k.bounds[n])) is not None), None)
    return mismatch(k.program, k.inputs, k.sizes, got, k.expected)


def _stride(k: Kernel, name: str) -> int:
    array, dim, _ = name.split(".")
    return k.strides[array][dim]


# --- judging ---------------------------------------------------------------------------------------------------------


def reassociates(p: Program) -> bool:
    """Whether the order of a sum may change a result (see the docstring of `tests.strategies`)."""
    return p.name != "whole" and any(
        s.op in ("sum", "prod") and not s.strict and p.array(s.write.array).dtype.is_float for s in p.statements
    )


def mismatch(p: Program, inputs: Arrays, sizes: Mapping[str, int], got: Arrays, expected: Arrays) -> str | None:
    """The first array that differs: bit by bit (NaN is NaN), or beyond the bound of a reassociated sum."""
    if not reassociates(p):
        for n, want in expected.items():
            if not same(got[n], want) and not (hoists(p) and same_but_odd(got[n], want)):
                return f"{n} is\n{got[n]}\nbut should be\n{want}"
        return None
    values = {n: np.ascontiguousarray(v).reshape(-1) for n, v in {**inputs, **got}.items()}
    shapes = {a.name: tuple(max(0, aff.evaluate(e, {}, sizes)) for _, e in a.dims) for a in p.arrays}
    memory = Memory(sizes, shapes, values, {})
    with np.errstate(all="ignore"):
        return next((found for s in p.statements if (found := _equation(memory, s)) is not None), None)


def beyond(name: str, got: np.ndarray, want: np.ndarray, bound: np.ndarray) -> str | None:
    """The first cell that is further from what it should be than the bound: what is not finite must be the same."""
    equal = (got == want) | ((got != got) & (want != want))
    with np.errstate(all="ignore"):
        close = np.abs(got.astype(np.longdouble) - want.astype(np.longdouble)) <= bound
    wrong = np.argwhere(~(equal | (np.isfinite(want) & close)))
    if not len(wrong):
        return None
    at = tuple(int(i) for i in wrong[0])
    return f"{name}: {len(wrong)} of {want.size} cells differ; {name}{list(at)} = {got[at]} should be {want[at]}"


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def hoists(p: Program) -> bool:
    """Whether a term may be added after a maximum or minimum rather than before it."""
    relaxed = [s for s in p.statements if s.op in ("max", "min") and not s.strict]
    return any(p.array(s.write.array).dtype.is_float for s in relaxed)


def same_but_odd(a: np.ndarray, b: np.ndarray) -> bool:
    """The same, but that a NaN of `b` may be infinite: max(inf - inf, 1 - inf) and max(inf, 1) - inf."""
    return a.shape == b.shape and bool(np.all((a == b) | (np.isnan(b) & ~np.isfinite(a))))


def _equation(memory: Memory, s: Statement) -> str | None:
    """Whether one equation holds of the values that were computed: gamma(n) * sum |x| for a relaxed sum."""
    evaluator = Evaluator(memory, s)
    every = rows(s.domain, memory.sizes)
    value, _ = evaluator.value(s.value, every)
    cells = evaluator.cells(every)
    stored = memory.values[s.write.array]
    if s.op is None:
        return None if same(stored[cells], np.asarray(value)) else f"{s.name} does not hold"
    start = ex.identity(s.op, ex.dtype_of(s.value)).value
    outer = evaluator.cells(rows(cell_domain(s), memory.sizes))
    want = np.full(len(stored), start, stored.dtype)
    combiner(s.op).at(want, cells, value)
    got, want = stored[outer], want[outer]
    if s.op not in ("sum", "prod") or s.strict or stored.dtype.kind != "f":
        return None if same(got, want) else f"{s.name}: {got} should be {want}"
    count = np.bincount(cells, minlength=len(stored))[outer]
    size = np.full(len(stored), start, np.longdouble)
    combiner(s.op).at(size, cells, np.abs(value).astype(np.longdouble))
    unit = np.finfo(stored.dtype).eps / 2
    gamma = (count + 1) * unit / (1 - (count + 1) * unit)
    tiny = np.finfo(stored.dtype).smallest_subnormal * (count + 2)
    close = np.abs(got.astype(np.longdouble) - want) <= 2 * gamma * size[outer] + tiny
    odd = ~np.isfinite(want) | ~np.isfinite(size[outer].astype(stored.dtype))
    equal = (got == want) | (np.isnan(got) & np.isnan(want))
    fine = np.where(odd, equal | ~np.isfinite(size[outer].astype(stored.dtype)) & np.isfinite(want), close)
    return None if bool(fine.all()) else f"{s.name}: {got} should be {want}"
