# SPDX-License-Identifier: MIT
"""A function as other libraries see it: arrays by position, results of known shape, derivatives as further functions.

Nothing here knows any such library; which tensor is which array, and how an operator is registered, is theirs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from frontend.arrays.arguments import Arguments, Parameter
from frontend.arrays.memory import Strided
from frontend.arrays.named import Array
from frontend.arrays.names import names_of
from frontend.arrays.results import flat
from frontend.environment import session
from frontend.lang import current
from frontend.lang.gradients import pulled
from frontend.lang.trace import Returned
from frontend.stages.lowered import Lowered
from frontend.stages.module import Module
from polyhedral.errors import ArgumentError, DtypeError, OrderError, Unsupported
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.derivatives import is_smooth
from polyhedral.ir.dtypes import BY_NAME, DType

Orders = tuple[tuple[str, ...], ...]
Structure = str | tuple[Any, ...]
"""How a function returns its results, in constants that a tracer takes: "", ("tuple", ...), ("dict", (k, ...))."""


class Traced(Protocol):
    """What of `frontend.functions.function.Function` matters here."""

    @property
    def name(self) -> str: ...
    @property
    def python(self) -> Callable[..., Any]: ...
    @property
    def body(self) -> Callable[..., Any]: ...
    @property
    def parameters(self) -> tuple[Parameter, ...]: ...
    @property
    def arguments(self) -> Arguments: ...
    @property
    def inout(self) -> tuple[str, ...]: ...
    @property
    def returns(self) -> Orders: ...
    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]: ...
    def trace(self, **given: Any) -> Module: ...
    def lower(self, **given: Any) -> Lowered: ...
    def derived(self, python: Callable[..., Any], axes: Mapping[str, tuple[str, ...]], returns: Orders) -> Traced: ...
    def __call__(self, **given: Any) -> Any: ...


@dataclass(frozen=True)
class Operand:
    """One argument of the operator: an array under these names, a scalar of a declared type, or a size."""

    name: str
    axes: tuple[str, ...] = ()
    scalar: DType | None = None
    size: bool = False
    default: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Result:
    """One result: its axes in order, and how far each goes in terms of sizes."""

    axes: tuple[str, ...]
    dtype: DType
    extents: tuple[Affine, ...]

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(max(aff.evaluate(e, {}, sizes), 0) for e in self.extents)


@dataclass(frozen=True)
class Outcome:
    """The results for arguments of certain types, and how the function returns them."""

    results: tuple[Result, ...]
    structure: Structure

    @property
    def smooth(self) -> tuple[bool, ...]:
        return tuple(is_smooth(r.dtype) for r in self.results)


class Boundary:
    """A function with the axes of each array, in order, and those of each result.

    `axes` may name more dims than the function declares: it is lifted over these.
    """

    def __init__(self, f: Traced, axes: Mapping[str, tuple[str, ...]], returns: Orders) -> None:
        if f.inout:
            raise Unsupported(
                "PH900",
                f"{f.name} updates {', '.join(f.inout)} in place, and operators of other libraries may not",
                hints=("return the new value instead of updating an argument", f"call {f.name} itself on arrays"),
            )
        self.f = f.derived(f.body, f.axes, returns)
        self.axes = axes
        self.operands = tuple(_operands(f, axes))
        self._kernels: dict[Any, Callable[[list[Strided], list[Strided]], None]] = {}
        self._outcomes: dict[tuple[str, ...], Outcome] = {}
        self._pulled: dict[tuple[Any, ...], Boundary] = {}
        self._lifted: dict[tuple[Any, ...], tuple[Boundary, tuple[bool, ...]]] = {}

    @property
    def name(self) -> str:
        return self.f.name

    def usage(self) -> str:
        return f"{self.name}({', '.join(o.name for o in self.operands)})"

    # --- shapes ------------------------------------------------------------------------------------------------------

    def outcome(self, dtypes: tuple[str, ...]) -> Outcome:
        """What comes out for arrays of these types, one for each operand that is one.  OrderError PH041 for results
        of two dims and more whose axes nobody ordered.
        """
        found = self._outcomes.get(dtypes)
        if found is None:
            types = iter(dtypes)
            given = {o.name: f"{next(types)}[{', '.join(o.axes)}]" for o in self.operands if not o.size}
            module = self.f.trace(**given)
            results = tuple(self._result(module, n) for n in flat(module.returned))
            found = self._outcomes[dtypes] = Outcome(results, spelled(module.returned))
        return found

    def _result(self, module: Module, name: str) -> Result:
        array = module.program.array(name)
        order = module.orders.get(name, array.dim_names)
        if len(order) > 1 and name not in module.orders:
            names = " ".join(sorted(order))
            raise OrderError(
                "PH041",
                f"{self.name}: the result {name} has unordered dimensions {{{names.replace(' ', ', ')}}}",
                hints=(f"returns='{names}', in the order you want, here or in @ph.function",),
            )
        return Result(order, array.dtype, tuple(array.extent(d) for d in order))

    def sizes(self, shapes: Sequence[Any]) -> dict[str, int]:
        """Every size by name, from the shape of each array and the value of each size, in the order of the operands."""
        found: dict[str, int] = {}
        for o, shape in zip(self.operands, shapes, strict=True):
            if o.size:
                found[o.name] = shape
                continue
            if len(shape) != len(o.axes):
                raise self._wrong_count(o, len(shape))
            found |= {f"{o.name}.{d}": n for d, n in zip(o.axes, shape, strict=True)}
        for n, v in self.f.arguments.bound.items():
            if isinstance(v, Array):
                found |= {f"{n}.{d}": k for d, k in v.sizes.items()}
        return found

    def _wrong_count(self, o: Operand, n: int) -> ArgumentError:
        declared = f"{o.name} is '{' '.join(o.axes)}' ({len(o.axes)})"
        spare = [d for d in ("batch", "i", "j", "k", "l", "m") if d not in o.axes]
        more = " ".join((*spare[: n - len(o.axes)], *o.axes))
        named = f"name the extra axis: {o.name}='{more}', and returns= with it - the function is lifted over it"
        return ArgumentError(
            "PH040",
            f"{self.name}({o.name}=...): got {n} {'axis' if n == 1 else 'axes'}, but {declared}",
            hints=(named if n > len(o.axes) and o.scalar is None else f"give {len(o.axes)} axes",),
        )

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, values: Sequence[Any], types: Sequence[DType]) -> list[Strided]:
        """The results for arrays as NumPy sees them; sizes are numbers.  Nothing is copied that is laid out as
        declared.
        """
        self.sizes([v if o.size else v.shape for o, v in zip(self.operands, values, strict=True)])
        named: dict[str, Any] = {}
        dtypes = iter(types)
        for o, v in zip(self.operands, values, strict=True):
            named[o.name] = v if o.size else Array(v, o.axes, next(dtypes))
        return [np.asarray(a.data, order="C") for a in cast("list[Array]", list(leaves(self.f(**named))))]

    def kernel(self, shapes: Sequence[Any], types: Sequence[str]) -> Callable[[list[Strided], list[Strided]], None]:
        """A kernel for dense arrays of these shapes and types, that writes the results where they are wanted."""
        key = (session.current().options(), tuple(shapes), tuple(types))
        found = self._kernels.get(key)
        if found is None:
            found = self._kernels[key] = self._kernel(shapes, types)
        return found

    def _kernel(self, shapes: Sequence[Any], types: Sequence[str]) -> Callable[[list[Strided], list[Strided]], None]:
        given: dict[str, Any] = {}
        dtypes = iter(types)
        for o, shape in zip(self.operands, shapes, strict=True):
            if o.size:
                given[o.name] = shape
            else:
                sized = ", ".join(f"{d}:{n}" for d, n in zip(o.axes, shape, strict=True))
                given[o.name] = f"{next(dtypes)}[{sized}]"
        exe = self.f.lower(**given).compile()
        sizes, module = exe.lowered.sizes, exe.lowered.module
        names = tuple(flat(module.returned))
        results = tuple((n, module.orders.get(n, module.program.array(n).dim_names)) for n in names)
        bound = {n: v.data for n, v in self.f.arguments.bound.items() if isinstance(v, Array)}
        free = [o.name for o in self.operands if not o.size]

        def run(arrays: list[Strided], out: list[Strided]) -> None:
            data = bound | dict(zip(free, arrays, strict=True))
            wanted = {
                n: Array(a, order, module.program.array(n).dtype) for (n, order), a in zip(results, out, strict=True)
            }
            exe.run([data[n] for n in module.arguments], sizes, wanted)

        return run

    # --- derivatives and batches -------------------------------------------------------------------------------------

    def pullback(self, outcome: Outcome, wrt: tuple[str, ...], outputs: tuple[int, ...]) -> Boundary:
        """The function of the same arguments, then a cotangent for each of these outputs, that returns the derivative
        by each of `wrt`, in the axes of that argument.
        """
        orders = tuple(outcome.results[i].axes for i in outputs)
        found = self._pulled.get((wrt, outputs, orders))
        if found is None:
            found = self._pulled[wrt, outputs, orders] = self._pullback(wrt, outputs, orders)
        return found

    def _pullback(self, wrt: tuple[str, ...], outputs: tuple[int, ...], orders: Orders) -> Boundary:
        f = self.f
        own = {o.name: o.axes for o in self.operands if not o.size}
        declared = frozenset(d for axes in f.axes.values() for d in axes)
        added = frozenset(d for axes in own.values() for d in axes) - declared
        names = _unlike([p.name for p in f.parameters], [f"d_out{i}" for i in outputs])

        @functools.wraps(f.python)
        def vjp(**arguments: Any) -> Any:
            weights = [arguments.pop(n) for n in names]
            made = list(leaves(f.python(**arguments)))
            recorder = current("vjp")
            by = [arguments[n] for n in wrt]
            # over what this boundary is lifted, derivatives are summed; over what a later one is, they are apart
            return pulled(recorder, [made[i] for i in outputs], by, weights, recorder.examples - added)

        vjp.__name__ = f"{f.name}_vjp"
        vjp.__dict__["__signature__"] = _with_cotangents(inspect.signature(f.python), names)
        weighed = {n: tuple(d for d in o if d not in added) for n, o in zip(names, orders, strict=True)}
        made = f.derived(vjp, {**f.axes, **weighed}, ())
        return Boundary(made, {**own, **dict(zip(names, orders, strict=True))}, tuple(own[n] for n in wrt))

    def require_derivatives(
        self, outcome: Outcome, outputs: Sequence[int], types: Sequence[str], wrt: Sequence[str]
    ) -> None:
        """DtypeError PH051 where complex values are asked for derivatives, which would be left out silently."""
        names = [o.name for o in self.operands if not o.size]
        held = dict(zip(names, types, strict=True))
        complex_results = [(f"result {i}", str(outcome.results[i].dtype)) for i in outputs]
        for what, dtype in (*complex_results, *((n, held[n]) for n in wrt if n in held)):
            if BY_NAME[dtype].kind == "c":
                raise DtypeError(
                    "PH051",
                    f"{self.name}: {what} holds {dtype}, which has no derivative",
                    hints=("let it take no part: .detach() in PyTorch, jax.lax.stop_gradient", "compute in real parts"),
                )

    def lifted(self, dtypes: tuple[str, ...], at: tuple[int | None, ...]) -> tuple[Boundary, tuple[bool, ...]]:
        """The function over one more dim, which is axis `at[i]` of operand i, if any: a batch.  Results that have it
        have it first; which do is told.
        """
        found = self._lifted.get((dtypes, at))
        if found is None:
            outcome = self.outcome(dtypes)
            known = {d for o in (*self.operands, *outcome.results) for d in o.axes}
            new = next(d for d in ("batch", *(f"batch{n}" for n in range(len(known) + 1))) if d not in known)
            axes = {
                o.name: o.axes if k is None else (*o.axes[:k], new, *o.axes[k:])
                for o, k in zip(self.operands, at, strict=True)
                if not o.size
            }
            free = Boundary(self.f.derived(self.f.python, self.f.axes, ()), axes, ())
            types = iter(dtypes)
            given = {o.name: f"{next(types)}[{', '.join(o.axes)}]" for o in free.operands if not o.size}
            module = free.f.trace(**given)
            has = tuple(new in module.program.array(n).dim_names for n in flat(module.returned))
            orders = tuple((new, *r.axes) if b else r.axes for b, r in zip(has, outcome.results, strict=True))
            found = self._lifted[dtypes, at] = (Boundary(self.f, axes, orders), has)
        return found


def boundary(f: Traced, axes: Mapping[str, Any], returns: Any) -> Boundary:
    """A function at the boundary: `axes` names axes beside the declared ones, `returns` orders those of results."""
    known = {p.name for p in f.parameters if not p.size and p.scalar is None}
    for n in axes:
        if n not in known or n in f.arguments.bound:
            raise ArgumentError(
                "PH045", f"{f.name} has no array {n!r} to name the axes of", hints=(f.arguments.usage(),)
            )
    several = cast("Sequence[Any]", returns) if isinstance(returns, (tuple, list)) else (returns,)
    orders = f.returns if returns is None else tuple(names_of(r) for r in several)
    named = {n: names_of(v) for n, v in axes.items()}
    return Boundary(f, {**f.axes, **named}, orders)


def leaves(result: Any) -> Iterator[Any]:
    """The values in what a function returned, in the order in which its results are named."""
    match result:
        case None:
            return
        case dict():
            for v in cast("dict[str, Any]", result).values():
                yield from leaves(v)
        case tuple() | list():
            for v in cast("Sequence[Any]", result):
                yield from leaves(v)
        case _:
            yield result


def bound_call(b: Boundary, args: Sequence[Any], kwargs: Mapping[str, Any], how: str) -> list[Any]:
    """A value for each operand, defaults filled in; `how` is the method that made the function called here."""
    names = [o.name for o in b.operands]
    if len(args) > len(names):
        raise ArgumentError("PH045", f"{b.name} takes {len(names)} arguments, got {len(args)}", hints=(b.usage(),))
    for n in kwargs:
        if n not in names:
            raise ArgumentError(
                "PH045",
                f"{b.name} has no argument {n!r} here",
                hints=(b.usage(), f"plain values are bound first: {b.name}.bind({n}=...).{how}()"),
            )
        if n in names[: len(args)]:
            raise ArgumentError("PH045", f"{b.name} got {n} twice", hints=(b.usage(),))
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    values = [given.get(o.name, o.default) for o in b.operands]
    for o, v in zip(b.operands, values, strict=True):
        if v is inspect.Parameter.empty:
            raise ArgumentError("PH045", f"{b.name} misses argument {o.name}", hints=(b.usage(),))
    return values


def spelled(returned: Returned) -> Structure:
    """A structure in strings and tuples."""
    match returned:
        case None:
            return ("none",)
        case str():
            return ""
        case dict():
            return ("dict", *((k, spelled(v)) for k, v in returned.items()))
        case _:
            return ("tuple", *map(spelled, returned))


def arranged(structure: Structure, values: Iterator[Any]) -> Any:
    """Values in the structure in which the function returned them."""
    if isinstance(structure, str):
        return next(values)
    if structure[0] == "none":
        return None
    if structure[0] == "dict":
        return {k: arranged(v, values) for k, v in structure[1:]}
    return tuple(arranged(v, values) for v in structure[1:])


def _unlike(taken: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """These names, with underscores where one is taken."""
    longest = max((len(n) - len(n.rstrip("_")) for n in taken if n.rstrip("_") in wanted), default=-1)
    return [n + "_" * (longest + 1) for n in wanted]


def _with_cotangents(signature: inspect.Signature, names: Sequence[str]) -> inspect.Signature:
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=keyword) for p in signature.parameters.values()]
    return signature.replace(parameters=[*own, *(inspect.Parameter(n, keyword) for n in names)])


def _operands(f: Traced, axes: Mapping[str, tuple[str, ...]]) -> Iterator[Operand]:
    """The arguments that a call gives: not those that are bound, nor plain values, which stay as they are."""
    for p in f.parameters:
        if p.name in f.arguments.bound:
            continue
        if p.size or p.scalar is not None:
            yield Operand(p.name, (), p.scalar, p.size, p.default)
        elif p.name in axes:
            yield Operand(p.name, axes[p.name])
        elif p.default is inspect.Parameter.empty:
            raise ArgumentError(
                "PH045",
                f"{f.name}: {p.name} is an array without declared axes, or a plain value",
                hints=(f"name the axes, {p.name}='i j', or bind the value: {f.name}.bind({p.name}=...)",),
            )


def required(package: str, asker: str) -> Any:
    """An optional package, or how to get it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"{asker} needs {package}: pip install 'polyhedral-loops[{package}]'") from error
