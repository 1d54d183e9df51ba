# SPDX-License-Identifier: MIT
"""How arrays come in: those of any library, under named dims, without a copy.

What they are then is `frontend.arrays.named`'s; those on a CUDA device are taken by `frontend.arrays.device`.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np

from frontend.arrays.device import on_device, view
from frontend.arrays.named import Array, Ordered, Strided
from frontend.arrays.names import Names, braces, names_of
from polyhedral.errors import ArgumentError, DimError, DtypeError
from polyhedral.ir import dtypes
from polyhedral.ir.dtypes import DType

_HOST = (1, 3)  # DLPack device types whose memory the CPU reads in place: host and pinned host


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
            f"{name} is named already, {braces(has)}, and not {braces(wanted)}",
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
