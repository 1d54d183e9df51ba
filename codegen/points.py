# SPDX-License-Identifier: MIT
"""What stands in the unrolled loops of a register tile, written out: one vector of instances at a time.

How a vector is computed is left to `codegen.registers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from codegen import loops as lp
from codegen.full import unmasked
from codegen.lanes import Lanes
from polyhedral.errors import InternalError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.operands import fetched
from polyhedral.ir.tree import Run
from polyhedral.sets.instances import Family

Env = Mapping[str, Affine]
"""What dims stand for: the value of an unrolled loop, or the lane variable on top of a vector's start."""

Placed = Sequence[tuple[ex.Expr, ex.Expr]]
"""The operands of a value, as it has them and as they are at a place."""


@dataclass(frozen=True)
class Point:
    """One vector of instances and the value that each computes: the variable of their lanes, and what those of the
    unrolled loops stand for.
    """

    node: lp.Exec
    value: ex.Expr
    vector: str
    env: Env
    tile: Lanes

    @property
    def lane(self) -> str:
        return f"{self.vector}\0lane"

    @cached_property
    def at(self) -> Env:
        """The dims of its instances, in terms of their lane."""
        own = {**self.env, self.vector: self.tile.start + aff.var(self.lane)}
        return {d: aff.substitute(e, own) for d, e in self.node.at}

    @cached_property
    def reads(self) -> Placed:
        return placed(self.value, self.at)


def placed(value: ex.Expr, at: Env) -> Placed:
    """The operands of a value at a place, each once."""
    return [(o, ex.substitute(o, at)) for o in dict.fromkeys(fetched(value))]


def points(n: lp.Node, env: Env, key: tuple[int, ...], families: Mapping[str, Family], lanes: int) -> Iterator[Point]:
    """The vectors of `lanes` in a node, those of the unrolled loops around it having given their `key`."""

    def point(node: lp.Exec, vector: str, tile: Lanes) -> Point:
        value = families[node.family].statement.value
        return Point(node, unmasked(value) if node.whole else value, vector, env, tile)

    match n:
        case lp.Block(children):
            for c in children:
                yield from points(c, env, key, families, lanes)
        case lp.For(run=Run.UNROLL | Run.WRITTEN):
            for i in range(trips(n)):
                own = (*key, i) if n.run is Run.UNROLL else key
                yield from points(n.body, {**env, n.name: _first(n, env) + i}, own, families, lanes)
        case lp.For(run=Run.VECTOR, body=lp.Exec() | lp.Block((lp.Exec(),)) as body):
            node = body if isinstance(body, lp.Exec) else body.children[0]
            assert isinstance(node, lp.Exec)
            for b in range(-(-trips(n) // lanes)):
                yield point(
                    node, n.name, Lanes(_first(n, env) + b * lanes, min(lanes, trips(n) - b * lanes), (*key, b))
                )
        case lp.Exec():  # the loop along the lanes runs once, and isl dropped it
            yield point(n, "", Lanes(aff.const(0), 1, (*key, 0)))
        case _:
            raise InternalError("PH999", f"a register tile holds a {type(n).__name__}")


def trips(n: lp.For) -> int:
    """How often a loop of a register tile runs."""
    span = affine(n.hi) - affine(n.lo) + 1
    assert span.is_const
    return span.const


def affine(b: lp.Bound) -> Affine:
    """The bound of a loop that has one."""
    assert isinstance(b, Affine)
    return b


def _first(n: lp.For, env: Env) -> Affine:
    return aff.substitute(affine(n.lo), env)
