# SPDX-License-Identifier: MIT
"""Does a loop around equations run the way that they need: no iteration may read what a later one defines.

Equations have no order of their own, so a loop around them decides nothing but says something: where it is wrong, the
program would run another way than it reads.  Updates of memory, which loops do order, are `check`'s.
"""

from __future__ import annotations

from itertools import takewhile

from polyhedral.checks.bounds import witness
from polyhedral.errors import OrderError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Program, Role, Statement
from polyhedral.sets.instances import guarded_loads
from polyhedral.sets.isl import NamedSet, named


def require_loops(p: Program, context: Condition) -> None:
    """PH202 for the first equation that reads a cell which a later iteration of a loop around both defines."""
    for s in p.statements:
        if s.ordered:
            for load, when in guarded_loads(s.value):
                if p.array(load.array).role is not Role.INOUT and all(isinstance(i, Affine) for _, i in load.index):
                    for writer in p.writers.get(load.array, ()):
                        _require_earlier(p, s, load, when, writer, context)


def _require_earlier(
    p: Program, s: Statement, load: ex.Load, when: Condition, writer: Statement, context: Condition
) -> None:
    shared = [a for a, _ in takewhile(lambda two: two[0] == two[1], zip(s.position, writer.position, strict=False))]
    loops = [d for d in shared if isinstance(d, str)]
    if not loops:
        return
    prime = {d: aff.var(f"{d}'") for d in writer.dims}

    def primed(e: Affine) -> Affine:
        return aff.substitute(e, prime)

    read = {d: i for d, i in load.index if isinstance(i, Affine)}
    pairs = named(
        (*s.dims, *(f"{d}'" for d in writer.dims)),
        p.sizes,
        aff.both(
            context,
            s.domain.condition,
            when,
            aff.map_affine(writer.domain.condition, primed),
            *(aff.equal(primed(i), read[d]) for d, i in writer.write.index),
        ),
    )
    same = aff.TRUE
    for d in loops:
        later = pairs.where(aff.both(same, aff.at_least(prime[d] - aff.var(d), 1)))
        if not later.is_empty():
            raise _against(s, load, writer, d, later)
        same = aff.both(same, aff.equal(prime[d], aff.var(d)))


def _against(s: Statement, load: ex.Load, writer: Statement, dim: str, later: NamedSet) -> OrderError:
    point = witness(later)
    cell = ", ".join(f"{d}={aff.evaluate(i, point, point)}" for d, i in load.index if isinstance(i, Affine))
    at = point[dim + "'"]
    return OrderError(
        "PH202",
        f"the loop over {dim} runs upwards, but statement {s.name} reads {load.array} of later iterations",
        details=(f"at {dim}={point[dim]} it reads {load.array}({cell}), which {writer.name} defines at {dim}={at}",),
        hints=(
            f"without the loop: equations are computed in whatever order of {dim} they need",
            f"in a loop that is meant to run downwards, {dim} stands for n - 1 - {dim}",
        ),
        statement=s.name,
        dim=dim,
        point={d: point[d] for d in s.dims},
        sizes={n: point[n] for n in later.sizes},
        location=s.location,
    )
