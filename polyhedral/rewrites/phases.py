# SPDX-License-Identifier: MIT
"""Phases: a sum over the inverse of a strided window falls apart by the cell's remainder, into sums over boxes.

dX(x) = sum[y, k < 3 if 2*y + k == x] dY(y) * W(k)    ->    dX(x=2*x)     = sum[k < 2] dY(y=x - k) * W(k=2*k)
                                                            dX(x=2*x + 1) = sum[k < 1] dY(y=x - k) * W(k=2*k + 1)

Each is an ordinary convolution, exact and dense: no product with a zero between the elements of dY is ever taken.
Where an index may leave its array, `pad_reads` turns the bounds of y into padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod

from polyhedral.errors import Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import TRUE, Affine, Compare, Condition, Var
from polyhedral.ir.operands import Interval, box, interval
from polyhedral.ir.program import Access, Domain, Program, Range, Statement, fresh, names
from polyhedral.rewrites.pad_reads import pad_reads

MOST = 16
"""Phases of one statement at most."""


@dataclass(frozen=True)
class _Window:
    """cell = stride * place + step * tap + offset; there may be no tap."""

    cell: str
    place: str
    stride: int
    tap: str | None
    step: int
    offset: int


@dataclass(frozen=True)
class _Phase:
    """What the dims of a window stand for in the cells of one remainder, and how far those that are left go; None for
    `at` where no instance touches these cells.
    """

    cell: Affine
    cells: int
    at: Mapping[str, Affine] | None = None
    taps: int = 0


def phases(p: Program, small: int) -> tuple[Program, tuple[Remark, ...]]:
    """Every sum of at least `small` products over the inverse of windows as sums over boxes."""
    statements: list[Statement] = []
    remarks: list[Remark] = []
    taken = names(p)
    for s in p.statements:
        parts = _parts(p, s, small, taken)
        statements += parts
        if len(parts) > 1:
            remarks.append(
                Remark(f"{len(parts)} phases", "its cells differ in which places of a window see them", s.name)
            )
    if all(a is b for a, b in zip(statements, p.statements, strict=False)) and len(statements) == len(p.statements):
        return p, ()
    return replace(p, statements=tuple(statements)), tuple(remarks)


def _parts(p: Program, s: Statement, small: int, taken: set[str]) -> list[Statement]:
    """The statement itself where nothing is to be gained, or nothing can be done."""
    if s.op != "sum" or s.strict or s.accumulate or s.ordered or s.domain.guard == TRUE:
        return [s]
    if any(r.lo != aff.const(0) or not r.hi.is_const or r.hi.const < 1 for r in s.domain.ranges):
        return [s]
    extents = {r.dim: r.hi.const for r in s.domain.ranges}
    equations = [c.expr for c in aff.conjuncts(s.domain.guard) if isinstance(c, Compare) and c.equal]
    found = [_window(s, e, extents) for e in equations]
    windows = [w for w in found if w is not None]
    if len(windows) < len(found) or _overlap(windows) or prod(w.stride for w in windows) > MOST:
        return [s]
    if prod(n for d, n in extents.items() if d not in {w.place for w in windows}) < small:
        return [s]
    if not windows:
        part = pad_reads(p, s)
        return [s if part is None else part]
    parts: list[Statement] = []
    for chosen in product(*(_phases(w, extents) for w in windows)):
        part = _part(p, s, windows, chosen)
        if part is None:
            return [s]
        parts.append(part)
    return [t if n == 0 else replace(t, name=fresh(f"{s.name}_{n}", taken)) for n, t in enumerate(parts)]


def _window(s: Statement, e: Affine, extents: Mapping[str, int]) -> _Window | None:
    """The window that an equation `e == 0` describes: a dim of the result against one or two that are summed over."""
    kept = {v for _, i in s.write.index if (v := i.as_var()) is not None}
    terms = {t.name: c for t, c in e.terms if isinstance(t, Var)}
    cells = [d for d, c in terms.items() if d in kept and abs(c) == 1]
    if len(terms) != len(e.terms) or len(cells) != 1:
        return None
    cell = cells[0]
    others = {d: -c * terms[cell] for d, c in terms.items() if d != cell}
    places = sorted((d for d, c in others.items() if c > 0), key=lambda d: (-extents[d], -others[d]))
    if not 1 <= len(others) <= 2 or not places or not others.keys() <= set(s.reduced):
        return None
    place, tap = places[0], next((d for d in others if d != places[0]), None)
    return _Window(cell, place, others[place], tap, others[tap] if tap else 0, -e.const * terms[cell])


def _overlap(windows: Sequence[_Window]) -> bool:
    used = [d for w in windows for d in (w.cell, w.place, w.tap) if d is not None]
    return len(set(used)) < len(used)


def _phases(w: _Window, extents: Mapping[str, int]) -> list[_Phase]:
    """One for each remainder of the cell: the taps that see it are every so many, from the first on."""
    found: list[_Phase] = []
    common = gcd(w.stride, w.step)
    apart = w.stride // common
    for r in range(min(w.stride, extents[w.cell])):
        cell, cells = aff.var(w.cell) * w.stride + r, -((r - extents[w.cell]) // w.stride)
        most = min(apart, extents[w.tap]) if w.tap else 1
        first = next((k for k in range(most) if (r - w.step * k - w.offset) % w.stride == 0), None)
        if first is None:
            found.append(_Phase(cell, cells))
            continue
        place = aff.var(w.cell) + (r - w.step * first - w.offset) // w.stride
        at: dict[str, Affine] = {w.cell: cell, w.place: place}
        taps = 1
        if w.tap:
            at[w.place] = place - aff.var(w.tap) * (w.step // common)
            at[w.tap] = aff.var(w.tap) * apart + first
            taps = -((first - extents[w.tap]) // apart)
        found.append(_Phase(cell, cells, at, taps))
    return found


def _part(p: Program, s: Statement, windows: Sequence[_Window], chosen: Sequence[_Phase]) -> Statement | None:
    """The statement for the cells of one remainder along each window."""
    cells = {w.cell: c for w, c in zip(windows, chosen, strict=True)}
    write = Access(
        s.write.array, tuple((d, aff.substitute(i, {w: c.cell for w, c in cells.items()})) for d, i in s.write.index)
    )
    extents = {w.cell: c.cells for w, c in zip(windows, chosen, strict=True)}
    if any(c.at is None for c in chosen):
        zero = ex.identity("sum", ex.dtype_of(s.value))
        rows = tuple(_resized(r, extents) for r in s.domain.ranges if r.dim in s.kept)
        own = [c for c in aff.conjuncts(s.domain.guard) if aff.condition_dims(c) <= set(s.kept)]
        return None if own else replace(s, domain=Domain(rows), write=write, value=zero, op=None)
    at = {d: e for c in chosen if c.at is not None for d, e in c.at.items()}
    extents |= {w.tap: c.taps for w, c in zip(windows, chosen, strict=True) if w.tap}
    gone = {w.place: r for w in windows for r in s.domain.ranges if r.dim == w.place}
    ranges = tuple(_resized(r, extents) for r in s.domain.ranges if r.dim not in gone)
    inside = (aff.between(r.lo, at[d], r.hi) for d, r in gone.items())
    rest = (c for c in aff.conjuncts(s.domain.guard) if not (isinstance(c, Compare) and c.equal))
    whole = aff.conjuncts(aff.both(*inside, *(_at(c, at) for c in rest)))
    guard = aff.both(*(c for c in whole if not _implied(c, box(Domain(ranges)))))
    part = replace(s, domain=Domain(ranges, guard), write=write, value=ex.substitute(s.value, at))
    return pad_reads(p, part)


def _implied(c: Condition, ranges: Mapping[str, Interval]) -> bool:
    """Whether a condition holds all over a box."""
    plain = isinstance(c, Compare) and not c.equal and all(isinstance(t, Var) for t, _ in c.expr.terms)
    return plain and isinstance(c, Compare) and interval(c.expr, ranges)[0] >= 0


def _resized(r: Range, extents: Mapping[str, int]) -> Range:
    return Range(r.dim, r.lo, aff.const(extents[r.dim])) if r.dim in extents else r


def _at(c: Condition, at: Mapping[str, Affine]) -> Condition:
    return aff.map_affine(c, lambda e: aff.substitute(e, at))
