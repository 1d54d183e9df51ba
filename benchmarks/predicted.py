# SPDX-License-Identifier: MIT
"""`python -m benchmarks.predicted --target cuda:sm_90`: what plans predict for a GPU, case by case; nothing is run.

Milliseconds of all kernels one after another with their starts, the share of the peak without matrix units that comes
of it, and what bounds the longest.  `--resources` asks nvcc what kernels take.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from benchmarks.case import Case
from benchmarks.cases import SUITES, case
from codegen.launch import DeviceSource
from frontend.running.loading import resources
from polyhedral.errors import PolyhedralError

HEADER = f"{'case':18}{'kernels':>8}{'ms':>10}{'GFLOP/s':>10}{'of peak':>9}  bound"


@dataclass(frozen=True)
class Row:
    """One case: kernels, milliseconds, operations a second in 1e9, the share of the peak, what bounds the longest."""

    name: str
    kernels: int = 0
    milliseconds: float = nan
    rate: float = nan
    share: float = nan
    bound: str = ""
    resources: tuple[str, ...] = ()

    def __str__(self) -> str:
        share = "" if self.share != self.share else f"{self.share:.0%}"
        line = f"{self.name:18}{self.kernels:8}{self.milliseconds:10.3f}{self.rate:10.0f}{share:>9}  {self.bound}"
        return "\n".join((line, *(f"    {r}" for r in self.resources)))


def lowered(c: Case, target: str) -> Any:
    """The case at its shapes on a target that need not be here; arrays are asked for their shapes alone."""
    arrays = {n: np.empty(s, c.dtype) for n, s in c.shapes.items()}
    return c.function.lower(**arrays, **c.sizes, target=target)


def predicted(c: Case, target: str, *, taken: bool = False) -> Row:
    """What plans say of a case; a row that says why where they say nothing."""
    try:
        built = lowered(c, target).built
    except PolyhedralError as error:
        return Row(c.name, bound=str(error).splitlines()[0])
    assert isinstance(built.source, DeviceSource)
    assert built.mapped is not None
    prices = [p for _, p in built.mapped.prices]
    known = [p for p in prices if p is not None]
    kernels = len(built.source.launches)
    said = tuple(map(str, resources(built))) if taken else ()
    if len(known) < len(prices) or not known:
        return Row(c.name, kernels, bound="not predicted: a recurrence", resources=said)
    device = built.mapped.device
    seconds = sum(p.whole for p in known) / device.clock / 1e9
    peak = device.peak * (device.ratio64 if c.dtype == "float64" else 1.0)
    rate = c.flops / seconds / 1e9
    longest = max(known, key=lambda p: p.whole)
    return Row(c.name, kernels, seconds * 1e3, rate, rate / peak, longest.bound, said)


def rows(names: Iterable[str], target: str, *, small: bool = False, taken: bool = False) -> Iterator[Row]:
    return (predicted(case(n, small=small), target, taken=taken) for n in names)


def main(given: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="python -m benchmarks.predicted", description="what plans predict for a GPU")
    p.add_argument("--target", default="cuda:sm_90")
    p.add_argument("--case", action="append", default=[], help="a case or a suite; all by default")
    p.add_argument("--small", action="store_true", help="at the sizes of the tests")
    p.add_argument("--resources", action="store_true", help="registers, shared memory and spills, by nvcc")
    a = p.parse_args(given)
    names = [n for c in a.case or ["all"] for n in SUITES.get(c, (c,))]
    print(f"PREDICTED for {a.target}, never measured")
    print(HEADER)
    for row in rows(dict.fromkeys(names), a.target, small=a.small, taken=a.resources):
        print(row, flush=True)


if __name__ == "__main__":
    main()
