# SPDX-License-Identifier: MIT
"""What bounds each statement of a kernel: predicted cycles by cause for a planned one, a roof for any other.

The predictions are those by which `polyhedral.plans.candidates` chose; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from math import prod
from typing import Protocol

from frontend.inspection.cost import instances, operations
from frontend.units import cycles
from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.layout import Layout
from polyhedral.ir.operands import along
from polyhedral.ir.program import Program, Role, Statement, reads
from polyhedral.machine.target import Target
from polyhedral.plans.candidates import Choice, extents_of
from polyhedral.plans.cycles import Prediction
from polyhedral.transforms.share import NEST, OWN

CAUSES = {
    "fma": "multiply-adds",
    "loads": "loads",
    "latency": "latency",
    "l2": "bandwidth of L2",
    "l3": "bandwidth of L3",
    "memory": "bandwidth of memory",
    "floor": "memory for the results",
    "control": "loop control",
    "ends": "result stores",
    "copies": "copies of operands",
    "tail": "partial tiles",
    "imbalance": "parallel imbalance",
}
"""Causes in words: the fields of a Prediction, and two that are derived from it."""
CHANGES = {
    "its domain is not a box of known size": "a domain whose bounds are numbers: sizes that are given, and padded "
    "reads in place of conditions",
    "its order is fixed": 'a reduction that may be reordered, without order="strict"',
    "it is small": "ph.options(plan_above=0) plans it all the same",
    "it gathers": "indices that are affine in the dims, in place of arrays",
}
"""What would lift a reason not to plan a statement."""
WORTH = 0.005
"""Causes of a smaller share than this are not printed."""


class Planned(Protocol):
    """What of a built kernel is looked at."""

    @property
    def program(self) -> Program: ...

    @property
    def layouts(self) -> Mapping[str, Layout]: ...

    @property
    def choices(self) -> Mapping[str, Choice]: ...


@dataclass(frozen=True)
class Why:
    """One statement: what bounds it, cycles of all cores together by cause, the plan, and what would change it.

    Causes that work at once overlap, so that their shares of `cycles` do not add up to one.  Without a plan `because`
    says why, and the cycles are a roof, which no nest beats.
    """

    statement: str
    bound: str
    cycles: float | None
    causes: tuple[tuple[str, float], ...] = ()
    peak: float | None = None
    plan: tuple[str, ...] = ()
    because: str | None = None
    change: tuple[str, ...] = ()

    def share(self, cycles: float) -> float:
        return cycles / self.cycles if self.cycles else 0.0

    def lines(self) -> Iterator[str]:
        """For people: the bound, then what it is made of."""
        if self.because is not None:
            yield f"{self.statement} has no plan, because {self.because}"
        if self.cycles is None:
            yield f"{self.statement} is bound by {self.bound}"
            return
        word = "predicted" if self.because is None else "at least"
        reached = "" if self.peak is None else f", {self.peak:.0%} of the FMA peak"
        yield f"{self.statement} is bound by {self.bound}: {word} {cycles(self.cycles)} cycles{reached}"
        shown = [(c, n) for c, n in self.causes if self.share(n) >= WORTH]
        for cause, n in sorted(shown, key=lambda cn: -cn[1]):
            yield f"  {cause:19} {cycles(n):>7} {self.share(n):4.0%}"

    def to_json(self) -> dict[str, object]:
        return {
            "statement": self.statement,
            "planned": self.because is None,
            "bound": self.bound,
            "cycles": self.cycles,
            "causes": {c: {"cycles": n, "share": self.share(n)} for c, n in self.causes},
            "peak": self.peak,
            "plan": list(self.plan),
            "because": self.because,
            "change": list(self.change),
        }


def why(
    s: Statement, built: Planned, target: Target, remarks: Sequence[Remark], once: frozenset[str] = frozenset()
) -> Why:
    """What bounds a statement of the program as it was before plans; `once` are arrays that are re-laid only once."""
    if all(a.name != s.write.array for a in built.program.arrays):
        return Why(s.name, "what reads it, which computes it there: it is not stored", None)
    choice = built.choices.get(s.name)
    refused = [r for r in remarks if r.statement == s.name and "register tile" in r.what]
    if choice is None or refused:
        return _unplanned(s, built, target, refused, remarks)
    return _planned(s, choice, built, target, once)


# --- planned ---------------------------------------------------------------------------------------------------------


def _planned(s: Statement, choice: Choice, built: Planned, target: Target, once: frozenset[str]) -> Why:
    p = choice.prediction
    causes = dict(_causes(choice))
    least = max(causes, key=lambda c: causes[c])
    useful = p.fma * _filled(choice)
    return Why(
        s.name,
        CAUSES[least],
        p.total,
        tuple((CAUSES.get(c, c), n) for c, n in causes.items()),
        useful / p.total if p.total else None,
        tuple(_in_words(s, choice, target, once)),
        None,
        tuple(_remedies(s, least, choice, built, target, once)),
    )


def _causes(choice: Choice) -> Iterator[tuple[str, float]]:
    """Every term of the prediction, the cycles of lanes and rows that are not there, and those of cores that wait."""
    p: Prediction = choice.prediction
    for f in fields(p):
        if f.name != "imbalance":
            yield f.name, float(getattr(p, f.name))
    yield "tail", p.fma * (1 - _filled(choice))
    together = p.total - p.copies
    yield "imbalance", together * (1 - 1 / p.imbalance)


def _filled(choice: Choice) -> float:
    """The part of all tiles that is results, where the last of a dim may be partial."""
    extents = extents_of(choice.statement)
    tiles = {d: choice.plan.tile(d) for d in extents if d not in choice.plan.order}
    return prod(extents[d] / (-(-extents[d] // n) * n) for d, n in tiles.items())


def _in_words(s: Statement, choice: Choice, target: Target, once: frozenset[str]) -> Iterator[str]:
    plan = choice.plan
    lanes = target.lanes(ex.dtype_of(s.value).bits // 8)
    rows = " x ".join(f"{d} {n}" for d, n in plan.rows if n > 1)
    vectors = -(-plan.width // lanes)
    fused = f" ({plan.vector} is fused of two dims)" if plan.vector not in s.dims else ""
    tile = f"{plan.vector} {plan.width}" + (f" x {rows}" if rows else "")
    yield (
        f"{s.name}: vectors along {plan.vector}{fused}, {lanes} lanes; register tile {tile}, "
        f"{vectors * prod(n for _, n in plan.rows)} accumulators of {target.registers} registers"
    )
    around = ", ".join(f"{x.dim} by {x.size}" if x.size > 1 else x.dim for x in plan.loops)
    yield f"{s.name}: loops over tiles {around}; within a tile {', '.join(plan.order)}"
    for o, dim, panel in choice.relaid:
        when = "once" if o.load.array in once else "at each call"
        yield f"{s.name}: {o.load.array} re-laid in panels of {panel} along {dim}, {when}"


def _remedies(
    s: Statement, bound: str, choice: Choice, built: Planned, target: Target, once: frozenset[str]
) -> Iterator[str]:
    """What a user could do about the largest cause, and about results that are stored one by one."""
    plan, extents = choice.plan, extents_of(choice.statement)
    kept = [d for d in choice.statement.dims if d not in choice.statement.reduced]
    sizes = ", ".join(f"{d} {extents[d]}" for d in kept)
    rest = ", ".join(f"{d} {extents[d]} by {plan.tile(d)}" for d in kept if extents[d] % plan.tile(d))
    yield f"{s.name}: " + {
        "fma": "the multiply-adds themselves; fewer operations, or a smaller element type",
        "loads": f"a larger register tile reuses each load more, but {target.registers} registers bound it",
        "latency": f"more independent results, the dims of the result are short ({sizes})",
        "control": "longer reductions, or a larger register tile",
        "ends": "longer reductions for each result that is stored",
        "copies": _bindable(choice, built, once),
        "tail": f"extents that whole tiles fill ({rest} leaves a rest)",
        "imbalance": f"fewer threads, or a dim whose trips {target.cores} cores share evenly",
    }.get(bound, "less data: a smaller element type, or operands that are bound, and re-laid once")
    layout = built.layouts.get(s.write.array)
    if layout is not None and plan.vector in s.dims and along(s.write.index, plan.vector, layout) != 1:
        free = built.program.array(s.write.array).role in (Role.OUTPUT, Role.TEMPORARY)
        order = " ".join([*(d for d in layout.order if d != plan.vector), plan.vector])
        if free and set(order.split()) == set(layout.order):
            yield f'{s.name}: results are stored one by one; hint layout("{s.write.array}", "{order}") stores vectors'


def _bindable(choice: Choice, built: Planned, once: frozenset[str]) -> str:
    """How to re-lay once what is re-laid at each call."""
    every = dict.fromkeys(o.load.array for o, _, _ in choice.relaid if o.load.array not in once)
    given = ", ".join(f"{n}=..." for n in every if built.program.array(n).role is Role.INPUT)
    return f"bind({given}) re-lays what stays the same once" if given else "operands that lie as the nest reads them"


# --- not planned -----------------------------------------------------------------------------------------------------


def nest_of(statement: str, remarks: Sequence[Remark]) -> tuple[str, ...]:
    """The statements of the nest that this one shares outer loops in, in their order; none where it stands alone."""
    every = (r.statement.split(" and ") for r in remarks if r.statement is not None and NEST in dict(r.data))
    return next((tuple(names) for names in every if statement in names), ())


def _at_hand(s: Statement, p: Program, remarks: Sequence[Remark]) -> frozenset[str]:
    """Arrays that come from no further than a block away: what its nest keeps to itself or has touched before."""
    own = {str(array) for r in remarks for key, array in r.data if key == OWN}
    nest = nest_of(s.name, remarks)
    before = (x for x in p.statements if x.name in nest[: nest.index(s.name)]) if nest else ()
    return frozenset(own | {n for x in before for n in (x.write.array, *(r.array for r in reads(x)))})


def _unplanned(
    s: Statement, built: Planned, target: Target, refused: Sequence[Remark], remarks: Sequence[Remark]
) -> Why:
    """The roof: its operations at full rate, or each of its arrays that others do not leave at hand through memory (or
    the last cache) once.
    """
    because = "; ".join(r.because for r in refused) or (
        "hints ask for its loops" if s.op is not None else "it reduces nothing, each element is computed once"
    )
    moved = _bytes(s, built.program, _at_hand(s, built.program, remarks))
    if moved is None or any(aff.sizes_of(e) for r in s.domain.ranges for e in (r.lo, r.hi)):
        return Why(s.name, "sizes that are not known: -s fixes them", None, because=because)
    points, _ = instances(s.domain)
    lanes = target.lanes(max(1, ex.dtype_of(s.value).bits // 8))
    near = target.near[2] if moved <= target.l3 else target.bytes_per_cycle
    level = "bandwidth of L3" if moved <= target.l3 else "bandwidth of memory"
    causes = (
        ("arithmetic", points * operations(s) / (2.0 * lanes * target.fma_per_cycle)),
        (level, moved / near),
    )
    bound, cycles = max(causes, key=lambda cn: cn[1])
    change = tuple(f"{s.name}: {CHANGES[r.because]}" for r in refused if r.because in CHANGES)
    return Why(s.name, bound, cycles, causes, because=because, change=change)


def _bytes(s: Statement, p: Program, at_hand: Set[str]) -> int | None:
    """Every array that the statement touches, once, but for those at hand; None where sizes are symbolic."""
    total = 0
    touched = {s.write.array, *(r.array for r in reads(s))} - at_hand
    for a in (a for a in p.arrays if a.name in touched):  # others are computed where they are read
        if not all(e.is_const for _, e in a.dims):
            return None
        total += prod(max(e.const, 0) for _, e in a.dims) * a.dtype.numpy.itemsize
    return total
