# SPDX-License-Identifier: MIT
"""Index-set splitting: cut a statement's range in two, so that each part has whole tiles only.

S over x < 100    ->    S over x < 96  and  S_x over 96 <= x < 100
"""

from __future__ import annotations

from dataclasses import replace

from polyhedral.ir import affine as aff
from polyhedral.ir.program import Domain, Range, Statement


def split(s: Statement, dim: str, at: int, name: str) -> tuple[Statement, Statement]:
    """The parts below and from `at`; they write different cells because `dim` is kept; the second is called `name`."""
    return (
        replace(s, domain=_cut(s.domain, dim, hi=at)),
        replace(s, name=name, domain=_cut(s.domain, dim, lo=at)),
    )


def _cut(domain: Domain, dim: str, lo: int | None = None, hi: int | None = None) -> Domain:
    def cut(r: Range) -> Range:
        if r.dim != dim:
            return r
        return Range(dim, r.lo if lo is None else aff.const(lo), r.hi if hi is None else aff.const(hi))

    return Domain(tuple(cut(r) for r in domain.ranges), domain.guard)
