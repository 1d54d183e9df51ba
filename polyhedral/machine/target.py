# SPDX-License-Identifier: MIT
"""The machine in numbers: what plans and costs are computed from.

Portable defaults, and what Linux says about the processor; AVX2, AVX-512 and NEON differ by numbers only.  Measured
numbers, where there are any, are put in their place by `codegen.runtime.machine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """Vector bytes and registers, fused multiply-adds and loads a cycle (in vectors), latency in cycles, caches and
    lines in bytes, bandwidth in bytes a cycle and core: of memory, and of the three caches (`near`), and whether a
    load may leave lanes out (`masked`)."""

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
    near: tuple[float, float, float] = (64.0, 32.0, 16.0)
    masked: bool = False

    def lanes(self, element: int) -> int:
        """How many elements of so many bytes a vector holds."""
        return max(1, self.vector // element)

    def slides(self, element: int) -> int:
        """How many elements of so many bytes one instruction shifts from vector to vector; 0 where it takes several."""
        return self.lanes(element) if self.masked and self.vector == 64 else 0


ZEN4 = ((0x10, 0x1F), (0x60, 0x7F), (0xA0, 0xAF))
"""Models of AMD's family 25 that do a 512-bit operation in two halves."""
ZEN5_MOBILE = ((0x20, 0x3F), (0x60, 0x7F))
"""Models of family 26 that do."""


def detect(cpuinfo: str, caches: Mapping[str, int], cores: int) -> Target:
    """A Target from the text of /proc/cpuinfo and the sizes of the data caches."""
    first = _first_core(cpuinfo)
    flags = frozenset(f"{first.get('flags', '')} {first.get('Features', '')}".split())
    usual = Target()
    found = replace(
        usual,
        l1=caches.get("l1", usual.l1),
        l2=caches.get("l2", usual.l2),
        l3=caches.get("l3", usual.l3),
        cores=cores,
    )
    if "avx512f" in flags:
        fma, loads = _throughput(first)
        made = replace(found, name="avx512", vector=64, registers=32, fma_per_cycle=fma, loads_per_cycle=loads)
        return replace(made, masked=True)
    if "avx2" in flags and "fma" in flags:
        fma, loads = _throughput_avx2(first)
        return replace(found, name="avx2", fma_per_cycle=fma, loads_per_cycle=loads, masked=True)
    if "asimd" in flags:
        return replace(found, name="neon", vector=16, registers=32)
    return replace(found, name="sse2", vector=16, fma_per_cycle=1.0, loads_per_cycle=1.0)


def _first_core(cpuinfo: str) -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo."""
    lines = (line.partition(":") for line in cpuinfo.strip().split("\n\n", 1)[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _throughput(core: Mapping[str, str]) -> tuple[float, float]:
    """(multiply-adds, loads) of 512 bits a cycle, by vendor, family and model (Fog, "Instruction tables"; the
    vendors' optimisation guides); one of each where the processor is not known.
    """
    family, model = _number(core.get("cpu family", "")), _number(core.get("model", ""))
    match core.get("vendor_id"):
        case "AuthenticAMD" if family == 25 and _within(model, ZEN4):
            return 1.0, 1.0
        case "AuthenticAMD" if family == 26 and _within(model, ZEN5_MOBILE):
            return 1.0, 1.0
        case "AuthenticAMD" if family >= 26:
            return 2.0, 2.0
        case "GenuineIntel" if "Xeon" in core.get("model name", ""):
            return 2.0, 2.0
        case "GenuineIntel":
            return 1.0, 2.0  # client cores fuse two units of 256 bits, and have no third
        case _:
            return 1.0, 1.0


def _throughput_avx2(core: Mapping[str, str]) -> tuple[float, float]:
    """(multiply-adds, loads) of 256 bits a cycle: two of each, except where AMD's first Zen does them in halves."""
    family, model = _number(core.get("cpu family", "")), _number(core.get("model", ""))
    halves = family == 24 or (family == 23 and 0 <= model < 0x30)
    return (1.0, 1.0) if halves else (2.0, 2.0)


def _within(model: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(lo <= model <= hi for lo, hi in ranges)


@cache
def host(cores: int) -> Target:
    """The processor this runs on, by what it says of itself; a session knows whether it was measured."""
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
