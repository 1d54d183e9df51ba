# SPDX-License-Identifier: MIT
"""`python -m benchmarks.compare before.jsonl after.jsonl`: which cases became slower or faster, beyond their noise.

As `polyhedral bench --compare`, with two files and without measuring.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from frontend.commands.bench_options import REGRESSION
from frontend.measuring.ledger import changes, load, regressions
from frontend.measuring.tables import show_changes


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    p.add_argument("before", type=Path)
    p.add_argument("after", type=Path)
    p.add_argument(
        "--fail-over", type=float, default=0.05, metavar="SHARE", help="what counts as a change, default 0.05"
    )
    args = p.parse_args(argv)
    found = changes(load(args.before), load(args.after))
    show_changes(found, args.fail_over)
    return REGRESSION if regressions(found, args.fail_over) else 0


if __name__ == "__main__":
    sys.exit(main())
