# SPDX-License-Identifier: MIT
"""What users say besides expressions: dims, named intermediates, variables, constants, blocks and assumptions.

Assignments are methods of the handles; what each statement means is decided in `assign` and in
`frontend.inference`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import cast, overload

import numpy as np

from frontend.lang import access
from frontend.lang.arithmetic import truth
from frontend.lang.handles import Dim, Expr, Size, Tensor, as_handle
from frontend.lang.location import here
from frontend.lang.naming import name_of, span_of
from frontend.lang.recorder import Recorder, Stepped, current, default_float
from frontend.lang.value import Span, as_affine, as_condition, dtype_of, lift, must_lift, of_affine
from frontend.recorded import Loop
from polyhedral.errors import ArgumentError, DimError, DomainError, DtypeError
from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes as dt
from polyhedral.ir.affine import Affine
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Array, Role


@overload
def dims(names: str, /) -> Dim | tuple[Dim, ...]: ...
@overload
def dims(**sizes: object) -> Dim | tuple[Dim, ...]: ...
def dims(names: str = "", /, **sizes: object) -> Dim | tuple[Dim, ...]:
    """Dims by name, `i, j = ph.dims("i j")`, or with sizes, `kx, ky = ph.dims(kx=3, ky=3)`; one name gives a Dim."""
    if not isinstance(cast("object", names), str):
        raise DimError(
            "PH006",
            f"ph.dims({names!r}): {names!r} is not a name",
            hints=("i, j = ph.dims('i j'); with a size, k = ph.dims(k=3)",),
            location=here(),
        )
    made = (*map(Dim, names.split()), *(Dim(n, s) for n, s in sizes.items()))
    return made[0] if len(made) == 1 else made


def fresh(name: str) -> Dim:
    """A private dim for library code: prints as `t'`, never captures a caller's `t`."""
    recorder = current("ph.fresh")
    return Dim(recorder.fresh(name), owner=recorder.owner)


def let(value: object, label: str | None = None, **ranges: object) -> Tensor:
    """Name an intermediate and keep it: a new tensor with this value."""
    recorder = current("ph.let")
    spans = {d: span_of(d, r) for d, r in ranges.items()}
    held = must_lift(value, "the value of ph.let")
    for dim in spans:
        access.check_dim(held, dim, f"ph.let(..., {dim}=...)")
    return Tensor(recorder.read(recorder.let(held, label, spans)))


def var(label: str | None = None, like: Expr | None = None, dtype: DType | None = None, **sizes: object) -> Tensor:
    """A tensor to be defined by equations, with the dims of `like` and those given.

    Without `like` and `dtype` it holds the widest float type of the arguments.
    """
    recorder = current("ph.var")
    like = None if like is None else as_handle(like)
    dtype = None if dtype is None else dtype_of(dtype, "ph.var(dtype=...)")
    extents: dict[str, Affine] = {}
    if like is not None:
        extents = {d: _extent(d, like.size(d)) for d in like.dim_order()}
    extents |= {d: _extent(d, s) for d, s in sizes.items()}
    name = recorder.unique("v", number=True) if label is None else recorder.unique(label)
    if dtype is None and like is None:
        dtype = default_float(recorder) or dt.f32
        recorder.assumed.add(name)
    held = dtype if dtype is not None else as_handle(like).dtype
    recorder.variables.add(name)
    recorder.owner.places[name] = here()
    return Tensor(recorder.add_array(Array(name, tuple(extents.items()), held, Role.TEMPORARY)))


def _extent(dim: str, given: object) -> Affine:
    Dim(dim)
    span = span_of(dim, given)
    if span.lo != Affine() or aff.dims_of(span.hi):
        raise DomainError(
            "PH112",
            f"a variable's dimension {dim} starts at 0 and has a size, not the range [{span.lo}, {span.hi})",
            hints=(f"ph.var(..., {dim}={span.hi}) and equations under ph.over({dim}=...)",),
            dim=dim,
            location=here(),
        )
    return span.hi


def const(array: object, names: str = "") -> Tensor:
    """A small constant table with named axes: `ph.const(array, "p q")`."""
    return constant(current("ph.const"), "const", array, names, number=True)


def constant(recorder: Recorder, name: str, array: object, names: str, number: bool = False) -> Tensor:
    """An array whose data is part of the program."""
    try:
        data = np.asarray(array)
    except ValueError as error:
        raise ArgumentError(
            "PH040",
            f"ph.const: the rows do not have one length, so '{names}' names no axes: {error}",
            hints=("give nested lists of equal lengths, or a NumPy array",),
            location=here(),
        ) from None
    if not isinstance(cast("object", names), str):
        raise ArgumentError(
            "PH040",
            f"ph.const(..., {names!r}): the names of the axes are a string",
            hints=(f"ph.const(array, '{' '.join('ijklmnpq'[: data.ndim])}')",),
            location=here(),
        )
    axes = names.split()
    dtype = dt.from_numpy(data.dtype)
    if dtype is None:
        raise DtypeError(
            "PH301",
            f"ph.const: {data.dtype} is not an element type of the language",
            hints=(f"array.astype('float32') with axes '{names}'",),
            location=here(),
        )
    if len(axes) != data.ndim or len(set(axes)) != len(axes):
        raise ArgumentError(
            "PH040",
            f"ph.const: got an array with {data.ndim} axes {data.shape}, but '{names}' names {len(axes)}",
            hints=(f"name each axis once: ph.const(array, '{' '.join('ijklmnpq'[: data.ndim])}')",),
            location=here(),
        )
    extents = tuple((Dim(n).name, aff.const(s)) for n, s in zip(axes, data.shape, strict=True))
    values = tuple(data.reshape(-1).tolist())
    made = Array(recorder.unique(name, number), extents, dtype, Role.CONSTANT, values)
    recorder.owner.places[made.name] = here()
    return Tensor(recorder.add_array(made))


