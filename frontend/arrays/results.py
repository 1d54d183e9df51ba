# SPDX-License-Identifier: MIT
"""Results: arrays in the structure that a function returned, with the labels of its arguments.

Which array is which result is the trace's to say; kernels are left to `frontend.stages.executable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from frontend.arrays.memory import Strided
from frontend.arrays.named import Array
from frontend.lang.trace import Returned


def flat(s: Returned) -> Iterator[str]:
    """The names of the arrays, in order."""
    match s:
        case None:
            return
        case str():
            yield s
        case dict():
            for v in s.values():
                yield from flat(v)
        case _:
            for v in s:
                yield from flat(v)


def structured(s: Returned, results: Mapping[str, Array], orders: Mapping[str, tuple[str, ...]]) -> Any:
    """The arrays as they were returned, those with a declared axis order in it."""
    if s is None:
        return None
    if isinstance(s, str):
        a = results[s]
        order = orders.get(s)
        return a if order is None else a.positional(order)
    if isinstance(s, dict):
        return {k: structured(v, results, orders) for k, v in s.items()}
    return tuple(structured(v, results, orders) for v in s)


def finished(result: Any, labelled: Sequence[Array], updated: Sequence[tuple[Strided, Strided]]) -> Any:
    """The result after updates of copies reached their originals."""
    for original, copy in updated:
        original[...] = copy
    return _relabelled(result, labelled) if labelled else result


def _relabelled(result: Any, labelled: Sequence[Array]) -> Any:
    """Results as DataArrays when an input was one; coordinates follow dims whose size did not change."""
    if isinstance(result, Array):
        coords = {k: v for a in reversed(labelled) for k, v in a.coords.items()}
        return Array(result.data, result.axes, result.dtype, coords).to_xarray()
    match result:
        case tuple():
            return tuple(_relabelled(r, labelled) for r in cast("tuple[Any, ...]", result))
        case dict():
            return {k: _relabelled(r, labelled) for k, r in cast("dict[str, Any]", result).items()}
        case _:
            return result
