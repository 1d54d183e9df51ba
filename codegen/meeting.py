# SPDX-License-Identifier: MIT
"""Where threads of a block meet: the statements after which a tree has them wait, and loops that not all would reach.

A wait inside a loop or condition that threads do not share is undefined on a device; the tree does not show it, since
isl may split loops, so that the loops themselves are asked before they are printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from codegen import loops as lp
from polyhedral.devices.plan import BlockNest
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.tree import Leaf, Run, Tree
from polyhedral.ir.tree import Sequence as InOrder


def waiting(tree: Tree, inside: tuple[str, ...]) -> Iterator[str]:
    """The families after which the threads of a block wait."""
    match tree:
        case Leaf():
            return
        case InOrder(children, waits):
            for k, c in enumerate(children):
                if k in waits:
                    yield from c.families
                yield from waiting(c.child, c.families)
        case _:
            yield from waiting(tree.child, inside)


def misplaced(n: lp.Node, nest: BlockNest, statements: Mapping[str, str]) -> str | None:
    """What keeps some threads of a block from where the others wait, or None; `statements` of families."""
    digits = dict(nest.threads) | ({nest.team[0]: nest.team[1]} if nest.team else {})
    return _misplaced(n, digits, statements if nest.phases else {})


def _misplaced(n: lp.Node, digits: Mapping[str, int], phases: Mapping[str, str]) -> str | None:
    if not _meets(n, phases):
        return None
    match n:
        case lp.If(condition) if aff.condition_dims(condition) & digits.keys():
            return f"condition {condition}"
        case lp.For(name, lo, hi) if name in digits:
            if lo != aff.const(0) or hi != aff.const(digits[name] - 1):
                return f"the range of {name}"
        case lp.For(name, lo, hi) if (_dims(lo) | _dims(hi)) & digits.keys():
            return f"the range of {name}"
        case lp.Promoted() if _teams(n):
            return None  # they meet after the loops of their parts
        case _:
            pass
    return next(filter(None, (_misplaced(c, digits, phases) for c in lp.children(n))), None)


def _meets(n: lp.Node, phases: Mapping[str, str]) -> bool:
    """Whether threads wait somewhere in a node: around copies, where teams combine, between phases."""
    if isinstance(n, lp.Staged) or (isinstance(n, lp.Promoted) and _teams(n)):
        return True
    if phases and isinstance(n, lp.Block) and len({phases[x.family] for x in lp.walk(n) if isinstance(x, lp.Exec)}) > 1:
        return True
    return any(_meets(c, phases) for c in lp.children(n))


def _teams(n: lp.Node) -> bool:
    return any(isinstance(x, lp.For) and x.run is Run.TEAM for x in lp.walk(n))


def _dims(b: lp.Bound) -> frozenset[str]:
    if isinstance(b, Affine):
        return aff.dims_of(b)
    return frozenset[str]().union(*map(aff.dims_of, b.args))
