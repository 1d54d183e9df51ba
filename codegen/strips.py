# SPDX-License-Identifier: MIT
"""Loops along the lanes that compute the exponential function: whole vectors, then single elements.

Compilers make vectors of any loop, but not with the instructions that `codegen.exponential` names.  All other loops
are left to them.
"""

from __future__ import annotations

import cgen

from codegen import loops as lp
from codegen.blocks import loop
from codegen.lanes import Lanes, near
from codegen.points import placed
from codegen.registers import Registers
from codegen.scalar import bare
from codegen.writes import Accumulator, store
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Statement
from polyhedral.sets.instances import Kind


def strips(r: Registers, n: lp.For) -> list[cgen.Generable] | None:
    """`for (; x < whole; x += 16) a vector; for (; x < end; ++x) a single`; None for any other loop."""
    body = n.body.children[0] if isinstance(n.body, lp.Block) and len(n.body.children) == 1 else n.body
    if n.step != 1 or not isinstance(body, lp.Exec) or not isinstance(n.hi, Affine):
        return None
    family = r.families[body.family]
    s = family.statement
    array = r.program.array(s.write.array)
    if family.kind is not Kind.ASSIGN or array.planes or not _whole(s, array.dtype):
        return None
    r.begin(array)
    c, lanes, lane = r.c, r.c.vectors.lanes, f"{n.name}\0lane"
    at = {d: aff.substitute(e, {n.name: aff.var(n.name) + aff.var(lane)}) for d, e in body.at}
    target = [(d, aff.substitute(i, at)) for d, i in s.write.index]
    moving = [e for e in ex.loads(ex.substitute(s.value, at)) if lane in ex.dims_of(e)]
    if any(near(c, e, lane) is None for e in (*moving, ex.Load(array.name, tuple(target), array.dtype))):
        return None
    held = Accumulator(f"{c.spell(array.name)}_lanes", target, Lanes(aff.var(n.name), lanes, ()), lane)
    vector = [
        cgen.Statement(f"{c.vectors.type(array.dtype)} {held.name}"),
        *r.step(s, array, held.name, placed(s.value, at), lane, held.lanes),
        *store(c, array, [held], streams=False),
    ]
    value = bare(c.scalar.value(ex.substitute(s.value, dict(body.at))))
    cell = c.cell(array.name, [(d, aff.substitute(i, dict(body.at))) for d, i in s.write.index])
    name, end = c.spell(n.name), c.scalar.affine(n.hi + 1)
    return [
        cgen.Block(
            [
                cgen.Statement(f"int64_t {name} = {c.bound(n.lo)}"),
                loop("", f"{name} < {c.scalar.affine(n.hi + 2 - lanes)}", f"{name} += {lanes}", cgen.Block(vector)),
                loop("", f"{name} < {end}", f"++{name}", cgen.Assign(cell, value)),
            ]
        )
    ]


def _whole(s: Statement, t: DType) -> bool:
    """Whether a value is computed in one type of which there are vectors, without a choice, and asks for exp."""
    every = list(ex.walk(s.value))
    plain = all(isinstance(e, (ex.Load, ex.Const, ex.Binary, ex.Unary, ex.Call)) for e in every)
    grown = any(isinstance(e, ex.Call) and e.fn == "exp" for e in every)
    return t.name == "f32" and plain and grown and all(ex.dtype_of(e) == t for e in every)
