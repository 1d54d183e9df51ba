# SPDX-License-Identifier: MIT
"""The words of NumPy, PyTorch and JAX for what `frontend.peers.forms` says of a program.

A library is imported when it is asked for; what it has no word for is a NoFormError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from polyhedral.ir.arithmetic import apply
from polyhedral.ir.dtypes import DType

_UFUNCS: Mapping[str, Any] = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "any": np.logical_or,
    "all": np.logical_and,
}  # fmt: skip
_NAMES = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder", "**": "pow",
    "min": "minimum", "max": "maximum",
    "<": "less", "<=": "less_equal", "==": "eq", "!=": "not_equal", ">": "greater", ">=": "greater_equal",
    "and": "logical_and", "or": "logical_or", "&": "bitwise_and", "|": "bitwise_or", "^": "bitwise_xor",
    "<<": "bitwise_left_shift", ">>": "bitwise_right_shift", "not": "logical_not", "~": "bitwise_not",
}  # fmt: skip
_JAX_NAMES = _NAMES | {
    "==": "equal", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "round": "rint",
    "//": "floor_divide", "<<": "left_shift", ">>": "right_shift", "~": "invert",
}  # fmt: skip
_TORCH_TYPES = {
    "bool": "bool", "u8": "uint8", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "f16": "float16",
    "bf16": "bfloat16", "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128",
}  # fmt: skip
"""Those of its types that have arithmetic."""


class NoFormError(Exception):
    """A program, or a part of it, has no form in whole arrays."""


class Library(Protocol):
    """What a form asks of a library; arrays are its own."""

    def require(self, dtype: DType) -> None:
        """NoFormError where the library has no such element type."""
        ...

    def array(self, data: np.ndarray[Any, Any]) -> Any: ...

    def numpy(self, value: Any) -> np.ndarray[Any, Any]: ...

    def index(self, data: np.ndarray[Any, Any]) -> Any: ...

    def clipped(self, value: Any, extent: int) -> Any:
        """An index that is data, within an axis of so many cells."""
        ...

    def function(self, op: str, arity: int) -> Callable[..., Any]: ...

    def call(self, op: str, *args: Any) -> Any: ...

    def where(self, cond: Any, then: Any, other: Any) -> Any: ...

    def cast(self, value: Any, dtype: DType) -> Any: ...

    def reshape(self, value: Any, shape: tuple[int, ...]) -> Any: ...

    def broadcast(self, value: Any, shape: tuple[int, ...]) -> Any: ...

    def transpose(self, value: Any, axes: Sequence[int]) -> Any: ...

    def einsum(self, text: str, values: Sequence[Any]) -> Any: ...

    def reduce(self, op: str, value: Any, axes: tuple[int, ...]) -> Any: ...

    def views(self, steps: Sequence[Sequence[int]]) -> bool:
        """Whether a read that moves so many cells along each axis, for each dim, is a view."""
        ...

    def view(self, value: Any, shape: tuple[int, ...], steps: Sequence[Sequence[int]], first: Sequence[int]) -> Any: ...

    def gather(self, value: Any, index: Sequence[Any]) -> Any: ...


class NumPy:
    """NumPy, with the interpreter's arithmetic."""

    def require(self, dtype: DType) -> None:
        """It has them all."""

    def array(self, data: np.ndarray[Any, Any]) -> Any:
        return data

    def numpy(self, value: Any) -> np.ndarray[Any, Any]:
        return np.asarray(value)

    def index(self, data: np.ndarray[Any, Any]) -> Any:
        return data.astype(np.intp)

    def clipped(self, value: Any, extent: int) -> Any:
        return np.clip(value, 0, extent - 1).astype(np.intp)

    def function(self, op: str, arity: int) -> Callable[..., Any]:
        made: Any = partial(apply, op)
        return made

    def call(self, op: str, *args: Any) -> Any:
        return apply(op, *args)

    def where(self, cond: Any, then: Any, other: Any) -> Any:
        choose: Any = np.where
        return choose(cond, then, other)

    def cast(self, value: Any, dtype: DType) -> Any:
        return np.asarray(value).astype(dtype.numpy, copy=False)

    def reshape(self, value: Any, shape: tuple[int, ...]) -> Any:
        return np.reshape(value, shape)

    def broadcast(self, value: Any, shape: tuple[int, ...]) -> Any:
        return np.broadcast_to(value, shape)

    def transpose(self, value: Any, axes: Sequence[int]) -> Any:
        return np.asarray(np.transpose(value, axes), order="C")

    def einsum(self, text: str, values: Sequence[Any]) -> Any:
        return np.einsum(text, *values, optimize=True)

    def reduce(self, op: str, value: Any, axes: tuple[int, ...]) -> Any:
        return _UFUNCS[op].reduce(value, axis=axes, **({"dtype": value.dtype} if op in ("sum", "prod") else {}))

    def views(self, steps: Sequence[Sequence[int]]) -> bool:
        return True

    def view(self, value: Any, shape: tuple[int, ...], steps: Sequence[Sequence[int]], first: Sequence[int]) -> Any:
        begun = value[tuple(slice(n, None) for n in first)]
        return np.lib.stride_tricks.as_strided(
            begun, shape, _strides(value.strides, steps, len(shape)), writeable=False
        )

    def gather(self, value: Any, index: Sequence[Any]) -> Any:
        return value[tuple(index)]


