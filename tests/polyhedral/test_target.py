# SPDX-License-Identifier: MIT
"""What a processor says of itself becomes the right numbers, for the machines that people have."""

from __future__ import annotations

import pytest

from polyhedral.machine.target import Target, detect, host

CPUINFO = """processor\t: 0
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: {model}
model name\t: {name}
flags\t\t: fpu sse2 {flags}

processor\t: 1
vendor_id\t: Other
flags\t\t: fpu avx512f
"""
AVX512, AVX2 = "avx2 fma avx512f", "avx2 fma"


@pytest.mark.parametrize(
    ("vendor", "family", "model", "name", "flags", "want"),
    [
        ("AuthenticAMD", 25, 0x11, "AMD EPYC 9554", AVX512, ("avx512", 1, 1)),
        ("AuthenticAMD", 25, 0x61, "AMD Ryzen 9 7950X", AVX512, ("avx512", 1, 1)),
        ("AuthenticAMD", 25, 0xA0, "AMD EPYC 9754", AVX512, ("avx512", 1, 1)),
        ("AuthenticAMD", 26, 0x02, "AMD EPYC", AVX512, ("avx512", 2, 2)),
        ("AuthenticAMD", 26, 0x44, "AMD Ryzen 9 9950X", AVX512, ("avx512", 2, 2)),
        ("AuthenticAMD", 26, 0x24, "AMD Ryzen AI 9 HX 370", AVX512, ("avx512", 1, 1)),
        ("AuthenticAMD", 26, 0x60, "AMD Ryzen AI 7 350", AVX512, ("avx512", 1, 1)),
        ("GenuineIntel", 6, 143, "Intel(R) Xeon(R) Platinum 8480+", AVX512, ("avx512", 2, 2)),
        ("GenuineIntel", 6, 167, "11th Gen Intel(R) Core(TM) i7-11700K", AVX512, ("avx512", 1, 2)),
        ("Unheard", 1, 1, "Of", AVX512, ("avx512", 1, 1)),
        ("AuthenticAMD", 25, 0x21, "AMD Ryzen 9 5950X", AVX2, ("avx2", 2, 2)),
        ("AuthenticAMD", 23, 0x01, "AMD Ryzen 7 1800X", AVX2, ("avx2", 1, 1)),
        ("AuthenticAMD", 23, 0x71, "AMD Ryzen 9 3900X", AVX2, ("avx2", 2, 2)),
        ("GenuineIntel", 6, 158, "Intel(R) Core(TM) i7-8700K", AVX2, ("avx2", 2, 2)),
        ("GenuineIntel", 6, 15, "Intel(R) Core(TM)2 Duo", "", ("sse2", 1, 1)),
    ],
)
def test_common_machines(vendor: str, family: int, model: int, name: str, flags: str, want: tuple[str, float, float]):
    text = CPUINFO.format(vendor=vendor, family=family, model=model, name=name, flags=flags)
    found = detect(text, {"l1": 48 << 10}, 8)
    assert (found.name, found.fma_per_cycle, found.loads_per_cycle) == want
    assert (found.l1, found.l2, found.cores) == (48 << 10, Target().l2, 8)
    assert found.vector == {"avx512": 64, "avx2": 32, "sse2": 16}[found.name]


def test_what_says_little():
    assert detect("", {}, 1).name == "sse2"
    assert detect("cpu family\t: a lot\nflags : avx512f\n", {}, 1).fma_per_cycle == 1
    assert detect("Features\t: fp asimd\n", {}, 2).name == "neon"
    assert host(3).cores == 3
