# SPDX-License-Identifier: MIT
"""`python -m benchmarks.latency`: what a user waits for, each figure the median of several fresh processes.

Import, tracing, the first call with an empty and with a warm cache, and what a warm call costs beyond its kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from frontend.measuring.tables import console

IMPORT = """
import time; start = time.perf_counter()
import polyhedral as ph
ph.function; ph.array
print(__import__("json").dumps({"import": time.perf_counter() - start}))
"""

CALL = """
import json, time
import numpy as np
import polyhedral as ph
from polyhedral.dim import c, kx, ky, o, x, y

@ph.function(X="c y x", W="o c ky kx")
def conv_strided(X, W):
    return (X[2 * y + ky, 2 * x + kx] * W).sum(c, ky, kx)

X, W = np.ones((8, 20, 20), np.float32), np.ones((4, 8, 3, 3), np.float32)
start = time.perf_counter()
conv_strided(X, W)
first = time.perf_counter() - start
exe = conv_strided.lower(X, W).compile()

def median(run, n=300):
    times = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[n // 2]

from codegen.runtime.native import address
from frontend.arrays.memory import empty
data = {"X": X, "W": W}
out = empty((4, 9, 9), np.dtype(np.float32))
prepared = exe.native.prepare(len(exe.lowered.built.source.buffers), (), exe.threads)
buffers = [data[n] if n in data else out for n in exe.lowered.built.source.buffers]
kernel = median(lambda: prepared(*map(address, buffers)))
whole = median(lambda: conv_strided(X, W))
print(json.dumps({"first call": first, "warm call": whole, "warm call beyond the kernel": whole - kernel}))
"""

TRACE = """
import json, time
import polyhedral as ph
from polyhedral.dim import c, kx, ky, o, x, y

def conv_strided(X, W):
    return (X[2 * y + ky, 2 * x + kx] * W).sum(c, ky, kx)

def lowered():
    f = ph.function(X="c y x", W="o c ky kx")(conv_strided)
    start = time.perf_counter()
    low = f.lower(X="f32[c:8, y:20, x:20]", W="f32[o:4, c:8, ky:3, kx:3]")
    whole = time.perf_counter() - start
    steps = dict(low.timings.steps)
    return steps["trace"], steps["assemble"] + steps["check"], whole

first, *later = [lowered() for _ in range(6)]
names = ("tracing", "assembling and checking", "lowering to C, all stages")
found = {f"{n}, first in a process": s for n, s in zip(names, first)}
found |= {f"{n}, later": sorted(times)[len(times) // 2] for n, times in zip(names, zip(*later))}
print(json.dumps(found))
"""


def child(script: str, cache: Path, threads: int = 1) -> dict[str, float]:
    """What a fresh process measured."""
    env = {**os.environ, "POLYHEDRAL_CACHE_DIR": str(cache), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(repeat: int, threads: int = 1) -> dict[str, list[float]]:
    """Every figure with the seconds of each process, cold and warm ones alternating."""
    found: dict[str, list[float]] = {}

    def keep(figures: dict[str, float], suffix: str = "") -> None:
        for name, seconds in figures.items():
            found.setdefault(name + suffix, []).append(seconds)

    for _ in range(repeat):
        with tempfile.TemporaryDirectory(prefix="latency-") as folder:
            keep(child(IMPORT, Path(folder), threads))
            keep(child(TRACE, Path(folder), threads))
            cold = child(CALL, Path(folder), threads)
            keep({"first call": cold["first call"]}, ", empty cache")
            warm = child(CALL, Path(folder), threads)
            keep({"first call": warm.pop("first call")}, ", new process, warm cache")
            keep(warm)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    p.add_argument("--repeat", type=int, default=5, help="processes for each figure")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args(argv)
    t = Table(title="a strided convolution, 8 x 20 x 20 to 4 x 9 x 9", title_justify="left", box=None, pad_edge=False)
    for column in ("figure", "median", "least", "most"):
        t.add_column(column, justify="left" if column == "figure" else "right")
    for name, seconds in measure(args.repeat, args.threads).items():
        unit, factor = ("us", 1e6) if max(seconds) < 1e-3 else ("ms", 1e3)
        shown = (statistics.median(seconds), min(seconds), max(seconds))
        t.add_row(name, *(f"{s * factor:.1f} {unit}" for s in shown))
    console().print(t)
    return 0


if __name__ == "__main__":
    sys.exit(main())
