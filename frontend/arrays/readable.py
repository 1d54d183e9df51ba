# SPDX-License-Identifier: MIT
"""Results in arithmetic, brackets and text: they are read as NumPy's arrays, where the order of axes is clear.

Where it is not, the error says how to ask for one; which arrays have an order is decided in `frontend.arrays.named`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from polyhedral.errors import AttributeProblem


class Readable(np.lib.mixins.NDArrayOperatorsMixin):
    """What has `__array__`: Python's operators compute with NumPy, and give NumPy's arrays and numbers.

    OrderError PH041 for an array of several dims without an order; DimError PH042 where one number is wanted.
    """

    __slots__ = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    def __float__(self) -> float:
        return float(np.asarray(self))

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]  compared as values, kept apart as objects

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """On the arrays; tensors of a program, which know better, are asked themselves."""
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, _READ) for x in inputs):
            return NotImplemented
        read = [np.asarray(x) if isinstance(x, Readable) else x for x in inputs]
        given = tuple(np.asarray(x) if isinstance(x, Readable) else x for x in options.pop("out", ()))
        return getattr(ufunc, method)(*read, **options, **({"out": given} if given else {}))

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __len__(self) -> int:
        return len(np.asarray(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(cast("np.ndarray[Any, Any]", np.asarray(self)))

    def __matmul__(self, other: Any) -> Any:
        return np.asarray(self) @ np.asarray(other)

    def __rmatmul__(self, other: Any) -> Any:
        return np.asarray(other) @ np.asarray(self)

    def __round__(self, digits: int | None = None) -> Any:
        return round(float(self), digits)

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec and spec[-1] in "eEfFgG%n" else format(str(self), spec)


_READ = (Readable, np.ndarray, np.generic)


def no_attribute(name: str, order: str, what: str) -> AttributeProblem:
    """PH009: an attribute of NumPy's arrays, asked of a result without an order."""
    if hasattr(np.ndarray, name):
        hint = f".order('{order}').{name}" if order else f"np.asarray(a).{name}"
        return AttributeProblem("PH009", f"{what} has no '{name}', since its dims have no order", hints=(hint,))
    return AttributeProblem("PH009", f"{what} has no attribute '{name}'", hints=(f".order('{order}') is an array",))
