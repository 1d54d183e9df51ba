# SPDX-License-Identifier: MIT
"""`python -m benchmarks.table results.jsonl`: records of `benchmarks.run` as a table in the terminal.

Shows what was recorded and computes nothing but ratios of medians.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

NOISY = 0.25
"""A spread beyond this share of the median is marked: repeat it on a quieter machine."""


def console() -> Console:
    """As wide as the terminal; wide enough for a table where there is none."""
    out = Console()
    return out if out.is_terminal else Console(width=140)


def show(records: Sequence[dict[str, Any]], out: Console | None = None) -> None:
    """One table per case, ours first; `ours is` says how many times faster ours is than each."""
    out = out or console()
    for name in dict.fromkeys(r["case"] for r in records):
        rows = [r for r in records if r["case"] == name]
        roof = rows[0]["roof"]
        title = (
            f"{name}: {rows[0]['flops'] / 1e9:.4g} GFLOP, {rows[0]['bytes'] / 1e6:.4g} MB, "
            f"{rows[0]['threads']} thread(s); "
            f"ceilings {roof['fma_f32']:.0f} and {roof['fma_f64']:.0f} GFLOP/s in f32 and f64, "
            f"{roof['triad']:.1f} GB/s"
        )
        t = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in (
            "who",
            "ms",
            "IQR",
            "least",
            "GFLOP/s",
            "of FMA",
            "of triad",
            "of roof",
            "ours is",
            "error",
            "note",
        ):
            t.add_column(column, justify="left" if column in ("who", "note") else "right", no_wrap=column != "note")
        for r in rows:
            t.add_row(
                r["who"],
                f"{r['median'] * 1e3:.3f}",
                f"{r['iqr'] * 1e3:.3f}",
                f"{r['least'] * 1e3:.3f}",
                f"{r['gflops']:.1f}",
                f"{r['of_fma']:.0%}",
                f"{r['of_triad']:.0%}",
                f"{r['of_roof']:.0%}",
                f"{r['median'] / rows[0]['median']:.2f}x",
                f"{r['error']:.0e}" + (" WRONG" if r["error"] > r["tolerance"] else ""),
                ("NOISY " if r["iqr"] > NOISY * r["median"] else "") + r["note"],
            )
        out.print(t)
        if rows[0]["absent"]:
            out.print(f"not run: {'; '.join(rows[0]['absent'])}", style="dim")
        out.print()


def load(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


if __name__ == "__main__":
    for file in sys.argv[1:]:
        show(load(Path(file)))
