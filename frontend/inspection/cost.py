# SPDX-License-Identifier: MIT
"""What one call costs at least: operations, bytes in and out, arithmetic intensity, memory held.

Counted from the program, not from the generated code, so that it can be held against a measured time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Domain, Program, Range, Role, Statement, specialise
from polyhedral.whole.storage import Placement

_ENUMERATE = 20_000_000


@dataclass(frozen=True)
class Cost:
    """`flops`: arithmetic on values, 2 for a multiply-add; `bytes`: every input and output once; `temporary`: bytes of
    the block that intermediate results lie in; `unshared`: what they would take if none shared memory with another.
    """

    flops: int
    bytes: int
    temporary: int
    exact: bool = True
    unshared: int = 0
    kernels: tuple[str, ...] = ()
    """What each kernel of a device takes, where that is known."""

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def __str__(self) -> str:
        about = "" if self.exact else "at most "
        return (
            f"{about}{self.flops / 1e9:.4g} GFLOP, {self.bytes / 1e6:.4g} MB in and out "
            f"({self.intensity:.1f} FLOP/byte), {self.temporary / 1e6:.4g} MB temporary"
            + (f" ({self.unshared / 1e6:.4g} MB without sharing)" if self.unshared != self.temporary else "")
            + "".join(f"\n{k}" for k in self.kernels)
        )


def cost(program: Program, sizes: Mapping[str, int], placement: Placement, kernels: tuple[str, ...] = ()) -> Cost:
    """The cost at given sizes, with the temporaries where they lie."""
    p = specialise(program, sizes)
    flops, exact = 0, True
    for s in p.statements:
        points, counted = instances(s.domain)
        flops += points * operations(s)
        exact = exact and counted

    def held(*roles: Role) -> int:
        total = 0
        for a in p.with_role(*roles):
            cells = 1
            for _, e in a.stored:
                cells *= max(e.const, 0) if e.is_const else 1
            total += cells * a.dtype.numpy.itemsize
        return total

    moved = held(Role.INPUT, Role.OUTPUT) + 2 * held(Role.INOUT)
    return Cost(flops, moved, placement.peak, exact, placement.apart, kernels)


def operations(s: Statement) -> int:
    """Arithmetic operations of one instance, the reduction's own step included; index arithmetic is free."""
    own = 1 if s.op is not None else 0
    return own + sum(
        isinstance(n, (ex.Binary, ex.Call)) or (isinstance(n, ex.Unary) and n.op != "not") for n in ex.walk(s.value)
    )


def instances(domain: Domain) -> tuple[int, bool]:
    """How many points a domain has, and whether that is exact (else an upper bound).

    Dims that nothing else mentions multiply; the others are enumerated together.
    """
    mentioned = aff.condition_dims(domain.guard)
    for r in domain.ranges:
        mentioned |= aff.dims_of(r.lo) | aff.dims_of(r.hi)
    free, tied = 1, list[Range]()
    for r in domain.ranges:
        if r.dim in mentioned or aff.dims_of(r.lo) | aff.dims_of(r.hi):
            tied.append(r)
        else:
            free *= _span(r)
    if not tied:
        return free, True
    rows: dict[str, Any] = {}
    count = 1
    for r in tied:
        lo = np.broadcast_to(np.asarray(aff.evaluate(r.lo, rows, {})), (count,))
        hi = np.broadcast_to(np.asarray(aff.evaluate(r.hi, rows, {})), (count,))
        widths = np.maximum(hi - lo, 0)
        total = int(widths.sum())
        if total > _ENUMERATE:
            return free * int(total) * _rest(tied, r), False
        starts = np.repeat(np.cumsum(widths) - widths, widths)
        rows = {d: np.repeat(v, widths) for d, v in rows.items()}
        rows[r.dim] = np.arange(total) - starts + np.repeat(lo, widths)
        count = total
    kept = np.broadcast_to(np.asarray(aff.holds(domain.guard, rows, {})), (count,))
    return free * int(kept.sum()), True


def _span(r: Range) -> int:
    span = r.hi - r.lo
    return max(span.const, 0) if span.is_const else 1


def _rest(tied: list[Range], last: Range) -> int:
    total = 1
    for r in tied[tied.index(last) + 1 :]:
        total *= _span(r)
    return total
