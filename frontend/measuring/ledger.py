# SPDX-License-Identifier: MIT
"""What a benchmark writes down: one record a contestant, as JSON lines, with all that a reader needs to repeat it.

Says what changed between two files of records; how anything is timed is `frontend.measuring.timing`'s.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from codegen.runtime.roof import Roof
from frontend.measuring.timing import Times
from frontend.usage import UsageError

OURS = "polyhedral"
PACKAGES = ("polyhedral-loops", "numpy", "islpy", "torch", "jax", "threadpoolctl")

Record = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What one call of a case computes and moves at least; `bits` of the type that it multiplies in."""

    name: str
    flops: int
    bytes: int
    bits: int
    tolerance: float
    constant: tuple[str, ...] = ()


def record(work: Work, who: str, t: Times, roof: Roof, error: float, note: str = "") -> Record:
    """Times, and what they are of the ceilings measured in the same run."""
    gflops, gbytes = work.flops / t.median / 1e9, work.bytes / t.median / 1e9
    return {
        "case": work.name,
        "who": who,
        "median": t.median,
        "iqr": t.iqr,
        "least": min(t.seconds),
        "turns": len(t.seconds),
        "flops": work.flops,
        "bytes": work.bytes,
        "bits": work.bits,
        "gflops": gflops,
        "gbytes": gbytes,
        "of_fma": gflops / roof.fma(work.bits),
        "of_triad": gbytes / roof.triad,
        "of_roof": roof.seconds(work.flops, work.bytes, work.bits) / t.median,
        "roof": roof.record(),
        "error": error,
        "tolerance": work.tolerance,
        "constant": list(work.constant),
        "note": note,
    }


def circumstances(command: str, threads: int) -> Record:
    """What a reader needs to repeat or distrust a number."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": versions(),
        "command": command,
        "commit": commit(),
    }


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that was measured, `+` for a changed tree, or `unknown` outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return "unknown"
    try:
        head, dirty = (
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )


# --- files -----------------------------------------------------------------------------------------------------------


def append(path: Path, records: Iterable[Record]) -> None:
    """One line each.  UsageError where the file cannot be written."""
    try:
        with path.open("a") as f:
            f.writelines(json.dumps(r) + "\n" for r in records)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def load(path: Path) -> list[Record]:
    """JSON lines, or one JSON array.  UsageError for anything else."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        if text.lstrip().startswith("["):
            found = cast("list[object]", json.loads(text))
        else:
            found = [cast("object", json.loads(line)) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UsageError(f"{path} holds no records: {error}; write one with polyhedral bench -o {path}") from None
    records = [cast("Record", r) for r in found if isinstance(r, dict)]
    if len(records) != len(found) or any(not {"case", "who", "median", "of_roof"} <= r.keys() for r in records):
        raise UsageError(f"{path} holds no records; write one with polyhedral bench -o {path}")
    return records


# --- changes ---------------------------------------------------------------------------------------------------------


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

    def to_json(self, threshold: float) -> Record:
        return {
            "case": self.case,
            "who": self.who,
            "threads": self.threads,
            "before": self.before,
            "after": self.after,
            "ratio": self.ratio,
            "noise": self.noise,
            "verdict": self.verdict(threshold),
        }


def changes(before: Sequence[Record], after: Sequence[Record]) -> list[Change]:
    """Records of both that measure the same thing; the last one of each counts.

    Compares shares of the roof measured in each run, not seconds: a machine that is slower today is no regression.
    """
    old, new = ({_key(r): r for r in records} for records in (before, after))
    return [
        Change(*k[:3], old[k]["of_roof"], new[k]["of_roof"], max(r[k]["iqr"] / r[k]["median"] for r in (old, new)))
        for k in new
        if k in old
    ]


def regressions(found: Iterable[Change], threshold: float) -> list[Change]:
    """Ours that became slower."""
    return [c for c in found if c.who == OURS and c.verdict(threshold) == "slower"]


def _key(r: Mapping[str, Any]) -> tuple[str, str, int, bool, bool, tuple[str, ...]]:
    return r["case"], r["who"], r["threads"], r["flushed"], r["small"], tuple(r.get("constant", ()))
