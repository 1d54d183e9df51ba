# SPDX-License-Identifier: MIT
"""Arrays under named dims, which have no order, and the positional views of them in an order that one asks for.

How they come in is `frontend.arrays.incoming`'s; binding them to arguments is `frontend.arrays.arguments`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Never, cast

import numpy as np

from frontend.arrays.device import DeviceView
from frontend.arrays.names import Named, Names, braces, name_of, names_of, nearest
from frontend.arrays.readable import Readable, no_attribute
from frontend.pictures.cells import Cells, layout_svg
from frontend.pictures.svg import bundle, escaped
from polyhedral.errors import DimError, OrderError
from polyhedral.ir.dtypes import DType

Strided = np.ndarray[Any, Any]


class Array(Readable):
    """Values under named dims, which have no order: `dims` is a set, and an axis order is asked for with `order`.

    `data` (any strides, negative and zero ones too), `axes` (the names of its axes, in order) and `coords` (xarray
    variables by name) are for the code that hands arrays to kernels.

    >>> a = Array(np.zeros((2, 3)), ("y", "x"), DType("f64", "f", 64, np.dtype(np.float64)))
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
            hints = (f"did you mean '{near}'?",) if (near := nearest(name, self.axes)) else ()
            raise DimError(
                "PH001",
                f"this array has no dimension named '{name}'; it has {braces(self.axes)}",
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
                f"this array has unordered dimensions {braces(names)}; "
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
                f"{what} wants an array without dimensions, this one has {braces(self.axes)}",
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


def _as_numpy(data: Strided, dtype: Any, copy: bool | None) -> Strided:
    if isinstance(data, DeviceView):
        return data.__array__()  # refused
    return data if dtype is None and not copy else np.array(data, dtype=dtype, copy=copy)


def _check_order(wanted: tuple[str, ...], has: tuple[str, ...]) -> None:
    missing = sorted(set(has) - set(wanted))
    extra = [d for d in wanted if d not in has]
    if not missing and not extra:
        return
    parts = [f"leaves out {braces(missing)}"] * bool(missing) + [f"names {braces(extra)} which it lacks"] * bool(extra)
    near = [(d, n) for d in extra if (n := nearest(d, missing or has))]
    raise OrderError(
        "PH043",
        f".order('{' '.join(wanted)}') {' and '.join(parts)}; this array has {braces(has)}",
        hints=tuple(f"did you mean '{n}' for '{d}'?" for d, n in near) or (f".order('{' '.join(sorted(has))}')",),
        dim=(extra or missing)[0],
    )


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
