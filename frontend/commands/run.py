# SPDX-License-Identifier: MIT
"""`polyhedral run`: compile, call once on random or stored inputs, hold the result against the interpreter, time it.

Sizes that nothing fixes get small values that satisfy the program's conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from frontend.commands.targets import Sizes, Target, dense_specs, example_sizes, in_order, load, lowered
from frontend.inspection.cost import operations
from frontend.measuring.agreement import Data, gathered
from frontend.stages.executable import Benchmark
from frontend.stages.lowered import Lowered
from frontend.usage import UsageError
from polyhedral.ir import interpreter
from polyhedral.ir.dtypes import BY_NAME
from polyhedral.ir.program import Array as IRArray
from polyhedral.ir.program import Program, specialise


class Caller(Protocol):
    """What of the command line matters here."""

    @property
    def sizes(self) -> dict[str, int | None]: ...

    @property
    def dtype(self) -> str | None: ...

    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class Ran:
    """What came of a run: `agrees` is None when nothing was checked."""

    program: str
    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    benchmark: Benchmark
    agrees: bool | None = None
    error: Mapping[str, float] | None = None
    bound: Mapping[str, float] | None = None

    def __str__(self) -> str:
        lines = [f"{self.program} -> " + ", ".join(f"{n} {s}" for n, s in self.shapes.items()), str(self.benchmark)]
        if self.error is not None and self.bound is not None:
            verdict = "agrees with" if self.agrees else "DIFFERS from"
            worst = ", ".join(f"{n} {e:.3g} (allowed {self.bound[n]:.3g})" for n, e in self.error.items())
            lines.append(f"{verdict} the interpreter; max error: {worst}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        b = self.benchmark
        timing = {"seconds": b.median, "iqr": b.iqr, "calls": len(b.times), "threads": b.threads, "gflops": b.gflops}
        return {
            "schema": "polyhedral.run/1",
            "program": self.program,
            "sizes": dict(self.sizes),
            "shapes": {n: list(s) for n, s in self.shapes.items()},
            **timing,
            "agrees": self.agrees,
            "error": None if self.error is None else dict(self.error),
            "bound": None if self.bound is None else dict(self.bound),
        }


def run(
    text: str,
    caller: Caller,
    npz: Path | None,
    output: Path | None,
    check: bool,
    seed: int,
    schedule: Path | None = None,
) -> Ran:
    """The whole command."""
    target = load(text)
    stored = _stored(npz) if npz is not None else None
    low, sizes = sized(target, caller, stored) if schedule is None else _ordered(target, caller, schedule)
    caller.say(f"compiling for {', '.join(f'{n}={v}' for n, v in sizes.items()) or 'fixed sizes'}")
    exe = low.compile()
    inputs = generated(low, sizes, stored, seed, caller.dtype is not None)
    order = {n: low.specs[n].axes for n in low.module.arguments}
    expected = _interpreted(low, inputs, sizes, order) if check else None
    mine = {n: v.copy() for n, v in inputs.items()}
    result = exe(**mine)
    results = gathered(low, result, mine)
    if output is not None:
        _save(output, results)
    benchmark = exe.benchmark(*(v.copy() for v in (inputs[n] for n in low.module.arguments)))
    ran = Ran(low.module.program.name, sizes, {n: v.shape for n, v in results.items()}, benchmark)
    if expected is None:
        return ran
    return _judged(ran, low, results, expected, inputs)


def _ordered(target: Target, caller: Caller, schedule: Path) -> tuple[Lowered, dict[str, int]]:
    """The program in the order of a file, at its sizes or others, which are all numbers."""
    low = in_order(target, caller.sizes, caller.dtype, schedule)
    missing = [n for n in low.module.program.sizes if n not in low.sizes]
    if missing:
        raise UsageError(f"--schedule {schedule} leaves {', '.join(missing)} open; give them with -s {missing[0]}=16")
    return low, {n: low.sizes[n] for n in low.module.program.sizes}


def sized(target: Target, caller: Caller, stored: Data | None) -> tuple[Lowered, dict[str, int]]:
    """The program for sizes that are all numbers."""
    given: Sizes = {n: v for n, v in caller.sizes.items() if v is not None}
    wanted = [] if isinstance(target, Program) else [p.name for p in target.parameters if p.axes is not None]
    types = {n: _element(n, v) for n, v in (stored or {}).items() if n in wanted and v.dtype.kind != "V"}
    low = lowered(target, given, caller.dtype, types=types)
    fixed: dict[str, int] = {}
    for n, v in (stored or {}).items():
        if n in low.specs and v.ndim == len(low.specs[n].axes):
            fixed |= {f"{n}.{d}": int(e) for d, e in zip(low.specs[n].axes, v.shape, strict=True)}
    if fixed:
        low = lowered(target, given, caller.dtype, fixed, types)
    if any(n not in low.sizes for n in low.module.program.sizes):
        fixed |= example_sizes(low)
        low = lowered(target, given, caller.dtype, fixed, types)
    return low, {n: low.sizes[n] for n in low.module.program.sizes}


def _element(name: str, array: np.ndarray[Any, Any]) -> str:
    """What the elements of a stored array are called; in which order their bytes lie is asked later."""
    found = next((n for n, t in BY_NAME.items() if t.numpy == array.dtype.newbyteorder("=")), None)
    if found is None:
        raise UsageError(f"{name} holds {array.dtype} in the .npz file; element types are {', '.join(BY_NAME)}")
    return found


# --- inputs and results ----------------------------------------------------------------------------------------------


def _stored(path: Path) -> Data:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {n: found[n] for n in found.files}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None


def _save(path: Path, results: Data) -> None:
    try:
        np.savez(path, **cast("dict[str, Any]", results))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def generated(low: Lowered, sizes: Mapping[str, int], stored: Data | None, seed: int, typed: bool = False) -> Data:
    """The arguments at random, or as an .npz file has them; `typed` where --dtype says what they hold."""
    rng = np.random.default_rng(seed)
    made: Data = {}
    for n, spec in dense_specs(low, sizes).items():
        shape = tuple(s or 0 for s in spec.sizes)
        if stored is None:
            made[n] = _random(rng, low.module.program.array(n), shape)
        elif n not in stored:
            raise UsageError(f"the .npz file has no array {n!r}; it has {', '.join(stored)}")
        elif stored[n].dtype.kind != "V" and _element(n, stored[n]) != spec.dtype.name:
            held = _element(n, stored[n])
            way = "leave out --dtype" if typed else f"declare {n}: {held}[...] in the program"
            raise UsageError(
                f"{n} holds {held} in the .npz file and {spec.dtype} in the program: convert the array, or {way}"
            )
        else:
            made[n] = stored[n]
    return made


def _random(rng: np.random.Generator, a: IRArray, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Values in [-1, 1), or small integers; square matrices get a strong diagonal, so that solvers stay finite."""
    if a.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(a.dtype.numpy)
    if a.dtype.is_integer:
        return rng.integers(0 if a.dtype.kind == "u" else -3, 4, shape).astype(a.dtype.numpy)
    value = rng.uniform(-1, 1, shape)
    if len(shape) == 2 and shape[0] == shape[1]:
        value = (value + value.T) / 2 + 2 * shape[0] * np.eye(shape[0])
    return np.asarray(value).astype(a.dtype.numpy)


