# SPDX-License-Identifier: MIT
"""Pictures of records: a roofline with the ceilings that were measured, and bars of every contestant.

matplotlib is an optional extra; each plot returns its Axes, draws into `ax` where one is given, and shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from frontend.measuring.ledger import OURS, Record
from frontend.usage import UsageError

SUFFIXES = (".svg", ".png", ".pdf")


def ready(path: Path) -> None:
    """UsageError, before anything is measured, where a picture could not be drawn at `path`."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: pictures are {', '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise UsageError(f"{path} needs matplotlib: pip install 'polyhedral-loops[plot]'")


def roofline(records: Sequence[Record], ax: Any = None) -> Any:
    """GFLOP/s over FLOP/byte, both logarithmic; ours as dots, peers as crosses (Williams et al. 2009)."""
    ax = _axes() if ax is None else ax
    points = [(r["flops"] / max(r["bytes"], 1), r) for r in records if r["flops"]]
    roofs = {bits: _roof([r for _, r in points if r["bits"] == bits], bits) for bits in {r["bits"] for _, r in points}}
    marks = [*(x for x, _ in points), *(peak / triad for peak, triad in roofs.values())]
    low, high = min(marks, default=1.0) / 4, max(marks, default=1.0) * 4
    for bits, (peak, triad) in sorted(roofs.items()):
        ax.plot([low, peak / triad, high], [low * triad, peak, peak], color="0.4", linewidth=1)
        ax.annotate(f"f{bits}: {peak:.0f} GFLOP/s", (high, peak), ha="right", va="bottom", fontsize=8)
        ax.annotate(f"{triad:.1f} GB/s", (low, low * triad), ha="left", va="bottom", fontsize=8)
    for who in dict.fromkeys(r["who"] for _, r in points):
        mine = [(x, r) for x, r in points if r["who"] == who]
        marker = "o" if who == OURS else "x"
        ax.plot([x for x, _ in mine], [r["gflops"] for _, r in mine], marker, label=who, markersize=5)
        if who == OURS:
            for x, r in mine:
                ax.annotate(r["case"], (x, r["gflops"]), xytext=(3, 3), textcoords="offset points", fontsize=7)
    ax.set(xscale="log", yscale="log", xlabel="FLOP per byte in and out", ylabel="GFLOP/s")
    ax.legend(fontsize=7, loc="lower right")
    return ax


def bars(records: Sequence[Record], ax: Any = None) -> Any:
    """What each contestant reaches of the roof of each case, in percent; black lines are the middle half."""
    cases = list(dict.fromkeys(r["case"] for r in records))
    every = list(dict.fromkeys(r["who"] for r in records))
    ax = _axes(height=1.5 + 0.16 * len(cases) * (len(every) + 1)) if ax is None else ax
    for n, who in enumerate(every):
        mine = [r for r in records if r["who"] == who]
        places = [cases.index(r["case"]) + (n - (len(every) - 1) / 2) * 0.8 / len(every) for r in mine]
        shares = [100 * r["of_roof"] for r in mine]
        spread = [s * r["iqr"] / r["median"] / 2 for s, r in zip(shares, mine, strict=True)]
        error = {"linewidth": 0.7}
        ax.barh(places, shares, 0.8 / len(every), xerr=spread, error_kw=error, label=who)
    ax.set_yticks(range(len(cases)), cases)
    ax.invert_yaxis()
    ax.set(xlabel="percent of the roof measured in the same run", xlim=(0, None))
    ax.legend(fontsize=7, loc="lower right")
    return ax


def save(ax: Any, path: Path) -> None:
    """The whole figure; the same bytes for the same records.  UsageError where the file cannot be written."""
    try:
        ax.figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def _axes(width: float = 7.0, height: float = 4.5) -> Any:
    """Axes of a figure of their own, outside of matplotlib's list of open windows."""
    figure: Any = import_module("matplotlib.figure").Figure(figsize=(width, height))
    return figure.add_subplot()


def _roof(records: Sequence[Record], bits: int) -> tuple[float, float]:
    """The median GFLOP/s and GB/s that were measured between records of one type."""
    roofs = [r["roof"] for r in records]
    return median(r["fma_f64" if bits == 64 else "fma_f32"] for r in roofs), median(r["triad"] for r in roofs)
