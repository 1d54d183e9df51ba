# SPDX-License-Identifier: MIT
"""A program as a function of whole arrays, for NumPy and its like: one array expression for each statement.

Sums of products become `einsum` over views (windows are strided ones), other reductions are over broadcast values,
conditions are masks.  What has no such form (updates in place, recurrences) says why.  The words of each library are in
`frontend.peers.libraries`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any, assert_never

import numpy as np

from frontend.peers.libraries import Library, NoFormError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Floor
from polyhedral.ir.cluster import components
from polyhedral.ir.program import Program, Role, Statement, reads

MOST = 1 << 27
"""Cells of an intermediate array at most."""

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """An array with an axis for each of some dims, in the order of the statement's; made from the arrays so far."""

    dims: tuple[str, ...]
    make: Callable[[Arrays], Any]


def form(program: Program, library: Library) -> Callable[[Arrays], dict[str, Any]]:
    """The results of a program of known sizes from its inputs, axes in the order of its dims; else NoFormError."""
    steps = [(s.write.array, _Statement(program, s, library).result()) for s in _in_order(program)]
    constants = {
        a.name: library.array(np.array(a.data, a.dtype.numpy).reshape([_number(e, a.name) for _, e in a.dims]))
        for a in program.with_role(Role.CONSTANT)
    }
    wanted = [a.name for a in program.with_role(Role.OUTPUT)]

    def run(given: Arrays) -> dict[str, Any]:
        arrays: dict[str, Any] = {**constants, **given}
        for name, make in steps:
            arrays[name] = make(arrays)
        return {n: arrays[n] for n in wanted}

    return run


def _in_order(p: Program) -> list[Statement]:
    """The statements, each after those whose results it reads."""
    if p.with_role(Role.INOUT):
        raise NoFormError("it updates an argument in place")
    own = {s.write.array: s.name for s in p.statements}
    if len(own) < len(p.statements):
        raise NoFormError("several statements define one array, part by part")
    edges = [(own[r.array], s.name) for s in p.statements for r in reads(s) if r.array in own]
    order = components([s.name for s in p.statements], edges)
    cycle = next((c for c in order if len(c) > 1 or any((n, n) in edges for n in c)), None)
    if cycle is not None:
        raise NoFormError(f"{' and '.join(cycle)} is a recurrence")
    return [p.statement(c[0]) for c in order]


def _number(e: Affine, what: str) -> int:
    if not e.is_const:
        raise NoFormError(f"the size of {what} is not known")
    return max(e.const, 0)


