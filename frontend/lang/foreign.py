# SPDX-License-Identifier: MIT
"""What NumPy's arrays and Python's numbers offer and a tensor of the language does not, with what to write instead.

Errors alone are made here; what does have a meaning is computed by the operators above.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from frontend.lang.access import braces, spoken, title
from frontend.lang.location import here
from frontend.lang.value import Handle, Value
from polyhedral.errors import AttributeProblem, DimError, DtypeError, OrderError
from polyhedral.ir import expr as ex

_SWAP = frozenset({"T", "mT", "transpose", "swapaxes", "moveaxis", "rollaxis", "permute", "permute_dims"})
_RESHAPE = frozenset({"reshape", "flatten", "ravel", "view", "resize", "flat"})
_SHAPE = frozenset({"shape", "ndim", "strides", "axes"})
_PRODUCT = frozenset({"dot", "vdot", "inner", "matmul", "tensordot", "einsum"})
_DATA = frozenset({"item", "tolist", "numpy", "data", "asarray", "array", "print"})
_PLACES = frozenset({"cumsum", "cumprod", "cumulative_sum", "cumulative_prod", "accumulate"})
_JOINS = frozenset({"concatenate", "concat", "stack", "hstack", "vstack", "block"})
_EXTENT = frozenset({"squeeze", "expand_dims", "broadcast_to", "unsqueeze", "tile", "repeat"})
_MADE = frozenset({"zeros_like", "ones_like", "full_like", "empty_like"})
REDUCTIONS = ("sum", "prod", "mean", "max", "min", "any", "all", "argmax", "argmin")
_REDUCED = {**{n: n for n in REDUCTIONS}, "amax": "max", "amin": "min", "average": "mean"}
FUNCTIONS = (*ex.CALLS, "abs", "minimum", "maximum", "clip", "relu", "sigmoid", "where", "softmax")
"""Functions of `ph` that somebody may look for among the methods of a tensor."""


def _listed(v: Value) -> tuple[str, ...]:
    return tuple(map(spoken, sorted(v.dims)))


def instead(v: Value, name: str) -> str | None:
    """What to write where NumPy has something called `name`; None for what has no counterpart."""
    dims, own = _listed(v), title(v) if isinstance(v.node, ex.Load) else "E"
    a, b = (*dims, "i", "j")[:2] if len(dims) != 1 else (dims[0], "j")
    for names, hint in (
        (_SWAP, f"dims have no order: {own}({a}={b}, {b}={a}) swaps two of them; results get an order at the end, "
                f"returns='{b} {a}'"),
        (_RESHAPE, f"a reshape is a substitution: {own}({a}=4*{a} + k) with k = ph.dims(k=4) splits {a}; "
                   f"E({a}=k//4, {b}=k%4).over(k=4*n) joins {a} of extent n and {b} of 4"),
        (_SHAPE, f"{own}.dims names the dims, {own}.size({a}) is the extent along {a}"),
        (_PRODUCT, "a product is summed by name: (A * B).sum(k)"),
        (_DATA, "values are known when the function is called, not while it is recorded: return the tensor"),
        (_PLACES, f"ph.scan('sum', {own}, along={a})"),
        (_JOINS, f"X and Y behind each other, n = X.size({a}) and m = Y.size({a}): "
                 f"ph.let(ph.where({a} < n, X, Y({a}={a} - n)), {a}=n + m)"),
        (_EXTENT, f"a missing dim is no parameter, so nothing is broadcast; {own}({a}=0) has no dim {a}"),
        (_MADE, "a number stands for an array of it: 0 * X, or ph.var('T', like=X)"),
        (frozenset({"copy"}), f"ph.let({own}) is a tensor of its own"),
        (frozenset({"std", "var"}), f"(({own} - {own}.mean({a}))**2).mean({a})"),
        (frozenset({"norm"}), f"ph.sqrt(({own}**2).sum({', '.join(dims)}))"),
        (frozenset({"argmax", "argmin"}), f"{own}.{name}({a}), along one dim"),
        (_REDUCED.keys(), f"{own}.{_REDUCED.get(name)}({', '.join(dims)}) over all its dims, or over some of them"),
        (frozenset(FUNCTIONS), f"ph.{name}({own})"),
        (frozenset(dims), f"{own}({name}=0) reads at a place along {name}, {own}.size({name}) is its extent"),
    ):  # fmt: skip
        if name in names:
            return hint
    return None


def attribute(v: Value, name: str, own: Iterable[str]) -> AttributeProblem:
    """PH009: what to write instead of `X.T`, `X.shape` and the like, or which name was meant."""
    hint, close = instead(v, name), get_close_matches(name, [o for o in own if not o.startswith("_")], 1)
    if hint is None:
        hint = f"write {close[0]} instead of {name}" if close else f"its dims are {braces(v.dims)}; X.sum(k), ph.exp(X)"
    guess = f". Did you mean '{close[0]}'?" if close and instead(v, name) is None else ""
    return AttributeProblem("PH009", f"{title(v)} has no attribute '{name}'{guess}", hints=(hint,), location=here())


def assigned(v: Value, name: str) -> AttributeProblem:
    """PH009: `X.scale = 2`; a tensor keeps nothing beside its value."""
    return AttributeProblem(
        "PH009",
        f"{title(v)} of {braces(v.dims)} has no attribute '{name}' to assign",
        hints=(f"a variable of Python keeps it: {name} = ...", "cells are defined by T[...] = expr, T a ph.var"),
        location=here(),
    )


def deleted(v: Value) -> DimError:
    """PH003: `del X[0]`."""
    dims = _listed(v)
    part = f"{title(v)}.over({dims[0]}=(1, {title(v)}.size({dims[0]})))" if dims else "ph.where(cond, a, b)"
    return DimError(
        "PH003",
        f"del {title(v)}[...]: cells of a tensor over {braces(v.dims)} cannot be deleted",
        hints=(f"a part of it: {part}",),
        location=here(),
    )


def function(v: Value, called: str) -> DtypeError:
    """PH020: a function of NumPy that no program can compute."""
    hint = instead(v, called.rpartition(".")[2])
    general = ("functions of data are ph.exp, ph.sqrt, ph.maximum, ... at each point", "reductions are X.sum(k)")
    return DtypeError(
        "PH020",
        f"np.{called} cannot compute with {title(v)}, which is not known while the program is being built",
        hints=general if hint is None else (hint,),
        location=here(),
    )


def unknown(v: Value, what: str | None = None) -> DtypeError:
    """PH020: Python or NumPy asks for a number that there is not yet."""
    loop = "a loop over a size is with ph.loop(i, n): instead of for i in range(n)"
    data = f"functions of data are ph.exp, ph.sqrt, ... at each point of {braces(v.dims)}"
    hints = (loop, data) if v.dims else (loop,)
    return DtypeError(
        "PH020",
        f"{title(v)} is not a number while the program is being built, so Python and NumPy cannot "
        f"{what or 'compute with it'}",
        hints=hints if what is None else ("return it: its values are known when the function is called",),
        location=here(),
    )


def length(v: Value) -> DtypeError:
    """PH020: `len(X)`, where X has no first axis; `len(x)` of a dim."""
    if isinstance(v.node, ex.Index):
        return unknown(v)
    return DtypeError(
        "PH020",
        f"len({title(v)}) is not known while the program is being built, nor is there a first axis of {braces(v.dims)}",
        hints=tuple(f"{title(v)}.size({d})" for d in _listed(v)) or ("it is one number",),
        location=here(),
    )


def unnamed(v: Value, method: str, given: Sequence[object]) -> DimError:
    """PH030: ranges or widths without the names of dims: `X.over(3)`, `X.pad(1)`."""
    d = next(iter(_listed(v)), "k")
    shown = ", ".join(str(g) if isinstance(g, int | Handle) else repr(g) for g in given)
    usage = {"over": f"{d}=(1, 5)", "pad": f"{d}=(1, 2)"}[method]
    return DimError(
        "PH030",
        f"{title(v)}.{method}({shown}) names no dimension; {title(v)} has {braces(v.dims)}",
        hints=(f"{title(v)}.{method}({usage})",),
        location=here(),
    )


def positions(v: Value, given: Sequence[object]) -> DimError:
    """PH003: `X(1, 2)` reads by position."""
    dims, name = _listed(v), title(v)
    shown = [str(g) if isinstance(g, int | Handle) else repr(g) for g in given]
    fits = len(given) <= len(dims) and all(isinstance(g, int | Handle) for g in given)
    at = (*shown, *dims[len(shown) :]) if fits else dims
    named = ", ".join(f"{d}={s}" for d, s in zip(dims, at, strict=True))
    ordered = f"by position: a = {name}.order({', '.join(dims)}); a[{', '.join(at)}]"
    return DimError(
        "PH003",
        f"{name}({', '.join(shown)}) reads by position, but {name} has no order of {braces(v.dims)}",
        hints=(f"by name: {name}({named})", ordered) if dims else (f"{name} has no dims: it is one number",),
        location=here(),
    )


def keywords(v: Value, op: str, given: Mapping[str, object]) -> OrderError:
    """PH041: `X.sum(axis=0)` names an axis by its number."""
    dims, name = _listed(v), title(v) if isinstance(v.node, ex.Load) else "E"
    shown = ", ".join(f"{k}={g!r}" for k, g in given.items())
    hints = [f"{name}.{op}({dims[0] if dims else 'k'}): dims are named, not numbered"]
    if "keepdims" in given:
        hints.append("a reduced dim is missing afterwards, and a missing dim goes with anything: no keepdims is needed")
    if "dtype" in given:
        hints.append(f"{name}.{op}(..., acc=ph.f64)")
    return OrderError(
        "PH041",
        f"{name}.{op}({shown}): no such option; {name} has {braces(v.dims)}",
        hints=tuple(hints),
        location=here(),
    )


def no_dim(v: Value, called: str) -> DimError:
    """PH002: `X.size()` names no dim."""
    return DimError(
        "PH002",
        f"{title(v)}.{called}() names no dimension; it has {braces(v.dims)}",
        hints=tuple(f"{title(v)}.{called}({d})" for d in _listed(v)) or ("it is one number",),
        location=here(),
    )


def operand(v: Value, op: str, other: object) -> DtypeError:
    """PH301: the other side of an operator is no value."""
    kind = type(other).__name__
    if callable(other) and not isinstance(other, type):
        called = getattr(other, "__name__", "f")
        hint = f"{called} is a function: call it, for example X.{called}({(*_listed(v), 'k')[0]})"
    elif other is None:
        hint = "a function without a return gives None"
    else:
        hint = "numbers, tensors and expressions over named dims: float(...) of other numbers, ph.const(array, 'i j')"
    return DtypeError("PH301", f"{title(v)} {op} {kind}: {kind} is not a value", hints=(hint,), location=here())
