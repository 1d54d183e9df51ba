# SPDX-License-Identifier: MIT
"""Reductions opened so that all that read a large temporary run in common blocks, and none of it is ever stored.

The adjoints of votes are summed into weights over a batch, and into poses over parents: the two have no block in common
that is small enough, unless the first leaves its sum over the batch for later.  What it leaves is a few times its own
result, which is little beside the temporary.  The rewriting is left to `polyhedral.rewrites.partial`, blocks to
`polyhedral.plans.blocks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.counts import array_bytes, extent
from polyhedral.ir.program import Program, Role, Statement, reads
from polyhedral.machine.target import Target
from polyhedral.plans.block_loops import brought
from polyhedral.plans.blocks import company
from polyhedral.rewrites.clone import clone
from polyhedral.rewrites.partial import openable, partial

SHARE = 8
"""Partial results take at most one part in so many of the memory of the temporary."""


def opened(p: Program, target: Target, never: frozenset[str] = frozenset()) -> tuple[Program, tuple[Remark, ...]]:
    """The program with such reductions in two steps, where the blocks then bring less; `never` are temporaries that lie
    in no memory of a core after all.
    """
    remarks: list[Remark] = []
    for a in p.with_role(Role.TEMPORARY):
        if a.name in never or not all(e.is_const for _, e in a.dims) or array_bytes(a) <= target.l3:
            continue
        readers = [s for s in p.users.get(a.name, ()) if s.write.array != a.name]
        if len(readers) < 2:
            continue
        least = _traffic(p, a.name, readers, target)
        best: tuple[Program, str, Remark] | None = None
        for s, dim in _candidates(p, a.name, readers):
            other, own = partial(p, s.name, dim)
            kept = 3 * array_bytes(other.array(own))  # written, read, and held meanwhile
            traffic = kept + _traffic(
                other, a.name, [r for r in other.users[a.name] if r.write.array != a.name], target
            )
            if traffic < least:
                because = f"all that read {a.name} then run in common blocks that bring {traffic:.3g} bytes"
                least, best = traffic, (other, own, Remark(f"summed for each {dim} first, in {own}", because, s.name))
        if best is not None:
            p = best[0]
            remarks.append(best[2])
    return p, tuple(remarks)


def _traffic(p: Program, name: str, readers: Sequence[Statement], target: Target) -> float:
    """Bytes that all readers bring in blocks of their own; infinite where they have none in common."""
    group = frozenset(s.name for s in readers)
    found = company(p, name, group, target)
    if found is None:
        return inf
    alone, _ = clone(p, name, (frozenset(), group))
    return brought(alone, found)


def _candidates(p: Program, name: str, readers: Sequence[Statement]) -> Iterator[tuple[Statement, str]]:
    """A reader, and a dim that it alone reduces of those along which all read the temporary in place."""
    room = array_bytes(p.array(name)) / SHARE
    axes = {s.name: _axes(s, name) for s in readers}
    found: list[tuple[int, Statement, str]] = []
    for s in readers:
        if not openable(p, s):
            continue
        others = [axes[r.name] for r in readers if r is not s]
        for axis, d in _axes(s, name, kept=False).items():
            long = extent(next(r.hi - r.lo for r in s.domain.ranges if r.dim == d))
            if all(axis in o for o in others) and long * array_bytes(p.array(s.write.array)) <= room:
                found.append((long, s, d))
    return ((s, d) for _, s, d in sorted(found, key=lambda x: -x[0]))


def _axes(s: Statement, name: str, *, kept: bool = True) -> dict[str, str]:
    """The axes of an array that a statement reads at a dim of its own, which it keeps, or reduces."""
    loads = [dict(load.index) for load in reads(s) if load.array == name]
    dims = s.kept if kept else s.reduced
    found: dict[str, str] = {}
    for axis, i in loads[0].items():
        d = i.as_var() if isinstance(i, Affine) else None
        if d is not None and d in dims and all(load[axis] == aff.var(d) for load in loads):
            found[axis] = d
    return found