class _Statement:
    """One statement: its dims with their boxes, and its value as a closure over the arrays."""

    def __init__(self, program: Program, s: Statement, library: Library) -> None:
        self.program, self.s, self.library = program, s, library
        self.box: dict[str, tuple[int, int]] = {}
        for r in s.domain.ranges:
            low, high = _extremes(r.lo, self.box), _extremes(r.hi - 1, self.box)
            self.box[r.dim] = (low[0], max(high[1] + 1, low[0]))
        tight = all(r.lo.is_const and r.hi.is_const for r in s.domain.ranges)
        self.mask = None if tight and s.domain.guard == aff.TRUE else s.domain.condition

    def shape(self, dims: Sequence[str]) -> tuple[int, ...]:
        made = tuple(self.box[d][1] - self.box[d][0] for d in dims)
        if prod(made) > MOST:
            raise NoFormError(f"an intermediate array over {', '.join(dims)} has {prod(made):,} cells")
        return made

    def columns(self, dims: Sequence[str]) -> dict[str, Any]:
        """The values of dims as NumPy arrays that broadcast to one another, in this order."""
        ones = [1] * len(dims)
        return {
            d: np.arange(*self.box[d]).reshape([*ones[:k], -1, *ones[k + 1 :]]) for k, d in enumerate(dims)
        }  # fmt: skip

    def ordered(self, dims: frozenset[str] | set[str]) -> tuple[str, ...]:
        return tuple(d for d in self.box if d in dims)

    # --- the whole ---------------------------------------------------------------------------------------------------

    def result(self) -> Callable[[Arrays], Any]:
        s, lib = self.s, self.library
        array = self.program.array(s.write.array)
        kept = [i.as_var() for _, i in s.write.index]
        extents = [_number(e, array.name) for _, e in array.dims]
        whole = [d is not None and self.box[d] == (0, n) for d, n in zip(kept, extents, strict=True)]
        if s.accumulate or not all(whole) or len(set(kept)) < len(kept):
            raise NoFormError(f"{s.name} defines part of {array.name}, or in another order")
        names = [d for d in kept if d is not None]
        found = self.reduced() if s.op is not None else self.masked(self.value(s.value))
        order = self.ordered(frozenset(names))
        axes, shape = [order.index(d) for d in names], self.shape(order)

        def make(arrays: Arrays) -> Any:
            whole = lib.broadcast(self.aligned(found, order)(arrays), shape)
            return lib.cast(lib.transpose(whole, axes), array.dtype)

        return make

    def masked(self, v: Value) -> Value:
        """An assignment's value; a condition on its cells would leave some undefined."""
        if self.mask is not None:
            raise NoFormError(f"{self.s.name} defines part of {self.s.write.array}")
        return v

    def reduced(self) -> Value:
        """The value combined over the reduced dims: sums of products by `einsum`, others after broadcasting."""
        s = self.s
        assert s.op is not None
        gone = frozenset(s.reduced)
        factors = list(_factors(s.value)) if s.op == "sum" else [s.value]
        values = [self.value(f) for f in factors]
        if self.mask is not None:
            values = self.under_mask(values, s.op)
        left = self.ordered(frozenset(d for v in values for d in v.dims) - gone)
        have = frozenset(d for v in values for d in v.dims) & gone
        if 0 in self.shape(self.ordered(gone)):
            dtype = ex.dtype_of(s.value)
            return self.constant((), np.array(ex.identity(s.op, dtype).value, dtype.numpy))
        count = prod(self.shape(self.ordered(gone - have))) if s.op in ("sum", "prod") else 1
        made = self.contracted(values, left) if len(values) > 1 else self.combined(values[0], s.op, left)
        return self.repeated(made, s.op, count)

    def under_mask(self, values: list[Value], op: str) -> list[Value]:
        """The identity where the domain's condition does not hold."""
        assert self.mask is not None
        lib, dtype = self.library, ex.dtype_of(self.s.value)
        truth = self.test(self.mask)
        neutral = lib.array(np.array(ex.identity(op, dtype).value, dtype.numpy))
        at = next((k for k, v in enumerate(values) if set(truth.dims) <= set(v.dims)), 0)
        dims = self.ordered({*truth.dims, *values[at].dims})
        self.shape(dims)
        mask, value = self.aligned(truth, dims), self.aligned(values[at], dims)
        values[at] = Value(dims, lambda arrays: lib.where(mask(arrays), value(arrays), neutral))
        return values

    def contracted(self, values: Sequence[Value], left: tuple[str, ...]) -> Value:
        letters = dict(zip(self.box, ascii_letters, strict=False))
        if len(letters) < len(self.box):
            raise NoFormError(f"{self.s.name} has more than {len(ascii_letters)} dims")
        terms = ",".join("".join(letters[d] for d in v.dims) for v in values)
        text = f"{terms}->{''.join(letters[d] for d in left)}"
        return Value(left, lambda arrays: self.library.einsum(text, [v.make(arrays) for v in values]))

    def combined(self, v: Value, op: str, left: tuple[str, ...]) -> Value:
        axes = tuple(k for k, d in enumerate(v.dims) if d not in left)
        if not axes:
            return v
        return Value(left, lambda arrays: self.library.reduce(op, v.make(arrays), axes))

    def repeated(self, v: Value, op: str, count: int) -> Value:
        """A value that does not depend on some of the reduced dims, as often as these have points."""
        if count == 1:
            return v
        lib = self.library
        n = lib.array(np.array(count, ex.dtype_of(self.s.value).numpy))
        return Value(v.dims, lambda arrays: lib.call("*" if op == "sum" else "**", v.make(arrays), n))

    # --- values ------------------------------------------------------------------------------------------------------

    def value(self, e: ex.Expr) -> Value:
        lib = self.library
        match e:
            case ex.Const(value, dtype):
                lib.require(dtype)
                return self.constant((), np.array(value, dtype.numpy))
            case ex.Index(affine, dtype):
                lib.require(dtype)
                dims = self.ordered(aff.dims_of(affine))
                return self.constant(dims, self.evaluated(affine, dims).astype(dtype.numpy))
            case ex.Test(condition):
                return self.test(condition)
            case ex.Load():
                return self.load(e)
            case ex.Cast(dtype, arg):
                lib.require(dtype)
                inner = self.value(arg)
                return Value(inner.dims, lambda arrays: lib.cast(inner.make(arrays), dtype))
            case ex.Select(cond, then, other):
                return self.together(lib.where, (cond, then, other))
            case ex.Unary(op, arg):
                return self.together(lib.function(op, 1), (arg,))
            case ex.Binary(op, lhs, rhs):
                return self.together(lib.function(op, 2), (lhs, rhs))
            case ex.Call(fn, args):
                return self.together(lib.function(fn, len(args)), args)
            case _:
                assert_never(e)

    def together(self, f: Callable[..., Any], args: Sequence[ex.Expr]) -> Value:
        values = [self.value(a) for a in args]
        dims = self.ordered({d for v in values for d in v.dims})
        self.shape(dims)
        made = [self.aligned(v, dims) for v in values]
        return Value(dims, lambda arrays: f(*(m(arrays) for m in made)))

    def aligned(self, v: Value, dims: tuple[str, ...]) -> Callable[[Arrays], Any]:
        """The array with an axis of length 1 for each further dim."""
        if v.dims == dims or not v.dims:
            return v.make
        shape = tuple(self.box[d][1] - self.box[d][0] if d in v.dims else 1 for d in dims)
        return lambda arrays: self.library.reshape(v.make(arrays), shape)

    def constant(self, dims: tuple[str, ...], data: np.ndarray[Any, Any]) -> Value:
        made = self.library.array(data)
        return Value(dims, lambda arrays: made)

    def test(self, condition: aff.Condition) -> Value:
        dims = self.ordered(aff.condition_dims(condition))
        truth = np.asarray(aff.holds(condition, self.columns(dims), {}), bool)
        return self.constant(dims, np.broadcast_to(truth, self.shape(dims)).copy())

    def evaluated(self, e: Affine, dims: tuple[str, ...]) -> np.ndarray[Any, Any]:
        """An index over the box of some dims."""
        found = np.asarray(aff.evaluate(e, self.columns(dims), {}))
        return np.broadcast_to(found, self.shape(dims)).copy()

    # --- accesses ----------------------------------------------------------------------------------------------------

    def load(self, e: ex.Load) -> Value:
        """A view where the index only moves forth, and stays inside; else a gather, whose index is clipped: what is
        outside of its array is masked.
        """
        lib, array = self.library, self.program.array(e.array)
        lib.require(e.dtype)
        extents = [_number(x, e.array) for _, x in array.dims]
        index = [i for _, i in e.index]
        plain = [i for i in index if isinstance(i, Affine) and not any(isinstance(t, Floor) for t, _ in i.terms)]
        dims = self.ordered({d for i in index for d in self.dims_of(i)})
        shape = self.shape(dims)
        if len(plain) == len(index) and all(shape) and self.inside(plain, extents):
            steps = [[i.coefficient(aff.Var(d)) for d in dims] for i in plain]
            first = [_extremes(i, {d: (self.box[d][0], self.box[d][0] + 1) for d in dims})[0] for i in plain]
            if lib.views(steps):
                return Value(dims, lambda arrays: lib.view(arrays[e.array], shape, steps, first))
        if 0 in extents or not all(shape):
            raise NoFormError(f"{e.array} is empty")
        columns = [self.column(i, n, dims) for i, n in zip(index, extents, strict=True)]
        return Value(dims, lambda arrays: lib.gather(arrays[e.array], [c(arrays) for c in columns]))

    def dims_of(self, i: Affine | ex.Expr) -> frozenset[str]:
        return aff.dims_of(i) if isinstance(i, Affine) else frozenset(self.value(i).dims)

    def column(self, i: Affine | ex.Expr, extent: int, dims: tuple[str, ...]) -> Callable[[Arrays], Any]:
        """Where along one axis cells are read."""
        lib = self.library
        if isinstance(i, Affine):
            fixed = lib.index(np.clip(self.evaluated(i, dims), 0, extent - 1))
            return lambda arrays: fixed
        found = self.aligned(self.value(i), dims)
        return lambda arrays: lib.clipped(found(arrays), extent)

    def inside(self, index: Sequence[Affine], extents: Sequence[int]) -> bool:
        """Whether an index is within bounds on the whole box, and never moves backwards."""
        for i, n in zip(index, extents, strict=True):
            low, high = _extremes(i, self.box)
            if low < 0 or high >= n or any(c < 0 for _, c in i.terms):
                return False
        return True


def _factors(e: ex.Expr) -> Iterator[ex.Expr]:
    """The factors of a product."""
    match e:
        case ex.Binary("*", lhs, rhs):
            yield from _factors(lhs)
            yield from _factors(rhs)
        case _:
            yield e


def _extremes(e: Affine, box: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """The least and the greatest value of an index on a box, or a bound of it where floors are."""
    low = high = e.const
    for term, c in e.terms:
        match term:
            case aff.Var(name):
                first, last = box[name][0], max(box[name][1] - 1, box[name][0])
            case Floor(arg, divisor):
                inner = _extremes(arg, box)
                first, last = inner[0] // divisor, inner[1] // divisor
            case aff.Size():
                raise NoFormError("a size is not known")
            case _:
                assert_never(term)
        low, high = low + min(c * first, c * last), high + max(c * first, c * last)
    return low, high
