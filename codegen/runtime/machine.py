# SPDX-License-Identifier: MIT
"""What was measured of this machine, kept as a private JSON file in the cache folder for plans to be made from.

How it is measured is `codegen.runtime.roof`'s; a file that is missing, foreign, damaged or of another machine is never
used, and the caller is told why.
"""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from codegen.runtime.cache import FOLDER, Cache, key_of, read_json, write_private
from codegen.runtime.cc import machine_identity
from codegen.runtime.roof import Meter, Pace
from polyhedral.errors import Remark
from polyhedral.machine.target import Target

SCHEMA = "polyhedral.machine/1"
_RANGES = {
    "cycles": (1e7, 1e11),
    "fma": (0.1, 16.0),
    "loads": (0.1, 16.0),
    "latency": (0.5, 64.0),
    "l1": (1.0, 1024.0),
    "l2": (0.5, 1024.0),
    "l3": (0.2, 1024.0),
    "memory": (0.05, 512.0),
    "fill": (0.05, 512.0),
    "together": (0.05, 65536.0),
}
"""What each figure may be; a file that says otherwise was not written by us."""


@dataclass(frozen=True)
class Measured:
    """What one core does in a cycle, and the bytes a cycle that all `cores` stream through memory together."""

    pace: Pace
    cores: int
    together: float
    date: str

    def record(self) -> dict[str, object]:
        """The JSON that is kept; its numbers are rounded, it is not a log."""
        p = self.pace
        figures = (p.cycles, p.fma, p.loads, p.latency, *p.near, p.memory, p.fill, self.together)
        named = dict(zip(_RANGES, (float(f"{v:.4g}") for v in figures), strict=True))
        return {"schema": SCHEMA, "machine": _identity(), "date": self.date, "cores": self.cores, **named}

    def __str__(self) -> str:
        p = self.pace
        l1, l2, l3 = p.near
        return (
            f"{p.cycles / 1e9:.2f} GHz; in a cycle {p.fma:.2f} multiply-adds of a vector (latency {p.latency:.1f}), "
            f"{p.loads:.2f} loads, {l1:.0f} bytes from L1, {l2:.0f} from L2, {l3:.0f} from L3, {p.memory:.1f} through "
            f"memory ({self.together / self.cores:.1f} on each of {self.cores}), {p.fill:.1f} into it"
        )


def measure(meter: Meter, target: Target) -> Measured:
    """All figures, in a second or two; `target` says how large the caches are and how many cores there are."""
    pace = meter.pace((target.l1, target.l2, target.l3))
    alone, rest = meter(1, seconds=0.05), meter(target.cores, seconds=0.05)
    together = max(pace.memory * rest.triad / alone.triad, 0.1)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Measured(pace, target.cores, together, now)


def refined(detected: Target, m: Measured) -> Target:
    """The Target with measured numbers, rounded so far that measuring again gives the same one.

    Throughputs are halves, the latency is whole, bandwidths have two digits; cores that share memory share what all of
    them measured together.
    """
    p = m.pace
    share = min(p.memory, m.together / max(min(detected.cores, m.cores), 1))
    return replace(
        detected,
        fma_per_cycle=_halves(p.fma),
        loads_per_cycle=_halves(p.loads),
        latency=max(1, round(p.latency)),
        bytes_per_cycle=_digits(share),
        near=(_digits(p.near[0]), _digits(p.near[1]), _digits(p.near[2])),
    )


def _halves(rate: float) -> float:
    return max(0.5, round(2 * rate) / 2)


def _digits(rate: float) -> float:
    return float(f"{rate:.2g}")


# --- keeping ---------------------------------------------------------------------------------------------------------


def place(root: Path) -> Path:
    """Where the numbers of this machine are kept below a cache folder."""
    return root / FOLDER / f"machine-{_identity()[:16]}.json"


def _identity() -> str:
    return key_of(SCHEMA, machine_identity())


def keep(cache: Cache, m: Measured) -> Remark | None:
    """Write the figures, whole or not at all; a remark says why they will not be found again."""
    try:
        write_private(place(cache.root), json.dumps(m.record(), indent=2).encode())
    except OSError as error:
        return Remark("machine not kept", f"{cache.root} cannot be written: {error.strerror or error}")
    return cache.remark


def recall(root: Path) -> Measured | Remark | None:
    """The figures kept for this machine; a remark where there is a file that is not used, None where there is none."""
    path = place(root)
    try:
        path.lstat()
    except OSError:
        return None
    value = read_json(path)
    if value is None:
        return Remark("measured numbers not used", f"{path} is not a JSON file of ours alone")
    found = _read(value)
    return found if found is not None else Remark("measured numbers not used", f"{path} says what it cannot")


def _read(value: dict[str, object]) -> Measured | None:
    cores, date = value.get("cores"), value.get("date")
    if value.get("schema") != SCHEMA or value.get("machine") != _identity():
        return None
    if type(cores) is not int or not 1 <= cores <= 1 << 16 or not isinstance(date, str):
        return None
    found: dict[str, float] = {}
    for name, (least, most) in _RANGES.items():
        figure = value.get(name)
        if type(figure) not in (int, float):
            return None
        found[name] = float(cast("float", figure))
        if not (math.isfinite(found[name]) and least <= found[name] <= most):
            return None
    near = found["l1"], found["l2"], found["l3"]
    pace = Pace(found["cycles"], found["fma"], found["loads"], found["latency"], near, found["memory"], found["fill"])
    return Measured(pace, cores, found["together"], date)
