# SPDX-License-Identifier: MIT
"""The steps of a reduction within a register tile: in which order, and which of them are written out.

Rows of a window read in one step what others read in the next: eight rows that slide by one read eight cells in each of
seven steps, fourteen of them distinct.  Where these steps are written out, each is loaded once.  So do lanes, one cell
after the other: vectors of seven steps are then made of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import TRUE
from polyhedral.ir.operands import Operand
from polyhedral.ir.program import Statement
from polyhedral.machine.target import Target
from polyhedral.plans.windows import STEPS

SPARE = 2
"""Registers for a scalar and for what compilers move about; a tile that takes all others is spilled."""
FEW = 3
"""Steps of a window along the lanes from which on they are written out."""
WRITTEN = 128
"""Vectors of instances up to which the steps of a window are written out."""


def reduce_orders(s: Statement, every: Sequence[Operand], vector: str) -> Iterator[tuple[str, ...]]:
    """Orders of the reduced dims from slow to fast: as in the operands that stay where they are, and with the steps of
    windows first, so that copies may hold the rest in one run.  Those that decide whether a padded read is inside come
    before all others, so that it is decided rarely.
    """
    still = [o for o in every if vector not in o.dims or o.stride(vector) in STEPS] or list(every)
    tested = frozenset[str]().union(*(aff.condition_dims(o.guard) for o in still if o.guard != TRUE))
    indices = [aff.dims_of(i) for o in every for _, i in o.load.index if isinstance(i, aff.Affine)]
    windows = frozenset[str]().union(*(dims for dims in indices if dims & frozenset(s.kept)))

    def stride(d: str) -> int:
        found = (o.stride(d) for o in still if d in o.dims)
        return min((abs(st) if st is not None else 1 for st in found), default=1 << 40)

    plain = tuple(sorted(s.reduced, key=lambda d: (d not in tested, -stride(d))))
    yield plain
    slides_first = tuple(sorted(plain, key=lambda d: (d not in tested, d not in windows)))
    if slides_first != plain:
        yield slides_first


def written(
    every: Sequence[Operand],
    order: Sequence[str],
    extents: Mapping[str, int],
    vector: str,
    blocks: int,
    rows: Mapping[str, int],
    target: Target,
) -> tuple[str, ...]:
    """The last reduced dim, where a row reads in one step what another reads in the next: few steps, and registers for
    all that is read again.
    """
    last, tile = order[-1] if order else "", blocks * prod(rows.values())
    if not last or tile * extents[last] > WRITTEN:
        return ()
    seen = [o for o in every if vector in o.dims]
    slides = [o for o in seen if last in o.dims and any(_slides(o, d, last) for d in rows)]
    steps = {last: extents[last]}
    along = [
        o for o in seen if slid({d: o.stride(d) or 0 for d in o.dims}, 1, vector, steps, target.slides(o.itemsize))
    ]

    def live(o: Operand) -> int:
        """The registers that an operand takes: vectors that several rows read stay there."""
        own = blocks * prod(r for d, r in rows.items() if d in o.dims)
        if along and last in o.dims:
            return own * extents[last] if own < tile else 2
        return own if o in slides else 1

    return (last,) if (slides or along) and tile + sum(map(live, seen)) <= target.registers - SPARE else ()


def slid(strides: Mapping[str, int], unit: int, vector: str, steps: Mapping[str, int], lanes: int) -> bool:
    """Whether the lanes of an operand, `unit` apart, slide along their own row in steps that are written out: each
    vector is then made of two that are loaded, where so many lanes can be.
    """
    if len(steps) != 1 or strides.get(vector) != unit:
        return False
    ((d, n),) = steps.items()
    step = strides.get(d, 0)
    return n >= FEW and step > 0 and step % unit == 0 and step * (n - 1) < lanes * unit


def _slides(o: Operand, row: str, step: str) -> bool:
    """Whether an operand is a window along a row: a step leads to what another row has read."""
    a, b = o.stride(row), o.stride(step)
    return bool(a) and bool(b) and b % a == 0
