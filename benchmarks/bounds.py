# SPDX-License-Identifier: MIT
"""What no program can beat, where neither multiply-adds nor a triad is the measure: kernels that do the binding part of
a case and nothing else.

They take turns with the contestants but have no result.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from benchmarks.case import Case
from codegen.runtime.roof import Meter
from frontend.measuring.timing import Contestant


def bounds(case: Case, meter: Meter, threads: int) -> Iterator[Contestant]:
    """The bounds of a case, by what its family is made of."""
    match case.family:
        case "votes":
            fill = meter.filling(prod(case.out_shape), threads)
            yield Contestant("bound: streaming fill", fill, note="stores as many bytes")
        case "maxplus":
            pairs = meter.extremes(case.flops / 2, threads)
            yield Contestant("bound: add and max", pairs, note="in registers")
        case _:
            pass
