# SPDX-License-Identifier: MIT
"""Scalar expressions: what one instance of a statement computes.

    expr := Const | Index | Load | Unary | Binary | Call | Select | Cast | Test

Ten lines of grammar as frozen dataclasses, plus walking and rewriting.  Types are resolved: both sides of a Binary have
one type, casts are explicit.  The operators that users type live in `frontend.lang`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar, assert_never, cast, dataclass_transform

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.dtypes import DType, bool_, part

ARITHMETIC = ("+", "-", "*", "/", "//", "%", "**", "min", "max")
"""`/` on floats only; `//` and `%` as in Python; `**` of integers wraps, and has no fractions; min and
max propagate NaN, as NumPy's do."""
COMPARISONS = ("<", "<=", "==", "!=", ">", ">=")
LOGIC = ("and", "or")
BITWISE = ("&", "|", "^", "<<", ">>")
UNARY = ("-", "abs", "not", "~")
CALLS = (
    "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin",
    "acos", "atan", "erf", "floor", "ceil", "round", "trunc", "isnan", "isinf", "atan2", "hypot",
    "muladd", "real", "imag", "conj",
)  # fmt: skip
"""Elementary functions on floats; round is half-to-even; isnan and isinf give bool; muladd(a, b, c) is a * b + c,
rounded once or twice; real, imag and conj take complex numbers."""
REAL = (
    "floor", "ceil", "round", "trunc", "atan2", "hypot", "erf", "exp2", "expm1", "log2", "log1p", "isnan", "isinf",
    "muladd",
)  # fmt: skip
"""Functions without a meaning, or without a C function, for complex numbers."""
TESTS = ("isnan", "isinf")
PARTS = ("real", "imag")
"""Functions whose result is not of their argument's type: a bool; a float half as wide."""
ARITY: Mapping[str, int] = {"atan2": 2, "hypot": 2, "muladd": 3}
"""Arguments of the functions that take several."""


_T = TypeVar("_T")


class _Hashed:
    """Expressions are shared graphs: the hash of a node is computed once, and what is asked of it often."""

    @cached_property
    def _hash(self) -> int:
        names = cast("Any", self).__dataclass_fields__
        return hash((type(self).__name__, *(getattr(self, f) for f in names)))

    @cached_property
    def dims(self) -> frozenset[str]:
        """The iteration dims that it mentions."""
        return _dims(cast("Expr", self))

    def __hash__(self) -> int:
        return self._hash


@dataclass_transform(frozen_default=True)
def _node(cls: type[_T]) -> type[_T]:
    made = dataclass(frozen=True)(cls)
    made.__hash__ = cast("Any", _Hashed.__hash__)
    return made


@_node
class Const(_Hashed):
    """A literal.  NaN and infinities are allowed; `value` is a Python bool, int, float or complex."""

    value: bool | int | float | complex
    dtype: DType


@_node
class Index(_Hashed):
    """A quasi-affine index used as a value (type i64)."""

    affine: Affine
    dtype: DType


@_node
class Load(_Hashed):
    """Read `array` at a named index, one entry for each dim of the array, in the array's dim order.

    An entry is an Affine, or an integer Expr for a data-dependent gather (bounds are then checked at run time).
    """

    array: str
    index: tuple[tuple[str, Affine | Expr], ...]
    dtype: DType


@_node
class Unary(_Hashed):
    op: str
    arg: Expr


@_node
class Binary(_Hashed):
    op: str
    lhs: Expr
    rhs: Expr


@_node
class Call(_Hashed):
    fn: str
    args: tuple[Expr, ...]


@_node
class Select(_Hashed):
    """`then` where `cond` holds, else `other`; only the branch taken is evaluated, so it alone need be in bounds.  With
    `eager` both are in bounds, and may be evaluated.
    """

    cond: Expr
    then: Expr
    other: Expr
    eager: bool = False


@_node
class Cast(_Hashed):
    dtype: DType
    arg: Expr


@_node
class Test(_Hashed):
    """An affine condition used as a value (type bool)."""

    __test__ = False  # not a pytest class
    condition: Condition


Expr = Const | Index | Load | Unary | Binary | Call | Select | Cast | Test


def dtype_of(e: Expr) -> DType:
    """The type of an expression's value."""
    match e:
        case Const() | Index() | Load() | Cast():
            return e.dtype
        case Unary(op, arg):
            return bool_ if op == "not" else dtype_of(arg)
        case Binary(op, lhs, _):
            return bool_ if op in COMPARISONS or op in LOGIC else dtype_of(lhs)
        case Call(fn, args):
            t = dtype_of(args[0])
            return bool_ if fn in TESTS else part(t) if fn in PARTS else t
        case Select(_, then, _):
            return dtype_of(then)
        case Test():
            return bool_
        case _:
            assert_never(e)


