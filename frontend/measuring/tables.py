# SPDX-License-Identifier: MIT
"""Records and changes as tables in the terminal.

Shows what was recorded and computes nothing but ratios of medians.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from frontend.measuring.ledger import Change, Record

NOISY = 0.25
"""A spread beyond this share of the median is marked: repeat it on a quieter machine."""
COLUMNS = ("who", "ms", "IQR", "least", "GFLOP/s", "of FMA", "of triad", "of roof", "ours is", "error", "note")


def console() -> Console:
    """As wide as the terminal; wide enough for a table where there is none."""
    out = Console()
    return out if out.is_terminal else Console(width=140)


def show(records: Sequence[Record], out: Console | None = None) -> None:
    """One table per case, ours first; `ours is` says how many times faster ours is than each."""
    out = out or console()
    for name in dict.fromkeys(r["case"] for r in records):
        rows = [r for r in records if r["case"] == name]
        t = Table(title=_title(rows[0]), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in COLUMNS:
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
        if rows[0].get("absent"):
            out.print(f"notes: {'; '.join(rows[0]['absent'])}", style="dim", highlight=False)
        out.print()


def _title(r: Record) -> str:
    roof, constant = r["roof"], r.get("constant") or ()
    operands = f"{', '.join(constant)} constant" if constant else "operands fresh at each call"
    return (
        f"{r['case']}: {r['flops'] / 1e9:.4g} GFLOP, {r['bytes'] / 1e6:.4g} MB, {r['threads']} thread(s), {operands}; "
        f"ceilings {roof['fma_f32']:.0f} and {roof['fma_f64']:.0f} GFLOP/s in f32 and f64, {roof['triad']:.1f} GB/s"
    )


def show_changes(found: Sequence[Change], threshold: float, out: Console | None = None) -> None:
    """The slowest first."""
    t = Table(box=None, pad_edge=False)
    for column in ("case", "who", "threads", "roof before", "after", "ratio", "noise", ""):
        t.add_column(column, justify="left" if column in ("case", "who", "") else "right")
    for c in sorted(found, key=lambda c: c.ratio):
        verdict = c.verdict(threshold)
        shares = f"{c.before:.1%}", f"{c.after:.1%}", f"{c.ratio:.2f}", f"{c.noise:.0%}"
        style = {"slower": "red", "faster": "green"}.get(verdict)
        t.add_row(c.case, c.who, str(c.threads), *shares, verdict, style=style)
    (out or console()).print(t)
