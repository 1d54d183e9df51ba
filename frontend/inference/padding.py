# SPDX-License-Identifier: MIT
"""Reads beyond the edges of a padded array as choices between reads inside it (rule R14).

Nothing is copied here: whether a padded copy pays off is decided when the program is planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from frontend.recorded import Padding
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.dtypes import i64
from polyhedral.ir.expr import Expr, Load
from polyhedral.ir.program import Array, Domain
from polyhedral.sets.isl import named


def unpadded(load: Load, padding: Padding, array: Array, domain: Domain) -> Expr:
    """`load` of the padding as reads of `array` itself, for a reader with this domain.

    constant   X(y=y-1)  ->  X(y=y-1) if 0 <= y-1 < X.y else value
    edge       X(y=y-1)  ->  X(y=0) if y-1 < 0 else X(y=X.y-1) if y-1 >= X.y else X(y=y-1)

    What lies beyond the padding, if the reader may come there, stays a read of the array: out of bounds, for the checks
    to say.
    """
    if padding.within is not None:
        return _in_turn(load, padding, padding.within, array, domain)
    widths = {d: (low, high) for d, low, high in padding.widths}
    ranges = {r.dim: (r.lo, r.hi) for r in domain.ranges}
    loose: dict[str, tuple[Affine | Expr, bool, bool]] = {}
    beyond: list[Expr] = []
    for d, i in load.index:
        low, high = widths.get(d, (0, 0))
        whole = isinstance(i, Affine) and ranges.get(i.as_var() or "") == (aff.const(0), array.extent(d))
        if (low or high) and not whole:
            loose[d] = (i, bool(low), bool(high))
            beyond += [_below(i, bool(low), -low), _above(i, bool(high), array.extent(d) + high)]
    plain = replace(load, array=padding.array)
    inside = _constant(plain, padding, array, loose)
    if padding.mode != "constant":
        inside = _moved(plain, padding, array, list(loose))
    return _within(inside, plain, beyond, domain)


def _in_turn(load: Load, padding: Padding, first: Padding, array: Array, domain: Domain) -> Expr:
    """Along the dims of this padding, then along those of the one that it reads: what the first reads is the second."""
    outer = unpadded(load, replace(padding, array=first.name, within=None), array, domain)

    def inner(node: Expr) -> Expr:
        return unpadded(node, first, array, domain) if isinstance(node, Load) and node.array == first.name else node

    return ex.rewrite(outer, inner)


def _within(inside: Expr, plain: Load, beyond: Sequence[Expr], domain: Domain) -> Expr:
    """`inside` where no test holds that says that the reader is beyond the padding, as far as it may come there."""
    for t in beyond:
        if not isinstance(t, ex.Test):
            inside = ex.Select(t, plain, inside)
    reached = aff.either(*(t.condition for t in beyond if isinstance(t, ex.Test)))
    if reached == aff.FALSE or named(domain.dims, (), aff.both(domain.condition, reached)).is_empty():
        return inside
    return ex.Select(ex.Test(aff.negate(reached)), inside, plain)


def _constant(
    plain: Load, padding: Padding, array: Array, loose: Mapping[str, tuple[Affine | Expr, bool, bool]]
) -> Expr:
    """The read where it is inside, the padding's value elsewhere."""
    result: Expr = plain
    tests = [_below(i, low) for i, low, _ in loose.values()]
    tests += [_above(i, high, array.extent(d)) for d, (i, _, high) in loose.items()]
    affine = [t.condition for t in tests if isinstance(t, ex.Test)]
    outside = aff.either(*affine)
    for t in tests:
        if not isinstance(t, ex.Test):
            result = ex.Select(t, padding.value, result)
    return ex.Select(ex.Test(aff.negate(outside)), result, padding.value) if outside != aff.FALSE else result


def _below(i: Affine | Expr, low: bool, first: int = 0) -> Expr:
    """Whether an index lies before `first`, on a side that is padded."""
    if isinstance(i, Affine):
        return ex.Test(aff.at_least(-i, 1 - first) if low else aff.FALSE)
    return ex.Binary("<", ex.Cast(i64, i), ex.Const(first, i64))


def _above(i: Affine | Expr, high: bool, extent: Affine) -> Expr:
    """Whether an index lies at or behind an extent, on a side that is padded."""
    if isinstance(i, Affine):
        return ex.Test(aff.at_least(i, extent) if high else aff.FALSE)
    return ex.Binary(">=", ex.Cast(i64, i), ex.Index(extent, i64))


def _moved(load: Load, padding: Padding, array: Array, dims: list[str]) -> Expr:
    """One dim after the other: the read below the edge, above it, and inside."""
    if not dims:
        return load
    d, rest = dims[0], dims[1:]
    low, high = next((low, high) for name, low, high in padding.widths if name == d)
    i, extent = dict(load.index)[d], array.extent(d)
    result = _moved(load, padding, array, rest)
    sides: Mapping[str, tuple[Affine | Expr, Affine | Expr]] = {
        "edge": (aff.const(0), extent - 1),
        "reflect": (_affine(i, -1, aff.const(0)), _affine(i, -1, extent * 2 - 2)),
        "wrap": (_affine(i, 1, extent), _affine(i, 1, -extent)),
    }
    before, after = sides[padding.mode]
    if high:
        result = ex.Select(_above(i, True, extent), _moved(_at(load, d, after), padding, array, rest), result)
    if low:
        result = ex.Select(_below(i, True), _moved(_at(load, d, before), padding, array, rest), result)
    return result


def _affine(i: Affine | Expr, sign: int, shift: Affine) -> Affine | Expr:
    """sign * i + shift"""
    if isinstance(i, Affine):
        return i * sign + shift
    return ex.Binary("+" if sign > 0 else "-", ex.Index(shift, i64), ex.Cast(i64, i))


def _at(load: Load, dim: str, index: Affine | Expr) -> Load:
    return replace(load, index=tuple((d, index if d == dim else i) for d, i in load.index))