def _strides(own: Sequence[int], steps: Sequence[Sequence[int]], dims: int) -> list[int]:
    """How far one step of each dim moves, from the strides of the axes."""
    return [sum(s * row[d] for s, row in zip(own, steps, strict=True)) for d in range(dims)]


def _muladd(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


class _Named:
    """A library whose functions stand in one namespace, under names of its own."""

    def __init__(self, functions: Any, names: Mapping[str, str], own: Mapping[str, Callable[..., Any]]) -> None:
        """`own` are operations that have more to them than a name."""
        self.functions = functions
        self.names = names
        self.own = {"muladd": _muladd, **own}

    def function(self, op: str, arity: int) -> Callable[..., Any]:
        name = "negative" if (op, arity) == ("-", 1) else self.names.get(op, op)
        found = self.own.get(op) or getattr(self.functions, name, None)
        if found is None:
            raise NoFormError(f"it has no {op}")
        return found

    def call(self, op: str, *args: Any) -> Any:
        return self.function(op, len(args))(*args)

    def where(self, cond: Any, then: Any, other: Any) -> Any:
        return self.functions.where(cond, then, other)

    def einsum(self, text: str, values: Sequence[Any]) -> Any:
        return self.functions.einsum(text, *values)

    def gather(self, value: Any, index: Sequence[Any]) -> Any:
        return value[tuple(index)] if index else value


class Torch(_Named):
    """PyTorch on the processor."""

    def __init__(self, torch: Any) -> None:
        super().__init__(torch, _NAMES, {"//": partial(torch.div, rounding_mode="floor")})
        self.torch = torch

    def _dtype(self, dtype: DType) -> Any:
        if dtype.name not in _TORCH_TYPES:
            raise NoFormError(f"it has no arithmetic for {dtype}")
        return getattr(self.torch, _TORCH_TYPES[dtype.name])

    def require(self, dtype: DType) -> None:
        self._dtype(dtype)

    def array(self, data: np.ndarray[Any, Any]) -> Any:
        if data.dtype.name == "bfloat16":
            return self.torch.from_numpy(np.ascontiguousarray(data).view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(data)

    def numpy(self, value: Any) -> np.ndarray[Any, Any]:
        return (value.float() if value.dtype is self.torch.bfloat16 else value).numpy()

    def index(self, data: np.ndarray[Any, Any]) -> Any:
        return self.torch.from_numpy(data.astype(np.int64))

    def clipped(self, value: Any, extent: int) -> Any:
        return value.long().clamp(0, extent - 1)

    def cast(self, value: Any, dtype: DType) -> Any:
        return value.to(self._dtype(dtype))

    def reshape(self, value: Any, shape: tuple[int, ...]) -> Any:
        return value.reshape(shape)

    def broadcast(self, value: Any, shape: tuple[int, ...]) -> Any:
        return value.broadcast_to(shape)

    def transpose(self, value: Any, axes: Sequence[int]) -> Any:
        return value.permute(tuple(axes)).contiguous()

    def reduce(self, op: str, value: Any, axes: tuple[int, ...]) -> Any:
        torch = self.torch
        match op:
            case "sum":
                return torch.sum(value, axes, dtype=value.dtype)
            case "max" | "min":
                return getattr(torch, f"a{op}")(value, axes)
            case _:  # one axis at a time
                further = {"dtype": value.dtype} if op == "prod" else {}
                for axis in sorted(axes, reverse=True):
                    value = getattr(torch, op)(value, axis, **further)
                return value

    def views(self, steps: Sequence[Sequence[int]]) -> bool:
        return True

    def view(self, value: Any, shape: tuple[int, ...], steps: Sequence[Sequence[int]], first: Sequence[int]) -> Any:
        own = value.stride()
        begin = value.storage_offset() + sum(s * n for s, n in zip(own, first, strict=True))
        return value.as_strided(shape, _strides(own, steps, len(shape)), begin)


class Jax(_Named):
    """JAX; it has no strided views, so that windows are gathered."""

    def __init__(self, jax: Any) -> None:
        super().__init__(jax.numpy, _JAX_NAMES, {"erf": jax.scipy.special.erf})
        self.np = jax.numpy

    def require(self, dtype: DType) -> None:
        """It has them all, those of 64 bits where they are switched on."""

    def array(self, data: np.ndarray[Any, Any]) -> Any:
        return self.np.asarray(data)

    def numpy(self, value: Any) -> np.ndarray[Any, Any]:
        return np.asarray(value)

    def index(self, data: np.ndarray[Any, Any]) -> Any:
        return data.astype(np.int32)

    def clipped(self, value: Any, extent: int) -> Any:
        return self.np.clip(value, 0, extent - 1)

    def cast(self, value: Any, dtype: DType) -> Any:
        return value.astype(dtype.numpy)

    def reshape(self, value: Any, shape: tuple[int, ...]) -> Any:
        return self.np.reshape(value, shape)

    def broadcast(self, value: Any, shape: tuple[int, ...]) -> Any:
        return self.np.broadcast_to(value, shape)

    def transpose(self, value: Any, axes: Sequence[int]) -> Any:
        return self.np.transpose(value, axes)

    def reduce(self, op: str, value: Any, axes: tuple[int, ...]) -> Any:
        further = {"dtype": value.dtype} if op in ("sum", "prod") else {}
        return getattr(self.np, op)(value, axis=axes, **further)

    def views(self, steps: Sequence[Sequence[int]]) -> bool:
        """Slices and transposes alone: one dim moves one axis."""
        single = all(sum(map(bool, row)) <= 1 for row in steps)
        return single and all(sum(map(bool, column)) <= 1 for column in zip(*steps, strict=True))

    def view(self, value: Any, shape: tuple[int, ...], steps: Sequence[Sequence[int]], first: Sequence[int]) -> Any:
        order: list[int] = []
        cut: list[slice | int] = []
        for row, begin in zip(steps, first, strict=True):
            d = next((k for k, c in enumerate(row) if c), None)
            cut.append(begin if d is None else slice(begin, begin + row[d] * (shape[d] - 1) + 1, row[d]))
            order += [] if d is None else [d]
        return self.np.transpose(value[tuple(cut)], [order.index(d) for d in range(len(shape))])
