# SPDX-License-Identifier: MIT
"""Storage folding: keep only as many planes of a time-like dim as a recurrence looks back (Lefebvre & Feautrier 1998).

    u(t=t + 1) = f(u)          with u of extent steps + 1 along t    ->    u in 2 planes along t

The reuse shows up as dependences, in the scheduler's view and in the oracle's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Array, Program, Role, Statement, reads


def fold_storage(p: Program) -> Program:
    """Fold every temporary that allows it, along one dim."""
    return replace(p, arrays=tuple(_folded(p.users.get(a.name, ()), a) for a in p.arrays))


def _folded(touching: Sequence[Statement], a: Array) -> Array:
    if a.role is not Role.TEMPORARY:
        return a
    for d in a.dim_names:
        planes = _planes(touching, a, d)
        extent = a.extent(d)
        if planes is not None and not (extent.is_const and extent.const <= planes):
            return replace(a, planes=((d, planes),))
    return a


def _planes(touching: Sequence[Statement], a: Array, dim: str) -> int | None:
    """How many planes along `dim` are alive at once, or None when that is not bounded by the accesses alone."""
    deepest = 0
    last = a.extent(dim) - 1
    for s in touching:
        found = [dict(load.index)[dim] for load in reads(s) if load.array == a.name]
        if s.write.array == a.name:
            back = _look_back(s, dict(s.write.index)[dim], found)
            if back is None:
                return None
            deepest = max(deepest, back)
        elif any(i != last for i in found):
            return None
    return deepest + 1 if deepest else None


def _look_back(s: Statement, written: Affine, found: list[Affine | ex.Expr]) -> int | None:
    """The greatest distance from a write to the planes it reads; 0 where it reads none."""
    deepest = 0
    for i in found:
        apart = written - i if isinstance(i, Affine) else None
        if apart is None or not apart.is_const or apart.const < 1 or s.op is not None:
            return None
        deepest = max(deepest, apart.const)
    if deepest and len(aff.dims_of(written)) != 1:
        return None
    return deepest
