# SPDX-License-Identifier: MIT
"""Functions on expressions: elementary mathematics, choice, interiors, softmax and scans.

Each is a few lines over values and reductions; larger building blocks are left to `frontend.library`.
"""

from __future__ import annotations

import math

from frontend.lang import access, reduce
from frontend.lang.arithmetic import binary, call, negative, require_real, rounded, select
from frontend.lang.assign import scan as running
from frontend.lang.handles import Dim, Expr, as_handle, wrap
from frontend.lang.location import here
from frontend.lang.naming import dim_names, name_of
from frontend.lang.recorder import current
from frontend.lang.value import coerce, must_lift
from polyhedral.errors import ArgumentError, UserError
from polyhedral.ir import dtypes as dt
from polyhedral.ir import expr as ex

pi, e, inf, nan = math.pi, math.e, math.inf, math.nan


def _elementary(fn: str, x: object) -> Expr:
    return Expr(call(fn, must_lift(x, f"the argument of ph.{fn}")))


def exp(x: object) -> Expr:
    """e to the power of x, at each point; integers are converted to floats, as `/` converts them."""
    return _elementary("exp", x)


def exp2(x: object) -> Expr:
    """2 to the power of x."""
    return _elementary("exp2", x)


def expm1(x: object) -> Expr:
    """exp(x) - 1, exact near 0."""
    return _elementary("expm1", x)


def log(x: object) -> Expr:
    """The natural logarithm; -infinity at 0, NaN below."""
    return _elementary("log", x)


def log2(x: object) -> Expr:
    """The logarithm to base 2."""
    return _elementary("log2", x)


def log1p(x: object) -> Expr:
    """log(1 + x), exact near 0."""
    return _elementary("log1p", x)


def sqrt(x: object) -> Expr:
    """The square root; NaN of negative numbers."""
    return _elementary("sqrt", x)


def sin(x: object) -> Expr:
    """The sine of an angle in radians."""
    return _elementary("sin", x)


def cos(x: object) -> Expr:
    """The cosine of an angle in radians."""
    return _elementary("cos", x)


def tan(x: object) -> Expr:
    """The tangent of an angle in radians."""
    return _elementary("tan", x)


def sinh(x: object) -> Expr:
    """The hyperbolic sine."""
    return _elementary("sinh", x)


def cosh(x: object) -> Expr:
    """The hyperbolic cosine."""
    return _elementary("cosh", x)


def tanh(x: object) -> Expr:
    """The hyperbolic tangent."""
    return _elementary("tanh", x)


def asin(x: object) -> Expr:
    """The angle in radians whose sine is x."""
    return _elementary("asin", x)


def acos(x: object) -> Expr:
    """The angle in radians whose cosine is x."""
    return _elementary("acos", x)


def atan(x: object) -> Expr:
    """The angle in radians whose tangent is x."""
    return _elementary("atan", x)


def erf(x: object) -> Expr:
    """The error function of Gauss."""
    return _elementary("erf", x)


def isnan(x: object) -> Expr:
    """Whether a value is NaN."""
    return _elementary("isnan", x)


def isinf(x: object) -> Expr:
    """Whether a value is infinite, of either sign."""
    return _elementary("isinf", x)


def atan2(y: object, x: object) -> Expr:
    """The angle in radians of the point (x, y), in all four quadrants."""
    return Expr(call("atan2", must_lift(y), must_lift(x)))


def hypot(x: object, y: object) -> Expr:
    """The square root of x*x + y*y, without overflow between."""
    return Expr(call("hypot", must_lift(x), must_lift(y)))


def _rounding(fn: str, x: object) -> Expr:
    return wrap(rounded(fn, must_lift(x, f"the argument of ph.{fn}")))


def floor(x: object) -> Expr:
    """The largest whole number that is not larger; the type stays."""
    return _rounding("floor", x)


def ceil(x: object) -> Expr:
    """The smallest whole number that is not smaller; the type stays."""
    return _rounding("ceil", x)


def round(x: object) -> Expr:
    """To the nearest integer, halves to even; the type stays."""
    return _rounding("round", x)