def children(e: Expr) -> tuple[Expr, ...]:
    """The sub-expressions, gather indices included."""
    match e:
        case Const() | Index() | Test():
            return ()
        case Load(_, index, _):
            return tuple(i for _, i in index if not isinstance(i, Affine))
        case Unary(_, arg) | Cast(_, arg):
            return (arg,)
        case Binary(_, lhs, rhs):
            return (lhs, rhs)
        case Call(_, args):
            return args
        case Select(cond, then, other):
            return (cond, then, other)
        case _:
            assert_never(e)


def walk(e: Expr) -> Iterator[Expr]:
    """Every distinct node once, parents before children."""
    seen: set[int] = set()
    stack = [e]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(reversed(children(node)))


def rewrite(e: Expr, f: Callable[[Expr], Expr], memo: dict[int, Expr] | None = None) -> Expr:
    """Rebuild bottom-up, applying `f` to each node once (shared nodes stay shared)."""
    memo = {} if memo is None else memo
    done = memo.get(id(e))
    if done is None:
        below = children(e)
        done = memo[id(e)] = f(with_children(e, tuple([rewrite(c, f, memo) for c in below])) if below else e)
    return done


def with_children(e: Expr, new: tuple[Expr, ...]) -> Expr:
    """The same node over other sub-expressions; the very node if nothing changed."""
    if all(a is b for a, b in zip(children(e), new, strict=True)):
        return e
    match e:
        case Const() | Index() | Test():
            return e
        case Load(_, index, _):
            rest = iter(new)
            return replace(e, index=tuple((d, i if isinstance(i, Affine) else next(rest)) for d, i in index))
        case Unary() | Cast():
            return replace(e, arg=new[0])
        case Binary():
            return replace(e, lhs=new[0], rhs=new[1])
        case Call():
            return replace(e, args=new)
        case Select():
            return replace(e, cond=new[0], then=new[1], other=new[2])
        case _:
            assert_never(e)


def loads(e: Expr) -> Iterator[Load]:
    return (n for n in walk(e) if isinstance(n, Load))


def substitute(e: Expr, dims: Mapping[str, Affine], sizes: Mapping[str, Affine] | None = None) -> Expr:
    """Replace dims and sizes by affine expressions everywhere, simultaneously."""

    def one(i: Affine) -> Affine:
        return aff.substitute(i, dims, sizes)

    def f(node: Expr) -> Expr:
        match node:
            case Index(a):
                return replace(node, affine=one(a))
            case Load(_, index, _):
                return replace(node, index=tuple((d, one(i) if isinstance(i, Affine) else i) for d, i in index))
            case Test(c):
                return replace(node, condition=aff.map_affine(c, one))
            case _:
                return node

    return rewrite(e, f)


def dims_of(e: Expr) -> frozenset[str]:
    """The iteration dims that an expression mentions."""
    return e.dims


def _dims(e: Expr) -> frozenset[str]:
    found: set[str] = set()
    for node in walk(e):
        match node:
            case Index(a):
                found |= aff.dims_of(a)
            case Load(_, index, _):
                for _, i in index:
                    if isinstance(i, Affine):
                        found |= aff.dims_of(i)
            case Test(c):
                found |= aff.condition_dims(c)
            case _:
                pass
    return frozenset(found)


REDUCTIONS: Mapping[str, str] = {"sum": "+", "prod": "*", "max": "max", "min": "min", "any": "or", "all": "and"}
"""Reduction name -> the Binary that combines two values."""


def identity(op: str, dtype: DType) -> Const:
    """The value of an empty reduction (rule R6)."""
    if op in ("any", "all"):
        return Const(op == "all", bool_)
    if op in ("sum", "prod"):
        unit = 0 if op == "sum" else 1
        return Const(complex(unit) if dtype.kind == "c" else float(unit) if dtype.is_float else unit, dtype)
    if dtype.is_float:
        return Const(float("-inf") if op == "max" else float("inf"), dtype)
    if dtype == bool_:
        return Const(op == "min", bool_)
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "i" else 0
    high = (1 << (dtype.bits - (1 if dtype.kind == "i" else 0))) - 1
    return Const(low if op == "max" else high, dtype)
