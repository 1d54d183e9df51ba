# SPDX-License-Identifier: MIT
"""The machine in numbers: what plans and costs are computed from.

Portable defaults, and what Linux says about the processor; AVX2, AVX-512 and NEON differ by numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """Vector bytes and registers, fused multiply-adds and loads a cycle (in vectors), latency in cycles, caches and
    lines in bytes, bandwidth in bytes a cycle and core, and whether a load may leave lanes out."""

    name: str = "portable"
    vector: int = 32
    registers: int = 16
    fma_per_cycle: float = 2.0
    loads_per_cycle: float = 2.0
    latency: int = 4
    l1: int = 32 << 10
    l2: int = 512 << 10
    l3: int = 8 << 20
    line: int = 64
    bytes_per_cycle: float = 4.0
    cores: int = 1
    masked: bool = False

    def lanes(self, element: int) -> int:
        """How many elements of so many bytes a vector holds."""
        return max(1, self.vector // element)


def detect(cpuinfo: str, caches: Mapping[str, int], cores: int) -> Target:
    """A Target from the text of /proc/cpuinfo and the sizes of the data caches."""
    flags = frozenset(
        word for line in cpuinfo.splitlines() if line.startswith(("flags", "Features")) for word in line.split()
    )
    sizes: dict[str, int] = {
        "l1": caches.get("l1", 32 << 10),
        "l2": caches.get("l2", 512 << 10),
        "l3": caches.get("l3", 8 << 20),
    }
    if "avx512f" in flags:
        # one 512-bit fma and one 512-bit load a cycle: true of Zen 4 and of client cores, a lower bound elsewhere
        return replace(Target("avx512", 64, 32, 2.0, 2.0, 4, **sizes, cores=cores), masked=True)
    if "avx2" in flags and "fma" in flags:
        return Target("avx2", 32, 16, 2.0, 2.0, 4, **sizes, cores=cores)
    if "asimd" in flags:
        return Target("neon", 16, 32, 2.0, 2.0, 4, **sizes, cores=cores)
    return Target("sse2", 16, 16, 1.0, 1.0, 4, **sizes, cores=cores)


@cache
def host(cores: int) -> Target:
    """The processor this runs on."""
    info = Path("/proc/cpuinfo")
    return detect(info.read_text() if info.exists() else "", _caches(Path("/sys/devices/system/cpu/cpu0/cache")), cores)


def _caches(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index*")) if folder.exists() else ():
        try:
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()
        except OSError:
            continue
        if kind in ("Data", "Unified") and size[-1:] in "KM":
            found[f"l{level}"] = int(size[:-1]) << (10 if size[-1] == "K" else 20)
    return found