def trunc(x: object) -> Expr:
    """The whole number towards 0; the type stays."""
    return _rounding("trunc", x)


def abs(x: object) -> Expr:
    """The absolute value; of a complex number, its length."""
    return as_handle(x).__abs__()


def conj(x: object) -> Expr:
    """The complex number with the other sign of its imaginary part; a real number itself."""
    return as_handle(x).conj()


def minimum(a: object, b: object) -> Expr:
    """The smaller of two values; a NaN wins, as in NumPy."""
    return Expr(binary("min", must_lift(a), must_lift(b)))


def maximum(a: object, b: object) -> Expr:
    """The larger of two values; a NaN wins, as in NumPy."""
    return Expr(binary("max", must_lift(a), must_lift(b)))


def clip(x: object, lo: object = None, hi: object = None) -> Expr:
    """The value, held between `lo` and `hi`, or on one side: `ph.clip(X, 0)`, `ph.clip(X, hi=1)`."""
    if lo is None and hi is None:
        raise ArgumentError(
            "PH045",
            "ph.clip misses a bound",
            hints=("ph.clip(X, 0, 1) at each point of the dimensions, or one side: ph.clip(X, hi=1)",),
            location=here(),
        )
    above = x if lo is None else maximum(x, lo)
    return wrap(must_lift(above)) if hi is None else minimum(above, hi)


def relu(x: object) -> Expr:
    """The value where it is positive, else 0."""
    return maximum(x, 0)


def sigmoid(x: object) -> Expr:
    """1 / (1 + exp(-x))."""
    one = must_lift(1)
    return Expr(binary("/", one, binary("+", one, call("exp", negative(must_lift(x))))))


def where(cond: object, a: object, b: object) -> Expr:
    """`a` where `cond` holds, else `b`; only the branch taken need be in bounds."""
    return Expr(select(must_lift(cond), must_lift(a), must_lift(b)))


def inside(x: object) -> Expr:
    """The condition that all accesses of an expression are in bounds."""
    return wrap(access.interior(current("ph.inside"), must_lift(x)))


def orelse(x: object, fallback: object) -> Expr:
    """The expression where all its accesses are in bounds, the fallback elsewhere."""
    value = must_lift(x)
    return Expr(select(access.interior(current("ph.orelse"), value), value, must_lift(fallback)))


def softmax(x: object, *dims: Dim | str, where: object = None) -> Expr:
    """exp(x) / sum of exp(x) over `dims`, the maximum subtracted first; zero where the predicate fails.

    A row of -inf gives NaN, as NumPy's formula does; a row in which the predicate holds nowhere gives zeros.
    """
    recorder, names = current("ph.softmax"), dim_names(dims)
    value = must_lift(x, "the argument of ph.softmax")
    mask = None if where is None else must_lift(where, "where=")
    value = coerce(value, dt.division(value.dtype))
    top = reduce.reduce(recorder, "max", value, names, mask)
    if isinstance(top.node, ex.Load):  # whatever is subtracted, the result is the same: no derivative goes that way
        recorder.held.add(top.node.array)
    grown = call("exp", binary("-", value, top))
    total = reduce.reduce(recorder, "sum", grown, names, mask)
    share = binary("/", grown, total)
    return Expr(share if mask is None else select(mask, share, must_lift(0)))


def scan(op: str, x: object, along: Dim | str) -> Expr:
    """The running sum, prod, max or min along a dim, that point included."""
    recorder, dim = current("ph.scan"), name_of(along)
    value = must_lift(x, "the argument of ph.scan")
    if op not in ("sum", "prod", "max", "min"):
        raise UserError(
            "PH040",
            f"ph.scan({op!r}): there is no such scan along {access.spoken(dim)}",
            hints=(
                "one of sum, prod, max, min; others are one equation: s[...] = f(ph.where(i > 0, s[i-1], start), X)",
            ),
            location=here(),
        )
    reduce.check_reduced(value, f"scan {op}", (dim,))
    if op in ("max", "min"):
        require_real(op, value.dtype)
    wide = reduce.widened(recorder, op, value, None)
    return Expr(running(recorder, op, ex.REDUCTIONS[op], wide, dim, wide.dtype))
