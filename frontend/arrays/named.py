# SPDX-License-Identifier: MIT
"""The boundary: arrays of any library come in under named dims without a copy, results leave in an order one asks for.

Knows nothing of programs; binding arrays to a function's arguments, and sizes to its parameters, is the driver's.
"""

from __future__ import annotations

import difflib
import keyword
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Never, Protocol, cast

import numpy as np

from frontend.arrays.device import DeviceView, on_device, view
from frontend.arrays.readable import Readable, no_attribute
from frontend.pictures.cells import Cells, layout_svg
from frontend.pictures.svg import bundle, escaped
from polyhedral.errors import ArgumentError, DimError, DtypeError, OrderError
from polyhedral.ir import dtypes
from polyhedral.ir.dtypes import DType

Strided = np.ndarray[Any, Any]


class Named(Protocol):
    """Anything with a name, such as the language's Dim."""

    @property
    def name(self) -> str: ...


Names = str | Named | Iterable[str | Named]

_HOST = (1, 3)  # DLPack device types whose memory the CPU reads in place: host and pinned host


class Array(Readable):
    """Values under named dims, which have no order: `dims` is a set, and an axis order is asked for with `order`.

    `data` (any strides, negative and zero ones too), `axes` (the names of its axes, in order) and `coords` (xarray
    variables by name) are for the code that hands arrays to kernels.

    >>> a = array(np.zeros((2, 3)), "y x")
    >>> a
    Array{x:3, y:2} f64
    >>> np.asarray(a.order("x y")).shape
    (3, 2)
    """

    __slots__ = ("__weakref__", "_dtype", "axes", "coords", "data", "ordered")

    def __init__(
        self,
        data: Strided,
        axes: tuple[str, ...],
        dtype: DType,
        coords: Mapping[str, Any] | None = None,
        *,
        ordered: bool = False,
    ) -> None:
        self.ordered = ordered  # `returns=` fixed an axis order: np.asarray may use it
        self.data = data
        self.axes = axes
        self._dtype = dtype
        self.coords: Mapping[str, Any] = {} if coords is None else coords

    @property
    def dims(self) -> frozenset[str]:
        return frozenset(self.axes)

    @property
    def sizes(self) -> dict[str, int]:
        """The extent of each dim, in alphabetical order so that no axis order shows."""
        return dict(sorted(zip(self.axes, self.data.shape, strict=True)))

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def size(self, dim: str | Named) -> int:
        """The extent of one dim.  DimError PH001 for a dim that the array lacks."""
        name = name_of(dim)
        if name not in self.axes:
            hints = (f"did you mean '{near}'?",) if (near := _nearest(name, self.axes)) else ()
            raise DimError(
                "PH001",
                f"this array has no dimension named '{name}'; it has {_braces(self.axes)}",
                hints=hints or ("ask .dims for the names",),
                dim=name,
            )
        return self.data.shape[self.axes.index(name)]

    def order(self, *dims: Names) -> Ordered:
        """A positional view with these dims as axes, in this order: `.order("b y x")` or `.order(b, y, x)`."""
        wanted = names_of(dims[0]) if len(dims) == 1 else tuple(name_of(cast("str | Named", d)) for d in dims)
        if wanted == self.axes:
            return Ordered(self.data, wanted, self._dtype, self.coords)
        _check_order(wanted, self.axes)
        moved = self.data.transpose([self.axes.index(d) for d in wanted])
        return Ordered(moved, wanted, self._dtype, self.coords)

    def to_xarray(self) -> Any:
        """A DataArray; its dims are names already, so that no order need be chosen."""
        return Ordered(self.data, self.axes, self._dtype, self.coords).to_xarray()

    def numpy(self) -> Strided:
        """The values as `np.asarray` gives them; a copy of those on a device."""
        if isinstance(self.data, DeviceView):
            return Array(self.data.numpy(), self.axes, self._dtype, ordered=self.ordered).numpy()
        return np.asarray(self)

    def item(self) -> Any:
        """The value of an array without dims, as a Python scalar."""
        return self._scalar("item()")

    def positional(self, order: tuple[str, ...]) -> Array:
        """The same values with a declared axis order, so that np.asarray works."""
        data = self.data.transpose([self.axes.index(d) for d in order])
        return Array(data, order, self._dtype, self.coords, ordered=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Strided:
        if len(self.axes) > 1 and not self.ordered:
            names = sorted(self.axes)
            raise OrderError(
                "PH041",
                f"this array has unordered dimensions {_braces(names)}; "
                f"say the axis order you want: .order('{' '.join(names)}')",
                hints=(f"np.asarray(a.order('{' '.join(names)}'))",),
            )
        return _as_numpy(self.data, dtype, copy)

    def __getattr__(self, name: str) -> Never:
        if name.startswith("_") or name in ("axes", "coords", "data", "ordered"):
            raise AttributeError(name)
        raise no_attribute(name, " ".join(sorted(self.axes)), "this array")

    def __float__(self) -> float:
        return float(self._scalar("float()"))

    def __int__(self) -> int:
        return int(self._scalar("int()"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex()"))

    def __bool__(self) -> bool:
        return bool(self._scalar("bool()"))

    def _scalar(self, what: str) -> Any:
        if self.axes:
            raise DimError(
                "PH042",
                f"{what} wants an array without dimensions, this one has {_braces(self.axes)}",
                hints=(f"reduce them first, or take one value of .order('{' '.join(sorted(self.axes))}')",),
            )
        return self.data.item()

    def __repr__(self) -> str:
        return f"Array{_sized(self.sizes)} {self._dtype}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(_forms(repr(self), self.axes, self.data, self._dtype), include, exclude)


class Ordered(Readable):
    """A view of an array with an axis order: NumPy, DLPack and xarray read it without a copy."""

    __slots__ = ("__weakref__", "_dtype", "coords", "data", "dims")

    def __init__(
        self, data: Strided, dims: tuple[str, ...], dtype: DType, coords: Mapping[str, Any] | None = None
    ) -> None:
        self.data = data
        self.dims = dims
        self._dtype = dtype
        self.coords: Mapping[str, Any] = {} if coords is None else coords

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def strides(self) -> tuple[int, ...]:
        return self.data.strides

    @property
    def ndim(self) -> int:
        return self.data.ndim

    def numpy(self) -> Strided:
        """The strided view itself, writing to which writes to the array; of a result on a device, a copy."""
        return self.data.numpy() if isinstance(self.data, DeviceView) else self.data

    def to_xarray(self) -> Any:
        """A DataArray over the same memory, with the coordinates of those dims whose size is what it was."""
        try:
            import xarray  # noqa: PLC0415  an optional package
        except ImportError as error:
            raise ImportError(".to_xarray() needs xarray: pip install 'polyhedral-loops[xarray]'") from error
        sizes = dict(zip(self.dims, self.data.shape, strict=True))
        kept = {n: v for n, v in self.coords.items() if all(sizes.get(d) == k for d, k in v.sizes.items())}
        kept = {n: v.transpose(*(d for d in self.dims if d in v.dims)) for n, v in kept.items()}
        return xarray.DataArray(self.data, dims=self.dims, coords=kept)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        if (
            isinstance(self.data, DeviceView) or self.data.dtype.isbuiltin != 1
        ):  # bf16 and f8 would arrive as raw bytes; `__array__` keeps them
            raise AttributeError("__array_interface__")
        return self.data.__array_interface__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Strided:
        return _as_numpy(self.data, dtype, copy)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Of a result on a CUDA device, which other libraries take in place."""
        if not isinstance(self.data, DeviceView):
            raise AttributeError("__cuda_array_interface__")
        return self.data.__cuda_array_interface__

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def __getattr__(self, name: str) -> Any:
        """Whatever else NumPy's arrays have: `.order("i j").T`."""
        if name.startswith("_") or name in ("coords", "data", "dims") or isinstance(self.data, DeviceView):
            raise AttributeError(name)
        return getattr(self.data, name)

    def __getitem__(self, index: Any) -> Any:
        return self.data[index]

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        shown = ", ".join(f"{d}:{n}" for d, n in zip(self.dims, self.data.shape, strict=True))
        return f"Ordered[{shown}] {self._dtype}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(_forms(repr(self), self.dims, self.data, self._dtype), include, exclude)


def array(a: object, dims: Names | None = None, *, name: str = "this array", caller: str = "") -> Array:
    """Name the axes of an array, without a copy: `array(a, "b c y x")`.

    Takes NumPy arrays, Python scalars, nested lists, xarray DataArrays (their dims are the names), arrays that are
    named already, and whatever speaks DLPack or NumPy's protocols from host memory, or DLPack or the CUDA array
    interface from a CUDA device.  `name` is what errors call it;
    with `caller`, the function it is an argument of, `dims` are the declared ones.
    ArgumentError PH040 for a wrong number of names, DimError PH006 for a repeated one, PH007 for one that is none;
    DtypeError PH303 for a foreign byte order, PH304 for a type that the language lacks.
    """
    if isinstance(a, Array):
        return a if dims is None else _renamed(a, a.axes, dims, name)
    if isinstance(a, Ordered):
        named = Array(a.data, a.dims, a.dtype, a.coords)
        return named if dims is None else _renamed(named, a.dims, dims, name)
    if _is_dataarray(a):
        return _from_dataarray(a, dims, name)
    data = as_strided(a, name)
    axes = () if dims is None else names_of(dims)
    if len(axes) != data.ndim:
        raise _wrong_count(name, caller, data, axes)
    return Array(data, axes, element_type(data, name))


def as_strided(a: object, name: str = "this array") -> Strided:
    """The NumPy view of what another library calls an array; lists and scalars are copied, nothing else is."""
    if type(a) is np.ndarray:
        return cast("Strided", a)
    if isinstance(a, np.ma.MaskedArray):
        raise ArgumentError("PH315", f"{name} is a masked array", hints=("say what masked cells hold: .filled(0)",))
    if isinstance(a, np.ndarray | np.generic | bool | int | float | complex | list | tuple):
        return _converted(cast("object", a), name)
    if on_device(a):
        return cast("Strided", view(a, name))
    device = getattr(a, "__dlpack_device__", None)
    if device is not None and device()[0] not in _HOST:
        raise ArgumentError(
            "PH314", f"{name} lies on a device (DLPack type {device()[0]})", hints=("move it to the host first",)
        )
    if hasattr(a, "__dlpack__"):
        try:
            return np.from_dlpack(cast("Any", a))
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            if not hasattr(a, "__array__"):
                raise ArgumentError(
                    "PH316", f"{name} cannot be read through DLPack: {error}", hints=("give a NumPy array",)
                ) from error
    if any(hasattr(a, p) for p in ("__array_interface__", "__array_struct__", "__array__", "__buffer__")):
        return _converted(a, name)
    raise ArgumentError(
        "PH316",
        f"{name} is a {type(a).__name__}, which is no array",
        hints=("give a NumPy array, or one that speaks DLPack",),
    )


def element_type(data: Strided, name: str = "this array") -> DType:
    """The language's type of an ndarray's elements.  DtypeError PH303 or PH304 where there is none."""
    found = dtypes.from_numpy(data.dtype)
    if found is not None:
        return found
    if not data.dtype.isnative:
        raise DtypeError(
            "PH303",
            f"{name} has elements in foreign byte order ({data.dtype.str})",
            hints=("a.astype(a.dtype.newbyteorder('='))",),
        )
    known = ", ".join(dtypes.BY_NAME)
    raise DtypeError("PH304", f"{name} has elements of type {data.dtype}", hints=(f"use one of {known}",))


def name_of(dim: str | Named) -> str:
    """One dim's name.  A name is an identifier, no keyword of Python; primes may follow (private dims print so)."""
    name = dim if isinstance(dim, str) else getattr(dim, "name", None)
    if not isinstance(name, str) or not name.rstrip("'").isidentifier() or keyword.iskeyword(name):
        raise DimError(
            "PH007",
            f"{name if isinstance(name, str) else dim!r} is no name for a dimension",
            hints=("a name is an identifier and no keyword of Python, several are separated by blanks: 'batch y x'",),
        )
    return name


def names_of(dims: Names) -> tuple[str, ...]:
    """Distinct names from "b y x", from a list of names or Dims, or from one Dim."""
    if isinstance(dims, str):
        names = tuple(name_of(d) for d in dims.split())
    elif hasattr(dims, "name"):
        names = (name_of(cast("Named", dims)),)
    elif isinstance(dims, Iterable):
        names = tuple(name_of(d) for d in dims)
    else:
        names = (name_of(dims),)
    if len(set(names)) != len(names):
        twice = next(d for d in names if names.count(d) > 1)
        raise DimError(
            "PH006",
            f"dimension '{twice}' is named twice in '{' '.join(names)}'",
            hints=("give each axis a name of its own",),
            dim=twice,
        )
    return names


def _is_dataarray(a: object) -> bool:
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(a, xarray.DataArray)


def _from_dataarray(a: Any, dims: Names | None, name: str) -> Array:
    data = as_strided(a.data, name)
    axes = names_of([d if isinstance(d, str) else str(d) for d in a.dims])
    coords = {str(n): c.variable for n, c in a.coords.items()}
    named = Array(data, axes, element_type(data, name), coords)
    return named if dims is None else _renamed(named, axes, dims, name)


def _renamed(a: Array, has: tuple[str, ...], dims: Names, name: str) -> Array:
    """Names are never given twice by position: the names said again must be the names it has."""
    wanted = names_of(dims)
    if set(wanted) != set(has):
        raise DimError(
            "PH008",
            f"{name} is named already, {_braces(has)}, and not {_braces(wanted)}",
            hints=(f"drop its names first: ph.array(np.asarray(a.order('{' '.join(has)}')), '{' '.join(wanted)}')",),
        )
    return a


def _converted(a: object, name: str) -> Strided:
    try:
        return np.asarray(a)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(
            "PH316", f"{name} is no array of numbers: {error}", hints=("give a NumPy array, or lists of equal lengths",)
        ) from error


def _as_numpy(data: Strided, dtype: Any, copy: bool | None) -> Strided:
    if isinstance(data, DeviceView):
        return data.__array__()  # refused
    return data if dtype is None and not copy else np.array(data, dtype=dtype, copy=copy)


def _wrong_count(name: str, caller: str, data: Strided, axes: tuple[str, ...]) -> ArgumentError:
    n = data.ndim
    shape = f" ({','.join(map(str, data.shape))})" if n else ""
    got = f"{n} {'axis' if n == 1 else 'axes'}{shape}"
    spare = [d for d in ("batch", "i", "j", "k", "l", "m") if d not in axes]
    named = f"ph.array(a, '{' '.join((*spare[: n - len(axes)], *axes))}')"
    if caller:
        declared = f"{name} is declared '{' '.join(axes)}' ({len(axes)})"
        message = f"{caller}({name}=...): got an unnamed array with {got}, but {declared}"
        hint = f"name the extra axis: {named} - the function is lifted over it"
    else:
        message = f"{name} has {got}, but '{' '.join(axes)}' names {len(axes)}"
        hint = f"name each axis: {named}"
    if caller and not axes:
        hint = f"name its axes where it is declared: @ph.function(..., {name}='{' '.join(spare[1 : n + 1])}')"
    elif len(axes) == 1 and len(axes[0]) == n > 1:
        hint = f"names are separated by blanks: {name}='{' '.join(axes[0])}'"
    elif n < len(axes):
        hint = f"give {len(axes)} axes"
    return ArgumentError("PH040", message, hints=(hint,))


def _check_order(wanted: tuple[str, ...], has: tuple[str, ...]) -> None:
    missing = sorted(set(has) - set(wanted))
    extra = [d for d in wanted if d not in has]
    if not missing and not extra:
        return
    parts = [f"leaves out {_braces(missing)}"] * bool(missing) + [f"names {_braces(extra)} which it lacks"] * bool(
        extra
    )
    near = [(d, n) for d in extra if (n := _nearest(d, missing or has))]
    raise OrderError(
        "PH043",
        f".order('{' '.join(wanted)}') {' and '.join(parts)}; this array has {_braces(has)}",
        hints=tuple(f"did you mean '{n}' for '{d}'?" for d, n in near) or (f".order('{' '.join(sorted(has))}')",),
        dim=(extra or missing)[0],
    )


def _nearest(name: str, among: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(name, list(among), 1, 0.5)
    return found[0] if found else None


def _braces(names: Iterable[str]) -> str:
    return "{" + ", ".join(sorted(names)) + "}"


def _sized(sizes: Mapping[str, int]) -> str:
    return "{" + ", ".join(f"{d}:{n}" for d, n in sizes.items()) + "}"


def _forms(text: str, dims: tuple[str, ...], data: Strided, dtype: DType) -> dict[str, str]:
    """An array for notebooks: its sizes and where its cells lie; values are the reader's to print."""
    rows = "".join(
        f"<tr><td>{escaped(d)}</td><td>{n}</td><td>{s}</td></tr>"
        for d, n, s in zip(dims, data.shape, data.strides, strict=True)
    )
    head = "<thead><tr><th>dim</th><th>size</th><th>stride in bytes</th></tr></thead>"
    strides = tuple(s // data.itemsize for s in data.strides)
    cells = Cells("array", tuple(zip(dims, data.shape, strides, strict=True)), data.itemsize)
    svg = layout_svg([cells])
    summary = f"<code>{escaped(text)}</code> {data.nbytes} bytes of {dtype}"
    table = f"<table>{head}<tbody>{rows}</tbody></table>"
    page = f"<details><summary>{summary}</summary>{table}\n{svg}</details>"
    return {"text/plain": text, "text/html": page, "image/svg+xml": svg}
