# SPDX-License-Identifier: MIT
"""Constant folding: what the interpreter would compute from constants alone is computed now, to the bit.

    (2.0 * 3.0) * X * 1.0    ->    6.0 * X              X + 0.0 stays: it turns -0.0 into 0.0

Values of whole arrays and sums over them stay as they are; a float is only ever folded where every element type and
every place in a vector gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.arithmetic import apply
from polyhedral.ir.dtypes import DType, bool_
from polyhedral.ir.memory import convert
from polyhedral.ir.program import Array, Program, Role, Statement

_LANES = 19
"""Constants are computed in so many lanes, whole vectors and a rest: elementary functions may differ between these."""


def fold_constants(p: Program) -> tuple[Program, tuple[Remark, ...]]:
    """Every value with its constant parts computed and its neutral operands gone."""
    tables = {a.name: _Table(a) for a in p.arrays if a.role is Role.CONSTANT}
    remarks: list[Remark] = []

    def folded(s: Statement) -> Statement:
        value = ex.rewrite(s.value, lambda e: _folded(e, tables))
        if value is s.value:
            return s
        remarks.append(Remark("constants folded", "their values are known", s.name))
        return replace(s, value=value)

    with np.errstate(all="ignore"):
        statements = tuple(folded(s) for s in p.statements)
    return (replace(p, statements=statements), tuple(remarks)) if remarks else (p, ())


@dataclass(frozen=True, eq=False)
class _Table:
    """A constant array; its cells are read as the interpreter reads them."""

    array: Array

    @cached_property
    def cells(self) -> np.ndarray | None:
        extents = [e for _, e in self.array.dims]
        if self.array.data is None or not all(e.is_const for e in extents):
            return None
        values = convert(np.array(self.array.data), self.array.dtype) if self.array.data else np.zeros(0)
        return values.reshape([e.const for e in extents])

    def at(self, e: ex.Load) -> ex.Expr:
        index = [_whole(i) for _, i in e.index]
        place = tuple(i for i in index if i is not None)
        cells = self.cells
        if cells is None or len(place) < len(index):
            return e
        if not all(0 <= i < n for i, n in zip(place, cells.shape, strict=True)):
            return e
        return _const(cells[place], e.dtype)


def _whole(i: Affine | ex.Expr) -> int | None:
    match i:
        case Affine():
            return i.const if i.is_const else None
        case ex.Const(value):
            return int(value.real)
        case _:
            return None


def _folded(e: ex.Expr, tables: Mapping[str, _Table]) -> ex.Expr:
    """One node over folded children."""
    match e:
        case ex.Load(name) if name in tables:
            return tables[name].at(e)
        case ex.Index(a, dtype) if a.is_const and _fits(a.const, dtype):
            return ex.Const(a.const, dtype)
        case ex.Test(c) if c in (aff.TRUE, aff.FALSE):
            return ex.Const(c == aff.TRUE, bool_)
        case ex.Select(ex.Const(known), then, other):
            return then if known else other
        case ex.Cast(dtype, arg) if dtype == ex.dtype_of(arg):
            return arg
        case ex.Unary() | ex.Binary() | ex.Call() | ex.Cast():
            constants = [c for c in ex.children(e) if isinstance(c, ex.Const)]
            return _computed(e, constants) if len(constants) == len(ex.children(e)) else _neutral(e)
        case _:
            return e


def _fits(value: int, dtype: DType) -> bool:
    return dtype.is_integer and np.iinfo(dtype.numpy).min <= value <= np.iinfo(dtype.numpy).max


# --- computing -------------------------------------------------------------------------------------------------------


def _computed(e: ex.Unary | ex.Binary | ex.Call | ex.Cast, constants: list[ex.Const]) -> ex.Expr:
    """The operation on constants; itself where the result is not the same in every lane or C does not define it."""
    args = [np.full(_LANES, convert(np.array(c.value), c.dtype)) for c in constants]
    match e:
        case ex.Cast(dtype, _):
            if dtype.is_integer and constants[0].dtype.is_float and not _representable(constants[0].value, dtype):
                return e
            result = convert(args[0], dtype)
        case ex.Unary(op, _) | ex.Binary(op, _, _) | ex.Call(op, _):
            result = apply(op, *args)
    dtype = ex.dtype_of(e)
    same = result.tobytes() == result[:1].tobytes() * _LANES
    return _const(result[0], dtype) if same and result.dtype == dtype.numpy else e


def _representable(value: complex, dtype: DType) -> bool:
    real = value.real
    return math.isfinite(real) and _fits(math.trunc(real), dtype)


def _const(value: np.generic, dtype: DType) -> ex.Const:
    match dtype.kind:
        case "b":
            return ex.Const(bool(value), dtype)
        case "f":
            return ex.Const(float(value), dtype)  # type: ignore[arg-type]
        case "c":
            return ex.Const(complex(value), dtype)  # type: ignore[arg-type]
        case _:
            return ex.Const(int(value), dtype)  # type: ignore[call-overload]


# --- neutral operands ------------------------------------------------------------------------------------------------


def _neutral(e: ex.Expr) -> ex.Expr:
    """An operation with an operand that changes nothing, or that decides the result, of any value whatever."""
    match e:
        case ex.Binary(op, x, ex.Const() as c) if _is_unit(op, c, right=True):
            return x
        case ex.Binary(op, ex.Const() as c, x) if _is_unit(op, c, right=False):
            return x
        case ex.Binary(op, x, ex.Const() as c) | ex.Binary(op, ex.Const() as c, x) if _absorbs(op, c) and _sure(x):
            return c
        case ex.Unary("not" | "~" as op, ex.Unary(again, x)) if op == again:
            return x
        case ex.Unary("-", ex.Unary("-", x)):
            return x
        case _:
            return e


def _is_unit(op: str, c: ex.Const, *, right: bool) -> bool:
    """Whether x op c (c op x) is x for every x.  Complex products mix both parts; x + 0.0 loses the sign of -0.0."""
    v, kind = c.value, c.dtype.kind
    match op:
        case "*":
            return kind in "iuf" and v == 1
        case "/":
            return right and kind == "f" and v == 1
        case "//":
            return right and kind in "iu" and v == 1
        case "+" if kind == "f":
            return v == 0 and math.copysign(1.0, v.real) < 0
        case "-" if kind == "f":
            return right and v == 0 and math.copysign(1.0, v.real) > 0
        case "+" | "|" | "^":
            return kind in "iu" and v == 0
        case "-" | "<<" | ">>":
            return right and kind in "iu" and v == 0
        case "and" | "or":
            return bool(v) is (op == "and")
        case _:
            return False


def _absorbs(op: str, c: ex.Const) -> bool:
    match op:
        case "*" | "&":
            return c.dtype.kind in "iu" and c.value == 0
        case "and" | "or":
            return bool(c.value) is (op == "or")
        case _:
            return False


def _sure(x: ex.Expr) -> bool:
    """Whether computing a value cannot fault: it gathers nothing."""
    return all(isinstance(i, Affine) for load in ex.loads(x) for _, i in load.index)
