# SPDX-License-Identifier: MIT
"""The annotation `alpha: ph.Scalar[ph.f32]`: a number given at each call.

Only a mark; the decorator reads it, and a trace turns such an argument into an array without dims.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyhedral.ir.dtypes import DType


@dataclass(frozen=True)
class ScalarType:
    """The type of a run-time number."""

    dtype: DType

    def __repr__(self) -> str:
        return f"ph.Scalar[ph.{self.dtype}]"


class Scalar:
    """`ph.Scalar[ph.f32]` makes a `ScalarType`; never instantiated."""

    def __class_getitem__(cls, dtype: DType) -> ScalarType:
        return ScalarType(dtype)
