# SPDX-License-Identifier: MIT
"""`python -m benchmarks.capsule`: compile and run a strided capsule convolution, and say how fast and why.

The main job of the README: generated data, a check against an independent einsum in f64, the machine's measured peak,
the same nest written by hand in C, and where the time of the first call went.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

import polyhedral as ph
from benchmarks.case import Case
from benchmarks.cases import case
from benchmarks.nests import orders
from benchmarks.peers import plain_c
from benchmarks.run import ours
from frontend.measuring import timing


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.capsule", description=__doc__)
    p.add_argument(
        "--case", default="CAP0", help="CAP0 (default), CAP1, T2SP, ...; see python -m benchmarks.run --list"
    )
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seconds", type=float, default=3.0)
    p.add_argument("--small", action="store_true", help="the size that the tests use")
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="capsule-") as folder, ph.options(threads=args.threads, cache_dir=folder):
        return report(case(args.case, small=args.small), args.threads, args.seconds)


def report(c: Case, threads: int, seconds: float) -> int:
    """0 when the result is right."""
    arrays = c.inputs()
    want = c.expected(arrays)
    shown = ", ".join(f"{n}{list(a.shape)}" for n, a in arrays.items())
    print(f"{c.name}: {shown} -> {list(c.out_shape)}")
    print(f"{c.flops / 1e6:.1f} MFLOP, {c.bytes / 1e6:.2f} MB, {threads} thread(s)")

    exe = c.function.lower(*arrays.values()).compile()
    start = time.perf_counter()
    got = np.asarray(exe(*arrays.values()))
    first = time.perf_counter() - start
    error = c.error(got, want)
    verdict = "agrees with" if error <= c.tolerance else "DIFFERS from"
    print(f"the result {verdict} NumPy's einsum in f64: largest error {error:.1e} of the largest value\n")

    assert c.nest is not None
    hand = plain_c(c, arrays, threads, next(orders(c.nest)))
    hand.run()
    assert hand.result is not None
    plain_error = c.error(hand.result(), want)
    meter = timing.meter()
    mine = ours(c, arrays)
    times, roofs = timing.interleave([mine, hand], lambda: meter(threads, seconds=0.02), seconds=seconds)
    roof, t, h = timing.middle(roofs), times[mine.name], times[hand.name]
    print(f"measured ceilings, {roof}")
    for who, took, note in (("this", t, ""), ("C -O3", h, ", the nest by hand in textual order")):
        rate = c.flops / took.median / 1e9
        spread = f"(IQR {took.iqr * 1e3:.3f})"
        share = f"{rate:7.1f} GFLOP/s, {rate / roof.fma_f32:5.1%} of the FMA peak"
        print(f"{who:8} {took.median * 1e3:9.3f} ms {spread:13} {share}{note}")
    print(f"{'ratio':8} {h.median / t.median:9.1f}x\n")

    steps = (*exe.timings.steps, ("first run", first))
    print("where the time of a first call went, with an empty cache:")
    for name, took in steps:
        print(f"  {name:15} {took * 1e3:8.1f} ms")
    together = sum(s for _, s in steps) * 1e3
    print(f"  {'together':15} {together:8.1f} ms, without the C compiler and the run {exe.timings.ours * 1e3:.1f} ms")
    return int(max(error, plain_error) > c.tolerance)


if __name__ == "__main__":
    sys.exit(main())
