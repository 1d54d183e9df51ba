# SPDX-License-Identifier: MIT
"""Indices in pieces: `ph.clip(x + 1, 0, n - 1)`, `ph.minimum(i, j)` and choices between them are affine case by case.

A read at such an index is a choice between reads; what a read at one affine index is, is left to `access`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from frontend.lang.arithmetic import index_arithmetic
from frontend.lang.value import Value
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Condition

MOST = 16
"""Cases of one index; what has more is no index."""
Case = tuple[Condition, Affine]


def cases(v: Value) -> tuple[Case, ...]:
    """The affine indices that a value is, each where its condition holds, and all of them everywhere; none for what is
    not affine in pieces.

        ph.clip(x + 1, 0, n)    ->    0 if x + 1 < 0,  n if x + 1 > n,  x + 1
    """
    found = _cases(v.node)
    return () if found is None or len(found) > MOST else tuple(found)


def _cases(node: ex.Expr) -> list[Case] | None:
    match node:
        case ex.Index(index):
            return [(aff.TRUE, index)]
        case ex.Const(int() as number, dtype) if dtype.is_integer:
            return [(aff.TRUE, aff.const(number))]
        case ex.Unary("-", arg):
            inner = _cases(arg)
            return None if inner is None else [(c, -x) for c, x in inner]
        case ex.Unary("abs", arg):
            inner = _cases(arg)
            return None if inner is None else [(aff.both(c, s), y) for c, x in inner for s, y in _signs(x)]
        case ex.Select(ex.Test(holds), then, other):
            return _joined(((holds, _cases(then)), (aff.negate(holds), _cases(other))))
        case ex.Binary(op, lhs, rhs):
            left, right = _cases(lhs), _cases(rhs)
            if left is None or right is None or len(left) * len(right) > MOST:
                return None
            pairs = ((aff.both(a, b), list(_combined(op, x, y))) for (a, x), (b, y) in product(left, right))
            return _joined((c, made or None) for c, made in pairs)
        case _:
            return None


def _signs(x: Affine) -> Iterator[Case]:
    yield aff.at_least(x), x
    yield aff.at_least(-x, 1), -x


def _combined(op: str, x: Affine, y: Affine) -> Iterator[Case]:
    """The cases of `x op y`, none where it is not affine."""
    if op in ("min", "max"):
        first = aff.at_least(y, x) if op == "min" else aff.at_least(x, y)
        yield from ((first, x), (aff.negate(first), y))
    elif (index := index_arithmetic(op, x, y)) is not None:
        yield aff.TRUE, index


def _joined(parts: Iterable[tuple[Condition, list[Case] | None]]) -> list[Case] | None:
    """All cases of parts that hold under conditions; None where one has none."""
    found: list[Case] = []
    for condition, inner in parts:
        if inner is None:
            return None
        found += [(aff.both(condition, c), x) for c, x in inner]
    return found
