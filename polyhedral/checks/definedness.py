# SPDX-License-Identifier: MIT
"""Is each cell of a single-assignment array defined exactly once, wherever it is read or returned (API rule R13).

An array that one statement defines cell by cell over its whole extent needs no set operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from polyhedral.checks.bounds import witness
from polyhedral.errors import DomainError
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.program import Array, Program, Role, Statement
from polyhedral.sets.instances import cells, guarded_loads
from polyhedral.sets.isl import NamedSet, named

_DEFINED = (Role.OUTPUT, Role.TEMPORARY)


def require_defined(p: Program, context: Condition) -> None:
    """Raise PH120 or PH121 for the first cell that is not defined, or defined twice, for sizes within `context`."""
    for a in p.with_role(*_DEFINED):
        writers = p.writers.get(a.name, ())
        for s in writers:
            _require_injective(p, s, context)
            _require_no_loop(p, s, context)
        if len(writers) == 1 and _whole(a, writers[0]):
            continue
        _Definition(p, a, writers, context).require()


def _require_no_loop(p: Program, s: Statement, context: Condition) -> None:
    """No instance reads the very cell that it defines (longer circles are found where an order is sought)."""
    for load, when in guarded_loads(s.value):
        if load.array != s.write.array:
            continue
        read = dict(load.index)
        apart = [(i, read[d]) for d, i in s.write.index]
        same = aff.both(*(aff.equal(i - r) for i, r in apart if isinstance(r, Affine)))
        points = named(s.dims, p.sizes, aff.both(context, s.domain.condition, when, same))
        if points.is_empty() or not all(isinstance(r, Affine) for _, r in apart):
            continue
        point = witness(points)
        raise DomainError(
            "PH122",
            f"{s.write} is defined by itself in statement {s.name}",
            statement=s.name,
            point={d: point[d] for d in s.dims},
            sizes={n: point[n] for n in points.sizes},
            location=s.location,
            hints=(
                f"read an earlier cell, for example {s.write.array}[{next(iter(s.dims), 't')} - 1], "
                "or update an inout argument",
            ),
        )


def _whole(a: Array, s: Statement) -> bool:
    """The statement writes each cell at its own dims, over the whole array."""
    own = {d: (r.lo, r.hi) for r in s.domain.ranges for d in (r.dim,)}
    dims, condition = cells(s) if s.op is not None else (s.dims, s.domain.condition)
    box = aff.both(*(aff.between(0, aff.var(d), e) for d, e in a.dims))
    return (
        set(dims) == set(a.dim_names)
        and all(i.as_var() == d for d, i in s.write.index)
        and all(own[d] == (Affine(), e) for d, e in a.dims)
        and set(aff.conjuncts(condition)) <= set(aff.conjuncts(box))
    )


def _require_injective(p: Program, s: Statement, context: Condition) -> None:
    """No two instances (rows of a reduction) write the same cell."""
    dims, condition = cells(s) if s.op is not None else (s.dims, s.domain.condition)
    if set(dims) <= {i.as_var() for _, i in s.write.index}:
        return
    prime = {d: aff.var(f"{d}'") for d in dims}
    other = aff.map_affine(condition, lambda e: aff.substitute(e, prime))
    same = aff.both(*(aff.equal(i, aff.substitute(i, prime)) for _, i in s.write.index))
    pairs = named((*dims, *(f"{d}'" for d in dims)), p.sizes, aff.both(context, condition, other, same))
    before: Condition = aff.TRUE
    for d in dims:
        bad = pairs.where(aff.both(before, aff.at_least(prime[d] - aff.var(d), 1)))
        if not bad.is_empty():
            point = witness(bad)
            cell = _cell(s.write.array, {d: aff.evaluate(i, point, point) for d, i in s.write.index})
            places = [", ".join(f"{d}={point[d + m]}" for d in dims) for m in ("", "'")]
            raise DomainError(
                "PH121",
                f"{cell} is defined twice by {s.name}: at ({places[0]}) and at ({places[1]})",
                hints=("index the write by every dim, or reduce the others",),
                statement=s.name,
                dim=d,
                point={d: point[d] for d in dims},
                sizes={n: point[n] for n in bad.sizes},
                location=s.location,
            )
        before = aff.both(before, aff.equal(prime[d], aff.var(d)))


def _cell(array: str, index: dict[str, int]) -> str:
    return f"{array}({', '.join(f'{d}={v}' for d, v in index.items())})" if index else array


@dataclass(frozen=True)
class _Definition:
    """The cells of one array, and who defines them."""

    program: Program
    array: Array
    writers: tuple[Statement, ...]
    context: Condition

    @cached_property
    def written(self) -> tuple[NamedSet, ...]:
        """The cells that each statement defines; `d@` are the array's dims, apart from the statements'."""
        sets: list[NamedSet] = []
        for s in self.writers:
            dims, condition = cells(s) if s.op is not None else (s.dims, s.domain.condition)
            source = named(dims, self.program.sizes, aff.both(self.context, condition))
            sets.append(source.image({f"{d}@": i for d, i in s.write.index}))
        return tuple(sets)

    @cached_property
    def undefined(self) -> NamedSet:
        box = aff.both(*(aff.between(0, aff.var(f"{d}@"), e) for d, e in self.array.dims))
        left = named(tuple(f"{d}@" for d in self.array.dim_names), self.program.sizes, aff.both(self.context, box))
        for w in self.written:
            left = left - w
        return left

    def require(self) -> None:
        self.require_once()
        if self.undefined.is_empty():
            return
        if self.array.role is Role.OUTPUT:
            point = witness(self.undefined)
            self.fail(point, self.undefined, f"{self.cell(point)} is returned but no statement defines it", None)
        for s in self.program.users.get(self.array.name, ()):
            for load, when in guarded_loads(s.value):
                if load.array != self.array.name:
                    continue
                index = {f"{d}@": i for d, i in load.index if isinstance(i, Affine)}
                readers = named(s.dims, self.program.sizes, aff.both(self.context, s.domain.condition, when))
                bad = readers & self.undefined.preimage(index, s.dims)
                if not bad.is_empty():
                    point = witness(bad)
                    reader = ", ".join(f"{d}={point[d]}" for d in s.dims)
                    read = {d: aff.evaluate(i, point, point) for d, i in load.index if isinstance(i, Affine)}
                    shown = _cell(self.array.name, read)
                    where = f" at ({reader})" if reader else ""
                    self.fail(point, bad, f"{shown} is read by {s.name}{where} but no statement defines it", s)

    def require_once(self) -> None:
        for k, first in enumerate(self.written):
            for j in range(k):
                both = first & self.written[j]
                if not both.is_empty():
                    point = witness(both)
                    a, b = self.writers[j], self.writers[k]
                    raise DomainError(
                        "PH121",
                        f"{self.cell(point)} is defined by {a.name} and {b.name}",
                        details=tuple(
                            f"{s.name} defines {s.write} for {', '.join(map(str, s.domain.ranges)) or 'one point'}"
                            for s in (a, b)
                        ),
                        hints=("make their domains disjoint, or ph.assume sizes for which they are",),
                        statement=b.name,
                        point={d: point[f"{d}@"] for d in self.array.dim_names},
                        sizes={n: point[n] for n in both.sizes},
                        location=b.location,
                    )

    def cell(self, point: dict[str, int]) -> str:
        return _cell(self.array.name, {d: point[f"{d}@"] for d in self.array.dim_names})

    def fail(self, point: dict[str, int], bad: NamedSet, message: str, reader: Statement | None) -> None:
        on = [f"{{{self.described(w)}}} by {s.name}" for s, w in zip(self.writers, self.written, strict=True)]
        raise DomainError(
            "PH120",
            message,
            details=(f"{self.array.name} is defined on {' and '.join(on) or 'no cell'}",),
            hints=("add a border equation or ph.orelse(expr, fallback)",),
            statement=reader.name if reader else None,
            point={d.removesuffix("@"): point[d] for d in bad.dims},
            sizes={n: point[n] for n in bad.sizes},
            location=reader.location if reader else next((s.location for s in self.writers), None),
        )

    def described(self, w: NamedSet) -> str:
        universe = named((), self.program.sizes, self.context)
        return str(w.gist(universe).condition()).replace("@", "")
