# SPDX-License-Identifier: MIT
"""Arithmetic on values in Python's meaning: indices stay indices and conditions on them affine where that is possible.

Reductions, and the objects with operators, are left to the files above.
"""

from __future__ import annotations

from dataclasses import replace

from frontend.lang.location import here
from frontend.lang.value import (
    Value,
    Weak,
    as_affine,
    as_condition,
    coerce,
    common,
    derive,
    joint,
    merge,
    must_lift,
    of_affine,
    of_condition,
)
from polyhedral.errors import DimError, DtypeError
from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes as dt
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.dtypes import DType


def binary(op: str, a: Value, b: Value) -> Value:
    """`a op b` in Python's meaning; indices stay indices, conditions on them stay affine."""
    folded = _affine_binary(op, a, b) or _condition_binary(op, a, b)
    if folded is not None:
        return folded
    if op == "**":
        return power(a, b)
    dtype, weak = common(op, a, b)
    op, dtype = _resolve(op, dtype)
    if op in ex.COMPARISONS or op in ex.LOGIC:
        weak = Weak.STRONG
    return derive(ex.Binary(op, coerce(a, dtype).node, coerce(b, dtype).node), (a, b), weak)


_OF_BOOLEANS = {"&": "and", "|": "or", "^": "!=", "min": "and", "max": "or"}


def _resolve(op: str, dtype: DType) -> tuple[str, DType]:
    """The IR's operator and operand type for the user's operator on operands of a common type."""
    if op in _OF_BOOLEANS and dtype == dt.bool_:
        return _OF_BOOLEANS[op], dtype
    if op in ex.BITWISE and not dtype.is_integer:
        shift = op in ("<<", ">>")
        raise DtypeError(
            "PH301",
            f"{op} wants {'integers' if shift else 'booleans or integers'}, not {dtype}",
            hints=(
                "X * 2**k shifts numbers of any type; X.astype(ph.i32) has whole ones"
                if shift
                else "compare first, at each point of the dimensions: (X > 0) & (Y > 0)",
            ),
            location=here(),
        )
    if op in _ORDERED or op in ("//", "%"):
        require_real(op, dtype)
    if op == "/":
        return op, dt.division(dtype)
    if op in ex.ARITHMETIC and dtype == dt.bool_:
        return op, dt.i64
    return op, dtype


_ORDERED = frozenset({"<", "<=", ">", ">=", "min", "max"})


def require_real(op: str, dtype: DType) -> None:
    """PH301 for what complex numbers do not have: an order, and functions of real numbers alone."""
    if dtype.kind == "c":
        raise DtypeError(
            "PH301",
            f"{op} of complex numbers, {dtype}: " + ("they have no order" if op in _ORDERED else "it wants real ones"),
            hints=("of one part, or of the length, at each point of the dimensions: Z.real, Z.imag, ph.abs(Z)",),
            location=here(),
        )


def _affine_binary(op: str, a: Value, b: Value) -> Value | None:
    """Index arithmetic and comparisons; None where the result is data."""
    x, y = as_affine(a), as_affine(b)
    if x is None or y is None or (a.weak is Weak.LITERAL and b.weak is Weak.LITERAL):
        return None
    if op in ex.COMPARISONS:
        return of_condition(compare(op, x, y), merge(a.spans, b.spans), joint((a, b)))
    result = index_arithmetic(op, x, y)
    return None if result is None else of_affine(result, merge(a.spans, b.spans), joint((a, b)))


def index_arithmetic(op: str, x: Affine, y: Affine) -> Affine | None:
    match op:
        case "+":
            return x + y
        case "-":
            return x - y
        case "*" if y.is_const:
            return x * y.const
        case "*" if x.is_const:
            return y * x.const
        case "//" | "%" if y.is_const:
            return _divide(op, x, y.const)
        case _:
            return None


def _divide(op: str, x: Affine, divisor: int) -> Affine:
    if divisor == 0:
        raise DimError(
            "PH030",
            f"index is not affine: {x} {op} 0",
            hints=("indices allow // and % by a non-zero int literal, for example x // 2",),
            location=here(),
        )
    quotient = x // divisor if divisor > 0 else (-x) // -divisor
    return quotient if op == "//" else x - quotient * divisor


def compare(op: str, x: Affine, y: Affine) -> Condition:
    match op:
        case "<":
            return aff.at_least(y - x - 1)
        case "<=":
            return aff.at_least(y, x)
        case ">":
            return aff.at_least(x - y - 1)
        case ">=":
            return aff.at_least(x, y)
        case "==":
            return aff.equal(x, y)
        case _:
            return aff.negate(aff.equal(x, y))


def _condition_binary(op: str, a: Value, b: Value) -> Value | None:
    if op not in ("&", "|"):
        return None
    x, y = as_condition(a), as_condition(b)
    if x is None or y is None:
        return None
    joined = (aff.both if op == "&" else aff.either)(x, y)
    return of_condition(joined, merge(a.spans, b.spans), joint((a, b)))


