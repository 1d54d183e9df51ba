# SPDX-License-Identifier: MIT
"""What tracing a function leaves behind: statements as the user wrote them, before ranges are known.

`frontend.lang` writes these values, `frontend.inference` finds each statement's ranges and turns the whole into a
`polyhedral.Program`.  Expressions are the IR's own; two things the IR lacks appear as loads of *definitions*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from polyhedral.errors import Location
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import TRUE, Affine, Compare, Condition
from polyhedral.ir.dtypes import DType
from polyhedral.ir.expr import Const, Expr
from polyhedral.ir.program import Array


@dataclass(frozen=True)
class Reduction:
    """An anonymous intermediate: `op` of `body` over the `bound` dims, a function of its `free` dims.

    It is read by `Load(name, index)` with one entry for each free dim, so substitution into a reduction is substitution
    into an index.  It has no range of its own: it is computed where its readers need it.  `bound` names are fresh
    (`k'1`) with `shown` mapping them to the user's spelling.  `where` is the affine part of the predicate;
    data-dependent masks are already Selects in `body`.  `declared` holds sizes given by `ph.dims(k=3)` or `.over`.
    """

    name: str
    op: str
    free: tuple[str, ...]
    bound: tuple[str, ...]
    body: Expr
    dtype: DType
    where: Condition = TRUE
    strict: bool = False
    declared: tuple[tuple[str, Affine, Affine], ...] = ()  # dim, lo, hi
    shown: tuple[tuple[str, str], ...] = ()
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Padding:
    """`array` readable beyond its edges: per padded dim (dim, low, high), coordinates kept (rule R14).

    Read by `Load(name, index)` with one entry for each dim of the array.  A bare own dim still pins to [0, extent).
    Inside, the array is read through `within`, if any: its padding along other dims.
    """

    name: str
    array: str
    widths: tuple[tuple[str, int, int], ...]
    mode: Literal["constant", "edge", "reflect", "wrap"]
    value: Const
    location: Location | None = field(default=None, compare=False)
    within: Padding | None = None

    @property
    def reach(self) -> dict[str, tuple[int, int]]:
        """How far each padded dim may be read on either side, whichever padding says so."""
        own = {d: (low, high) for d, low, high in self.widths}
        return own if self.within is None else own | self.within.reach


Definition = Reduction | Padding


@dataclass(frozen=True)
class Loop:
    """An enclosing `ph.loop(dim, lo, hi, step)` (dim counts 0, 1, ... when step > 1: the index is lo + step*dim), or
    `ph.sequential(dim)` when `lo` is None: ordered, range inferred."""

    dim: str
    lo: Affine | None = None
    hi: Affine | None = None


@dataclass(frozen=True)
class Recorded:
    """One statement as written.

    kind      "let" (a new array whose extents are to be inferred), "equation" (part of a `ph.var`), "update" (of an
              inout argument); a returned expression is a "let" whose array has role OUTPUT.
    target    the array written; for a let, `index` is empty and `value`'s dims become its dims.
    index     for equations and updates: the affine index of every dim of the target.
    op        for `T op= e` with dims that the target does not see: the reduction; None otherwise (then a plain
              `T op= e` is already spelled `T = T op e` in `value`).
    loops     enclosing ordered loops, outermost first; `over` unordered ranges; `when` an affine restriction.
    declared  fixed sizes of dims: dim, lo, hi.
    position  textual position, as in polyhedral.ir.program.Statement.
    """

    name: str
    kind: Literal["let", "equation", "update"]
    target: str
    value: Expr
    index: tuple[tuple[str, Affine], ...] = ()
    op: str | None = None
    loops: tuple[Loop, ...] = ()
    over: tuple[tuple[str, Affine, Affine], ...] = ()
    when: Condition = TRUE
    declared: tuple[tuple[str, Affine, Affine], ...] = ()
    position: tuple[int | str, ...] = (0,)
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Gradient:
    """Arrays promised by `ph.grad` and its like, which the assembled program has to define.

    `outputs` are differentiated, each weighted by a cotangent array (None: one); `results` hold the derivative by each
    of `wrt`.  `along` are the dims that calls added to the outputs: derivatives are taken at each of their points.
    """

    outputs: tuple[tuple[str, str | None], ...]
    wrt: tuple[str, ...]
    results: tuple[str, ...]
    along: tuple[tuple[str, Affine], ...] = ()
    location: Location | None = field(default=None, compare=False)

    @property
    def needed(self) -> frozenset[str]:
        """What its definition reads, whoever else does."""
        return frozenset(n for pair in self.outputs for n in pair if n is not None)


@dataclass(frozen=True)
class Tangent:
    """Arrays promised by `ph.jvp`: how each of `outputs` changes as arrays move.

    `wrt` pairs each array that moves with the array that it moves along; `results` hold the change of each output.
    """

    outputs: tuple[str, ...]
    wrt: tuple[tuple[str, str], ...]
    results: tuple[str, ...]
    location: Location | None = field(default=None, compare=False)

    @property
    def needed(self) -> frozenset[str]:
        """What its definition reads, whoever else does."""
        return frozenset((*self.outputs, *(n for pair in self.wrt for n in pair)))


Promise = Gradient | Tangent


@dataclass(frozen=True)
class Rule:
    """How one call is differentiated, as the user of its function says: as a whole.

    `results` are the cotangents of `inputs` (None: it has none), made of arrays and of `cotangents`, which stand for
    those of the `outputs`.  `lifted` are the dims that the call added: of these a rule knows nothing.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cotangents: tuple[str, ...]
    results: tuple[str | None, ...]
    lifted: frozenset[str] = frozenset()
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Recording:
    """What a trace knows so far.  Extents of arguments are the symbolic sizes `X.c`; those of lets and vars affine.

    `held` arrays and reductions are constants to derivatives.
    `equations` are the size equalities that its statements rely on, each once, whichever side it was met from.
    """

    name: str
    arrays: tuple[Array, ...] = ()
    definitions: tuple[Definition, ...] = ()
    statements: tuple[tuple[Recorded, Settled], ...] = ()
    sizes: tuple[str, ...] = ()
    assumptions: tuple[Condition, ...] = ()
    promises: tuple[Promise, ...] = ()
    rules: tuple[Rule, ...] = ()
    held: frozenset[str] = frozenset()
    equations: tuple[Condition, ...] = ()

    @cached_property
    def known(self) -> Condition:
        """Everything assumed about sizes so far."""
        return aff.both(*self.assumptions, *self.equations)

    def array(self, name: str) -> Array | None:
        return self._arrays.get(name)

    def definition(self, name: str) -> Definition | None:
        return self._definitions.get(name)

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        return {a.name: a for a in self.arrays}

    @cached_property
    def _definitions(self) -> dict[str, Definition]:
        return {d.name: d for d in self.definitions}


def unsided(equation: Condition) -> object:
    """What an equation says, whichever side it is written from."""
    e = equation.expr if isinstance(equation, Compare) else None
    return equation if e is None else frozenset((e, -e))


@dataclass(frozen=True)
class Settled:
    """The outcome of inference for one statement: the range of every dim, and the size equalities it relies on.

    `ranges` covers all statement dims, ordered loops first; `guard` holds enclosing conditions.  `reasons` says for
    each dim, in the user's words, why it has its range (shown in errors and by `explain bounds`).
    """

    ranges: tuple[tuple[str, Affine, Affine], ...]
    guard: Condition = TRUE
    requires: tuple[tuple[Condition, str], ...] = ()
    reasons: tuple[tuple[str, str], ...] = ()
