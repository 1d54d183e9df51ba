# SPDX-License-Identifier: MIT
"""`python -m benchmarks.run --case CAP0 --case SGEMM512`: cases against the machine's ceilings and their peers.

Prints a table; `-o results.jsonl` appends one JSON line per case and contestant, for `benchmarks.compare`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polyhedral as ph
from benchmarks import table
from benchmarks.case import Arrays, Case
from benchmarks.cases import CASES, case
from benchmarks.peers import PEERS, contestants, versions
from codegen.runtime.roof import Meter, Roof
from frontend import timing
from frontend.timing import Contestant, Times

OURS = "polyhedral"
DEFAULT = ("CAP0", "CAP0-channels", "CAP1", "CAP1-channels", "SGEMM512", "C2", "TROP")


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.list:
        print("\n".join(CASES))
        return 0
    if argv is None:
        _own_threads(args.threads, pinned="jax" in args.peers)
    names = args.case or list(DEFAULT)
    meter = timing.meter()
    flush = timing.flusher() if args.flush else None
    failed = 0
    for name in names:
        try:
            found = measure(case(name, small=args.small), meter, tuple(args.peers), args.threads, args.seconds, flush)
        except ph.PolyhedralError as error:
            print(f"{name}: {error}\n", file=sys.stderr)
            failed += 1
            continue
        records = [{**machine(args.threads), "flushed": args.flush, "small": args.small, **r} for r in found]
        table.show(records)
        failed += any(r["error"] > r["tolerance"] for r in records)
        if args.output is not None:
            with args.output.open("a") as f:
                f.writelines(json.dumps(r) + "\n" for r in records)
    return int(failed > 0)


def measure(
    c: Case, meter: Meter, peers: tuple[str, ...], threads: int, seconds: float, flush: Any = None
) -> list[dict[str, Any]]:
    """One record per contestant, ours first; every result is held against the reference."""
    with ph.options(threads=threads):
        arrays = c.inputs()
        want = c.expected(arrays)
        every = [ours(c, arrays)]
        others, notes = contestants(c, arrays, threads, peers)
        every += others
        errors: dict[str, float] = {}
        for one in every:
            if one.reset is not None:
                one.reset()
            one.run()
            errors[one.name] = c.error(one.result(), want)
        times, roofs = timing.interleave(every, lambda: meter(threads, seconds=0.02), seconds=seconds, flush=flush)
    roof = timing.middle(roofs)
    return [
        {
            **record(c, one.name, times[one.name], roof),
            "error": errors[one.name],
            "tolerance": c.tolerance,
            "note": one.note,
            "absent": notes,
        }
        for one in every
    ]


def ours(c: Case, arrays: Arrays) -> Contestant:
    """The compiled function, called as a user would; updates in place start from a fresh copy, which is not timed."""
    mine = {n: a.copy() for n, a in arrays.items()}
    last: list[Any] = [None]

    def run() -> object:
        last[0] = c.call(mine)
        return last[0]

    def reset() -> object:
        mine[c.inout][...] = arrays[c.inout]
        return None

    def result() -> Any:
        return mine[c.inout] if c.inout else last[0].__array__()

    return Contestant(OURS, run, result, reset if c.inout else None)


def record(c: Case, who: str, t: Times, roof: Roof) -> dict[str, Any]:
    """Times and what they are of the ceilings measured in the same run."""
    bits = 64 if c.dtype == "float64" else 32
    peak = roof.fma_f64 if bits == 64 else roof.fma_f32
    gflops, gbytes = c.flops / t.median / 1e9, c.bytes / t.median / 1e9
    return {
        "case": c.name,
        "who": who,
        "median": t.median,
        "iqr": t.iqr,
        "least": min(t.seconds),
        "turns": len(t.seconds),
        "flops": c.flops,
        "bytes": c.bytes,
        "gflops": gflops,
        "gbytes": gbytes,
        "of_fma": gflops / peak,
        "of_triad": gbytes / roof.triad,
        "of_roof": roof.seconds(c.flops, c.bytes, bits) / t.median,
        "roof": roof.record(),
    }


def machine(threads: int) -> dict[str, Any]:
    """What a reader needs to repeat or distrust a number."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": versions(),
        "command": " ".join(["python -m benchmarks.run", *sys.argv[1:]]),
        "commit": commit(),
    }


def commit() -> str:
    """The commit that was measured, `+` for a changed tree, or `unknown` outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        yield from path.read_text().splitlines()


def _own_threads(threads: int, pinned: bool) -> None:
    """BLAS and XLA read their number of threads when they are loaded: start again with it set.  XLA's flags do not bind
    all of its pools, so with it everybody runs on as many cores as threads."""
    wanted = {f"{n}_NUM_THREADS": str(threads) for n in ("OPENBLAS", "OMP", "MKL")}
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        if pinned and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.run", *sys.argv[1:]], {**os.environ, **wanted})


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    p.add_argument("--case", action="append", metavar="NAME", help=f"may be repeated; default {', '.join(DEFAULT)}")
    p.add_argument("--list", action="store_true", help="print the names of all cases")
    p.add_argument("--peers", nargs="*", choices=PEERS, default=["numpy", "torch", "c"], help="what to run against")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seconds", type=float, default=3.0, help="budget of a case for all contestants together")
    p.add_argument("--flush", action="store_true", help="empty the caches before every call")
    p.add_argument("--small", action="store_true", help="the sizes that the tests use")
    p.add_argument("-o", "--output", type=Path, help="append JSON lines")
    return p


if __name__ == "__main__":
    sys.exit(main())
