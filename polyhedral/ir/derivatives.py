# SPDX-License-Identifier: MIT
"""The derivative of every scalar operator, and the chain rule through one expression.

    pullback(a * b, s)    =    a: s * b,    b: s * a                              s is the derivative by the result

All that an operator needs is its own rule; what a statement's accesses and reductions make of it is left to those who
differentiate programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType
from polyhedral.ir.expr import Expr

FLAT = ("floor", "ceil", "round", "trunc", "//")
"""Operators on floats whose derivative is zero wherever they have one."""


@dataclass(frozen=True)
class Branch:
    """The side of a Select on which a derivative counts; it is zero on the other."""

    cond: Expr
    truth: bool


Terms = Mapping[tuple[Branch, ...], Expr]
"""A derivative as a sum of terms, each within some branches."""


def is_smooth(dtype: DType) -> bool:
    """Whether values of this type have derivatives."""
    return dtype.kind == "f"


def gradients(value: Expr, seed: Expr) -> dict[ex.Load, Terms]:
    """The derivative of `seed * value` by each load that `value` depends on smoothly, in order of appearance."""
    if not is_smooth(ex.dtype_of(value)):
        return {}
    order = _parents_first(value)
    terms: dict[Expr, dict[tuple[Branch, ...], Expr]] = {value: {(): seed}}
    for node in order:
        own = terms.get(node, {})
        if isinstance(node, ex.Load):
            continue
        for within, s in own.items():
            for operand, share, branch in pullback(node, s):
                if not is_smooth(ex.dtype_of(operand)):
                    continue
                path = within if branch is None or branch in within else (*within, branch)
                known = terms.setdefault(operand, {})
                known[path] = add(known[path], share) if path in known else share
    return {n: _joined(terms[n]) for n in order if isinstance(n, ex.Load) and n in terms}


def complex_reads(value: Expr) -> Iterator[ex.Load]:
    """The loads that a real value depends on smoothly through complex numbers, which have no derivative here."""
    seen: set[Expr] = set()
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        dtype = ex.dtype_of(node)
        if dtype.kind == "c":
            yield from ex.loads(node)
        elif is_smooth(dtype):
            waiting += [operand for operand, _, _ in pullback(node, node)]


def _joined(terms: dict[tuple[Branch, ...], Expr]) -> Terms:
    """Terms that are the same on both sides of a branch count everywhere."""
    for path, value in list(terms.items()):
        if path and path in terms:
            other = (*path[:-1], Branch(path[-1].cond, not path[-1].truth))
            if terms.get(other) == value:
                del terms[path], terms[other]
                terms[path[:-1]] = add(terms[path[:-1]], value) if path[:-1] in terms else value
    return terms


def _parents_first(value: Expr) -> list[Expr]:
    """Every distinct node, each before what it is computed from."""
    done: dict[Expr, None] = {}
    stack: list[tuple[Expr, bool]] = [(value, False)]
    while stack:
        node, left = stack.pop()
        if left:
            done[node] = None
        elif node not in done:
            stack.append((node, True))
            stack.extend((c, False) for c in ex.children(node) if c not in done)
    return list(reversed(done))


def selected(within: tuple[Branch, ...], value: Expr) -> Expr:
    """The value within its branches, zero elsewhere."""
    zero = constant(0.0, ex.dtype_of(value))
    for b in reversed(within):
        value = ex.Select(b.cond, value, zero) if b.truth else ex.Select(b.cond, zero, value)
    return value


# --- one rule per operator -------------------------------------------------------------------------------------------

Share = tuple[Expr, Expr, Branch | None]
"""An operand, the derivative by it, and the branch within which that holds."""


def pullback(e: Expr, s: Expr) -> Iterator[Share]:
    """What the derivative `s` by a node's value is by each of its operands.

    What is computed twice, here and forward, is the same expression.
    """
    match e:
        case ex.Unary(op, a):
            yield from _unary(op, a, s)
        case ex.Binary(op, a, b):
            yield from _binary(e, op, a, b, s)
        case ex.Call(fn, args):
            yield from _call(e, fn, args, s)
        case ex.Select(cond, then, other):
            yield then, s, Branch(cond, True)
            yield other, s, Branch(cond, False)
        case ex.Cast(_, arg):
            if is_smooth(ex.dtype_of(arg)):
                yield arg, cast(s, ex.dtype_of(arg)), None
            elif ex.dtype_of(arg).kind == "c":
                yield arg, s, None
        case ex.Const() | ex.Index() | ex.Test() | ex.Load():
            return
        case _:
            assert_never(e)


def _unary(op: str, a: Expr, s: Expr) -> Iterator[Share]:
    match op:
        case "-":
            yield a, negated(s), None
        case "abs":
            zero = constant(0.0, ex.dtype_of(a))
            yield a, s, Branch(ex.Binary(">", a, zero), True)
            yield a, negated(s), Branch(ex.Binary("<", a, zero), True)
        case _:
            return


def _call(e: Expr, fn: str, args: tuple[Expr, ...], s: Expr) -> Iterator[Share]:
    match fn, args:
        case "atan2", (y, x):
            square = add(times(x, x), times(y, y))
            yield y, over(times(s, x), square), None
            yield x, negated(over(times(s, y), square)), None
        case "real" | "imag", (z,):
            yield z, s, None  # no derivative by complex numbers: who asks for one is told so
        case "hypot", (x, y):
            yield x, over(times(s, x), e), None
            yield y, over(times(s, y), e), None
        case "muladd", (a, b, c):
            yield a, times(s, b), None
            yield b, times(s, a), None
            yield c, s, None
        case _, (a,) if fn in SLOPES:
            yield a, times(s, SLOPES[fn](a, e)), None
        case _, (a,) if fn in INVERSES:
            yield a, over(s, INVERSES[fn](a, e)), None
        case _:
            return


def _binary(e: Expr, op: str, a: Expr, b: Expr, s: Expr) -> Iterator[Share]:
    match op:
        case "+":
            yield a, s, None
            yield b, s, None
        case "-":
            yield a, s, None
            yield b, negated(s), None
        case "*":
            yield a, times(s, b), None
            yield b, times(s, a), None
        case "/":
            yield a, over(s, b), None
            yield b, negated(times(over(s, b), e)), None
        case "%":
            yield a, s, None
            yield b, negated(times(s, ex.Call("floor", (over(a, b),)))), None
        case "**":
            yield from _power(e, a, b, s)
        case "max" | "min":
            # One winner: the first of two equal operands, but a variable loses to a constant, so that relu'(0) = 0.
            loses = {"max": "<", "min": ">"}[op] + ("=" if isinstance(b, ex.Const) else "")
            beaten = ex.Binary(loses, a, b)
            yield a, s, Branch(beaten, False)
            yield b, s, Branch(beaten, True)
        case _:
            return


def _power(e: Expr, a: Expr, b: Expr, s: Expr) -> Iterator[Share]:
    dtype = ex.dtype_of(a)
    one, zero = constant(1.0, dtype), constant(0.0, dtype)
    if isinstance(b, ex.Const) and isinstance(b.value, float):
        yield a, times(s, times(b, ex.Binary("**", a, constant(b.value - 1, dtype)))), None
        return
    less = ex.Binary("-", b, one)
    yield a, times(s, times(b, ex.Binary("**", a, less))), Branch(ex.Binary("!=", b, zero), True)
    yield b, times(times(s, e), ex.Call("log", (a,))), Branch(ex.Binary("!=", a, zero), True)


def _scaled(e: Expr, by: float) -> Expr:
    return times(e, constant(by, ex.dtype_of(e)))


def _one_plus(e: Expr) -> Expr:
    return add(constant(1.0, ex.dtype_of(e)), e)


def _square(e: Expr) -> Expr:
    return times(e, e)


SLOPES: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "exp": lambda a, e: e,
    "exp2": lambda a, e: _scaled(e, math.log(2)),
    "expm1": lambda a, e: _one_plus(e),
    "sin": lambda a, e: ex.Call("cos", (a,)),
    "cos": lambda a, e: negated(ex.Call("sin", (a,))),
    "tan": lambda a, e: _one_plus(_square(e)),
    "sinh": lambda a, e: ex.Call("cosh", (a,)),
    "cosh": lambda a, e: ex.Call("sinh", (a,)),
    "tanh": lambda a, e: _one_plus(negated(_square(e))),
    "erf": lambda a, e: _scaled(ex.Call("exp", (negated(_square(a)),)), 2 / math.sqrt(math.pi)),
}
"""The derivative of an elementary function at `a`, where its value is `e`."""
INVERSES: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "log": lambda a, e: a,
    "log2": lambda a, e: _scaled(a, math.log(2)),
    "log1p": lambda a, e: _one_plus(a),
    "sqrt": lambda a, e: add(e, e),
    "asin": lambda a, e: ex.Call("sqrt", (_one_plus(negated(_square(a))),)),
    "acos": lambda a, e: negated(ex.Call("sqrt", (_one_plus(negated(_square(a))),))),
    "atan": lambda a, e: _one_plus(_square(a)),
}
"""One over the derivative; at the edge of a domain that is zero, and the derivative infinite: sqrt and log at 0."""


# --- arithmetic that leaves out ones ----------------------------------------------------------------------------------


def constant(value: float, dtype: DType) -> ex.Const:
    return ex.Const(float(value), dtype)


def _is(e: Expr, value: float) -> bool:
    return isinstance(e, ex.Const) and e.value == value


def add(a: Expr, b: Expr) -> Expr:
    if isinstance(b, ex.Unary) and b.op == "-":
        return ex.Binary("-", a, b.arg)
    return ex.Binary("+", a, b)


def times(a: Expr, b: Expr) -> Expr:
    if _is(a, 1.0) or _is(b, 1.0):
        return b if _is(a, 1.0) else a
    if isinstance(a, ex.Unary) and a.op == "-":
        return negated(times(a.arg, b))
    return ex.Binary("*", a, b)


def over(a: Expr, b: Expr) -> Expr:
    return ex.Binary("/", a, b)


def negated(a: Expr) -> Expr:
    if isinstance(a, ex.Unary) and a.op == "-":
        return a.arg
    if isinstance(a, ex.Const) and isinstance(a.value, float):
        return ex.Const(-a.value, a.dtype)
    return ex.Unary("-", a)


def cast(a: Expr, dtype: DType) -> Expr:
    """The value in another type; a constant is retyped."""
    if ex.dtype_of(a) == dtype:
        return a
    return constant(a.value, dtype) if isinstance(a, ex.Const) and isinstance(a.value, float) else ex.Cast(dtype, a)
