# SPDX-License-Identifier: MIT
"""Dims and ranges as users spell them, turned into names and affine bounds.

What a range means to a statement is left to `recorder` and `frontend.inference.settling`.
"""

from __future__ import annotations

import keyword
from typing import cast

from frontend.lang.access import spoken
from frontend.lang.location import here
from frontend.lang.value import Handle, Span, Value, as_affine, as_tuple, joint, lift
from polyhedral.errors import DimError
from polyhedral.ir.affine import Affine


def name_of(dim: object) -> str:
    if isinstance(dim, Handle):
        value = lift(dim)
        index = None if value is None else as_affine(value)
        name = None if index is None else index.as_var()
        if name is not None:
            return name
    if isinstance(dim, str):
        return dim
    why = ": dimensions are named, not numbered" if isinstance(dim, int) else ""
    raise DimError(
        "PH001",
        f"{dim!r} is not a dimension{why}",
        hints=("from polyhedral.dim import x, or x = ph.dims('x')",),
        location=here(),
    )


def dim_names(dims: tuple[object, ...]) -> tuple[str, ...]:
    """Dims as names; a string may hold several, `"i j"`."""
    return tuple(n for d in dims for n in (d.split() if isinstance(d, str) else (name_of(d),)))


def span_of(dim: str, given: object, fixed: bool = False) -> Span:
    """A range as users write it: a size, (lo, hi) or range(lo, hi)."""
    if isinstance(given, Span):
        return given
    if isinstance(given, range) and given.step == 1:
        pair: tuple[object, ...] = (given.start, given.stop)
    else:
        listed = as_tuple(given)
        pair = listed if isinstance(given, tuple) else (0, *listed)
    values = [v for v in map(_lift_bound, pair) if v is not None]
    bounds = [as_affine(v) for v in values]
    if not isinstance(given, tuple | range) and len(bounds) == 2 and _negative(bounds[1]):
        raise DimError(
            "PH047",
            f"dimension {spoken(dim)} has the size {given}; sizes are not negative",
            hints=(f"ph.dims({spoken(dim)}=3), or a range: .over({spoken(dim)}=(lo, hi))",),
            dim=dim,
            location=here(),
        )
    if len(pair) == 2 and len(bounds) == 2 and bounds[0] is not None and bounds[1] is not None:
        return Span(bounds[0], bounds[1], fixed, joint(values))
    raise DimError(
        "PH030",
        f"{spoken(dim)}={given!r} is not a range of dimension {spoken(dim)}",
        hints=(f"a size, a pair or a range: {dim}=X.size({dim}), {dim}=(1, n - 1), {dim}=range(1, 5)",),
        dim=dim,
        location=here(),
    )


def _negative(size: object) -> bool:
    return isinstance(size, Affine) and size.is_const and size.const < 0


def _lift_bound(bound: object) -> Value | None:
    return None if isinstance(bound, str) else lift(bound)


def check_name(name: str) -> None:
    """PH006 unless the name can be a keyword argument; private dims carry a number, `k'1`."""
    parts = name.partition("'") if isinstance(cast("object", name), str) else ("", "", "")
    if parts[0].isidentifier() and not keyword.iskeyword(name) and (not parts[1] or parts[2].isdigit()):
        return
    shown = str(name).partition("'")[0]
    why = "a Python keyword" if keyword.iskeyword(shown) else "not a name"
    raise DimError(
        "PH006",
        f"a dimension cannot be called '{shown}': it is {why}, so X({shown}=...) could not be written",
        hints=(
            f"rename the dimension, for example {shown}_" if why == "a Python keyword" else "use letters: i, kx, row",
        ),
        dim=name,
        location=here(),
    )
