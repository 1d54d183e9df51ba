# SPDX-License-Identifier: MIT
"""What an argument looks like from outside: element type, axes with sizes, strides.

Read from text such as `f32[c:64, y:224]` or from an array; tracing needs the first two, specialisation all three.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from frontend.arrays.named import Array
from polyhedral.errors import ArgumentError
from polyhedral.ir.dtypes import BY_NAME, DType
from polyhedral.ir.layout import Layout, runtime_stride


@dataclass(frozen=True)
class Spec:
    """An argument: `sizes` and `strides` (in elements) are None where they stay symbolic."""

    dtype: DType
    axes: tuple[str, ...]
    sizes: tuple[int | None, ...]
    strides: tuple[int | None, ...]

    def __str__(self) -> str:
        inner = ", ".join(d if n is None else f"{d}:{n}" for d, n in zip(self.axes, self.sizes, strict=True))
        return f"{self.dtype}[{inner}]"

    def layout(self, array: str) -> Layout:
        """Where the argument's cells lie; unknown strides become arguments of the kernel."""
        return Layout(
            array,
            tuple(
                (d, runtime_stride(array, d) if s is None else s) for d, s in zip(self.axes, self.strides, strict=True)
            ),
        )


def dense(dtype: DType, axes: tuple[str, ...], sizes: tuple[int | None, ...]) -> Spec:
    """A row-major argument; strides behind a symbolic size are symbolic too."""
    strides: list[int | None] = []
    step: int | None = 1
    for n in reversed(sizes):
        strides.append(step)
        step = None if step is None or n is None else step * max(n, 1)
    return Spec(dtype, axes, sizes, tuple(reversed(strides)))


def of_array(a: Array) -> Spec:
    item = a.data.itemsize
    return Spec(a.dtype, a.axes, a.data.shape, tuple(s // item for s in a.data.strides))


_SPEC = re.compile(r"\s*([a-z]\w*)\s*(?:\[(.*)\])?\s*", re.DOTALL)
_AXIS = re.compile(r"\s*([^\W\d][\w']*)\s*(?::\s*(\d+|sym)\s*)?")


def parse(text: str, argument: str) -> Spec:
    """`f32[c:64, y]`: a dtype and axes in axis order, each with its size unless it stays symbolic."""
    found = _SPEC.fullmatch(text)
    if found is None or found[1] not in BY_NAME:
        raise _malformed(text, argument)
    axes: list[str] = []
    sizes: list[int | None] = []
    for part in filter(None, (p.strip() for p in (found[2] or "").split(","))):
        axis = _AXIS.fullmatch(part)
        if axis is None:
            raise _malformed(text, argument)
        axes.append(axis[1])
        sizes.append(int(axis[2]) if axis[2] and axis[2] != "sym" else None)
    return dense(BY_NAME[found[1]], tuple(axes), tuple(sizes))


def _malformed(text: Any, argument: str) -> ArgumentError:
    return ArgumentError(
        "PH044",
        f"{argument}={text!r} is not a type with axes",
        details=(f"element types are {', '.join(BY_NAME)}",),
        hints=(f"{argument}='f32[c:64, y:224, x]' - a size may be left out to stay symbolic",),
    )
