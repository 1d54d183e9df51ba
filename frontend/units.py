# SPDX-License-Identifier: MIT
"""Units: numbers of bytes, of seconds and of cycles as people write and read them.

What is counted, and what is allowed, is said elsewhere.
"""

from __future__ import annotations

import re
from fractions import Fraction

from polyhedral.errors import ArgumentError

_UNITS = {"": 1, "b": 1} | {f"{c}{i}b": k**n for n, c in enumerate("kmgt", 1) for i, k in (("", 1000), ("i", 1024))}
"""What a unit of memory stands for, in small letters."""


def in_bytes(memory: int | str) -> int:
    """A number of bytes from a number or a text: "512MB" is 512 million, "1GiB" is 2**30.

    >>> in_bytes("1.5 kB"), in_bytes("1GiB"), in_bytes(64)
    (1500, 1073741824, 64)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]*)", str(memory).strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ArgumentError(
            "PH506", f"memory={memory!r} is not a number of bytes", hints=("memory='512MB', '1GiB' or 536870912",)
        )
    return int(Fraction(found[1]) * _UNITS[found[2]])


_TIMES = {"": 1, "ms": Fraction(1, 1000), "s": 1, "m": 60, "min": 60, "h": 3600}
"""What a unit of time stands for."""


def in_seconds(budget: float | str) -> float:
    """A number of seconds from a number or a text.

    >>> in_seconds("60s"), in_seconds("1.5 min"), in_seconds(2)
    (60.0, 90.0, 2.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]*)", str(budget).strip().lower())
    if isinstance(budget, bool) or found is None or found[2] not in _TIMES or not Fraction(found[1]):
        raise ArgumentError(
            "PH506", f"budget={budget!r} is no length of time", hints=("budget='60s', '5m', '1.5h' or 60 for seconds",)
        )
    return float(Fraction(found[1]) * _TIMES[found[2]])


def shown_seconds(seconds: float) -> str:
    """Seconds for people.

    >>> shown_seconds(2.5), shown_seconds(0.00123), shown_seconds(1.5e-6)
    ('2.5 s', '1.23 ms', '1.5 us')
    """
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-6:.3g} us"


def readable(size: int) -> str:
    """Bytes for people.

    >>> readable(64), readable(1500), readable(12_345_678)
    ('64 B', '1.5 kB', '12.35 MB')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"


def cycles(n: float) -> str:
    """Cycles for people.

    >>> cycles(64.2), cycles(15_000), cycles(12_345_678)
    ('64', '15k', '12M')
    """
    return f"{n:.0f}" if n < 1e4 else f"{n / 1e3:.0f}k" if n < 1e7 else f"{n / 1e6:.0f}M"
