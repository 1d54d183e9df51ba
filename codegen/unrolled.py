# SPDX-License-Identifier: MIT
"""How often serial loops of a kernel are unrolled: as far as the text stays short.

A multiply-add of a register tile is one instruction, and so is each test, sum and jump of the loop around it.
Compilers do not unroll loops whose bodies they have unrolled already, which is every loop around a register tile.
"""

from __future__ import annotations

from codegen import loops as lp
from polyhedral.ir.affine import Affine
from polyhedral.ir.tree import Run

_LONG = 512
"""Operations of a body that is written out: 8 KB of instructions where each is one."""
_TILE = 8
"""Operations in a body from which on it is a register tile's, and each is short."""
_SINGLE = 32
"""Iterations that are written out around fewer results than that: what they load stays in registers, to be used again
by the next loop over the same cells."""


def trips(n: lp.For) -> int | None:
    """How many iterations a loop has, where that is a number."""
    if not isinstance(n.lo, Affine) or not isinstance(n.hi, Affine) or not (n.hi - n.lo).is_const:
        return None
    return max((n.hi - n.lo).const // n.step + 1, 0)


def written(node: lp.Node) -> int | None:
    """Operations of a body, all of whose loops are unrolled; None where one is not."""
    match node:
        case lp.Exec():
            return 1
        case lp.Block(children):
            parts = [written(c) for c in children]
            return sum(p for p in parts if p is not None) if None not in parts else None
        case lp.For(run=Run.UNROLL):
            many, body = trips(node), written(node.body)
            return many * body if many is not None and body is not None else None
        case lp.For(run=Run.SERIAL):
            many, body = trips(node), written(node.body)
            return many * body if many is not None and body is not None and times(node) == many else None
        case _:
            return None


def times(n: lp.For) -> int:
    """How many iterations of a serial loop are written out at a time: all, a divisor of all, or one."""
    many, body = trips(n), written(n.body)
    if n.run is not Run.SERIAL or not many or not body:
        return 1
    if body < _TILE:
        return many if many <= _SINGLE else 1
    return max(k for k in range(1, many + 1) if many % k == 0 and (k == 1 or k * body <= _LONG))
