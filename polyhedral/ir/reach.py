# SPDX-License-Identifier: MIT
"""How far a read may go along a dim: the array's own range, or its padding as well, as the choice around the read says.

Padding is a choice between reads when a program is assembled; here it is found again, for those who say what is wrong.
"""

from __future__ import annotations

from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine


def reach(value: ex.Expr, load: ex.Load, dim: str, extent: Affine) -> tuple[Affine, Affine]:
    """(lo, hi): `load`, somewhere in `value`, may have an index lo <= index < hi along `dim`.

    (X(y=y-2) if -1 <= y-2 < X.y + 1 ...) else X(y=y-2)   ->   -1, X.y + 1
    """
    index = dict(load.index)[dim]
    lo, hi = aff.const(0), extent
    for node in ex.walk(value):
        match node:
            case ex.Select(ex.Test(c), _, other) if other == load and isinstance(index, Affine):
                for e in (p.expr for p in aff.conjuncts(c) if isinstance(p, aff.Compare) and not p.equal):
                    lo = -(e - index) if _beyond(e - index) else lo
                    hi = e + index + 1 if _beyond(e + index + 1 - extent) else hi
            case ex.Select(ex.Binary("<", i, ex.Const(int(n))), then, _) if then == load and same_index(i, index):
                lo = aff.const(min(n, 0))
            case ex.Select(ex.Binary(">=", i, ex.Index(e)), then, _) if then == load and same_index(i, index):
                hi = e if _beyond(e - extent) else hi
            case _:
                pass
    return lo, hi


def _beyond(width: Affine) -> bool:
    return width.is_const and width.const > 0


def same_index(a: ex.Expr, index: Affine | ex.Expr) -> bool:
    """The same data, whatever integer type it is converted to."""
    return not isinstance(index, Affine) and _bare(a) == _bare(index)


def _bare(e: ex.Expr) -> ex.Expr:
    return _bare(e.arg) if isinstance(e, ex.Cast) else e
