# SPDX-License-Identifier: MIT
"""NumPy's functions of single elements on values of a program: `np.exp(X)` is `ph.exp(X)`, `np.add(a, X)` is `a + X`.

Which of them there are is said here; what they compute is decided in `arithmetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

OPERATORS: Mapping[str, str] = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "floor_divide": "//",
    "remainder": "%", "mod": "%", "power": "**", "float_power": "**", "maximum": "max", "minimum": "min",
    "greater": ">", "greater_equal": ">=", "less": "<", "less_equal": "<=", "equal": "==", "not_equal": "!=",
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "left_shift": "<<", "right_shift": ">>",
}  # fmt: skip
"""By NumPy's name, those of two values."""
CALLS: Mapping[str, str] = {
    **{n: n for n in ("exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh")},
    **{n: n for n in ("tanh", "isnan", "isinf", "hypot")},
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
}  # fmt: skip
ROUNDINGS: Mapping[str, str] = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "round"}
METHODS: Mapping[str, str] = {
    "negative": "__neg__", "positive": "__pos__", "absolute": "__abs__", "fabs": "__abs__", "invert": "__invert__",
    "conjugate": "conj",
}  # fmt: skip
"""Those of one value that are a method of it."""
DERIVED: Mapping[str, Callable[..., Any]] = {
    "square": lambda *x: x[0] * x[0],
    "reciprocal": lambda *x: 1 / x[0],
    "logical_and": lambda *x: (x[0] != 0) & (x[1] != 0),
    "logical_or": lambda *x: (x[0] != 0) | (x[1] != 0),
    "logical_xor": lambda *x: (x[0] != 0) ^ (x[1] != 0),
    "logical_not": lambda *x: x[0] == 0,
    "isfinite": lambda *x: abs(x[0]) < inf,
}
"""Those that are a formula of others."""
POINTWISE: Mapping[str, int] = {"where": 3, "clip": 3, "round": 1, "around": 1, "fix": 1, "real": 1, "imag": 1}
"""Functions of whole arrays that compute each point by itself, with the number of their arguments."""
