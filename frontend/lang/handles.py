# SPDX-License-Identifier: MIT
"""The objects that users hold: dims, sizes, indices, conditions, expressions and tensors, with Python's operators.

Thin: each method turns its arguments into plain values and calls a function of the files below, which do the work.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Never, Self, cast
from weakref import WeakValueDictionary

from frontend.lang import access, foreign, reduce
from frontend.lang.arithmetic import binary
from frontend.lang.assign import Update, assign
from frontend.lang.location import here, mark
from frontend.lang.naming import check_name, dim_names, name_of, span_of
from frontend.lang.operators import Operators
from frontend.lang.owner import Owner
from frontend.lang.recorder import current
from frontend.lang.value import (
    Handle,
    Span,
    Value,
    as_affine,
    as_condition,
    as_tuple,
    astype,
    dtype_of,
    lift,
    merge,
    must_lift,
    of_affine,
)
from polyhedral.errors import ArgumentError, OrderError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Role


class _Signature:
    """`inspect.signature(X)`: one keyword-only parameter for each dim; nothing on the class itself."""

    def __get__(self, obj: Expr | None, owner: type) -> inspect.Signature:
        if obj is None:
            raise AttributeError("__signature__")
        kind = inspect.Parameter.KEYWORD_ONLY
        names = [d for d in obj.dim_order() if d.isidentifier()]
        return inspect.Signature([inspect.Parameter(d, kind, default=Dim(d)) for d in names])


_SLOTS = frozenset({"value", "origin", "update", "name", "span", "text"})


class Expr(Operators):
    """A scalar value at each point of its dims."""

    __slots__ = ("origin", "update")
    __signature__ = _Signature()

    def __init__(self, value: Value, update: Update | None = None) -> None:
        self.value = value
        self.update = update
        self.origin = mark()

    def _wrap(self, value: Value) -> Expr:
        return wrap(value)

    def _compare(self, op: str, other: object) -> Expr:
        result = self._binary(op, other)
        if result is NotImplemented and op in ("==", "!=") and not isinstance(self, Index):
            raise foreign.operand(self.value, op, other)
        if isinstance(result, Cond):
            result.text = f"{self} {op} {other}"
        return result

    @property
    def dims(self) -> frozenset[Dim]:
        """The dims that the value is a function of."""
        return frozenset(map(Dim, self.value.dims))

    @property
    def dtype(self) -> DType:
        """The type of the value: `ph.f32`."""
        return self.value.dtype

    def __repr__(self) -> str:
        return f"{access.title(self.value)}{{{', '.join(map(access.spoken, self.dim_order()))}}} {self.dtype}"

    def __str__(self) -> str:
        return access.title(self.value)

    def __getattr__(self, name: str) -> Never:
        """AttributeProblem PH009 for what tensors do not have, such as NumPy's `X.T`."""
        if name.startswith("_") or name in _SLOTS:
            raise AttributeError(name)
        raise foreign.attribute(self.value, name, dir(type(self)))

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _SLOTS:
            raise foreign.assigned(self.value, name)
        object.__setattr__(self, name, value)

    def __delitem__(self, key: object) -> Never:
        raise foreign.deleted(self.value)

    def __copy__(self) -> Self:
        """Itself: it stands for a value, which nothing changes."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        """PH020: a tensor belongs to the program that is being recorded."""
        raise foreign.unknown(self.value, "pickle it")

    def dim_order(self) -> tuple[str, ...]:
        """The dims in the order in which they are shown; it has no other meaning."""
        return tuple(sorted(self.value.dims))

    # reading and writing cells --------------------------------------------------------------------------------------

    def __call__(self, given: Mapping[object, object] | None = None, /, *positions: object, **indices: object) -> Expr:
        """The value elsewhere, by keyword: `X(x=2*x + kx)`; a mapping from dims serves private ones."""
        if positions or not isinstance(cast("object", given), Mapping | None):
            raise foreign.positions(self.value, (given, *positions))
        by_dim = {name_of(d): i for d, i in (given or {}).items()}
        return Expr(access.by_keyword(self.value, {**by_dim, **indices}))

    def __getitem__(self, key: object) -> Expr:
        """The value elsewhere, by mention: `X[2*x + kx]`; `X[...]` is X."""
        if key is Ellipsis or as_tuple(key) == ():
            return Expr(self.value)
        return Expr(access.by_mention(self.value, key))

    def __setitem__(self, key: object, value: object) -> None:
        write(self[key], value)

    def _augmented(self, op: str, other: object) -> Expr:
        value = lift(other)
        if value is None:
            return NotImplemented
        return Expr(binary(op, self.value, value), Update(op, self.value, value))

    def __iadd__(self, other: object) -> Expr:
        return self._augmented("+", other)

    def __isub__(self, other: object) -> Expr:
        return self._augmented("-", other)

    def __imul__(self, other: object) -> Expr:
        return self._augmented("*", other)

    def __itruediv__(self, other: object) -> Expr:
        return self._augmented("/", other)

    def order(self, *dims: Dim | str) -> Ordered:
        """A positional view for reading and writing: `a = A.order(i, j); a[j, i]`."""
        return Ordered(self, dim_names(dims))

    # asking ---------------------------------------------------------------------------------------------------------

    def size(self, dim: Dim | str | None = None) -> Size:
        """The extent along a dim."""
        if dim is None:
            raise foreign.no_dim(self.value, "size")
        recorder, name = current(f"{self}.size"), name_of(dim)
        recorder.require(self.value)
        access.check_dim(self.value, name, f"{self}.size({access.spoken(name)})")
        node = self.value.node
        array = recorder.arrays.get(node.array) if isinstance(node, ex.Load) else None
        if isinstance(node, ex.Load) and array is not None and (name, aff.var(name)) in node.index:
            return Size(of_affine(array.extent(name), owner=recorder.owner))
        hi = next(h for d, _, h in recorder.ranges(self.value).ranges if d == name)
        return Size(of_affine(hi, owner=recorder.owner))

    # changing -------------------------------------------------------------------------------------------------------

    def astype(self, dtype: DType | str) -> Expr:
        """The value converted to another type, as C converts: `X.astype(ph.i32)` cuts off what is behind the point."""
        return Expr(astype(self.value, dtype_of(dtype, f"{self}.astype")))

    def over(self, *positions: object, **ranges: object) -> Expr:
        """The value restricted to ranges: `e.over(x=(1, X.size(x) - 1))`."""
        if positions:
            raise foreign.unnamed(self.value, "over", positions)
        spans = {d: span_of(d, r) for d, r in ranges.items()}
        for dim in spans:
            access.check_dim(self.value, dim, f"{self}.over({dim}=...)")
        owner = self.value.owner or next((s.owner for s in spans.values() if s.owner), None)
        return Expr(replace(self.value, spans=merge(self.value.spans, spans), owner=owner))

    def pad(self, value: object = 0, mode: str = "constant", **widths: object) -> Expr:
        """Readable beyond its edges, coordinates kept: `X.pad(y=1, x=(1, 2))`, or dim by dim, each in its own mode."""
        recorder = current(f"{self}.pad")
        if not widths and value != 0:
            raise foreign.unnamed(self.value, "pad", (value,))
        recorder.require(self.value)
        within = access.padding_of(recorder, self.value)
        if within is not None:
            return Expr(access.pad(recorder, recorder.arrays[within.array], value, widths, mode, within))
        array = recorder.arrays.get(self.value.node.array) if isinstance(self.value.node, ex.Load) else None
        if array is None or self.value.node != recorder.read(array.name).node:
            array = recorder.arrays[recorder.let(self.value, None, {})]
        return Expr(access.pad(recorder, array, value, widths, mode))

    # reductions -----------------------------------------------------------------------------------------------------

    def _reduce(
        self,
        op: str,
        dims: tuple[Dim | str, ...],
        unknown: Mapping[str, object],
        where: object = None,
        acc: DType | None = None,
        order: str | None = None,
    ) -> Expr:
        if unknown:
            raise foreign.keywords(self.value, op, unknown)
        recorder, value, names = current(f"{self}.{op}"), self.value, dim_names(dims)
        spans = merge(value.spans, *(d.value.spans for d in dims if isinstance(d, Handle)))
        value = replace(value, spans=spans)
        mask = None if where is None else must_lift(where, "where=")
        if order not in (None, "strict"):
            raise OrderError(
                "PH041",
                f".{op}: order={order!r} is unknown",
                hints=(f"order='strict' keeps the textual order of {access.braces(names)}; leave it out otherwise",),
                location=here(),
            )
        strict = order == "strict"
        acc = None if acc is None else dtype_of(acc, f".{op}(..., acc=...)")
        if op == "mean":
            return Expr(reduce.mean(recorder, value, names, mask, acc, strict))
        if op.startswith("arg"):
            return Expr(reduce.arg_extreme(recorder, op.removeprefix("arg"), value, names, mask))
        return Expr(reduce.reduce(recorder, op, value, names, mask, acc, strict))

    def sum(
        self,
        *dims: Dim | str,
        where: object = None,
        acc: DType | None = None,
        order: Literal["strict"] | None = None,
        **unknown: object,
    ) -> Expr:
        """The sum over `dims`, a function of the other dims: `(A * B).sum(k)`; 0 over nothing.

        Only points at which `where` holds count.  Types below 32 bits are converted to a wider one before the
        arithmetic in front of the sum (rule R19), or to `acc`; floats are added in any order unless `order="strict"`.
        """
        return self._reduce("sum", dims, unknown, where, acc, order)

    def prod(
        self,
        *dims: Dim | str,
        where: object = None,
        acc: DType | None = None,
        order: Literal["strict"] | None = None,
        **unknown: object,
    ) -> Expr:
        """The product over `dims`; 1 over nothing.  `where`, `acc` and `order` as for `sum`."""
        return self._reduce("prod", dims, unknown, where, acc, order)

    def mean(
        self,
        *dims: Dim | str,
        where: object = None,
        acc: DType | None = None,
        order: Literal["strict"] | None = None,
        **unknown: object,
    ) -> Expr:
        """The sum over `dims` divided by the number of points (at which `where` holds); NaN over nothing."""
        return self._reduce("mean", dims, unknown, where, acc, order)

    def max(self, *dims: Dim | str, where: object = None, acc: DType | None = None, **unknown: object) -> Expr:
        """The largest value over `dims`, in the values' own type; a NaN wins.

        Over nothing: -infinity, or the least integer of the type.
        """
        return self._reduce("max", dims, unknown, where, acc)

    def min(self, *dims: Dim | str, where: object = None, acc: DType | None = None, **unknown: object) -> Expr:
        """The smallest value over `dims`, in the values' own type; a NaN wins.

        Over nothing: infinity, or the largest integer of the type.
        """
        return self._reduce("min", dims, unknown, where, acc)

    def any(self, *dims: Dim | str, where: object = None, **unknown: object) -> Expr:
        """Whether a condition holds somewhere along `dims`; false over nothing."""
        return self._reduce("any", dims, unknown, where)

    def all(self, *dims: Dim | str, where: object = None, **unknown: object) -> Expr:
        """Whether a condition holds everywhere along `dims`; true over nothing."""
        return self._reduce("all", dims, unknown, where)

    def argmax(self, *dims: Dim | str, where: object = None, **unknown: object) -> Expr:
        """The first index along one dim at which the value is largest, of type i64; a NaN counts as largest.

        Over nothing: the largest i64.
        """
        return self._reduce("argmax", dims, unknown, where)

    def argmin(self, *dims: Dim | str, where: object = None, **unknown: object) -> Expr:
        """The first index along one dim at which the value is smallest, of type i64; a NaN counts as smallest.

        Over nothing: the largest i64.
        """
        return self._reduce("argmin", dims, unknown, where)


class Tensor(Expr):
    """Stored values: an argument, a `ph.let` or a `ph.var`."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """What the tensor is called in the program, in errors and in text."""
        return self.value.node.array if isinstance(self.value.node, ex.Load) else "?"

    def dim_order(self) -> tuple[str, ...]:
        return tuple(d for d, _ in self.value.node.index) if isinstance(self.value.node, ex.Load) else ()

    def _augmented(self, op: str, other: object) -> Expr:
        """`u += e` on memory would only rebind Python's name; the statement is `u[...] += e`."""
        array = current(f"{self} {op}= ...").arrays.get(self.name)
        if array is not None and array.role is Role.INOUT:
            raise ArgumentError(
                "PH310",
                f"{self} {op}= ... rebinds the Python name {self} and updates nothing",
                hints=(f"{self}[...] {op}= ... updates it at all of {access.braces(self.value.dims)}",),
                location=here(),
            )
        return super()._augmented(op, other)


