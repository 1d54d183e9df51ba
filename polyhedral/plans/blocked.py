# SPDX-License-Identifier: MIT
"""Statements planned for common blocks, where that takes fewer cycles than planning each of them alone.

What a block leaves for the next statement is found in the caches of its core; tiles divide the block.  Which statements
these are is `polyhedral.plans.blocks`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE
from polyhedral.ir.counts import array_bytes
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Program, Statement, touched
from polyhedral.machine.prices import BARRIER, rate
from polyhedral.machine.target import Target
from polyhedral.plans.block_loops import Blocks
from polyhedral.plans.candidates import Choice
from polyhedral.plans.chooser import Chooser
from polyhedral.plans.plannable import Found, View, find
from polyhedral.plans.register_plan import RegisterPlan, balance
from polyhedral.plans.tiles import Within
from polyhedral.rewrites.mask import hull, mask
from polyhedral.transforms.share import Nest, Shared

GAIN = 0.95
"""What common blocks must take at most of the cycles that the statements take alone: both are estimates."""
LITTLE = 0.97
"""The part of these cycles that is left where so little is saved in traffic that blocks are not worth planning."""


@dataclass(frozen=True)
class Blocked:
    """Blocks, and the plan of each of their reductions for one block."""

    blocks: Blocks
    plans: Mapping[str, Found]

    def map(self, p: Program, s: Statement) -> Statement:
        """A statement that reduces nothing, over all of the blocks that it has a part of, where its cells outside its
        domain are nobody's: its rows are then whole.
        """
        if s.domain.guard == TRUE or not _harmless(s):
            return s
        masked = mask(p, s)
        return s if masked is None else hull(masked.statement, masked.within, self.tile(s, lambda _: 1))

    def tile(self, s: Statement, tile: Callable[[str], int]) -> Callable[[str], int]:
        """How much of each dim is computed at once: the block of a common one."""
        sizes = self.blocks.sizes(s.name)
        return lambda d: sizes.get(d, tile(d))

    def nest(self, p: Program, parts: Mapping[str, Sequence[str]]) -> Nest:
        """The nest, once each statement is in parts."""
        b = self.blocks
        clusters = tuple((part,) for name in b.members for part in parts[name])
        loops = tuple(
            Shared(loop.name, tuple((part, d) for name, d in loop.dims for part in parts[name]), loop.size)
            for loop in b.loops
        )
        local: list[tuple[str, tuple[str, ...]]] = []
        for name in b.members:
            write = p.statement(name).write
            if write.array in b.local:
                axes = {i.as_var(): a for a, i in write.index}
                local.append((write.array, tuple(axes[dict(loop.dims)[name]] for loop in b.loops)))
        return Nest(clusters, loops, tuple(local))


def _harmless(s: Statement) -> bool:
    """Whether values that nobody wrote can be computed with: numbers without order of their own never trap."""
    return all(isinstance(n, (ex.Index, ex.Test)) or ex.dtype_of(n).is_float for n in ex.walk(s.value))


def in_blocks(
    p: Program, b: Blocks, layouts: Mapping[str, Layout], chooser: Chooser, small: int
) -> tuple[Blocked | None, Remark]:
    """The plans of all reductions for one block; None, and why, where they take more cycles than the plans of each
    alone.
    """
    target, wanted = chooser.target, chooser.preferences.blocked(b.members)
    shown = " and ".join(b.members)
    if wanted is False:
        return None, Remark("do not run in common blocks", "as preferred", shown)
    barriers = BARRIER * target.cores * (len(b.members) - 1)
    whole = {n: find(p, p.statement(n), layouts, chooser, small) for n in b.members if p.statement(n).op is not None}
    unplanned = [n for n in b.members if n not in whole or isinstance(whole[n].plan, str)]
    alone = sum(f.cycles for f in whole.values()) + sum(_moved(p, p.statement(n), (), target) for n in unplanned)
    alone += barriers
    little = wanted is None and alone - _saved(p, b, target) - barriers > LITTLE * alone
    if len(unplanned) == len(b.members) or little:
        return None, Remark(
            "do not run in common blocks", "what flows between them is little next to their work", shown
        )
    made = frozenset(p.statement(n).write.array for n in b.members)
    still = frozenset(a.name for a in p.arrays if a.name not in b.local)
    inner = replace(chooser, target=replace(target, cores=1), constants=still)
    program, cut = _one_block(p, b, layouts)
    trips = [-(-_extent(p, loop) // loop.size) for loop in b.loops]
    count = prod(trips)
    plans: dict[str, Found] = {n: f for n, f in whole.items() if isinstance(f.plan, str)}
    together = sum(_moved(p, p.statement(n), b.local, target) for n in unplanned)
    for n in [n for n in b.members if n not in unplanned]:
        sizes = b.sizes(n)

        def planned(still: frozenset[str], n: str = n, sizes: Mapping[str, int] = sizes) -> tuple[float, Found]:
            view = View(sizes, program, cut, Within(frozenset(sizes), still))
            part = find(p, p.statement(n), layouts, inner, small, view)
            cycles = part.cycles * count / balance(trips[0], target.cores)
            return cycles + _copied(p, part, chooser.constants, target), part

        cycles, part = planned(made)
        copied = _copies(part) - chooser.constants
        if copied and not (isinstance(part.plan, Choice) and part.plan.preferred):  # which paid where it cost nothing
            there, other = planned(made | copied)
            cycles, part = (there, other) if there < cycles and not isinstance(other.plan, str) else (cycles, part)
        if isinstance(part.plan, str):
            return None, Remark("do not run in common blocks", f"{n} has no register tile there", shown)
        together += cycles
        plans[n] = replace(part, plan=_scaled(part.plan, count), cycles=part.cycles * count)
    price = f"{together:.3g} cycles, each alone {alone:.3g}"
    if wanted is None and not _pays(together, alone):
        return None, Remark("do not run in common blocks", f"that would take {price}", shown)
    return Blocked(b, plans), Remark("run in common blocks", f"that takes {price}", shown)


def _saved(p: Program, b: Blocks, target: Target) -> float:
    """Cycles to store and to read what then lies in memory of its own, over those that it takes there, at most."""
    _, l2, _ = target.near
    sizes = ((array_bytes(p.array(n)), len(p.users[n])) for n in b.local)
    return sum((1 + users) * max(size / rate(size, target) - size / l2, 0.0) for size, users in sizes)


def _pays(together: float, alone: float) -> bool:
    return together < GAIN * alone


def _one_block(p: Program, b: Blocks, layouts: Mapping[str, Layout]) -> tuple[Program, dict[str, Layout]]:
    """The program and the layouts with what lies in memory of its own cut to one block."""
    cut: dict[str, dict[str, int]] = {}
    for name in b.members:
        write, sizes = p.statement(name).write, b.sizes(name)
        if write.array in b.local:
            cut[write.array] = {a: sizes[d] for a, i in write.index if (d := i.as_var()) is not None and d in sizes}
    arrays = tuple(
        replace(a, dims=tuple((d, aff.const(cut[a.name][d]) if d in cut[a.name] else e) for d, e in a.dims))
        if a.name in cut
        else a
        for a in p.arrays
    )
    program = replace(p, arrays=arrays)
    own = {n: row_major(program.array(n), layouts[n].order) for n in cut}
    return program, {**layouts, **own}


def _extent(p: Program, loop: Shared) -> int:
    name, d = loop.dims[0]
    return next(r.hi.const for r in p.statement(name).domain.ranges if r.dim == d)


def _moved(p: Program, s: Statement, local: Sequence[str], target: Target) -> float:
    """Cycles to bring and to store what a statement touches; its arithmetic is the same either way."""
    _, l2, _ = target.near
    total = 0.0
    for n in touched(s):
        size = array_bytes(p.array(n))
        times = 2.0 if n == s.write.array and n not in local else 1.0
        total += times * size / (l2 if n in local else rate(size, target))
    return total


def _copied(p: Program, found: Found, constants: frozenset[str], target: Target) -> float:
    """Cycles to copy what is read in another order, once for all blocks."""
    arrays = _copies(found) - constants
    return sum(BARRIER * target.cores + 2 * array_bytes(p.array(n)) / target.bytes_per_cycle for n in arrays)


def _copies(found: Found) -> frozenset[str]:
    """What a plan reads in another order."""
    return frozenset(o.load.array for o, _, _ in found.plan.relaid) if isinstance(found.plan, Choice) else frozenset()


def _scaled(plan: Choice | RegisterPlan, count: int) -> Choice | RegisterPlan:
    """The choice with the cycles of all blocks."""
    if not isinstance(plan, Choice):
        return plan
    q = plan.prediction
    times = {f: getattr(q, f) * count for f in ("fma", "loads", "latency", "l2", "l3", "memory", "control", "ends")}
    return replace(plan, prediction=replace(q, **times))
