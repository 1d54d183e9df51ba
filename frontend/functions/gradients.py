# SPDX-License-Identifier: MIT
"""Derivatives of functions: `ph.value_and_grad(f, wrt="W X")` is a function like any other.

It is called, lowered, bound, lifted over a batch and differentiated again as `f` is.  Within a program the same names
differentiate tensors, which is left to `frontend.lang.gradients`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

from frontend.arrays.names import names_of
from frontend.functions.function import Function
from frontend.lang import Expr, current
from frontend.lang import gradients as inside
from frontend.lang.gradients import Several, differentiated, stored
from frontend.lang.value import lift, must_lift
from polyhedral.errors import ArgumentError


def grad(f: Any = None, wrt: Any = None) -> Any:
    """The derivative of a scalar: of a tensor within a program, `ph.grad(loss, W)`, or as a function,
    `ph.grad(f, wrt="W")`; of several, a tuple.
    """
    if not isinstance(f, Function):
        _require_place(f, wrt, "grad")
        return inside.grad(f, cast("Several", wrt))
    return _function(f, wrt, "grad", lambda _, made: made)


def value_and_grad(f: Any = None, wrt: Any = None) -> Any:
    """The value beside the derivative, `value, dW` or `value, (dW, dX)`; as `grad`, of tensors or of functions."""
    if not isinstance(f, Function):
        _require_place(f, wrt, "value_and_grad")
        return inside.value_and_grad(f, cast("Several", wrt))
    return _function(f, wrt, "value_and_grad", lambda value, made: (value, made))


def vjp(outputs: Any = None, wrt: Any = None, cotangents: Any = None) -> Any:
    """The derivative of the sum of outputs times cotangents, within a program: `ph.vjp(Y, W, dY)`.  PH045 where one
    of the three is missing.
    """
    _require_all("vjp", "ph.vjp(Y, W, dY)", outputs=outputs, wrt=wrt, cotangents=cotangents)
    return inside.vjp(outputs, wrt, cotangents)


def jvp(outputs: Any = None, wrt: Any = None, tangents: Any = None) -> Any:
    """How outputs change along tangents, within a program: `ph.jvp(Y, W, tW)`.  PH045 where one of the three is
    missing.
    """
    _require_all("jvp", "ph.jvp(Y, W, tW)", outputs=outputs, wrt=wrt, tangents=tangents)
    return inside.jvp(outputs, wrt, tangents)


def stop_gradient(x: Any) -> Any:
    """The value as a constant to derivatives, within a program."""
    return inside.stop_gradient(x)


def _require_all(what: str, usage: str, outputs: object, **others: object) -> None:
    """PH045 for a function in the place of what it computes, and for what is missing."""
    if callable(outputs) and not isinstance(outputs, Expr):
        name = getattr(outputs, "__name__", "f")
        raise ArgumentError(
            "PH045",
            f"ph.{what} of {name}: it wants what {name} computes, within a program",
            hints=(f"@ph.function(W='i k') def back(W, d): Y = {name}(W); return {usage}",),
        )
    missing = [n for n, v in {"outputs": outputs, **others}.items() if v is None]
    if missing:
        raise ArgumentError("PH045", f"ph.{what} misses {' and '.join(missing)}", hints=(usage,))


def _require_place(f: object, wrt: object, what: str) -> None:
    """PH045 for a plain Python function or nothing, PH052 for a loss alone."""
    if f is None:
        raise ArgumentError(
            "PH045", f"ph.{what} misses what to differentiate", hints=(f"ph.{what}(f, wrt='W'), or ph.{what}(loss, W)",)
        )
    if callable(f) and not isinstance(f, Expr):
        raise ArgumentError(
            "PH045",
            f"ph.{what} of {getattr(f, '__name__', 'this')}: it is no function of the language",
            hints=("decorate it with @ph.function(X='c y x') first",),
        )
    if wrt is None:
        raise ArgumentError(
            "PH052", f"ph.{what}(loss): by which tensor?", hints=(f"ph.{what}(loss, W), or (loss, (W, X)) for several",)
        )


def _function(f: Function, wrt: Any, what: str, result: Callable[[Any, Any], Any]) -> Function:
    names = _names(f, wrt)
    declared = frozenset(d for axes in f.axes.values() for d in axes)

    @functools.wraps(f.python)
    def differentiated_function(**arguments: Any) -> Any:
        recorder = current(what)
        for n in names:
            if n in f.inout:
                continue  # by what it holds when it comes
            arguments[n] = stored(recorder, must_lift(arguments[n], n), n)
        added = (must_lift(arguments[n]).dims - frozenset(axes) for n, axes in f.axes.items() if n in arguments)
        loss: object = f.body(**arguments)
        if lift(loss) is None:
            raise ArgumentError(
                "PH050",
                f"{what} needs one scalar loss; {f.name} returns a {type(loss).__name__}",
                hints=("return the loss alone, or use ph.vjp within a program",),
            )
        lifted = frozenset[str]().union(*added) - declared
        value, made = differentiated(recorder, loss, tuple(arguments[n] for n in names), lifted)
        return result(value, made if len(names) > 1 else made[0])

    differentiated_function.__name__ = f"{f.name}_{what}"
    orders = [f.axes.get(n) for n in names]
    returns = tuple(o for o in orders if o is not None) if None not in orders else ()
    if returns and what != "grad":
        returns = ((), *returns)
    made = Function(differentiated_function, f.axes, f.inout, returns, f.arguments.bound)
    return made


def _names(f: Function, wrt: Any) -> tuple[str, ...]:
    """The arguments to differentiate by, known and each once."""
    known = [p.name for p in f.parameters if not p.size]
    if not isinstance(wrt, (str, tuple, list)):
        raise ArgumentError(
            "PH052", f"wrt={wrt!r} names no argument of {f.name}", hints=(f"their names: wrt='{' '.join(known)}'",)
        )
    names: Sequence[str] = names_of(wrt) if isinstance(wrt, str) else tuple(cast("Sequence[str]", wrt))
    for n in names:
        if n not in known:
            raise ArgumentError(
                "PH052",
                f"{f.name} has no argument {n!r} to differentiate by",
                hints=(f"its arguments are {', '.join(known)}",),
            )
    if not names or len(set(names)) < len(names):
        raise ArgumentError("PH052", f"wrt={wrt!r} names no argument, or one twice", hints=(f"wrt='{known[0]}'",))
    return tuple(names)