# --- judging ---------------------------------------------------------------------------------------------------------


def _interpreted(low: Lowered, inputs: Data, sizes: Mapping[str, int], order: Mapping[str, tuple[str, ...]]) -> Data:
    program: Program = specialise(low.module.program, sizes)
    arrays = {n: v.transpose([order[n].index(d) for d in program.array(n).dim_names]) for n, v in inputs.items()}
    return interpreter.run(program, arrays, {})


def _judged(ran: Ran, low: Lowered, results: Data, expected: Data, inputs: Data) -> Ran:
    """Integers exactly; floats up to the rounding of as many steps as one result takes."""
    steps = 8 + max((operations(s) * _terms(low, s.name) for s in low.module.program.statements), default=0)
    scale = max(
        [
            1.0,
            *(
                float(np.abs(v.astype(np.float64)).max(initial=0))
                for v in inputs.values()
                if v.dtype.kind not in "biuc"
            ),
        ]
    )
    errors: dict[str, float] = {}
    bounds: dict[str, float] = {}
    for n, want in expected.items():
        dtype = low.module.program.array(n).dtype
        kind = np.complex128 if dtype.kind == "c" else np.float64
        a, b = results[n].astype(kind), want.astype(kind)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            errors[n] = float(np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf)).max(initial=0.0))
        size = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
        unit = {64: 2.0**-52, 32: 2.0**-23, 16: 2.0**-8, 8: 2.0**-2}[dtype.bits // (2 if dtype.kind == "c" else 1)]
        exact = dtype.kind in "biu"
        bounds[n] = 0.0 if exact else unit * steps * max(scale * scale, size)
    agrees = all(errors[n] <= bounds[n] for n in errors)
    return Ran(ran.program, ran.sizes, ran.shapes, ran.benchmark, agrees, errors, bounds)


def _terms(low: Lowered, statement: str) -> int:
    """How many values one result of a statement combines at most."""
    s = specialise(low.module.program, low.sizes).statement(statement)
    total = 1
    for r in s.domain.ranges:
        span = r.hi - r.lo
        if r.dim in s.reduced or r.dim in s.ordered:
            total *= max(span.const, 1) if span.is_const else 64
    return total
