# SPDX-License-Identifier: MIT
"""Why a call takes what it takes: its statements, or the kernels of a device, by their share of the predicted time.

What bounds each is `frontend.inspection.why`'s to say; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from frontend.inspection.cost import Cost
from frontend.inspection.why import Why
from frontend.units import cycles, readable, shown_seconds
from polyhedral.machine.target import Target
from polyhedral.pipeline import Mapped

MOST = 0.9
"""Statements are looked at in detail, the slowest first, until they make up this share of the time."""
DEVICE_CHANGES = {
    "start": "fewer kernels: larger arrays in one call, or a batch as one more name",
    "memory": "less data: a smaller element type, or results that are computed where they are read",
    "shared memory": "a smaller element type; or matrix units, for f16, bf16 and tf32=True",
    "arithmetic": "the multiply-adds themselves; matrix units do more at once, for f16, bf16 and tf32=True",
    "waiting": "more results at once: threads wait for memory that too few of them ask for",
}
"""What a user could do about the largest cause of a kernel."""


@dataclass(frozen=True)
class Slow:
    """All that was predicted, the slowest first; the roof is what no nest beats, where that is known."""

    program: str
    ranked: tuple[Why, ...]
    unknown: tuple[Why, ...]
    roof: tuple[str, ...] = ()
    seconds: float | None = None
    """Of a device, whose clock is known, where all its kernels are predicted."""

    @property
    def total(self) -> float:
        return sum(w.cycles or 0.0 for w in self.ranked)

    @property
    def most(self) -> tuple[Why, ...]:
        """The slowest, which make up most of the time."""
        found: list[Why] = []
        for w in self.ranked:
            if found and sum(x.cycles or 0.0 for x in found) >= MOST * self.total:
                break
            found.append(w)
        return tuple(found)

    def lines(self) -> Iterator[str]:
        """For people: the whole, the shares, and what the slowest are made of."""
        if not self.ranked:
            yield f"nothing is predicted of {self.program}"
        else:
            of = "of all cores together" if self.seconds is None else f"of the device, {shown_seconds(self.seconds)}"
            yield f"{self.program} is predicted to take {cycles(self.total)} cycles {of}"
            yield from (f"  {line}" for line in self.roof)
            width = max(len(w.statement) for w in self.ranked)
            for w in self.ranked:
                share = (w.cycles or 0.0) / self.total if self.total else 0.0
                yield f"  {w.statement:{width}} {cycles(w.cycles or 0.0):>7} {share:4.0%}  {w.bound}"
        for w in self.unknown:
            yield f"  {w.statement} is not predicted: {w.bound}"
        for w in self.most:
            yield from w.lines()


def of_statements(program: str, found: Sequence[Why], work: Cost, bits: int, target: Target) -> Slow:
    """The statements of a program for a processor, with the roof of its operations and of its arguments and results."""
    ranked, unknown = _ranked(found)
    lanes = target.lanes(bits // 8)
    arithmetic = work.flops / (2.0 * lanes * target.fma_per_cycle)
    near = target.near[2] if work.bytes <= target.l3 else target.bytes_per_cycle
    level = "L3" if work.bytes <= target.l3 else "memory"
    roof = (
        f"its {work.flops:,} operations take {cycles(arithmetic)} at full rate",
        f"its arguments and results, {readable(work.bytes)}, take {cycles(work.bytes / near)} through {level} once",
    )
    known = not any(w.cycles is None and "sizes" in w.bound for w in found)
    return Slow(program, ranked, unknown, roof if known else ())


def of_kernels(program: str, mapped: Mapped) -> Slow:
    """The kernels of a device."""
    ranked, unknown = _ranked(list(kernels(mapped)))
    total = sum(w.cycles or 0.0 for w in ranked)
    return Slow(program, ranked, unknown, seconds=None if unknown else total / mapped.device.clock / 1e9)


def kernels(mapped: Mapped) -> Iterator[Why]:
    """What bounds each kernel, as its plan was chosen by; nothing is predicted of those without a plan."""
    for name, price in mapped.prices:
        own = " and ".join(mapped.nests[name].statements) if name in mapped.nests else name
        if price is None:
            yield Why(own, "what plans do not predict: it depends on itself, or has one thread for each result", None)
            continue
        causes = tuple((c.replace("shared", "shared memory"), float(n)) for c, n in asdict(price).items())
        change = (f"{own}: {DEVICE_CHANGES[price.bound]}",)
        yield Why(own, price.bound, price.whole, causes, change=change)


def _ranked(found: Sequence[Why]) -> tuple[tuple[Why, ...], tuple[Why, ...]]:
    ranked = sorted((w for w in found if w.cycles is not None), key=lambda w: -(w.cycles or 0.0))
    return tuple(ranked), tuple(w for w in found if w.cycles is None)
