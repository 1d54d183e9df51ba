# SPDX-License-Identifier: MIT
"""Which arrays a derivative passes through, and which dims of theirs are those of independent examples.

Where the only way leads through integers or through operators without a derivative, that is an error with its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from frontend.recorded import Rule
from polyhedral.errors import DtypeError, Location
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.derivatives import FLAT, complex_reads, constant, gradients, is_smooth
from polyhedral.ir.program import Program, Statement, reads


def smooth_reads(s: Statement) -> tuple[ex.Load, ...]:
    """The loads that a statement's value depends on smoothly."""
    dtype = ex.dtype_of(s.value)
    return tuple(gradients(s.value, constant(1.0, dtype))) if is_smooth(dtype) else ()


@dataclass(frozen=True)
class Flow:
    """For every array, the statements that define it and what these read; `smooth` counts reads with a derivative."""

    program: Program
    smooth: Mapping[str, frozenset[str]]
    all: Mapping[str, frozenset[str]]
    through_complex: tuple[Statement, ...] = ()
    """Statements whose real values come of complex ones."""

    def above(self, names: Iterable[str], edges: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """The arrays that these are computed from, themselves included."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            n = waiting.pop()
            if n not in found:
                found.add(n)
                waiting += edges.get(n, ())
        return frozenset(found)


def flow(p: Program, held: frozenset[str] = frozenset(), rules: Sequence[Rule] = ()) -> Flow:
    """`held` arrays are constants: nothing leads to them; through `rules` their inputs alone lead to their outputs."""
    smooth: dict[str, frozenset[str]] = {}
    every: dict[str, frozenset[str]] = {}
    for s in p.statements:
        n = s.write.array
        if n in held:
            continue
        smooth[n] = smooth.get(n, frozenset()) | {r.array for r in smooth_reads(s)}
        every[n] = every.get(n, frozenset()) | {r.array for r in reads(s)}
    for rule in rules:
        for n in rule.outputs:
            smooth[n] = every[n] = frozenset(rule.inputs)
    through = (s for s in p.statements if s.write.array not in held and is_smooth(ex.dtype_of(s.value)))
    return Flow(p, smooth, every, tuple(s for s in through if any(True for _ in complex_reads(s.value))))


def active(f: Flow, outputs: Iterable[str], wrt: str, where: Location | None) -> frozenset[str]:
    """The arrays on smooth ways from `wrt` to the outputs; PH051 where there are only ways of another kind, or one
    through complex numbers.
    """
    outputs = tuple(outputs)
    up = f.above(outputs, f.smooth)
    for s in f.through_complex:
        if s.write.array in up and any(wrt in f.above((r.array,), f.all) for r in complex_reads(s.value)):
            raise DtypeError(
                "PH051",
                f"the gradient by {wrt} would go through complex numbers in {s.name}, which have no derivative here",
                hints=(
                    "compute with two real tensors, the real and the imaginary part",
                    "ph.stop_gradient(Z.real) where it is a constant to the derivative",
                ),
                statement=s.name,
                location=s.location or where,
            )
    if wrt in up:
        below = {n for n in up if wrt in f.above((n,), f.smooth)}
        return frozenset(below)
    if wrt in f.above(outputs, f.all):
        raise _blocked(f, outputs, wrt, where)
    return frozenset()


def _blocked(f: Flow, outputs: tuple[str, ...], wrt: str, where: Location | None) -> DtypeError:
    """The first statement that reads what depends on `wrt` without having a derivative by it."""
    needed = f.above(outputs, f.all)
    for s in f.program.statements:
        if s.write.array not in needed:
            continue
        smooth = {r.array for r in smooth_reads(s)}
        stopped = [r for r in reads(s) if r.array not in smooth and wrt in f.above((r.array,), f.all)]
        if stopped:
            return DtypeError(
                "PH051",
                f"the gradient by {wrt} would go through {_obstacle(s)} in {s.name}, which has no derivative",
                details=(f"{s.name} reads {stopped[0].array}, and {wrt} reaches {', '.join(outputs)} only that way",),
                hints=("differentiate what is smooth: values chosen by an index, not the index itself",),
                statement=s.name,
                location=s.location or where,
            )
    raise AssertionError("a way that is not smooth has an obstacle")


def _obstacle(s: Statement) -> str:
    if s.op == "min" and ex.dtype_of(s.value).is_integer:
        return "an argmax or another search for an index"
    for e in ex.walk(s.value):
        match e:
            case ex.Cast(dtype, _) if not is_smooth(dtype):
                return f"a conversion to {dtype}"
            case ex.Call(fn, _) | ex.Binary(fn, _, _) if fn in FLAT:
                return fn
            case ex.Binary(op, _, _) if op in ex.COMPARISONS:
                return f"the comparison {op}"
            case _:
                pass
    return "integers"


def carried(p: Program, through: frozenset[str], dim: str, rules: Sequence[Rule] = ()) -> frozenset[str]:
    """The arrays that have a dim of independent examples as one of their own: no statement mixes its points.

    The greatest such set: a statement that writes one at an index which is not a dim of its own, or reads one at the
    point of another example, takes that array out; and so does a rule that was not lifted over the dim.
    """
    by_rule = {n for rule in rules for n in rule.outputs}
    kept = {n for n in through if dim in p.array(n).dim_names}
    while True:
        bad: set[str] = set()
        for s in p.statements:
            if s.write.array not in through or s.write.array in by_rule:
                continue
            own = dict(s.write.index).get(dim)
            mine = own.as_var() if own is not None and s.write.array in kept else None
            if s.write.array in kept and mine is None:
                bad.add(s.write.array)
            for r in reads(s):
                at = dict(r.index).get(dim)
                if r.array in kept and (mine is None or not (isinstance(at, Affine) and at == aff.var(mine))):
                    bad.add(r.array)
        for rule in rules:
            mixed = dim not in rule.lifted or any(n in through and n not in kept for n in rule.outputs)
            bad |= {n for n in rule.inputs if mixed} | {n for n in rule.outputs if dim not in rule.lifted}
        bad &= kept
        if not bad:
            return frozenset(kept)
        kept -= bad
