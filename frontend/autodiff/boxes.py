# SPDX-License-Identifier: MIT
"""The box around ranges whose bounds use outer dims: what an array over all instances has to hold.

Exact where the coefficients of outer dims are outside floors; otherwise an access may lie outside, which is found where
a program is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Range

Box = Mapping[str, tuple[Affine, Affine]]


def box(ranges: Iterable[Range]) -> Box:
    """The least and one past the greatest value of each dim, over all others."""
    known: dict[str, tuple[Affine, Affine]] = {}
    for r in ranges:
        known[r.dim] = extreme(r.lo, known, largest=False), extreme(r.hi, known, largest=True)
    return known


def extreme(e: Affine, around: Box, *, largest: bool) -> Affine:
    """The least or greatest value of an expression over a box, for the dims that it covers."""
    at: dict[str, Affine] = {}
    for d in aff.dims_of(e) & around.keys():
        lo, hi = around[d]
        at[d] = hi - 1 if (e.coefficient(aff.Var(d)) >= 0) == largest else lo
    return aff.substitute(e, at)
