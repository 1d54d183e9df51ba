# SPDX-License-Identifier: MIT
"""`python -m benchmarks.memory --case EM-backward`: by how much the memory of a process grows in two calls, each
contestant in a process of its own.

Ours is compiled before; what peers compile at their first call counts with it, as nothing tells both apart.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Sequence

import polyhedral as ph
from benchmarks.case import Arrays, Case
from benchmarks.cases import case
from benchmarks.our_forms import ONE_BY_ONE, examples, forms
from benchmarks.peers import contestants
from benchmarks.run import ours
from frontend.measuring.ledger import OURS
from frontend.measuring.timing import Contestant

PEERS = ("torch", "jax")


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    p.add_argument("--case", default="EM-backward")
    p.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--small", action="store_true", help="the sizes that the tests use")
    p.add_argument("--who", help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    with ph.options(threads=args.threads):
        c = case(args.case, small=args.small)
        arrays = c.inputs()
        others, _ = contestants(c, arrays, args.threads, tuple(args.peers))
        every = [ours(c, arrays), *forms(c, arrays), *others]
        if args.who:
            print(f"{grown(c, arrays, next(x for x in every if x.name == args.who)):.0f}")
            return 0
    words = [sys.executable, "-m", "benchmarks.memory", *(sys.argv[1:] if argv is None else argv)]
    for x in every:
        ran = subprocess.run([*words, "--who", x.name], capture_output=True, text=True, check=False, env=os.environ)
        print(f"{x.name:34s} {ran.stdout.strip() + ' MB' if ran.returncode == 0 else 'failed: ' + ran.stderr[-200:]}")
    return 0


def grown(c: Case, arrays: Arrays, who: Contestant) -> float:
    """Megabytes that a process takes more at its peak for two calls."""
    if who.name in (OURS, ONE_BY_ONE):
        c.function.lower(**(arrays if who.name == OURS else next(examples(c, arrays))), **c.sizes).compile()
    before = peak()
    who.run()
    who.run()
    return peak() - before


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