class Index(Expr):
    """A quasi-affine index; in arithmetic with data it is a value of type i64 that bends to floats."""

    __slots__ = ()

    def __str__(self) -> str:
        index = as_affine(self.value)
        return str(index) if index is not None else access.title(self.value)

    __repr__ = __str__


class Size(Index):
    """A symbolic integer parameter, or arithmetic of such; as an annotation `n: ph.Size`, an integer argument."""

    __slots__ = ()


class Dim(Index):
    """A named dimension, and the index value along it.  Interned by name and size.

    A private dim, and one with the size of a tensor, belong to the `owner` that knows these.
    """

    __slots__ = ("name", "span")
    _interned: ClassVar[WeakValueDictionary[tuple[str, Span | None, Owner | None], Dim]] = WeakValueDictionary()
    name: str
    span: Span | None

    def __new__(cls, name: str, size: object = None, owner: Owner | None = None) -> Dim:
        if not isinstance(cast("object", name), str):
            check_name(name)
        span = None if size is None else span_of(name, size, fixed=True)
        owner = owner if span is None else span.owner
        made = cls._interned.get((name, span, owner))
        if made is None:
            check_name(name)
            made = super().__new__(cls)
            made.name, made.span, made.update, made.origin = name, span, None, None
            made.value = of_affine(aff.var(name), {} if span is None else {name: span}, owner)
            cls._interned[name, span, owner] = made
        return made

    def __init__(self, name: str, size: object = None, owner: Owner | None = None) -> None:
        """Everything is done where the dim is interned."""

    def __hash__(self) -> int:
        return hash(("dim", self.name))

    __eq__ = Operators.__eq__

    def __reduce__(self) -> tuple[object, ...]:
        return (_dim, (self.name, self.span))

    def __str__(self) -> str:
        return access.spoken(self.name)

    __repr__ = __str__


