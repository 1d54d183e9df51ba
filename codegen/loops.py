# SPDX-License-Identifier: MIT
"""The loop AST: what every target prints.

    node  := For(name, lo, hi, step, run, body, ahead) | If(condition, then, orelse) | Block(nodes) | Exec(family, at)
           | Local(array, cells, body)  (what the body touches of array lies in memory of its own)
          | Staged(array, cells, body)  (what it reads of array was copied to memory that a block of threads shares)
           | Promoted(array, body, streams, partials, stored, ahead)   (cells of array live in registers while the body
                        runs, then are stored if `stored`, past the caches if `streams`; along lanes, in so many
                        partials; vectors of the arrays `ahead` are asked for so many elements before, as in a For
                        along the lanes)
    bound := affine | min(bounds) | max(bounds)

All indices are quasi-affine in loop variables and sizes; `hi` is inclusive.  How to make it is `codegen.lower`'s
business, how to spell it that of `codegen.c`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine, Condition
from polyhedral.ir.tree import Run


@dataclass(frozen=True)
class Extreme:
    """The least or greatest of several bounds."""

    least: bool
    args: tuple[Bound, ...]

    def __str__(self) -> str:
        return f"{'min' if self.least else 'max'}({', '.join(map(str, self.args))})"


Bound = Affine | Extreme


@dataclass(frozen=True)
class For:
    name: str
    lo: Bound
    hi: Bound
    step: int
    run: Run
    body: Node
    ahead: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class If:
    condition: Condition
    then: Node
    orelse: Node | None = None


@dataclass(frozen=True)
class Block:
    children: tuple[Node, ...]


@dataclass(frozen=True)
class Exec:
    """Run one instance of a family; `at` gives its dims in terms of loop variables and sizes.  Where it is `whole`, the
    mask of its value is known to hold.
    """

    family: str
    at: tuple[tuple[str, Affine], ...]
    whole: bool = False


@dataclass(frozen=True)
class Promoted:
    array: str
    body: Node
    streams: bool = False
    partials: int = 1
    stored: bool = True
    ahead: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Local:
    """`cells` are (axis, the first cell that the memory holds, how many): all cells along axes that are not named."""

    array: str
    cells: tuple[tuple[str, Affine, int], ...]
    body: Node


@dataclass(frozen=True)
class Staged:
    """`cells` are (axis, the first cell that was copied, how many), of every axis."""

    array: str
    cells: tuple[tuple[str, Affine, int], ...]
    body: Node


Node = For | If | Block | Exec | Promoted | Local | Staged


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case For() | Promoted() | Local() | Staged():
            return (node.body,)
        case If(_, then, orelse):
            return (then,) if orelse is None else (then, orelse)
        case Block(nodes):
            return nodes
        case Exec():
            return ()
        case _:
            assert_never(node)


def walk(node: Node) -> Iterator[Node]:
    yield node
    for c in children(node):
        yield from walk(c)


def has_streams(node: Node) -> bool:
    """Whether something is stored past the caches, which a fence must follow before other threads read it."""
    return any(isinstance(n, Promoted) and n.streams for n in walk(node))


def has_parallel(node: Node) -> bool:
    return any(isinstance(n, For) and n.run is Run.PARALLEL for n in walk(node))


def render(node: Node, indent: str = "") -> str:
    """The loops for people."""
    return "\n".join(_lines(node, indent))


def _lines(node: Node, indent: str) -> Iterator[str]:
    match node:
        case For(name, lo, hi, step, run, body, _):
            note = "" if run is Run.SERIAL else f"  [{run.value}]"
            by = "" if step == 1 else f" by {step}"
            yield f"{indent}for {name} = {lo} .. {hi}{by}{note}"
            yield from _lines(body, indent + "  ")
        case If(condition, then, orelse):
            yield f"{indent}if {condition}"
            yield from _lines(then, indent + "  ")
            if orelse is not None:
                yield f"{indent}else"
                yield from _lines(orelse, indent + "  ")
        case Block(nodes):
            for n in nodes:
                yield from _lines(n, indent)
        case Promoted(array, body, past, _, stored):
            note = ", stored past the caches" if past else "" if stored else ", not stored"
            yield f"{indent}in registers: {array}{note}"
            yield from _lines(body, indent + "  ")
        case Local(array, cells, body):
            held = ", ".join(f"{d} from {first}: {n}" for d, first, n in cells)
            yield f"{indent}in memory of its own: {array}({held})"
            yield from _lines(body, indent + "  ")
        case Staged(array, cells, body):
            held = ", ".join(f"{d} from {first}: {n}" for d, first, n in cells)
            yield f"{indent}in memory of a block: {array}({held})"
            yield from _lines(body, indent + "  ")
        case Exec(family, at):
            yield f"{indent}{family}({', '.join(f'{d}={e}' for d, e in at)})"
        case _:
            assert_never(node)


def at_most(a: Bound, b: Bound) -> Condition:
    """a <= b, with minima and maxima spelled out."""
    match a, b:
        case Extreme(least, args), _:
            parts = tuple(at_most(x, b) for x in args)
            return aff.either(*parts) if least else aff.both(*parts)
        case _, Extreme(least, args):
            parts = tuple(at_most(a, x) for x in args)
            return aff.both(*parts) if least else aff.either(*parts)
        case _:
            assert isinstance(a, Affine)
            assert isinstance(b, Affine)
            return aff.at_least(b, a)
