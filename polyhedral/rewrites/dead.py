# SPDX-License-Identifier: MIT
"""Dead code: statements and arrays that no result needs are dropped.

    T = X + 1;  Z = 2 * T;  out = X            ->            out = X            with out an output

What is observed: outputs, memory, and the bounds of a gather, which are tested at run time.  Equal statements are
`common`'s business.
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.errors import Remark
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Program, Role, Statement

_OBSERVED = (Role.OUTPUT, Role.INOUT)


def drop_dead(p: Program) -> tuple[Program, tuple[Remark, ...]]:
    """The program without what nothing observed depends on, in one pass over its reads."""
    writers: dict[str, list[Statement]] = {}
    for s in p.statements:
        writers.setdefault(s.write.array, []).append(s)
    needed = [a.name for a in p.arrays if a.role in _OBSERVED]
    needed += [s.write.array for s in p.statements if gathers(s)]
    live: set[str] = set()
    while needed:
        name = needed.pop()
        if name not in live:
            live.add(name)
            needed += [load.array for s in writers.get(name, ()) for load in ex.loads(s.value)]
    kept = tuple(s for s in p.statements if s.write.array in live)
    arrays = tuple(a for a in p.arrays if a.name in live or a.role is Role.INPUT)
    if len(kept) == len(p.statements) and len(arrays) == len(p.arrays):
        return p, ()
    dead = (s for s in p.statements if s.write.array not in live)
    remarks = tuple(Remark("dropped", f"nothing needs {s.write.array}", s.name) for s in dead)
    return replace(p, arrays=arrays, statements=kept), remarks


def gathers(s: Statement) -> bool:
    """Whether data decides what a statement reads, so that running it may fault."""
    return any(not isinstance(i, Affine) for load in ex.loads(s.value) for _, i in load.index)
