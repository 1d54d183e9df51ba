# SPDX-License-Identifier: MIT
"""Derivatives of programs that are given as text, or drawn: by adjoints, by tangents and by differences.

For functions in the language there is `tests.differentiated`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from frontend.autodiff import resolve
from frontend.recorded import Gradient, Promise, Tangent
from polyhedral.checks.check import check
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse

Values = Mapping[str, np.ndarray]


def widened(p: Program) -> Program:
    """The program in double precision."""
    text = to_text(p)
    for narrow in ("bf16", "f32"):
        text = text.replace(narrow, "f64")
    return parse(text)


def with_ends(p: Program) -> tuple[Program, list[str]]:
    """The program with a copy of each memory as it is in the end, and its results of floats, these copies included."""
    arrays, statements = list(p.arrays), list(p.statements)
    for n, a in enumerate(p.with_role(Role.INOUT)):
        index = tuple((d, aff.var(d)) for d in a.dim_names)
        box = Domain(tuple(Range(d, aff.const(0), e) for d, e in a.dims))
        arrays.append(replace(a, name=f"end_{a.name}", role=Role.OUTPUT))
        load = ex.Load(a.name, index, a.dtype)
        at = (10**6 + n,)
        statements.append(Statement(f"end_{a.name}", box, Access(f"end_{a.name}", index), load, position=at))
    p = replace(p, arrays=tuple(arrays), statements=tuple(statements))
    return p, [a.name for a in p.with_role(Role.OUTPUT) if a.dtype.is_float]


def promised(p: Program, outputs: list[str], wrt: list[str], forward: bool) -> Program:
    """The program with the derivatives d_X of all `wrt`, or the changes t_Y of all `outputs`."""

    def like(name: str, of: str, role: Role) -> Array:
        return replace(p.array(of), name=name, role=role, data=None)

    ask: Promise
    if forward:
        given = [like(f"move_{w}", w, Role.INPUT) for w in wrt]
        made = [like(f"t_{o}", o, Role.OUTPUT) for o in outputs]
        ask = Tangent(tuple(outputs), tuple((w, f"move_{w}") for w in wrt), tuple(a.name for a in made))
    else:
        given = [like(f"weight_{o}", o, Role.INPUT) for o in outputs]
        made = [like(f"d_{w}", w, Role.OUTPUT) for w in wrt]
        ask = Gradient(tuple((o, f"weight_{o}") for o in outputs), tuple(wrt), tuple(a.name for a in made))
    return resolve(replace(p, arrays=(*p.arrays, *given, *made)), [ask]).program


def products(
    p: Program, sizes: Mapping[str, int], inputs: Values, seed: int, alter: Callable[[Program], Program] = lambda p: p
) -> tuple[float, float, list[float]]:
    """<J x, y>, <x, J'y>, and the differences along x weighted by y, with two steps."""
    p, outputs = with_ends(p)
    wrt = [a.name for a in p.with_role(Role.INPUT, Role.INOUT) if a.dtype.is_float]
    rng = np.random.default_rng(seed)
    x = {w: rng.standard_normal(inputs[w].shape) for w in wrt}
    plain = run(p, inputs, sizes)
    y = {o: rng.standard_normal(plain[o].shape) for o in outputs}
    back, along = (promised(p, outputs, wrt, forward) for forward in (False, True))
    check(back)
    check(along)
    pulled = run(alter(back), {**inputs, **{f"weight_{o}": v for o, v in y.items()}}, sizes)
    pushed = run(along, {**inputs, **{f"move_{w}": v for w, v in x.items()}}, sizes)
    for name, value in plain.items():  # updates in place are done whatever is differentiated
        np.testing.assert_allclose(pulled[name], value, rtol=1e-13)
        np.testing.assert_allclose(pushed[name], value, rtol=1e-13)
    differences: list[float] = []
    with np.errstate(invalid="ignore"):
        for step in (1e-6, 5e-7):
            high, low = (run(p, {**inputs, **{w: inputs[w] + s * x[w] for w in wrt}}, sizes) for s in (step, -step))
            differences.append(sum(float(((high[o] - low[o]) * y[o]).sum()) for o in outputs) / (2 * step))
        forward = sum(float((pushed[f"t_{o}"] * y[o]).sum()) for o in outputs)
        return forward, sum(float((pulled[f"d_{w}"] * x[w]).sum()) for w in wrt), differences


def near(a: float, b: float, tol: float) -> bool:
    return abs(a - b) <= tol * max(1.0, abs(a), abs(b))
