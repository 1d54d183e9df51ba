# SPDX-License-Identifier: MIT
"""`python -m benchmarks.compare before.jsonl after.jsonl`: which cases became slower or faster, beyond their noise.

Compares shares of the roof measured in each run, not seconds: a machine that is slower today is not a regression.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import table
from benchmarks.table import load

REGRESSION = 5
"""Exit code, as of `polyhedral bench`."""


@dataclass(frozen=True)
class Change:
    """`ratio` above 1: faster than before; `noise` is the wider relative spread of the two."""

    case: str
    who: str
    threads: int
    before: float
    after: float
    noise: float

    @property
    def ratio(self) -> float:
        return self.after / self.before

    def verdict(self, threshold: float) -> str:
        """slower or faster when the change is beyond both the threshold and the noise."""
        least = max(threshold, self.noise)
        if self.ratio < 1 - least:
            return "slower"
        return "faster" if self.ratio > 1 + least else ""


def changes(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[Change]:
    """Records of both files that measure the same thing; the last one of each counts."""
    old, new = ({_key(r): r for r in records} for records in (before, after))
    return [
        Change(*k[:3], old[k]["of_roof"], new[k]["of_roof"], max(r[k]["iqr"] / r[k]["median"] for r in (old, new)))
        for k in new
        if k in old
    ]


def _key(r: dict[str, Any]) -> tuple[str, str, int, bool, bool]:
    return r["case"], r["who"], r["threads"], r["flushed"], r["small"]


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    p.add_argument("before", type=Path)
    p.add_argument("after", type=Path)
    p.add_argument(
        "--fail-over", type=float, default=0.05, metavar="SHARE", help="what counts as a change, default 0.05"
    )
    args = p.parse_args(argv)
    found = changes(load(args.before), load(args.after))
    t = Table(box=None, pad_edge=False)
    for column in ("case", "who", "threads", "roof before", "after", "ratio", "noise", ""):
        t.add_column(column, justify="left" if column in ("case", "who", "") else "right")
    for c in sorted(found, key=lambda c: c.ratio):
        verdict = c.verdict(args.fail_over)
        shown = (
            c.case,
            c.who,
            str(c.threads),
            f"{c.before:.1%}",
            f"{c.after:.1%}",
            f"{c.ratio:.2f}",
            f"{c.noise:.0%}",
            verdict,
        )
        t.add_row(*shown, style={"slower": "red", "faster": "green"}.get(verdict))
    table.console().print(t)
    slower = [c for c in found if c.who == "polyhedral" and c.verdict(args.fail_over) == "slower"]
    return REGRESSION if slower else 0


if __name__ == "__main__":
    sys.exit(main())
