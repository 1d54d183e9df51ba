# SPDX-License-Identifier: MIT
"""Element types: their NumPy form, promotion and accumulators (API rules R18, R19).

Knows nothing of C; `codegen` spells each type in its target's language.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class DType:
    """An element type.  `kind` is one of b(ool) i(nt) u(int) f(loat) c(omplex); `bits` the storage width."""

    name: str
    kind: str
    bits: int
    numpy: np.dtype = field(repr=False, compare=False, hash=False)

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        return self.kind in "fc"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"


bool_ = DType("bool", "b", 8, np.dtype(np.bool_))
i8, i16, i32, i64 = (DType(f"i{n}", "i", n, np.dtype(f"i{n // 8}")) for n in (8, 16, 32, 64))
u8, u16, u32, u64 = (DType(f"u{n}", "u", n, np.dtype(f"u{n // 8}")) for n in (8, 16, 32, 64))
f16 = DType("f16", "f", 16, np.dtype(np.float16))
bf16 = DType("bf16", "f", 16, np.dtype(ml_dtypes.bfloat16))
f8e4m3 = DType("f8e4m3", "f", 8, np.dtype(ml_dtypes.float8_e4m3fn))
f8e5m2 = DType("f8e5m2", "f", 8, np.dtype(ml_dtypes.float8_e5m2))
f32 = DType("f32", "f", 32, np.dtype(np.float32))
f64 = DType("f64", "f", 64, np.dtype(np.float64))
c64 = DType("c64", "c", 64, np.dtype(np.complex64))
c128 = DType("c128", "c", 128, np.dtype(np.complex128))

ALL = (bool_, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f8e4m3, f8e5m2, f32, f64, c64, c128)
BY_NAME = {t.name: t for t in ALL}
_BY_NUMPY = {t.numpy: t for t in ALL}


def from_numpy(dtype: object) -> DType | None:
    """The element type of a NumPy dtype in native byte order, or None when the language has no such type."""
    d = np.dtype(cast("np.dtype[Any]", dtype))
    return _BY_NUMPY.get(d) if d.isnative else None


def as_dtype(given: object) -> DType | None:
    """The element type that a user means: one of ours, its name, or what NumPy calls it; None for anything else."""
    if isinstance(given, DType):
        return given
    if isinstance(given, str) and given in BY_NAME:
        return BY_NAME[given]
    if not isinstance(given, (str, type, np.dtype)):
        return None
    try:
        return from_numpy(cast("object", given))
    except TypeError:
        return None


def promote(a: DType, b: DType) -> DType | None:
    """The least common type on the array-API lattice, or None where the user must say `.astype`.

    bool joins anything; ints join ints (mixed signs widen; i64 with u64 has no join); int with float is an error by
    the standard, but NumPy users expect the float: an integer joins any float of at least f16 width as that float.
    Two different 16-bit or 8-bit floats have no join.
    """
    if a == b:
        return a
    if a.kind == "b":
        return b
    if b.kind == "b":
        return a
    if a.is_integer and b.is_integer:
        return _promote_integers(a, b)
    if a.is_integer:
        return b if b.bits > 8 else None
    if b.is_integer:
        return a if a.bits > 8 else None
    if "c" in (a.kind, b.kind):
        parts = [t.bits // 2 if t.kind == "c" else t.bits for t in (a, b)]
        return c128 if max(parts) > 32 else c64
    if a.bits == b.bits or {a.bits, b.bits} == {8, 16}:
        return None
    return a if a.bits > b.bits else b


def _promote_integers(a: DType, b: DType) -> DType | None:
    if a.kind == b.kind:
        return a if a.bits > b.bits else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if signed.bits > unsigned.bits:
        return signed
    return {8: i16, 16: i32, 32: i64}.get(unsigned.bits)


def accumulator(t: DType) -> DType:
    """The default type in which a reduction over values of type `t` is carried out (rule R19)."""
    if t.kind == "f" and t.bits < 32:
        return f32
    if t.kind == "b":
        return i64
    if t.is_integer:
        if t.bits <= 16:
            return i32
        return i64 if t.kind == "i" else u64
    return t


def part(t: DType) -> DType:
    """The type of the real and the imaginary part of a complex number; of others, their own."""
    return {c64: f32, c128: f64}.get(t, t)


def division(t: DType) -> DType:
    """The type in which `/` is carried out: itself for floats, f64 for i64/u64/i32/u32 and f32 below."""
    if t.is_float:
        return t
    return f64 if t.bits >= 32 else f32
