# SPDX-License-Identifier: MIT
"""Windows: operands whose lanes read every cell, or every other, of a row of which only a part may exist.

    where(0 <= x + kx - 1 and x + kx - 1 < 56, X(x=x + kx - 1), 0)  along x:   the cells from 1 - kx to before 57 - kx

Such a vector is one masked load (or two and a shuffle), padding included.  Spelling it is left to `codegen.reads`.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Compare, Condition
from polyhedral.ir.layout import Layout, address

STEPS = (1, 2)
"""Cells from one lane to the next for which there are loads."""


@dataclass(frozen=True)
class Window:
    """Lane i reads cell `step * i` of a row, counted from that of lane 0, if `where` holds and the cell lies from each
    of `first` on and before each of `last`; `pad` elsewhere.  `index` is that of lane 0.
    """

    array: str
    index: tuple[tuple[str, Affine], ...]
    step: int
    first: tuple[Affine, ...] = ()
    last: tuple[Affine, ...] = ()
    where: Condition = TRUE
    pad: ex.Const | None = None


def window(e: ex.Expr, dim: str, layout: Layout) -> Window | None:
    """The window that a load, guarded or not, is along a dim; None for any other value."""
    match e:
        case ex.Load():
            load, guard, pad = e, TRUE, None
        case ex.Select(ex.Test(condition), ex.Load() as inside, ex.Const() as outside):
            load, guard, pad = inside, condition, outside
        case _:
            return None
    index = [(d, i) for d, i in load.index if isinstance(i, Affine)]
    place = address(layout, index) if len(index) == len(load.index) else None
    moving = [(d, i) for d, i in index if dim in aff.dims_of(i)]
    if place is None or len(moving) != 1:
        return None
    axis, along = moving[0]
    step = along.coefficient(aff.Var(dim))
    if step not in STEPS or layout.stride(axis) != 1 or dim in aff.dims_of(along - aff.var(dim) * step):
        return None
    start = tuple((d, aff.substitute(i, {dim: aff.const(0)})) for d, i in index)
    found = Window(load.array, start, step, pad=pad)
    return _guarded(found, guard, along, dim)


def _guarded(w: Window, guard: Condition, along: Affine, dim: str) -> Window | None:
    """The window with its limits, if the guard is about the row's index and about what no lane changes."""
    begin = aff.substitute(along, {dim: aff.const(0)})
    first: list[Affine] = []
    last: list[Affine] = []
    where: list[Condition] = []
    for c in aff.conjuncts(guard):
        if dim not in aff.condition_dims(c):
            where.append(c)
        elif isinstance(c, Compare) and not c.equal and (c.expr - along).is_const:
            first.append(-begin - (c.expr - along))
        elif isinstance(c, Compare) and not c.equal and (c.expr + along).is_const:
            last.append((c.expr + along) - begin + 1)
        else:
            return None
    return Window(w.array, w.index, w.step, tuple(first), tuple(last), aff.both(*where), w.pad)