def negative(a: Value) -> Value:
    if isinstance(a.node, ex.Index):
        return of_affine(-a.node.affine, a.spans, a.owner)
    if isinstance(a.node, ex.Const) and a.dtype != dt.bool_:
        return replace(a, node=ex.Const(-a.node.value, a.dtype))
    if a.dtype == dt.bool_:
        a = coerce(a, dt.i64)
    return derive(ex.Unary("-", a.node), (a,), a.weak)


def invert(a: Value) -> Value:
    condition = as_condition(a)
    if condition is not None:
        return of_condition(aff.negate(condition), a.spans, a.owner)
    _resolve("&", a.dtype)
    return derive(ex.Unary("not" if a.dtype == dt.bool_ else "~", a.node), (a,), a.weak)


def power(a: Value, b: Value) -> Value:
    """`a ** b`: small integer powers by multiplication, halves by square root, the rest by pow on floats.

    Integers to integers are integers, as in NumPy; a literal negative exponent gives a float, as in Python, and one
    that is data what is left of the exact value without its fraction: 0, or that of 1 and -1.
    """
    if a.dtype == dt.bool_ and not b.dtype.is_float:
        a = coerce(a, dt.i64)
    exponent = b.node.value if isinstance(b.node, ex.Const) and b.weak is Weak.LITERAL else None
    if isinstance(exponent, int | float) and float(exponent).is_integer() and abs(exponent) <= 16:
        whole = _whole_power(a, int(abs(exponent)))
        if isinstance(exponent, float) and not a.dtype.is_float:
            whole = coerce(whole, dt.f64)
        return whole if exponent >= 0 else binary("/", must_lift(1), whole)
    if type(exponent) is int and exponent >= 0 and not a.dtype.is_float:
        return _whole_power(a, exponent)
    if exponent in (0.5, -0.5):
        root = call("sqrt", a)
        return root if exponent > 0 else binary("/", must_lift(1), root)
    dtype, weak = common("**", a, b)
    if not dtype.is_integer or exponent is not None:
        dtype = dt.division(dtype)
    return derive(ex.Binary("**", coerce(a, dtype).node, coerce(b, dtype).node), (a, b), weak)


def _whole_power(a: Value, n: int) -> Value:
    if n == 0:
        return replace(coerce(must_lift(1), a.dtype), weak=a.weak)
    half = a if n == 1 else _whole_power(a, n // 2)
    if n == 1:
        return a
    square = binary("*", half, half)
    return binary("*", square, a) if n % 2 else square


def call(fn: str, *args: Value) -> Value:
    """An elementary function; integers are converted as `/` converts them."""
    dtype, weak = common(fn, *args)
    if fn in ex.REAL:
        require_real(fn, dtype)
    dtype = dt.division(dtype)
    node = ex.Call(fn, tuple(coerce(a, dtype).node for a in args))
    return derive(node, args, Weak.STRONG if fn in ("isnan", "isinf") else weak)


def absolute(v: Value) -> Value:
    """The distance from 0: a real number, of a complex one too."""
    if v.dtype == dt.bool_:
        return v
    if v.dtype.kind == "c":
        return call("hypot", part("real", v), part("imag", v))
    return derive(ex.Unary("abs", v.node), (v,), v.weak)


def part(fn: str, v: Value) -> Value:
    """The real or the imaginary part; a real number is its own real part."""
    if v.dtype.kind == "c":
        return derive(ex.Call(fn, (v.node,)), (v,), v.weak)
    if fn == "real":
        return v
    raise DtypeError(
        "PH301",
        f"the imaginary part of {v.dtype}: a real number has none",
        hints=("it is 0 at each point of the dimensions; X.astype(ph.c64).imag where complex ones come too",),
        location=here(),
    )


def conjugate(v: Value) -> Value:
    """The number with the other sign of its imaginary part; a real number itself."""
    return derive(ex.Call("conj", (v.node,)), (v,), v.weak) if v.dtype.kind == "c" else v


def rounded(fn: str, v: Value) -> Value:
    """floor, ceil, round (halves to even) or trunc; integers are whole already."""
    return call(fn, v) if v.dtype.is_float else v


def truth(v: Value, what: str) -> Value:
    """The value as a boolean expression; anything else is refused."""
    if v.dtype == dt.bool_:
        return v
    raise DtypeError(
        "PH301",
        f"{what} must be a condition, not a value of type {v.dtype}",
        hints=("compare at each point of the dimensions: X != 0",),
        location=here(),
    )


def select(cond: Value, a: Value, b: Value) -> Value:
    """`a` where `cond` holds, else `b` (R8)."""
    cond = truth(cond, "the first argument of ph.where")
    dtype, weak = common("where", a, b)
    return derive(ex.Select(cond.node, coerce(a, dtype).node, coerce(b, dtype).node), (cond, a, b), weak)
