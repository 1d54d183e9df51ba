# SPDX-License-Identifier: MIT
"""Floors that the ranges of dims make shorter: `(16*jo + ji) // 32` over ji < 16 is `jo // 2`.

With g a common factor of the divisor and of all other terms, what is left of them lies below g and cannot carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Floor, Var


def within(e: Affine, ranges: Mapping[str, tuple[int, int]]) -> Affine:
    """The same index over dims within `ranges`, both ends included; dims without one stay as they are."""
    total = aff.const(e.const)
    for term, c in e.terms:
        made = (
            _floor(within(term.arg, ranges), term.divisor, ranges) if isinstance(term, Floor) else Affine(((term, 1),))
        )
        total = total + made * c
    return total


def _floor(arg: Affine, divisor: int, ranges: Mapping[str, tuple[int, int]]) -> Affine:
    for term, c in arg.terms:
        if isinstance(term, Var) and term.name in ranges:
            rest = arg - aff.var(term.name) * c
            factor = gcd(divisor, *(k for _, k in rest.terms))
            over = rest.const % factor
            ends = [over + c * end for end in ranges[term.name]]
            if min(ends) >= 0 and max(ends) < factor:
                return (rest - over) // factor // (divisor // factor)
    return arg // divisor
