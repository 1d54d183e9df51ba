# SPDX-License-Identifier: MIT
"""Divisions in addresses, which compilers' vectors are slow at unless a shift does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from codegen import loops as lp
from codegen.lanes import affine_index
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Floor
from polyhedral.sets.instances import Family


def divides(
    n: lp.For,
    families: Mapping[str, Family],
    address: Callable[[str, Sequence[tuple[str, Affine]]], Affine | None],
) -> bool:
    """Whether addresses that a loop reads take divisions of its own counter by what is no power of two."""
    values = (
        ex.substitute(families[x.family].statement.value, dict(x.at)) for x in lp.walk(n.body) if isinstance(x, lp.Exec)
    )
    places = (address(load.array, affine_index(load)) for value in values for load in ex.loads(value))
    floors = (term for place in places if place is not None for term, _ in place.terms if isinstance(term, Floor))
    return any(n.name in aff.dims_of(f.arg) and f.divisor & (f.divisor - 1) for f in floors)
