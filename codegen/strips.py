# SPDX-License-Identifier: MIT
"""Loops along the lanes that compute the exponential function: several vectors at once, single ones, single elements.

Compilers make vectors of any loop, but not with the instructions that `codegen.exponential` names.  All other loops
are left to them.
"""

from __future__ import annotations

import cgen

from codegen import loops as lp
from codegen.blocks import loop
from codegen.lanes import Lanes, near
from codegen.points import Placed, placed
from codegen.reads import Open
from codegen.registers import Registers
from codegen.requests import exponential
from codegen.scalar import bare
from codegen.steps import several
from codegen.writes import Accumulator, store
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Array, Statement
from polyhedral.sets.instances import Kind


def strips(r: Registers, n: lp.For) -> list[cgen.Generable] | None:
    """`for (; x + 32 <= end; x += 32) four vectors; for (; x + 8 <= end; x += 8) one; for (; x < end; ++x) a single`,
    as many of these as the loop's length asks for; None for any other loop.
    """
    body = n.body.children[0] if isinstance(n.body, lp.Block) and len(n.body.children) == 1 else n.body
    if n.step != 1 or not isinstance(body, lp.Exec) or not isinstance(n.hi, Affine):
        return None
    family = r.families[body.family]
    s = family.statement
    array = r.program.array(s.write.array)
    if family.kind is not Kind.ASSIGN or array.planes or not exponential(s, array.dtype):
        return None
    r.begin(array)
    c, lanes = r.c, r.c.vectors.lanes
    tile = _vectors(r, s, array, n, body, 1)
    if tile is None:
        return None
    trips = n.hi - n.lo + 1 if isinstance(n.lo, Affine) else aff.var("")
    left = trips.const if trips.is_const else None
    at_once = several(c, s, array.dtype, 4 if left is None else left // lanes)
    name, end = c.spell(n.name), c.scalar.affine(n.hi + 1)
    loops: list[cgen.Generable] = []
    for step in dict.fromkeys((at_once * lanes, lanes)):
        if left is None or left >= step:
            made = _vectors(r, s, array, n, body, step // lanes)
            assert made is not None
            before = end if left is not None and left % step == 0 else c.scalar.affine(n.hi + 2 - step)
            loops.append(loop("", f"{name} < {before}", f"{name} += {step}", cgen.Block(made)))
            left = None if left is None else left % step
    if left != 0:
        value = bare(c.scalar.value(ex.substitute(s.value, dict(body.at))))
        cell = c.cell(array.name, [(d, aff.substitute(i, dict(body.at))) for d, i in s.write.index])
        loops.append(loop("", f"{name} < {end}", f"++{name}", cgen.Assign(cell, value)))
    return [cgen.Block([cgen.Statement(f"int64_t {name} = {c.bound(n.lo)}"), *loops])]


def _vectors(
    r: Registers, s: Statement, array: Array, n: lp.For, body: lp.Exec, count: int
) -> list[cgen.Generable] | None:
    """The lines that make and store so many vectors; None where lanes are no neighbours."""
    c, lanes, lane = r.c, r.c.vectors.lanes, f"{n.name}\0lane"
    name = f"{c.spell(array.name)}_lanes"
    held: list[Accumulator] = []
    every: list[Placed] = []
    for k in range(count):
        start = aff.var(n.name) + k * lanes
        at = {d: aff.substitute(e, {n.name: start + aff.var(lane)}) for d, e in body.at}
        target = [(d, aff.substitute(i, at)) for d, i in s.write.index]
        moving = [e for e in ex.loads(ex.substitute(s.value, at)) if lane in ex.dims_of(e)]
        if any(near(c, e, lane) is None for e in (*moving, ex.Load(array.name, tuple(target), array.dtype))):
            return None
        held.append(Accumulator(name if count == 1 else f"{name}[{k}]", target, Lanes(start, lanes, ()), lane))
        every.append(placed(s.value, at))
    r.reads.ahead, r.reads.cells, r.reads.open = dict(n.ahead), {}, [Open("", aff.const(0), aff.const(0))]
    return [
        cgen.Statement(f"{c.vectors.type(array.dtype)} {name}" + f"[{count}]" * (count > 1)),
        *r.step(s, array, [h.name for h in held], every, lane, held[0].lanes),
        *store(c, array, held, streams=False),
    ]
