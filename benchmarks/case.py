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
    `constant` are arrays that stay the same from call to call, and may be prepared before the clock starts.
    """

    name: str
    family: str
    function: Any
    shapes: Mapping[str, tuple[int, ...]]
    flops: int
    reference: Callable[..., np.ndarray]
    numbers: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float32"
    inout: str = ""
    out_shape: tuple[int, ...] = ()
    nest: Nest | None = None
    tolerance: float = 1e-5
    constant: tuple[str, ...] = ()

    def inputs(self, seed: int = 0) -> Arrays:
        """Uniform in [-0.5, 0.5); square in-place problems are made diagonally dominant."""
        rng = np.random.default_rng(seed)
        made = {n: (rng.random(s) - 0.5).astype(self.dtype) for n, s in self.shapes.items()}
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

    def result(self, arrays: Arrays) -> np.ndarray:
        """One call on copies, as an array."""
        mine = {n: a.copy() for n, a in arrays.items()}
        made = self.caller(mine)()
        return mine[self.inout] if self.inout else np.asarray(made)

    def expected(self, arrays: Arrays) -> np.ndarray:
        return self.reference(**{n: a.astype(np.float64) for n, a in arrays.items()})

    @property
    def bytes(self) -> int:
        """Every input and output once; what is updated in place twice."""
        size = np.dtype(self.dtype).itemsize
        moved = sum(prod(s) for s in self.shapes.values()) + prod(self.out_shape or (0,))
        return size * (moved + (prod(self.shapes[self.inout]) if self.inout else 0))

    def error(self, got: np.ndarray, want: np.ndarray) -> float:
        """The largest difference, relative to the largest value."""
        return float(
            np.abs(got.astype(np.float64) - want).max(initial=0.0) / max(float(np.abs(want).max(initial=0.0)), 1e-30)
        )
