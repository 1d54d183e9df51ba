# SPDX-License-Identifier: MIT
"""Python's operators, once, for every object that has a value.

What they compute is decided in `value`; which class wraps the result is left to `handles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from frontend.lang.access import braces
from frontend.lang.arithmetic import binary, call, invert, negative, rounded
from frontend.lang.location import here
from frontend.lang.ufuncs import CALLS, METHODS, OPERATORS, ROUNDINGS
from frontend.lang.value import Handle, Value, derive, lift
from polyhedral.errors import DtypeError, OrderError
from polyhedral.ir import expr as ex


class Operators(Handle):
    """Python's operators on everything that has a value."""

    __slots__ = ("__weakref__",)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **options: object) -> Any:
        """NumPy's functions of single elements, and NumPy's scalars and arrays on the left of an operator."""
        name, plain = ufunc.__name__, method == "__call__" and not options
        if plain and name in OPERATORS:
            mirrored = not isinstance(inputs[0], Operators)
            made = self._binary(OPERATORS[name], inputs[not mirrored], mirrored) if inputs[mirrored] is self else None
            if made is not None and made is not NotImplemented:
                return made
        values = [lift(x) for x in inputs]
        known = [v for v in values if v is not None]
        if plain and len(known) == len(values) and name in CALLS:
            return self._wrap(call(CALLS[name], *known))
        if plain and name in ROUNDINGS:
            return self._wrap(rounded(ROUNDINGS[name], self.value))
        if plain and name in METHODS:
            return getattr(self, METHODS[name])()
        called = name if method == "__call__" else f"{name}.{method}"
        raise DtypeError(
            "PH020",
            f"np.{called} cannot compute with {self}, which is not known while the program is being built",
            hints=("functions of data are ph.exp, ph.sqrt, ph.maximum, ... at each point", "reductions are X.sum(k)"),
            location=here(),
        )

    def _unknown(self, *_: object) -> Any:
        raise DtypeError(
            "PH020",
            f"{self} is not a number while the program is being built, so Python and NumPy cannot compute with it",
            hints=("a loop over a size is with ph.loop(i, n): instead of for i in range(n)",
                   f"functions of data are ph.exp, ph.sqrt, ... at each point of {braces(self.value.dims)}"),
            location=here(),
        )  # fmt: skip

    __index__ = __int__ = __float__ = __complex__ = __len__ = __array__ = _unknown

    def __matmul__(self, other: object) -> Any:
        raise OrderError(
            "PH041",
            f"{self} @ {other}: there is no axis order to say which dimensions are multiplied",
            hints=("the same by name is (A * B).sum(k)",),
            location=here(),
        )

    __rmatmul__ = __matmul__

    def _wrap(self, value: Value) -> Any:
        """The handle for a computed value."""
        raise NotImplementedError

    def _binary(self, op: str, other: object, mirrored: bool = False) -> Any:
        listed = isinstance(other, list | tuple) and op not in ex.COMPARISONS
        # a list is an array without names
        value = lift(np.empty(len(cast("Sequence[object]", other))) if listed else cast("object", other))
        if value is None:
            return NotImplemented
        return self._wrap(binary(op, value, self.value) if mirrored else binary(op, self.value, value))

    def _compare(self, op: str, other: object) -> Any:
        return self._binary(op, other)

    def __add__(self, other: object) -> Any:
        return self._binary("+", other)

    def __radd__(self, other: object) -> Any:
        return self._binary("+", other, True)

    def __sub__(self, other: object) -> Any:
        return self._binary("-", other)

    def __rsub__(self, other: object) -> Any:
        return self._binary("-", other, True)

    def __mul__(self, other: object) -> Any:
        return self._binary("*", other)

    def __rmul__(self, other: object) -> Any:
        return self._binary("*", other, True)

    def __truediv__(self, other: object) -> Any:
        return self._binary("/", other)

    def __rtruediv__(self, other: object) -> Any:
        return self._binary("/", other, True)

    def __floordiv__(self, other: object) -> Any:
        return self._binary("//", other)

    def __rfloordiv__(self, other: object) -> Any:
        return self._binary("//", other, True)

    def __mod__(self, other: object) -> Any:
        return self._binary("%", other)

    def __rmod__(self, other: object) -> Any:
        return self._binary("%", other, True)

    def __pow__(self, other: object) -> Any:
        return self._binary("**", other)

    def __rpow__(self, other: object) -> Any:
        return self._binary("**", other, True)

    def __and__(self, other: object) -> Any:
        return self._binary("&", other)

    def __rand__(self, other: object) -> Any:
        return self._binary("&", other, True)

    def __or__(self, other: object) -> Any:
        return self._binary("|", other)

    def __ror__(self, other: object) -> Any:
        return self._binary("|", other, True)

    def __xor__(self, other: object) -> Any:
        return self._binary("^", other)

    def __rxor__(self, other: object) -> Any:
        return self._binary("^", other, True)

    def __lshift__(self, other: object) -> Any:
        return self._binary("<<", other)

    def __rshift__(self, other: object) -> Any:
        return self._binary(">>", other)

    def __lt__(self, other: object) -> Any:
        return self._compare("<", other)

    def __le__(self, other: object) -> Any:
        return self._compare("<=", other)

    def __gt__(self, other: object) -> Any:
        return self._compare(">", other)

    def __ge__(self, other: object) -> Any:
        return self._compare(">=", other)

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("!=", other)

    __hash__ = object.__hash__

    def __neg__(self) -> Any:
        return self._wrap(negative(self.value))

    def __pos__(self) -> Any:
        return self._wrap(self.value)

    def __invert__(self) -> Any:
        return self._wrap(invert(self.value))

    def __abs__(self) -> Any:
        return self._wrap(derive(ex.Unary("abs", self.value.node), (self.value,), self.value.weak))

    def __round__(self, digits: None = None) -> Any:
        if digits is not None:
            raise DtypeError(
                "PH301",
                f"round({self}, {digits}): only whole numbers are rounded to",
                hints=(f"ph.round({self} * 10**{digits}) / 10**{digits}",),
                location=here(),
            )
        return self._wrap(rounded("round", self.value))

    def __floor__(self) -> Any:
        return self._wrap(rounded("floor", self.value))

    def __ceil__(self) -> Any:
        return self._wrap(rounded("ceil", self.value))

    def __bool__(self) -> bool:
        raise DtypeError(
            "PH020",
            f"condition '{self}' is not known while the program is being built",
            hints=("(p) & (q), ~p instead of and, or, not; (lo <= i) & (i < hi) instead of lo <= i < hi",
                   "ph.where(cond, a, b) instead of if; ph.maximum(a, b) instead of max(a, b)"),
            location=here(),
        )  # fmt: skip

    def __iter__(self) -> object:
        raise OrderError(
            "PH041",
            f"{self} has no axis order to iterate over; its dimensions are {braces(self.value.dims)}",
            hints=("reduce by name, .sum(k); several dims at once: i, j = ph.dims('i j')",),
            location=here(),
        )
