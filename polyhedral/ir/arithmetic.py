# SPDX-License-Identifier: MIT
"""What one operation on numbers gives: NumPy's arithmetic, with small floats widened and rounded back.

The interpreter computes by it and constants are folded by it; which instances are computed when is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_erf_each: Callable[[np.ndarray], Any] = np.frompyfunc(math.erf, 1, 1)


def _erf(a: np.ndarray) -> np.ndarray:
    return _erf_each(a).astype(a.dtype)


def _minus(a: np.ndarray, *b: np.ndarray) -> np.ndarray:
    return np.subtract(a, *b) if b else np.negative(a)


def _muladd(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a * b + c


def _power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of integers, those to negative exponents are cut off at the point, where NumPy has none."""
    if b.dtype.kind != "i":
        return np.power(a, b)
    left = np.where(a == 1, 1, np.where(a == -1, 1 - 2 * (b & 1), 0)).astype(a.dtype)
    return np.where(b < 0, left, np.power(a, np.maximum(b, 0)))


_FUNCTIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "+": np.add, "*": np.multiply, "/": np.divide, "//": np.floor_divide, "%": np.remainder, "**": _power,
    "min": np.minimum, "max": np.maximum, "<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal,
    ">": np.greater, ">=": np.greater_equal, "and": np.logical_and, "or": np.logical_or, "&": np.bitwise_and,
    "|": np.bitwise_or, "^": np.bitwise_xor, "<<": np.left_shift, ">>": np.right_shift, "abs": np.abs,
    "not": np.logical_not, "~": np.invert, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "atan2": np.arctan2, "round": np.rint, "-": _minus, "erf": _erf, "muladd": _muladd,
}  # fmt: skip


def apply(op: str, *args: np.ndarray) -> np.ndarray:
    """One operation elementwise; small floats are widened to f32 and the result rounded back."""
    f = _FUNCTIONS.get(op) or getattr(np, op)
    dtype = args[0].dtype
    if dtype.kind == "V" or (dtype.kind == "f" and dtype.itemsize <= 2):
        result = f(*(a.astype(np.float32) for a in args))
        return result if result.dtype == bool else result.astype(dtype)
    result = f(*args)
    return result if result.dtype == bool or op in ("abs", "real", "imag") else result.astype(dtype, copy=False)
