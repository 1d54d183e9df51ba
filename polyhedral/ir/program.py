# SPDX-License-Identifier: MIT
"""The program IR: arrays without layout and statements without loops.

    program   := sizes, assumptions, arrays, statements
    array     := name, named dims with affine extents, dtype, role            (no axis order, no strides)
    statement := name, domain, write access, value [, reduction], position

A statement's dims that the write does not see are reduced by `op`.  `position` orders imperative statements: textual
numbers interleaved with the enclosing ordered loop dims, outermost first (Kelly's 2d+1 form, 1998).  An array with role
`inout` is memory: its statements keep the order of their positions.  Any other array is single-assignment: each cell is
defined once, and only the flow of values orders the statements that touch it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from importlib import import_module
from typing import Never

from polyhedral.errors import ArgumentError, Location
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Condition
from polyhedral.ir.dtypes import DType


class Role(Enum):
    """What an array is for; `constant` arrays carry their data."""

    INPUT = "input"
    OUTPUT = "output"
    INOUT = "inout"
    TEMPORARY = "temporary"
    CONSTANT = "constant"


@dataclass(frozen=True, repr=False)
class Array:
    """A function from a named index to stored values.  `dims` is unordered in meaning; the order only fixes printing.

    `data` holds a constant's values, row-major in the order of `dims`.  `planes` lists dims along which storage is
    reused: (t, 2) keeps cell t in plane t % 2.  It changes no value, but orders a cell's readers before the plane's
    next writer.
    """

    name: str
    dims: tuple[tuple[str, Affine], ...]
    dtype: DType
    role: Role
    data: tuple[bool | int | float | complex, ...] | None = None
    planes: tuple[tuple[str, int], ...] = ()

    def __repr__(self) -> str:
        extents = ", ".join(d if str(e) == f"{self.name}.{d}" else f"{d}: {e}" for d, e in self.dims)
        return f"<{self.role.value} {self.name}: {self.dtype}[{extents}]>"

    @property
    def stored(self) -> tuple[tuple[str, Affine], ...]:
        """Dims with the extents that take memory."""
        kept = dict(self.planes)
        return tuple((d, aff.const(kept[d]) if d in kept else e) for d, e in self.dims)

    @property
    def dim_names(self) -> tuple[str, ...]:
        return tuple(d for d, _ in self.dims)

    def extent(self, dim: str) -> Affine:
        return dict(self.dims)[dim]


@dataclass(frozen=True)
class Range:
    """lo <= dim < hi, affine in sizes and in the dims of ranges before it."""

    dim: str
    lo: Affine
    hi: Affine

    def __str__(self) -> str:
        return f"{self.dim} < {self.hi}" if self.lo == Affine() else f"{self.lo} <= {self.dim} < {self.hi}"


@dataclass(frozen=True)
class Domain:
    """The instances of a statement: a box of ranges (bounds may use outer dims), restricted by `guard`."""

    ranges: tuple[Range, ...] = ()
    guard: Condition = TRUE

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(r.dim for r in self.ranges)

    @cached_property
    def condition(self) -> Condition:
        """The whole domain as one condition over its dims."""
        return aff.both(*(aff.between(r.lo, aff.var(r.dim), r.hi) for r in self.ranges), self.guard)


@dataclass(frozen=True)
class Access:
    """A cell of an array: one affine index for each of its dims, in the array's dim order."""

    array: str
    index: tuple[tuple[str, Affine], ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{d}={i}" for d, i in self.index if i.as_var() != d)
        return f"{self.array}({shown})" if shown else self.array


@dataclass(frozen=True, repr=False)
class Statement:
    """`write = value` over `domain`, or `write = op over the unseen dims of value` when `op` names a reduction.

    `accumulate`: the reduction starts from the cell's present value instead of the operator's identity.
    `strict`: a float reduction keeps the lexicographic order of its dims (R7).
    """

    name: str
    domain: Domain
    write: Access
    value: ex.Expr
    op: str | None = None
    accumulate: bool = False
    strict: bool = False
    position: tuple[int | str, ...] = (0,)
    location: Location | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        ranges = ", ".join(map(str, self.domain.ranges))
        where = f" for {ranges}" if ranges else ""
        return f"<statement {self.name}: {self.op or 'value'} into {self.write}{where}>"

    @property
    def dims(self) -> tuple[str, ...]:
        return self.domain.dims

    @cached_property
    def reduced(self) -> tuple[str, ...]:
        """The dims that the write does not see, in domain order; empty unless `op` is set."""
        if self.op is None:
            return ()
        seen = frozenset[str]().union(*(aff.dims_of(i) for _, i in self.write.index))
        return tuple(d for d in self.dims if d not in seen)

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """The dims that are not reduced, in domain order."""
        reduced = self.reduced
        return tuple(d for d in self.dims if d not in reduced)

    @cached_property
    def loads(self) -> tuple[ex.Load, ...]:
        """The distinct loads of the value, in order of appearance."""
        return tuple(dict.fromkeys(ex.loads(self.value)))

    @cached_property
    def touched(self) -> tuple[str, ...]:
        """The arrays that are written and read, each once, the written one first."""
        return tuple(dict.fromkeys((self.write.array, *(load.array for load in self.loads))))

    @property
    def ordered(self) -> tuple[str, ...]:
        """The dims whose order is given by enclosing loops, outermost first."""
        return tuple(p for p in self.position if isinstance(p, str))


@dataclass(frozen=True, repr=False)
class Program:
    """A whole computation.  `sizes` are its parameters; `assumptions` restrict them (checked once at each call).

    `print(program)` shows its canonical text, which `ph.parse` reads back.
    """

    name: str
    sizes: tuple[str, ...]
    arrays: tuple[Array, ...]
    statements: tuple[Statement, ...]
    assumptions: tuple[Condition, ...] = ()

    def __repr__(self) -> str:
        arrays = (f"{a.name}{{{','.join(a.dim_names)}}}" for a in self.arrays if a.role is not Role.TEMPORARY)
        return f"<ph.Program {self.name}({', '.join(arrays)}); {', '.join(s.name for s in self.statements)}>"

    def __str__(self) -> str:
        """The canonical text: how it is spelled is the printer's, which stands above this file and is asked by name."""
        return str(import_module("polyhedral.text.printer").to_text(self)).rstrip("\n")

    def array(self, name: str) -> Array:
        """The array of this name; PH045 where there is none."""
        found = self._arrays.get(name)
        return self._unknown("array", name, self._arrays) if found is None else found

    def statement(self, name: str) -> Statement:
        """The statement of this name; PH045 where there is none."""
        found = self._statements.get(name)
        return self._unknown("statement", name, self._statements) if found is None else found

    def _unknown(self, what: str, name: object, known: Mapping[str, object]) -> Never:
        raise ArgumentError(
            "PH045", f"program {self.name} has no {what} {name!r}", hints=(f"it has {', '.join(sorted(known))}",)
        )

    @cached_property
    def _arrays(self) -> Mapping[str, Array]:
        return {a.name: a for a in reversed(self.arrays)}

    @cached_property
    def _statements(self) -> Mapping[str, Statement]:
        return {s.name: s for s in reversed(self.statements)}

    @cached_property
    def users(self) -> Mapping[str, tuple[Statement, ...]]:
        """The statements that touch each array, in order."""
        found: dict[str, list[Statement]] = {}
        for s in self.statements:
            for name in touched(s):
                found.setdefault(name, []).append(s)
        return {name: tuple(users) for name, users in found.items()}

    @cached_property
    def writers(self) -> Mapping[str, tuple[Statement, ...]]:
        """The statements that write each array, in order."""
        found: dict[str, list[Statement]] = {}
        for s in self.statements:
            found.setdefault(s.write.array, []).append(s)
        return {name: tuple(writers) for name, writers in found.items()}

    @cached_property
    def read(self) -> frozenset[str]:
        """The arrays that some statement reads."""
        return frozenset(load.array for s in self.statements for load in reads(s))

    def with_role(self, *roles: Role) -> tuple[Array, ...]:
        return tuple(a for a in self.arrays if a.role in roles)


def reads(s: Statement) -> tuple[ex.Load, ...]:
    """The distinct loads of a statement's value, in order of appearance."""
    return s.loads


def touched(s: Statement) -> tuple[str, ...]:
    """The arrays that a statement writes and reads, each once, the written one first."""
    return s.touched


def specialise(p: Program, sizes: Mapping[str, int]) -> Program:
    """Fix some sizes to numbers everywhere; the others stay symbolic."""
    fixed = {n: aff.const(v) for n, v in sizes.items() if n in p.sizes}

    def one(i: Affine) -> Affine:
        return aff.substitute(i, {}, fixed)

    def statement(s: Statement) -> Statement:
        ranges = tuple(Range(r.dim, one(r.lo), one(r.hi)) for r in s.domain.ranges)
        return replace(
            s,
            domain=Domain(ranges, aff.map_affine(s.domain.guard, one)),
            write=Access(s.write.array, tuple((d, one(i)) for d, i in s.write.index)),
            value=ex.substitute(s.value, {}, fixed),
        )

    return Program(
        p.name,
        tuple(n for n in p.sizes if n not in fixed),
        tuple(replace(a, dims=tuple((d, one(e)) for d, e in a.dims)) for a in p.arrays),
        tuple(statement(s) for s in p.statements),
        tuple(aff.map_affine(c, one) for c in p.assumptions),
    )


def names(p: Program) -> set[str]:
    """Of all arrays and statements."""
    return {a.name for a in p.arrays} | {s.name for s in p.statements}


def fresh(base: str, taken: set[str]) -> str:
    """A name that nothing else has; `taken` grows by it."""
    name = base
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def require_program(given: object, what: str) -> None:
    """PH045 for what is no program where one is wanted; `what` names who wants it."""
    if not isinstance(given, Program):
        raise ArgumentError(
            "PH045",
            f"{what} wants a program, not {_article(given)}",
            hints=(
                "of a function, f.trace(X='f32[c, y, x]').program; of text, ph.parse(text)",
                "programs of statements and arrays are built by ph.build",
            ),
        )


def _article(given: object) -> str:
    name = "None" if given is None else type(given).__name__
    return name if given is None else f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
