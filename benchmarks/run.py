# SPDX-License-Identifier: MIT
"""`python -m benchmarks.run --case CAP0 --case SGEMM512`: cases against the machine's ceilings and their peers.

The suites of `polyhedral bench`, which this shares everything with: `-o results.jsonl` appends one JSON line per case
and contestant, for `benchmarks.compare`.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polyhedral as ph
from benchmarks.bounds import bounds
from benchmarks.case import Arrays, Case, as_arrays
from benchmarks.cases import CASES, SUITES, case
from benchmarks.our_forms import forms
from benchmarks.peers import PEERS, circumstances, contestants
from codegen.runtime.roof import Meter
from frontend.commands.bench import Job, Request, Tick, bench
from frontend.commands.bench_options import start_fairly
from frontend.measuring import timing
from frontend.measuring.ledger import OURS, Work, record
from frontend.measuring.timing import Contestant
from frontend.usage import UsageError

DEFAULT = ("CAP0", "CAP0-channels", "CAP1", "CAP1-channels", "SGEMM512", "C2", "TROP")
AGAINST = ("numpy", "torch", "c")


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.list:
        print("\n".join(CASES))
        return 0
    if argv is None:
        start_fairly(max(1, args.threads), pinned="jax" in args.peers)
    words = sys.argv[1:] if argv is None else argv
    request = Request(
        tuple(args.case or DEFAULT),
        tuple(args.peers),
        args.threads,
        args.seconds,
        args.flush,
        args.small,
        output=args.output,
        progress="none",
        command=shlex.join(["python", "-m", "benchmarks.run", *words]),
    )
    try:
        return int(bench(request).failed > 0)
    except UsageError as error:
        print(f"usage: {error}", file=sys.stderr)
        return 2


def jobs(request: Request) -> list[tuple[str, Job]]:
    """One for each case of the suites, or of the cases, that are asked for.  UsageError for an unknown one."""
    peers = AGAINST if request.peers is None else request.peers
    unknown = [p for p in peers if p not in PEERS]
    if unknown:
        raise UsageError(f"--vs {','.join(unknown)}: peers are {', '.join(PEERS)}")
    names = tuple(_names(request.what or DEFAULT))
    meter = timing.meter()
    flush = timing.flusher() if request.flush else None

    def job(name: str) -> Job:
        def run(tick: Tick) -> list[dict[str, Any]]:
            return measure(case(name, small=request.small), meter, peers, request.threads, request.seconds, flush, tick)

        return run

    return [(name, job(name)) for name in names]


def _names(what: Sequence[str]) -> Iterator[str]:
    for word in what:
        if word in SUITES:
            yield from SUITES[word]
        elif word.partition("+")[0] in CASES:
            yield word
        else:
            near = difflib.get_close_matches(word, [*SUITES, *CASES], 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"there is no suite or case {word!r}{meant}; polyhedral bench --list names all")


def measure(
    c: Case,
    meter: Meter,
    peers: tuple[str, ...],
    threads: int,
    seconds: float,
    flush: Callable[[], object] | None = None,
    tick: Tick = lambda _: None,
) -> list[dict[str, Any]]:
    """One record per contestant, ours first; every result is held against the reference."""
    with ph.options(threads=threads):
        arrays = c.inputs()
        want = c.expected(arrays)
        every = [ours(c, arrays), *forms(c, arrays)]
        others, notes = contestants(c, arrays, threads, peers)
        every += [*others, *bounds(c, meter, threads)]
        errors: dict[str, float] = {}
        for one in every:
            if one.reset is not None:
                one.reset()
            one.run()
            errors[one.name] = 0.0 if one.result is None else c.error(one.result(), want)
        times, roofs = timing.interleave(
            every, lambda: meter(threads, seconds=0.02), seconds=seconds, flush=flush, tick=tick
        )
    roof, bits = timing.middle(roofs), 64 if c.dtype == "float64" else 32
    work = Work(c.name, c.flops, c.bytes, bits, c.tolerance, c.constant)
    notes = [*notes, *circumstances(peers)]
    return [
        {**record(work, one.name, times[one.name], roof, errors[one.name], one.note), "absent": notes} for one in every
    ]


def ours(c: Case, arrays: Arrays) -> Contestant:
    """The compiled function, called as a user would, with what is constant bound; updates in place start from a fresh
    copy, which is not timed.
    """
    mine = {n: a.copy() for n, a in arrays.items()}
    call = c.caller(mine)
    last: list[Any] = [None]

    def run() -> object:
        last[0] = call()
        return last[0]

    def reset() -> object:
        mine[c.inout][...] = arrays[c.inout]
        return None

    def result() -> Any:
        return mine[c.inout] if c.inout else as_arrays(last[0])

    return Contestant(OURS, run, result, reset if c.inout else None)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    p.add_argument(
        "--case", action="append", metavar="NAME", help=f"a case or a suite, repeated; default {', '.join(DEFAULT)}"
    )
    p.add_argument("--list", action="store_true", help="print the names of all cases")
    p.add_argument("--peers", nargs="*", choices=PEERS, default=list(AGAINST), help="what to run against")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seconds", type=float, default=3.0, help="budget of a case for all contestants together")
    p.add_argument("--flush", action="store_true", help="empty the caches before every call")
    p.add_argument("--small", action="store_true", help="the sizes that the tests use")
    p.add_argument("-o", "--output", type=Path, help="append JSON lines")
    return p


if __name__ == "__main__":
    sys.exit(main())
