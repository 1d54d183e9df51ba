# SPDX-License-Identifier: MIT
"""Python's operators, once, for every object that has a value.

What they compute is decided in `value`; which class wraps the result is left to `handles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any, cast

import numpy as np

from frontend.lang import foreign
from frontend.lang.access import braces, spoken
from frontend.lang.arithmetic import absolute, binary, call, conjugate, invert, negative, part, rounded, select
from frontend.lang.location import here
from frontend.lang.ufuncs import CALLS, DERIVED, METHODS, OPERATORS, POINTWISE, ROUNDINGS
from frontend.lang.value import Handle, Value, lift
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
        if plain and name in DERIVED and len(known) == len(values):
            return DERIVED[name](*map(self._wrap, known))
        raise foreign.function(self.value, name if method == "__call__" else f"{name}.{method}")

    def __array_function__(self, called: Any, types: object, args: Any, options: Any) -> Any:
        """NumPy's functions of whole arrays: those of single points have a meaning, others want an order of axes."""
        name = str(getattr(called, "__name__", called))
        if name in POINTWISE and not options:
            values = [lift(a) for a in args]
            if len(values) == POINTWISE[name] and all(v is not None for v in values):
                return self._pointwise(name, [v for v in values if v is not None])
        module = str(getattr(called, "__module__", "")).removeprefix("numpy").lstrip(".")
        raise foreign.function(self.value, f"{module}.{name}" if module in ("linalg", "fft") else name)

    def _pointwise(self, name: str, values: list[Value]) -> Any:
        match name:
            case "where":
                return self._wrap(select(*values))
            case "real" | "imag":
                return self._wrap(part(name, values[0]))
            case "clip":
                x, lo, hi = values
                return self._wrap(binary("min", binary("max", x, lo), hi))
            case _:
                return self._wrap(rounded("round" if name != "fix" else "trunc", values[0]))

    def _unknown(self, *_: object, **options: object) -> Any:
        raise foreign.unknown(self.value)

    __index__ = __int__ = __float__ = __complex__ = __array__ = _unknown

    def __len__(self) -> int:
        raise foreign.length(self.value)

    def __contains__(self, item: object) -> bool:
        dims = ", ".join(sorted(map(spoken, self.value.dims)))
        raise DtypeError(
            "PH020",
            f"{item} in {self} is not known while the program is being built",
            hints=(f"whether some value is: ({self} == {item}).any({dims})",),
            location=here(),
        )

    def __format__(self, spec: str) -> str:
        """As text; its value, which `f"{X:.2f}"` asks for, is not known yet."""
        try:
            return format(str(self), spec)
        except ValueError:
            raise foreign.unknown(self.value, f"print it as '{spec}'") from None

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
            if _answers(op, cast("object", other), mirrored):
                return NotImplemented
            raise foreign.operand(self.value, op, cast("object", other))
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

    def __divmod__(self, other: object) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: object) -> Any:
        return other // self, other % self

    def __pow__(self, other: object, modulo: object = None) -> Any:
        result = self._binary("**", other)
        return result if modulo is None else result % modulo

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

    def __rlshift__(self, other: object) -> Any:
        return self._binary("<<", other, True)

    def __rshift__(self, other: object) -> Any:
        return self._binary(">>", other)

    def __rrshift__(self, other: object) -> Any:
        return self._binary(">>", other, True)

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
        return self._wrap(absolute(self.value))

    @property
    def real(self) -> Any:
        """The real part, a float half as wide: that of a real number is itself."""
        return self._wrap(part("real", self.value))

    @property
    def imag(self) -> Any:
        """The imaginary part of a complex number, a float half as wide; PH301 for real ones."""
        return self._wrap(part("imag", self.value))

    def conj(self) -> Any:
        """The number with the other sign of its imaginary part: that of a real number is itself."""
        return self._wrap(conjugate(self.value))

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

    def __trunc__(self) -> Any:
        return self._wrap(rounded("trunc", self.value))

    def __ceil__(self) -> Any:
        return self._wrap(rounded("ceil", self.value))

    def __bool__(self) -> bool:
        raise DtypeError(
            "PH020",
            f"condition '{self}' is not known while the program is being built",
            hints=("(p) & (q), ~p instead of and, or, not; (lo <= i) & (i < hi) instead of lo <= i < hi",
                   "ph.where(cond, a, b) instead of if; ph.maximum(a, b) instead of max(a, b)",
                   "(X == 1) | (X == 2) instead of X in (1, 2)"),
            location=here(),
        )  # fmt: skip

    def __iter__(self) -> object:
        raise OrderError(
            "PH041",
            f"{self} has no axis order to iterate over; its dimensions are {braces(self.value.dims)}",
            hints=("reduce by name, .sum(k); several dims at once: i, j = ph.dims('i j')",),
            location=here(),
        )


def _answers(op: str, other: object, mirrored: bool) -> bool:
    """May the class of the other side know what to do?  Python then asks it, and compares by identity otherwise."""
    if op in ("==", "!="):
        return True
    kind = type(other)
    plain = mirrored or isinstance(other, Number) or kind.__module__ == "builtins"
    return not plain and hasattr(kind, _MIRRORED[op])


_MIRRORED = {
    "+": "__radd__", "-": "__rsub__", "*": "__rmul__", "/": "__rtruediv__", "//": "__rfloordiv__", "%": "__rmod__",
    "**": "__rpow__", "&": "__rand__", "|": "__ror__", "^": "__rxor__", "<<": "__rlshift__", ">>": "__rrshift__",
    "<": "__gt__", "<=": "__ge__", ">": "__lt__", ">=": "__le__",
}  # fmt: skip
