# SPDX-License-Identifier: MIT
"""What is checked of every Program, however it was made: names and types, bounds, definedness, order of updates.

The result carries what remains to be tested at each call; what is wrong for all sizes is an error here, with a point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from polyhedral.checks.bounds import Precondition, Proof, verdicts, violation, witness
from polyhedral.checks.definedness import require_defined
from polyhedral.checks.loops import require_loops
from polyhedral.checks.wellformed import require_wellformed
from polyhedral.errors import OrderError, Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Access, Program, Role, Statement, require_program
from polyhedral.sets.instances import guarded_loads
from polyhedral.sets.isl import NamedSet, named

__all__ = ["Checked", "Precondition", "Proof", "check", "violation"]


@dataclass(frozen=True, repr=False)
class Checked:
    """A program that is right for all sizes that satisfy its assumptions and these preconditions."""

    program: Program
    preconditions: tuple[Precondition, ...]
    remarks: tuple[Remark, ...]
    proofs: tuple[Proof, ...]

    def __repr__(self) -> str:
        known = f"{len(self.proofs)} proofs, {len(self.preconditions)} preconditions, {len(self.remarks)} remarks"
        return f"<Checked {self.program.name}: {known}>"


def check(program: Program) -> Checked:
    """Raise the first error of the program, or say under which conditions on its sizes there is none."""
    require_program(program, "ph.check")
    require_wellformed(program)
    proofs, preconditions = verdicts(program)
    context = aff.both(*program.assumptions, *(c.condition for c in preconditions))
    require_defined(program, context)
    require_order(program, context)
    require_loops(program, context)
    remarks = tuple(r for s in program.statements for r in _overflow(s))
    return Checked(program, preconditions, remarks, proofs)


# --- order of updates ------------------------------------------------------------------------------------------------


def require_order(p: Program, context: Condition) -> None:
    """PH201 where the result of an update depends on the order of dims that no loop orders, for sizes in `context`."""
    for s in p.statements:
        if p.array(s.write.array).role is Role.INOUT:
            _require_order(p, s, context)


def _require_order(p: Program, s: Statement, context: Condition) -> None:
    """PH201 when two instances that no loop orders touch one cell, and one of them writes it (rule R16).

    The combining of a reduction commutes and is exempt; what its value reads is not.
    """
    free = tuple(d for d in s.dims if d not in s.ordered)
    if not free:
        return
    if s.op is None and not set(free) <= {i.as_var() for _, i in s.write.index}:
        _require_disjoint(p, s, s.write, aff.TRUE, free, context, "also writes")
    for load, when in guarded_loads(s.value):
        affine = tuple((d, i) for d, i in load.index if isinstance(i, Affine))
        if load.array == s.write.array:
            read = Access(load.array, affine)
            if affine != s.write.index or not set(free) <= {i.as_var() for _, i in affine}:
                _require_disjoint(p, s, read, when, free, context, "reads")


def _require_disjoint(
    p: Program, s: Statement, other: Access, when: Condition, free: tuple[str, ...], context: Condition, verb: str
) -> None:
    prime = {d: aff.var(f"{d}'") for d in free}

    def primed(e: Affine) -> Affine:
        return aff.substitute(e, prime)

    written = dict(s.write.index)
    pairs = named(
        (*s.dims, *(f"{d}'" for d in free)),
        p.sizes,
        aff.both(
            context,
            s.domain.condition,
            aff.map_affine(aff.both(s.domain.condition, when), primed),
            *(aff.equal(written[d], primed(i)) for d, i in other.index),
        ),
    )
    for part in _apart(s, free):
        bad = pairs.where(part)
        if not bad.is_empty():
            raise _order_error(s, bad, other, free, verb)


def _apart(s: Statement, free: tuple[str, ...]) -> Iterator[Condition]:
    """The two instances differ; a reduction that resets its cell must not read it even in the same instance."""
    if s.op is not None and not s.accumulate:
        yield aff.TRUE
        return
    same: Condition = aff.TRUE
    for d in free:
        difference = aff.var(f"{d}'") - aff.var(d)
        yield aff.both(same, aff.at_least(difference, 1))
        yield aff.both(same, aff.at_least(-difference, 1))
        same = aff.both(same, aff.equal(difference))


def _order_error(s: Statement, bad: NamedSet, other: Access, free: tuple[str, ...], verb: str) -> OrderError:
    point, prime = witness(bad), "'"
    first = ", ".join(f"{d}={point[d]}" for d in s.dims)
    second = ", ".join(f"{d}={point[d + prime * (d in free)]}" for d in s.dims)
    cell = ", ".join(f"{d}={aff.evaluate(i, point, point)}" for d, i in s.write.index)
    loops = ", ".join(free)
    apart = ", ".join(d for d in free if point[d] != point[d + prime]) or loops
    return OrderError(
        "PH201",
        f"statement {s.name} updates {s.write.array} in place, and the result depends on the order of {apart}",
        details=(
            f"instance ({first}) writes {s.write.array}({cell}), which instance ({second}) {verb} as {other}",
            *((f"with sizes {', '.join(f'{n}={point[n]}' for n in bad.sizes)}",) if bad.sizes else ()),
        ),
        hints=(
            f"with ph.sequential({loops}):   # Gauss-Seidel: later points see earlier updates",
            "new = ph.let(...)   # Jacobi: all points read the old values",
        ),
        statement=s.name,
        dim=free[0],
        point={d: point[d] for d in s.dims},
        sizes={n: point[n] for n in bad.sizes},
        location=s.location,
    )


# --- overflow --------------------------------------------------------------------------------------------------------


def _overflow(s: Statement) -> Iterator[Remark]:
    """PH302 as a remark: an integer sum whose largest terms do not fit (only when the ranges are numbers)."""
    dtype = ex.dtype_of(s.value)
    ranges = {r.dim: r.hi - r.lo for r in s.domain.ranges}
    if s.op != "sum" or not dtype.is_integer or not all(ranges[d].is_const for d in s.reduced):
        return
    terms = 1
    for d in s.reduced:
        terms *= max(ranges[d].const, 0)
    low, high = _interval(s.value)
    least, most = _limits(dtype.kind, dtype.bits)
    if low * terms < least or high * terms > most:
        yield Remark(
            f"{dtype} sum over {', '.join(s.reduced)} may overflow (PH302)",
            f"{terms} terms in [{low}, {high}] reach {max(-low, high) * terms:.3g}",
            s.name,
            (("code", "PH302"), ("terms", terms), ("low", low), ("high", high)),
        )


def _limits(kind: str, bits: int) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind == "i" else (0, (1 << bits) - 1)


def _interval(e: ex.Expr) -> tuple[int, int]:
    """Bounds on an integer value, from the types of what is read."""
    dtype = ex.dtype_of(e)
    limits = _limits(dtype.kind, dtype.bits) if dtype.is_integer else (-(1 << 63), (1 << 63) - 1)
    match e:
        case ex.Const(int() as value, _):
            return (value, value)
        case ex.Cast(_, arg) if ex.dtype_of(arg).kind in "biu":
            low, high = (0, 1) if ex.dtype_of(arg).kind == "b" else _interval(arg)
            return (low, high) if limits[0] <= low and high <= limits[1] else limits
        case ex.Select(_, then, other):
            (a, b), (c, d) = _interval(then), _interval(other)
            return min(a, c), max(b, d)
        case ex.Binary("+" | "-" | "*" | "min" | "max" as op, lhs, rhs):
            (a, b), (c, d) = _interval(lhs), _interval(rhs)
            corners = (a * c, a * d, b * c, b * d)
            low, high = {
                "+": (a + c, b + d),
                "-": (a - d, b - c),
                "*": (min(corners), max(corners)),
                "min": (min(a, c), min(b, d)),
                "max": (max(a, c), max(b, d)),
            }[op]
            return (low, high) if limits[0] <= low and high <= limits[1] else limits
        case _:
            return limits
