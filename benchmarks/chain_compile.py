# SPDX-License-Identifier: MIT
"""`python -m benchmarks.chain_compile`: how compile time grows with the program, for a chain of n alike layers.

A layer is a linear map, bias, ReLU and layer norm.  Everything up to C text is timed; the C compiler is not run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

import polyhedral as ph
from frontend.measuring.tables import console
from polyhedral.dim import j

ROWS, WIDTH = 64, 64


@dataclass(frozen=True)
class Measured:
    """One lowering: seconds from the call to C text, and by stage."""

    layers: int
    statements: int
    seconds: float
    stages: dict[str, float]

    @property
    def each(self) -> float:
        """Seconds a statement."""
        return self.seconds / self.statements


def chain(layers: int, *, named: bool) -> ph.Function:
    """Weights of all layers are one array, of which layer t reads its part; `named` results of layers are `ph.let`s, so
    that an expression never spans two layers.
    """

    @ph.function(X="n i", W="l i j", bias="l j", returns="n i")
    def layers_in_a_row(X, W, bias):
        for t in range(layers):
            linear = (X * W(l=t)).sum("i") + bias(l=t)
            active = ph.relu(linear)
            centred = active - active.mean(j)
            X = (centred / ph.sqrt((centred * centred).mean(j) + 1e-5))(j=ph.Dim("i"))
            if named:
                X = ph.let(X, f"layer{t}")
        return X

    return layers_in_a_row


def measure(layers: int, *, named: bool = True, threads: int = 1) -> Measured:
    made = chain(layers, named=named)
    start = time.perf_counter()
    low = made.lower(
        X=f"f32[n:{ROWS}, i:{WIDTH}]",
        W=f"f32[l:{layers}, i:{WIDTH}, j:{WIDTH}]",
        bias=f"f32[l:{layers}, j:{WIDTH}]",
        threads=threads,
    )
    low.source()
    seconds = time.perf_counter() - start
    return Measured(layers, len(low.program.statements), seconds, dict(low.timings.steps))


def table(every: Sequence[Measured]) -> Table:
    stages = list(every[0].stages)
    t = Table(title="a chain of layers, up to C text", title_justify="left", box=None, pad_edge=False)
    for column in ("layers", "statements", "s", "ms a statement", *(f"{s}, ms" for s in stages)):
        t.add_column(column, justify="right")
    for m in every:
        shown = (f"{1e3 * m.stages.get(s, 0):.0f}" for s in stages)
        t.add_row(str(m.layers), str(m.statements), f"{m.seconds:.2f}", f"{1e3 * m.each:.1f}", *shown)
    return t


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.chain_compile", description=__doc__)
    p.add_argument("--layers", type=int, nargs="+", default=[10, 40, 50, 200], help="lengths of the chain")
    p.add_argument("--repeat", type=int, default=1, help="lowerings of each length, of which the median counts")
    p.add_argument("--unnamed", action="store_true", help="no ph.let between layers: one expression")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args(argv)
    measure(2, named=not args.unnamed, threads=args.threads)  # imports, and what is read once
    found: dict[int, Measured] = {}
    for n in sorted(args.layers):
        several = [measure(n, named=not args.unnamed, threads=args.threads) for _ in range(args.repeat)]
        found[n] = sorted(several, key=lambda m: m.seconds)[len(several) // 2]
        print(f"{n} layers: {statistics.median(m.seconds for m in several):.2f} s", file=sys.stderr, flush=True)
    console().print(table(list(found.values())))
    for n, m in found.items():
        if 4 * n in found:
            console().print(f"time({4 * n}) / time({n}) = {found[4 * n].seconds / m.seconds:.2f}; linear would be 4")
    return 0


if __name__ == "__main__":
    sys.exit(main())