def assume(condition: object) -> None:
    """A fact about sizes, checked once at each call: `ph.assume(X.size(c) % 8 == 0)`."""
    recorder = current("ph.assume")
    value = must_lift(condition, "the argument of ph.assume")
    fact = as_condition(value)
    if fact is None or value.dims:
        raise DomainError(
            "PH110",
            f"ph.assume takes a condition on sizes alone; this one involves {access.braces(value.dims) or 'data'}",
            hints=("ph.assume(X.size(c) % 8 == 0); restrict a dimension c by with ph.when(c < 8):",),
            location=here(),
        )
    recorder.assumptions.append(fact)


# --- blocks ----------------------------------------------------------------------------------------------------------


@contextmanager
def loop(dim: Dim, *bounds: object) -> Generator[Dim]:
    """`with ph.loop(d, hi)`, `(d, lo, hi)` or `(d, lo, hi, step)`: d runs in order."""
    recorder = current("ph.loop")
    with recorder.inside_loop(_frame(recorder, dim, bounds)):
        yield dim


def _frame(recorder: Recorder, dim: Dim, bounds: tuple[object, ...]) -> Stepped:
    name = name_of(dim)
    if not bounds and dim.span is not None:
        bounds = (Size(of_affine(dim.span.hi)),)
    if not 1 <= len(bounds) <= 3:
        raise DomainError(
            "PH110",
            f"ph.loop({dim}) needs the end of its range",
            hints=(f"with ph.loop({dim}, n):, ph.loop({dim}, lo, hi): or ph.loop({dim}, lo, hi, step):",),
            dim=name,
            location=here(),
        )
    if name in (f.loop.dim for f in recorder.loops):
        raise DimError(
            "PH010",
            f"{dim} is the dimension of an enclosing ph.loop already",
            hints=(f"one name is one thing inside a statement: use another dimension, for example {dim}2",),
            dim=name,
            location=here(),
        )
    step = bounds[2] if len(bounds) == 3 else 1
    lo, hi = (0, bounds[0]) if len(bounds) == 1 else bounds[:2]
    start, stop = _bound(recorder, name, lo), _bound(recorder, name, hi)
    if not isinstance(step, int) or step < 1:
        raise DimError(
            "PH030",
            f"ph.loop({dim}): the step {step} must be a positive int literal",
            hints=(f"backwards: with ph.loop({dim}, n): and the index n - 1 - {dim}",),
            dim=name,
            location=here(),
        )
    if step == 1:
        return Stepped(Loop(name, start, stop))
    return Stepped(Loop(name, aff.const(0), (stop - start + (step - 1)) // step), start + aff.var(name) * step)


def _bound(recorder: Recorder, dim: str, bound: object) -> Affine:
    value = lift(bound)
    index = None if value is None else as_affine(value)
    if index is None:
        raise DimError(
            "PH030",
            f"ph.loop({access.spoken(dim)}, ...): the bound {bound} is not affine",
            details=("Allowed: outer dims, sizes, ints, + - and * // % by an int literal.",),
            hints=(f"with ph.loop({access.spoken(dim)}, X.size({access.spoken(dim)})):",),
            dim=dim,
            location=here(),
        )
    return aff.substitute(index, recorder.stepped())


@contextmanager
def sequential(*dims: Dim) -> Generator[None]:
    """Ordered dims whose ranges are inferred, outermost first."""
    recorder = current("ph.sequential")
    if not dims:
        yield
        return
    with recorder.inside_loop(Stepped(Loop(name_of(dims[0])))), sequential(*dims[1:]):
        yield


@contextmanager
def over(**ranges: object) -> Generator[None]:
    """Restrict dims, without an order: `with ph.over(x=(1, n - 1)):`."""
    recorder = current("ph.over")
    spans: Mapping[str, Span] = {Dim(d).name: span_of(d, r) for d, r in ranges.items()}
    with recorder.inside_over(spans):
        yield


@contextmanager
def when(condition: object) -> Generator[None]:
    """Restrict the domain of the statements inside to where the condition holds."""
    recorder = current("ph.when")
    with recorder.inside_when(truth(must_lift(condition, "the argument of ph.when"), "the argument of ph.when")):
        yield
