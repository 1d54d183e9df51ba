# SPDX-License-Identifier: MIT
"""The results of a call by name, how far two of one program lie apart, and how far they may: sums are in any order.

Which of the two is right is not asked; `polyhedral run --check numpy` holds one against the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from frontend.arrays.named import Array, Ordered
from frontend.stages.module import Specialised
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Array as IRArray
from polyhedral.ir.program import Role

Data = dict[str, np.ndarray[Any, Any]]


def tolerance(kinds: Iterable[DType]) -> float:
    """The difference relative to the largest value that results of these types may have: none for whole numbers."""
    floats = [d for d in kinds if not (d.is_integer or d.kind == "b")]
    bits = max((d.bits for d in floats), default=0)
    return 0.0 if not floats else 1e-10 if bits >= 64 else 1e-3 if bits >= 32 else 0.1


def apart(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    """The largest difference, relative to the largest value; what is the same in both, NaN included, is none."""
    kind = np.complex128 if want.dtype.kind == "c" else np.float64
    a, b = got.astype(kind), want.astype(kind)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        far = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf)).max(initial=0.0)
    return float(far) / max(float(np.abs(b[np.isfinite(b)]).max(initial=0.0)), 1e-30)


def gathered(low: Specialised, result: Any, arguments: Mapping[str, Any]) -> Data:
    """Copies of all results and of what was updated in place, axes in the order of the program's dims."""
    got = {**dict(_named(low.module.returned, result)), **{a.name: arguments[a.name] for a in updated(low)}}
    return {n: _canonical(low, n, v).copy() for n, v in got.items()}


def updated(low: Specialised) -> tuple[IRArray, ...]:
    return low.module.program.with_role(Role.INOUT)


def _named(structure: Any, result: Any) -> Iterator[tuple[str, Any]]:
    """(array name, value) pairs of a structured result."""
    if isinstance(structure, str):
        yield structure, result
    elif isinstance(structure, dict):
        for k, s in cast("dict[str, Any]", structure).items():
            yield from _named(s, result[k])
    elif structure is not None:
        for s, v in zip(structure, result, strict=True):
            yield from _named(s, v)


def _canonical(low: Specialised, name: str, value: Any) -> np.ndarray[Any, Any]:
    """A result with its axes in the order of the program's dims."""
    dims = low.module.program.array(name).dim_names
    if isinstance(value, Array):
        return value.data.transpose([value.axes.index(d) for d in dims])
    if isinstance(value, Ordered):
        return value.data.transpose([value.dims.index(d) for d in dims])
    axes = low.specs[name].axes if name in low.specs else low.module.orders.get(name, dims)
    return np.asarray(value).transpose([axes.index(d) for d in dims])
