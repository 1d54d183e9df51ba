# SPDX-License-Identifier: MIT
"""Reductions shared out among blocks: each block of threads reduces a part, and a second kernel combines the parts.

    s = sum over k < 1e6 of X(k)    ->    s_blocks(b) over 400 blocks, then s = sum over b of s_blocks(b)

Where the results alone leave a device idle, as prices say; the order is fixed, nothing is atomic.  The rewriting is
`polyhedral.rewrites.privatise`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from math import prod

from polyhedral.devices.chooser import choose_blocks
from polyhedral.devices.prices import price
from polyhedral.errors import Remark
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Array, Program, Statement, fresh, names
from polyhedral.machine.device import Device
from polyhedral.rewrites.privatise import Privatised, privatise

LEAST = 32
"""Terms that a block reduces at least."""


@dataclass(frozen=True)
class SharedOut:
    """A program whose long reductions to few results go through parts, and why."""

    program: Program
    layouts: Mapping[str, Layout]
    remarks: tuple[Remark, ...] = ()


def share_out(p: Program, layouts: Mapping[str, Layout], device: Device, alone: Set[str]) -> SharedOut:
    """Reductions among `alone`, which depend on nothing of their own, in as many parts as pay; parts are dense."""
    taken = names(p)
    statements: list[Statement] = []
    arrays: list[Array] = []
    remarks: list[Remark] = []
    for s in p.statements:
        found = _best(p, s, layouts, device, taken) if s.name in alone else None
        if found is None:
            statements.append(s)
            continue
        made, why = found
        taken |= {made.array.name, *(part.name for part in made.parts)}
        arrays.append(made.array)
        statements += [*made.parts, made.combined]
        remarks.append(Remark(f"reduced in {made.array.dims[0][1]} parts by other blocks", why, s.name))
    program = replace(p, arrays=(*p.arrays, *arrays), statements=tuple(statements))
    return SharedOut(program, {**layouts, **{a.name: row_major(a) for a in arrays}}, tuple(remarks))


def _best(
    p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device, taken: Set[str]
) -> tuple[Privatised, str] | None:
    """The parts that take the fewest cycles, and how many that is; None where a reduction is best left whole."""
    plan = choose_blocks(p, s, layouts, device) if _able(p, s) else None
    if plan is None:
        return None
    whole = price(p, s, plan, layouts, device).whole
    found = min(_priced(p, s, layouts, device, taken), key=lambda f: f[1], default=None)
    if found is None or found[1] >= whole:
        return None
    return found[0], f"that takes {found[1]:.3g} cycles with its second kernel, and {whole:.3g} whole"


def _able(p: Program, s: Statement) -> bool:
    """Whether a reduction is over a box from 0 of known size, in any order, of values as its result has them."""
    box = all(r.lo.is_const and r.lo.const == 0 and r.hi.is_const for r in s.domain.ranges)
    free = s.op is not None and not (s.strict or s.accumulate or s.ordered) and s.domain.guard == TRUE
    return box and free and p.array(s.write.array).dtype == ex.dtype_of(s.value)


def _priced(
    p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device, taken: Set[str]
) -> Iterator[tuple[Privatised, float]]:
    size = {r.dim: r.hi.const for r in s.domain.ranges}
    results = prod(size[d] for d in s.kept)
    long = max(s.reduced, key=lambda d: size[d], default=None)
    if long is None or not results:
        return
    tried: set[int] = set()
    for per_unit in (1, 2, 4, 8):
        about = min(per_unit * device.units, size[long] // LEAST)
        count = _even(size[long], about) if about > 1 else 1
        if count in tried or count < 2 or count * results > prod(size.values()) // LEAST:
            continue
        tried.add(count)
        made = privatise(s, p.array(s.write.array).dtype, long, count, lambda base: fresh(base, {*taken}))
        q = replace(p, arrays=(*p.arrays, made.array), statements=(*made.parts, made.combined))
        own = {**layouts, made.array.name: row_major(made.array)}
        yield made, sum(_cycles(q, t, own, device) for t in q.statements)


def _cycles(p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device) -> float:
    plan = choose_blocks(p, s, layouts, device)
    return float("inf") if plan is None else price(p, s, plan, layouts, device).whole


def _even(n: int, about: int) -> int:
    """How many parts, near what is wanted, so that none is left over if that can be."""
    near = (k for k in range(max(about // 2, 2), min(2 * about, n) + 1) if n % k == 0)
    return min(near, key=lambda k: abs(k - about), default=about)