def _dim(name: str, span: Span | None) -> Dim:
    return Dim(name, None if span is None else Size(of_affine(span.hi)))


class Cond(Expr):
    """An affine predicate: as `where=` or under `ph.when` it becomes part of the domain."""

    __slots__ = ("text",)

    def __init__(self, value: Value, text: str | None = None) -> None:
        super().__init__(value)
        self.text = text

    def __bool__(self) -> bool:
        """A condition without dims and sizes is known; any other raises PH020."""
        condition = as_condition(self.value)
        if condition in (aff.TRUE, aff.FALSE):
            return condition == aff.TRUE
        return super().__bool__()

    def __str__(self) -> str:
        return self.text or str(as_condition(self.value))

    __repr__ = __str__


class Ordered:
    """A tensor with an axis order: `a[i, k]` reads and writes by position, all dims listed."""

    __slots__ = ("dims", "tensor")

    def __init__(self, tensor: Expr, dims: tuple[str, ...]) -> None:
        own, node, recorder = tensor.value.dims, tensor.value.node, current("order")
        recorder.require(tensor.value)
        added = recorder.lifted
        lifted = added.get(node.array, frozenset[str]()) if isinstance(node, ex.Load) else frozenset[str]()
        if len(set(dims)) != len(dims) or not own - lifted <= set(dims) <= own:
            raise OrderError(
                "PH041",
                f"{tensor}.order({', '.join(dims)}) must list each dimension of {tensor} once: {access.braces(own)}",
                hints=(f"{tensor}.order({', '.join(sorted(own))})",),
                location=here(),
            )
        self.tensor, self.dims = tensor, dims

    def __repr__(self) -> str:
        return f"{self.tensor}.order({', '.join(self.dims)})"

    def __getitem__(self, key: object) -> Expr:
        if key is Ellipsis:
            return self.tensor
        indices = as_tuple(key)
        if len(indices) != len(self.dims):
            raise OrderError(
                "PH041",
                f"{self}[...] takes {len(self.dims)} indices, not {len(indices)}",
                hints=(f"one for each of ({', '.join(self.dims)}), in this order",),
                location=here(),
            )
        given: dict[object, object] = dict(zip(self.dims, indices, strict=True))
        return self.tensor(given)

    def __setitem__(self, key: object, value: object) -> None:
        write(self[key], value)


# --- between handles and values --------------------------------------------------------------------------------------


def wrap(value: Value) -> Expr:
    """The handle for a computed value: an index and a condition keep their nature."""
    match value.node:
        case ex.Index(index):
            return (Index if aff.dims_of(index) else Size)(value)
        case ex.Test():
            return Cond(value)
        case _:
            return Expr(value)


def write(place: Expr, value: object) -> None:
    """Record `place = value`; a value made by `op=` on this very place is an update."""
    update = value.update if isinstance(value, Expr) else None
    if update is not None and update.base is not place.value and update.base.node != place.value.node:
        update = None
    assign(current(f"{place}[...] = ..."), place.value, must_lift(value, "the right side"), update)


def as_handle(obj: object) -> Expr:
    """Anything that can stand in an expression, as a handle."""
    return obj if isinstance(obj, Expr) else wrap(must_lift(obj))
