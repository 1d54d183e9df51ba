# SPDX-License-Identifier: MIT
"""Names for what differentiation adds: arrays, statements and dims that clash with nothing.

Renaming the dims of a statement is here too; which dims have to move is `frontend.autodiff.reverse`'s to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Access, Domain, Range, Statement


def fresh(base: str, taken: set[str]) -> str:
    """A name that nothing else has; `taken` grows by it."""
    name, n = base, 0
    while name in taken:
        n += 1
        name = f"{base}_{n}"
    taken.add(name)
    return name


def apart(s: Statement, names: Iterable[str]) -> Statement:
    """The statement with other dims than these."""
    taken = {*names, *s.dims}
    return renamed(s, {d: fresh(d, taken) for d in s.dims if d in set(names)})


def renamed(s: Statement, names: Mapping[str, str]) -> Statement:
    """The statement with some dims called otherwise."""
    if not names:
        return s
    at = {d: aff.var(n) for d, n in names.items()}

    def one(e: aff.Affine) -> aff.Affine:
        return aff.substitute(e, at)

    ranges = tuple(Range(names.get(r.dim, r.dim), one(r.lo), one(r.hi)) for r in s.domain.ranges)
    return replace(
        s,
        domain=Domain(ranges, aff.map_affine(s.domain.guard, one)),
        write=Access(s.write.array, tuple((d, one(i)) for d, i in s.write.index)),
        value=ex.substitute(s.value, at),
        position=tuple(names.get(p, p) if isinstance(p, str) else p for p in s.position),
    )
