# SPDX-License-Identifier: MIT
"""What a benchmark case is: a function, generated inputs, a NumPy reference computed in f64, and its work.

The cases themselves are in `benchmarks.cases`; how they are timed is left to `benchmarks.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Result = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Nest:
    """The computation as a perfect loop nest for the plain-C peer: `write (op)= value` over `loops`, in textual order.

    Index expressions are C over the loop names; `guard` says where a read exists (zero padding elsewhere).
    """

    loops: tuple[tuple[str, int], ...]
    reduced: frozenset[str]
    write: tuple[str, ...]
    value: str
    reads: Mapping[str, tuple[str, ...]]
    guard: str = ""
    op: str = "sum"


@dataclass(frozen=True)
class Case:
    """One measurement.  `numbers` hold what peers need to know (stride, padding), `sizes` the function's arguments;
    `constant` are arrays that stay the same from call to call, and may be prepared before the clock starts; `weights`
    those that may be made so.  A function of several results has `out_shape` of the first and `further` of the others,
    and its results are tuples.
    """

    name: str
    family: str
    function: Any
    shapes: Mapping[str, tuple[int, ...]]
    flops: int
    reference: Callable[..., Result]
    numbers: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float32"
    inout: str = ""
    out_shape: tuple[int, ...] = ()
    nest: Nest | None = None
    tolerance: float = 1e-5
    constant: tuple[str, ...] = ()
    further: tuple[tuple[int, ...], ...] = ()
    weights: tuple[str, ...] = ("W",)
    draw: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = field(default_factory=dict)

    def inputs(self, seed: int = 0) -> Arrays:
        """Uniform in [-0.5, 0.5) unless `draw` says otherwise; square in-place problems are made diagonally
        dominant.
        """
        rng = np.random.default_rng(seed)
        made = {n: self.draw.get(n, _centred)(rng, s).astype(self.dtype) for n, s in self.shapes.items()}
        if self.family == "lu":
            made["A"] += self.shapes["A"][0] * np.eye(self.shapes["A"][0], dtype=self.dtype)
        return made

    def caller(self, arrays: Arrays) -> Callable[[], Any]:
        """The compiled function with what is constant bound, as a call on the rest; an in-place one changes its
        argument.
        """
        bound = {n: arrays[n] for n in self.constant}
        function = self.function.bind(**bound) if bound else self.function
        rest = {n: a for n, a in arrays.items() if n not in bound}
        return lambda: function(**rest, **self.sizes)

    def result(self, arrays: Arrays) -> Result:
        """One call on copies, as arrays."""
        mine = {n: a.copy() for n, a in arrays.items()}
        made = self.caller(mine)()
        return mine[self.inout] if self.inout else as_arrays(made)

    def expected(self, arrays: Arrays) -> Result:
        return self.reference(**{n: a.astype(np.float64) for n, a in arrays.items()})

    @property
    def bytes(self) -> int:
        """Every input and output once; what is updated in place twice."""
        size = np.dtype(self.dtype).itemsize
        moved = sum(prod(s) for s in (*self.shapes.values(), self.out_shape or (0,), *self.further))
        return size * (moved + (prod(self.shapes[self.inout]) if self.inout else 0))

    def error(self, got: Result, want: Result) -> float:
        """The largest difference, relative to the largest value; of several results the worst, NaN if there is one."""
        both = zip(parts(got), parts(want), strict=True)
        return float(np.max([np.abs(g - w).max(initial=0.0) / max(np.abs(w).max(initial=0.0), 1e-30) for g, w in both]))


def parts(result: Result) -> tuple[np.ndarray, ...]:
    """Several results, or one, in double precision; numbers as rows of one."""
    return tuple(np.atleast_1d(np.asarray(r, np.float64)) for r in (result if isinstance(result, tuple) else (result,)))


def as_arrays(made: Any, array: Callable[[Any], np.ndarray] = np.asarray) -> Result:
    """What a function returned, one array or several."""
    return tuple(array(m) for m in made) if isinstance(made, tuple) else array(made)


def out_size(h: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Positions of a window along one axis."""
    return (h + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def _centred(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape) - 0.5
