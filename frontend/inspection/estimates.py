# SPDX-License-Identifier: MIT
"""What can be said beforehand of loops that were not chosen: bytes of a tile, iterations, strides, bytes of a result.

Nothing here decides anything; plans are priced in `polyhedral.plans`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Access, Program, Statement, reads
from polyhedral.machine.target import Target


def footprint(p: Program, s: Statement, sizes: Mapping[str, int], target: Target) -> Iterator[str]:
    """Bytes that one tile touches, against the caches."""
    box = {r.dim: sizes.get(r.dim, _number(r.hi - r.lo)) for r in s.domain.ranges}
    unknown = [d for d, n in box.items() if n is None]
    if unknown:
        yield f"estimated footprint of a tile: unknown, {', '.join(unknown)} is of symbolic extent (-s fixes it)"
        return
    touched: dict[str, int] = {}
    for access in (
        s.write,
        *(Access(r.array, tuple((d, i) for d, i in r.index if isinstance(i, Affine))) for r in reads(s)),
    ):
        cells = 1
        for _, i in access.index:
            cells *= 1 + sum(abs(i.coefficient(aff.Var(d))) * ((box[d] or 1) - 1) for d in aff.dims_of(i) & box.keys())
        size = cells * p.array(access.array).dtype.numpy.itemsize
        touched[access.array] = max(touched.get(access.array, 0), size)
    total, levels = sum(touched.values()), (("L1", target.l1), ("L2", target.l2), ("L3", target.l3))
    fits = next((name for name, size in levels if total <= size), "no cache")
    shown = ", ".join(f"{a} {_bytes(n)}" for a, n in touched.items())
    caches = f"L1 {_bytes(target.l1)}, L2 {_bytes(target.l2)}"
    yield f"estimated footprint of a tile: {shown}; {_bytes(total)} together, fits {fits} ({caches})"


def extent(p: Program, statements: Sequence[str], dim: str, target: Target) -> Iterator[str]:
    """Iterations of a dim, for the cores that there are."""
    for n in statements:
        span = next((r.hi - r.lo for r in p.statement(n).domain.ranges if r.dim == dim), None)
        if span is not None:
            yield f"estimated: {dim} has {span} iterations in {n}, for {target.cores} cores"


def strides(p: Program, statements: Sequence[str], dim: str, layouts: Mapping[str, Layout]) -> Iterator[str]:
    """How far one step along a dim moves in each array."""
    for n in statements:
        s = p.statement(n)
        shown: list[str] = []
        for array, index in (s.write.array, s.write.index), *((r.array, r.index) for r in reads(s)):
            layout = layouts.get(array)
            step = 0 if layout is not None else None
            for d, i in index:
                c = i.coefficient(aff.Var(dim)) if isinstance(i, Affine) else 1
                stride = None if layout is None else layout.stride(d)
                if c:
                    step = step + c * stride if step is not None and isinstance(stride, int) else None
            shown.append(f"{array} {'unknown' if step is None else step}")
        found = ", ".join(dict.fromkeys(shown))
        yield f"estimated: strides along {dim} in {n}: {found} (1 is best, 0 is a broadcast)"


def kept_in_cache(p: Program, s: Statement) -> Iterator[str]:
    """What a statement hands on, where its size is known."""
    total = p.array(s.write.array).dtype.numpy.itemsize
    for _, e in p.array(s.write.array).dims:
        if not e.is_const:
            return
        total *= e.const
    yield f"estimated: {s.write.array} takes {_bytes(total)}; fused, what is read soon after stays in cache"


def _number(e: Affine) -> int | None:
    return e.const if e.is_const else None


def _bytes(n: int) -> str:
    return f"{n} B" if n < 1024 else f"{n / 1024:.1f} KiB" if n < 1 << 20 else f"{n / (1 << 20):.1f} MiB"
