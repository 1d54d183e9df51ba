# SPDX-License-Identifier: MIT
"""The recorder behind a trace: arrays, hoisted definitions and statements, in the order in which they were written.

Works on plain values; the objects that users hold are put around it by `trace`, and what a statement may write is
decided by `assign`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from typing import Literal, Self, cast

from frontend.lang.location import Mark, here
from frontend.lang.owner import Owner, recording
from frontend.lang.value import Span, Value, Weak, require
from frontend.recorded import Definition, Loop, Promise, Recorded, Recording, Rule, Settled, unsided
from polyhedral.errors import InternalError, Location, UserError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Condition
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Array, Role

Settle = Callable[[Recorded, Recording], Settled]
Dims = tuple[tuple[str, Affine], ...]

MANY = 200
_current: ContextVar[Recorder | None] = ContextVar("the trace that is recording", default=None)


def current(what: str) -> Recorder:
    """The trace that is recording now; `what` names the caller in the error raised without one."""
    recorder = _current.get()
    if recorder is None:
        raise UserError(
            "PH020",
            f"{what} has a meaning only while a program is being recorded",
            hints=("use it inside a function decorated with @ph.function(X='c y x'), or called from one",),
            location=here(),
        )
    return recorder


def is_recording() -> bool:
    return _current.get() is not None


def is_array(name: str) -> bool:
    """Is this the name of an array, as users know it, and not that of a hoisted definition?"""
    recorder = _current.get()
    return recorder is None or name not in recorder.definitions


@dataclass(frozen=True)
class Stepped:
    """An enclosing ordered loop; `index` replaces the dim in what the user wrote when the loop has a step."""

    loop: Loop
    index: Affine | None = None


@dataclass(frozen=True)
class Named:
    """The value of a `ph.let` outside of all blocks, with the ranges that it was given."""

    value: Value
    over: Mapping[str, Span]
    location: Location | None


class Recorder:
    """What has been recorded so far, and the blocks that are open."""

    def __init__(self, name: str, settle: Settle, mark: Mark | None = None) -> None:
        self.name = name
        self.owner = Owner(name, mark)
        self.settle = settle
        self.arrays: dict[str, Array] = {}
        self.definitions: dict[str, Definition] = {}
        self.statements: list[tuple[Recorded, Settled]] = []
        self.sizes: list[str] = []
        self.assumptions: list[Condition] = []
        self.promises: list[Promise] = []
        self.rules: list[Rule] = []
        self.calls: list[Callable[[], Rule]] = []
        self.within: frozenset[Callable[..., object]] = frozenset()
        self.held: set[str] = set()
        self.equations: dict[object, Condition] = {}
        self.variables: set[str] = set()
        self.assumed: set[str] = set()
        self.lifted: dict[str, frozenset[str]] = {}
        self.examples: frozenset[str] = frozenset()
        self.weak: dict[str, Weak] = {}
        self.named: dict[str, Named] = {}
        self.wide: dict[str, str] = {}
        self.loops: list[Stepped] = []
        self.over: list[Mapping[str, Span]] = []
        self.when: list[Value] = []
        self._tokens: tuple[Token[Recorder | None], Token[Owner | None]] | None = None
        self._prefix: tuple[int | str, ...] = ()
        self._count = [0]
        self._names: set[str] = set()
        self._fresh: Counter[str] = Counter()
        self._lines: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> Self:
        if self._tokens is not None:
            raise InternalError("PH999", f"trace {self.name} is entered twice", hints=("one trace a function call",))
        self._tokens = _current.set(self), recording.set(self.owner)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._tokens is not None:
            _current.reset(self._tokens[0])
            recording.reset(self._tokens[1])
            self._tokens = None

    # names ----------------------------------------------------------------------------------------------------------

    def unique(self, base: str, number: bool = False) -> str:
        """A name nothing else has: `base`, or `base0`, `base1`, ... when numbered."""
        if not isinstance(cast("object", base), str):
            raise UserError(
                "PH007",
                f"{base!r} is no name for a tensor",
                hints=("ph.let(e, 'name', x=9) or ph.var('name', x=9)",),
                location=here(),
            )
        name, n = (f"{base}0", 0) if number else (base, 0)
        while name in self._names:
            n += 1
            name = f"{base}{n}" if number else f"{base}_{n}"
        self._names.add(name)
        return name

    def fresh(self, base: str) -> str:
        """A private dim name, `k'1`; the same for the same program."""
        base = str(base).partition("'")[0]
        self._fresh[base] += 1
        return f"{base}'{self._fresh[base]}"

    # arrays and definitions -----------------------------------------------------------------------------------------

    def add_array(self, array: Array) -> Value:
        self.arrays[array.name] = array
        return self.read(array.name)

    def read(self, name: str) -> Value:
        """An array at its own dims (R1)."""
        array = self.arrays[name]
        index = tuple((d, aff.var(d)) for d in array.dim_names)
        node = ex.Load(name, index, array.dtype)
        return Value(node, frozenset(array.dim_names), self.weak.get(name, Weak.STRONG), owner=self.owner)

    def define(self, definition: Definition) -> None:
        self.definitions[definition.name] = definition
        self.owner.places[definition.name] = definition.location
        self.owner.unnamed.add(definition.name)
        self._note_line(definition.location)

    def require(self, *values: Value) -> None:
        """PH020 for a value of another recording."""
        for v in values:
            require(v, self.owner)

    def snapshot(self) -> Recording:
        return Recording(
            self.name,
            tuple(self.arrays.values()),
            tuple(self.definitions.values()),
            tuple(self.statements),
            tuple(self.sizes),
            tuple(self.assumptions),
            tuple(self.promises),
            tuple(self.rules),
            frozenset(self.held),
            tuple(self.equations.values()),
        )

    # blocks ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def inside_loop(self, frame: Stepped) -> Generator[None]:
        saved = self._prefix
        self._prefix = (*self._position(), frame.loop.dim)
        self._count.append(0)
        self.loops.append(frame)
        try:
            yield
        finally:
            self.loops.pop()
            self._count.pop()
            self._prefix = saved

    @contextmanager
    def inside_over(self, spans: Mapping[str, Span]) -> Generator[None]:
        self.over.append(spans)
        try:
            yield
        finally:
            self.over.pop()

    @contextmanager
    def inside_when(self, condition: Value) -> Generator[None]:
        self.when.append(condition)
        try:
            yield
        finally:
            self.when.pop()

    def _position(self) -> tuple[int | str, ...]:
        n = self._count[-1]
        self._count[-1] += 1
        return (*self._prefix, n)

    def stepped(self) -> dict[str, Affine]:
        """What the dims of enclosing loops with a step stand for."""
        return {f.loop.dim: f.index for f in self.loops if f.index is not None}

    # statements -----------------------------------------------------------------------------------------------------

    def statement(
        self,
        kind: Literal["let", "equation", "update"],
        name: str,
        target: str,
        value: Value,
        index: tuple[tuple[str, Affine], ...] = (),
        op: str | None = None,
        over: Mapping[str, Span] | None = None,
    ) -> Recorded:
        """A statement as written, under the open blocks; not yet recorded."""
        self.require(value)
        steps = self.stepped()
        spans = dict(value.spans)
        for restriction in (*self.over, over or {}):
            spans.update(restriction)
        looped = {f.loop.dim for f in self.loops}
        seen = value.dims.union(*(aff.dims_of(i) for _, i in index), *(w.dims for w in self.when))
        said = {d: s for d, s in spans.items() if d in seen and d not in looped}
        conditions = (w.node.condition for w in self.when if isinstance(w.node, ex.Test))
        return Recorded(
            name,
            kind,
            target,
            ex.substitute(value.node, steps) if steps else value.node,
            tuple((d, aff.substitute(i, steps)) for d, i in index),
            op,
            tuple(f.loop for f in self.loops),
            tuple((d, s.lo, s.hi) for d, s in said.items() if not s.fixed),
            aff.map_affine(aff.both(TRUE, *conditions), lambda a: aff.substitute(a, steps)),
            tuple((d, s.lo, s.hi) for d, s in said.items() if s.fixed),
            (0,),
            here(),
        )

    def record(self, written: Recorded, array: Callable[[Settled], Array] | None = None) -> None:
        """Settle a statement's ranges and keep it; `array` makes the new array of a let from them."""
        written = replace(written, position=self._position())
        settled = self.settle(written, self.snapshot())
        if array is not None:
            made = array(settled)
            self.arrays[made.name] = made
        self.statements.append((written, settled))
        for c, _ in settled.requires:
            self.equations.setdefault(unsided(c), c)
        self._note_line(written.location)

    def let(
        self,
        value: Value,
        label: str | None,
        over: Mapping[str, Span],
        role: Role = Role.TEMPORARY,
        at: Location | None = None,
    ) -> str:
        """Record a new array with this value; its name."""
        name = self.unique(label) if label else self.unique("t", number=True)
        written = self.statement("let", name, name, value, over=over)
        written = written if at is None else replace(written, location=at)
        self.weak[name] = value.weak
        self.owner.places[name] = written.location
        if not (self.loops or self.over or self.when):
            self.named[name] = Named(value, dict(over), written.location)
        dtype = value.dtype
        self.record(written, lambda settled: Array(name, extents(settled), dtype, role))
        return name

    def widened(self, name: str, value: Value, dtype: DType) -> str:
        """The let `name` computed in a wider type, as `value`; recorded once, outside of the blocks that are open."""
        key = f"{name}_{dtype}"
        if key not in self.wide:
            outer = self.loops, self.over, self.when, self._prefix, self._count
            self.loops, self.over, self.when, self._prefix, self._count = [], [], [], (), self._count[:1]
            try:
                known = self.named[name]
                self.wide[key] = self.let(value, key, known.over, at=known.location)
            finally:
                self.loops, self.over, self.when, self._prefix, self._count = outer
        return self.wide[key]

    def ranges(self, value: Value) -> Settled:
        """The ranges that the dims of an expression would have as a statement of its own."""
        written = self.statement("let", "this expression", "this expression", value)
        return self.settle(written, self.snapshot())

    def _note_line(self, where: Location | None) -> None:
        if where is None:
            return
        key = (where.file, where.line)
        self._lines[key] += 1
        if self._lines[key] == MANY + 1:
            warnings.warn(
                f"more than {MANY} statements come from {where}: a Python loop is unrolled while tracing; "
                "with ph.loop(t, n): keeps it a loop over a dimension t",
                stacklevel=2,
            )


def extents(settled: Settled) -> Dims:
    """The extents of a new array over a statement's ranges; bounds that use other dims take their largest value."""
    known: dict[str, tuple[Affine, Affine]] = {}
    for dim, lo, hi in settled.ranges:
        known[dim] = (_extreme(lo, known, False), _extreme(hi, known, True))
    return tuple((d, hi) for d, (_, hi) in known.items())


def _extreme(e: Affine, ranges: Mapping[str, tuple[Affine, Affine]], largest: bool) -> Affine:
    dims: dict[str, Affine] = {}
    for dim in aff.dims_of(e):
        lo, hi = ranges[dim]
        rising = e.coefficient(aff.Var(dim)) >= 0
        dims[dim] = hi - 1 if rising == largest else lo
    return aff.substitute(e, dims)


def default_float(recorder: Recorder) -> DType | None:
    """The widest float type of the arguments: what an undeclared variable is taken to hold."""
    floats = [a.dtype for a in recorder.arrays.values() if a.dtype.is_float]
    return max(floats, key=lambda t: t.bits, default=None)
