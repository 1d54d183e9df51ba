# SPDX-License-Identifier: MIT
"""Arrays across the boundary: names on, order off, no copies, and the errors in the user's words.

Overlap and alignment are tested in test_memory; torch, JAX and CuPy stand-ins speak their protocols here.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import xarray as xr

from frontend.arrays import named
from frontend.arrays.incoming import array
from frontend.arrays.named import Array, Ordered
from frontend.arrays.names import names_of
from polyhedral.errors import ArgumentError, DimError, DtypeError, OrderError
from polyhedral.ir import dtypes


@dataclass(frozen=True)
class Dim:
    name: str


def shares(a: Any, b: Any) -> bool:
    return np.shares_memory(np.asarray(a), b)


# --- coming in


def test_names_are_a_set():
    a = array(np.zeros((2, 3), np.float32), "y x")
    assert a.dims == {"x", "y"}
    assert isinstance(a.dims, frozenset)
    assert a.sizes == {"x": 3, "y": 2}
    assert list(a.sizes) == ["x", "y"]
    assert (a.size("y"), a.size(Dim("x"))) == (2, 3)
    assert (a.dtype, a.nbytes) == (dtypes.f32, 24)


@pytest.mark.parametrize("dims", ["y x", ["y", "x"], ("y", Dim("x")), [Dim("y"), Dim("x")]])
def test_names_may_be_given_in_many_ways(dims: Any):
    assert array(np.zeros((2, 3)), dims).axes == ("y", "x")


def test_one_dim_object():
    assert array(np.zeros(2), Dim("x")).axes == ("x",)
    assert names_of("t'") == ("t'",)


@pytest.mark.parametrize(
    "view", [lambda b: b, lambda b: b.T, lambda b: b[::-1, ::2], lambda b: np.broadcast_to(b[0], b.shape)]
)
def test_any_strides_come_in_without_a_copy(view: Any):
    base = np.arange(12.0).reshape(3, 4)
    given = view(base)
    a = array(given, "i j")
    assert a.data is given
    assert shares(a.order("i j"), base)
    assert a.order("j i").numpy().strides == given.strides[::-1]


@pytest.mark.parametrize("value", [True, 3, 2.5, 1j, np.float32(2), np.array(7)])
def test_scalars(value: Any):
    a = array(value)
    assert a.dims == frozenset()
    assert a.item() == value
    assert np.asarray(a) == value
    assert a.order("").shape == ()


def test_scalar_conversions():
    assert (float(array(2.5)), int(array(3)), bool(array(0)), complex(array(1j))) == (2.5, 3, False, 1j)
    with pytest.raises(DimError, match=r"float\(\) wants an array without dimensions, this one has {i}"):
        float(array(np.zeros(1), "i"))


def test_lists():
    assert array([[1, 2], [3, 4]], "i j").dtype == dtypes.i64
    for bad in ([[1], [2, 3]], [object()], ["a"], 1 << 80):
        with pytest.raises((ArgumentError, DtypeError)):
            array(bad, "i")


def test_zero_sizes():
    a = array(np.zeros((0, 3)), "i j")
    assert a.sizes == {"i": 0, "j": 3}
    assert a.order("j i").shape == (3, 0)


@pytest.mark.parametrize("t", dtypes.ALL, ids=str)
def test_every_type_goes_in_and_out(t: dtypes.DType):
    data = np.zeros((2, 3), t.numpy)
    a = array(data, "i j")
    assert a.dtype == t
    assert np.asarray(a.order("j i")).dtype == t.numpy
    assert np.asarray(array(data[0], "j")).dtype == t.numpy
    assert shares(a.order("i j"), data)


def test_aliases_of_types():
    assert array(np.zeros(2, np.longlong), "i").dtype == dtypes.i64
    assert array(np.zeros(2, np.intc), "i").dtype == dtypes.i32


@pytest.mark.parametrize("dtype", ["U3", "S2", "O", "M8[s]", [("a", "f4")], "g", "V4"])
def test_types_that_the_language_lacks(dtype: Any):
    with pytest.raises(DtypeError, match="W has elements of type") as caught:
        array(np.zeros(2, dtype), "i", name="W")
    assert caught.value.code == "PH304"


def test_foreign_byte_order():
    foreign = ">f8" if sys.byteorder == "little" else "<f8"
    with pytest.raises(DtypeError, match="W has elements in foreign byte order") as caught:
        array(np.zeros(2, foreign), "i", name="W")
    assert caught.value.code == "PH303"


def test_a_wrong_number_of_names():
    with pytest.raises(ArgumentError) as caught:
        array(np.zeros((2, 3, 4)), "i k", name="A", caller="mm")
    assert caught.value.code == "PH040"
    assert caught.value.message == ("mm(A=...): got an unnamed array with 3 axes (2,3,4), but A is declared 'i k' (2)")
    assert caught.value.hints == ("name the extra axis: ph.array(a, 'batch i k') - the function is lifted over it",)
    for a, dims in ((np.zeros((2, 3)), None), (np.zeros((2, 3)), "x"), (np.zeros(2), "x y z"), (1.0, "x")):
        with pytest.raises(ArgumentError) as caught:
            array(a, dims)
        assert caught.value.code == "PH040"
        assert caught.value.hints


@pytest.mark.parametrize("bad", ["i i", ["i", Dim("i")]])
def test_a_repeated_name(bad: Any):
    with pytest.raises(DimError, match="'i' is named twice") as caught:
        array(np.zeros((2, 2)), bad)
    assert caught.value.code == "PH006"


@pytest.mark.parametrize("bad", ["for", "2x", "a-b", ["a b"], [""], [3], ["'"]])
def test_what_is_no_name(bad: Any):
    with pytest.raises(DimError) as caught:
        array(np.zeros(2), bad)
    assert caught.value.code == "PH007"


def test_named_arrays_pass_through():
    a = array(np.zeros((2, 3)), "i j")
    assert array(a) is a
    assert array(a, "j i") is a
    again = array(a.order("j i"))
    assert (again.axes, shares(again.order("i j"), a.data)) == (("j", "i"), True)
    with pytest.raises(DimError, match=r"named already, {i, j}, and not {k, l}") as caught:
        array(a, "k l")
    assert caught.value.code == "PH008"


def test_what_is_no_array():
    for bad in (object(), "text", {"a": 1}, None):
        with pytest.raises(ArgumentError, match="no array") as caught:
            array(bad, "i")
        assert caught.value.code == "PH316"


def test_masks_are_not_lost():
    with pytest.raises(ArgumentError, match="masked"):
        array(np.ma.masked_array([1.0, 2.0], [True, False]), "i")


class DLPackOnly:
    """As torch: DLPack, and a device."""

    def __init__(self, data: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.data, self.device = data, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class InterfaceOnly:
    def __init__(self, data: np.ndarray) -> None:
        self.__array_interface__ = data.__array_interface__
        self.data = data


class BfloatOnly(DLPackOnly):
    """As JAX with bfloat16: NumPy's DLPack cannot carry it, `__array__` can."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("no bfloat16")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.data


@pytest.mark.parametrize("kind", [DLPackOnly, InterfaceOnly])
def test_other_libraries_without_a_copy(kind: Any):
    data = np.arange(6.0).reshape(2, 3).T
    a = array(kind(data), "i j")
    assert a.sizes == {"i": 3, "j": 2}
    assert shares(a.data, data)


def test_bfloat16_of_other_libraries():
    assert array(BfloatOnly(np.zeros(2, ml_dtypes.bfloat16)), "i").dtype == dtypes.bf16
    with pytest.raises(ArgumentError, match="cannot be read through DLPack"):
        array(DLPackOnly(np.zeros(2, ml_dtypes.bfloat16)), "i")


def test_arrays_on_a_device():
    with pytest.raises(ArgumentError, match="X lies on a device") as caught:
        array(DLPackOnly(np.zeros(2), (10, 0)), "i", name="X")
    assert caught.value.code == "PH314"


# --- going out


def test_no_silent_axis_order():
    a = array(np.zeros((2, 3)), "j i")
    with pytest.raises(OrderError) as caught:
        np.asarray(a)
    assert isinstance(caught.value, TypeError)
    assert caught.value.code == "PH041"
    assert caught.value.message == (
        "this array has unordered dimensions {i, j}; say the axis order you want: .order('i j')"
    )


def test_one_dim_needs_no_order():
    data = np.arange(3.0)
    assert shares(array(data, "i"), data)
    assert np.asarray(array(data, "i"), dtype="f4").dtype == np.float32
    assert np.array(array(data, "i"), copy=True) is not data


@pytest.mark.parametrize("dims", [("o y x",), (Dim("o"), "y", Dim("x")), (["o", "y", "x"],)])
def test_order(dims: Any):
    data = np.arange(24.0).reshape(2, 3, 4)
    o = array(data, "x o y").order(*dims)
    assert isinstance(o, Ordered)
    assert (o.dims, o.shape, o.ndim, len(o)) == (("o", "y", "x"), (3, 4, 2), 3, 3)
    np.testing.assert_array_equal(np.asarray(o), data.transpose(1, 2, 0))
    assert shares(o, data)
    assert o[1, 2, 0] == data[0, 1, 2]
    o.numpy()[0, 0, 0] = 99
    assert data[0, 0, 0] == 99


def test_wrong_orders():
    a = array(np.zeros((2, 3)), "width height")
    for wanted, said, hint in (
        ("width", "leaves out {height}", ".order('height width')"),
        (
            "width heigth",
            "leaves out {height} and names {heigth} which it lacks",
            "did you mean 'height' for 'heigth'?",
        ),
        ("width height q", "names {q}", ".order('height width')"),
    ):
        with pytest.raises(OrderError) as caught:
            a.order(wanted)
        assert caught.value.code == "PH043"
        assert said in caught.value.message
        assert caught.value.hints == (hint,)
    with pytest.raises(DimError, match="named twice"):
        a.order("width width")


def test_unknown_dim():
    with pytest.raises(DimError, match=r"no dimension named 'widht'; it has {height, width}") as caught:
        array(np.zeros((2, 3)), "width height").size("widht")
    assert caught.value.code == "PH001"
    assert caught.value.hints == ("did you mean 'width'?",)


def test_array_protocol_of_numpy_2():
    data = np.arange(6.0).reshape(2, 3)
    o = array(data, "i j").order("i j")
    assert not np.shares_memory(np.array(o, copy=True), data)
    assert o.__array__() is data
    assert np.asarray(o, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        o.__array__(np.float32, copy=False)


def test_dlpack_out():
    data = np.arange(6.0).reshape(2, 3)
    back = np.from_dlpack(array(data, "i j").order("j i"))
    assert back.shape == (3, 2)
    assert np.shares_memory(back, data)


def test_interface_out():
    data = np.zeros((2, 3))
    assert array(data, "i j").order("j i").__array_interface__["shape"] == (3, 2)
    assert not hasattr(array(data.astype(ml_dtypes.bfloat16), "i j").order("j i"), "__array_interface__")


def test_reprs():
    a = array(np.zeros((2, 3), np.float32), "y x")
    assert repr(a) == "Array{x:3, y:2} f32"
    assert repr(a.order("y x")) == "Ordered[y:2, x:3] f32"
    assert repr(array(1.0)) == "Array{} f64"
    for shown in (a, a.order("x y")):
        bundle = shown._repr_mimebundle_()
        assert bundle["text/plain"] == repr(shown)
        assert "<td>x</td><td>3</td>" in bundle["text/html"]


# --- xarray


@pytest.fixture
def field() -> xr.DataArray:
    return xr.DataArray(
        np.arange(6.0).reshape(2, 3),
        dims=("y", "x"),
        coords={"x": [10, 20, 30], "y": ["a", "b"], "area": (("y", "x"), np.ones((2, 3))), "time": 5},
        name="t",
    )


def test_a_dataarray_brings_its_names(field: xr.DataArray):
    a = array(field)
    assert a.axes == ("y", "x")
    assert shares(a.data, field.values)
    assert array(field, "x y").axes == ("y", "x")
    with pytest.raises(DimError, match="named already"):
        array(field, "a b")


def test_coordinates_return(field: xr.DataArray):
    xr.testing.assert_identical(array(field).to_xarray(), field.rename(None))
    xr.testing.assert_identical(array(field).order("x y").to_xarray(), field.rename(None).T)


def test_coordinates_of_a_changed_size_do_not(field: xr.DataArray):
    a = array(field)
    out = Array(np.zeros((2, 2)), ("y", "x"), dtypes.f64, a.coords).to_xarray()
    assert set(out.coords) == {"y", "time"}
    out = Array(np.zeros(3), ("x",), dtypes.f64, a.coords).to_xarray()
    assert set(out.coords) == {"x", "time"}


def test_a_multi_index_survives(field: xr.DataArray):
    stacked = field.drop_vars("area").stack(z=("y", "x"))
    out = array(stacked).to_xarray()
    assert out.sizes == {"z": 6}
    np.testing.assert_array_equal(out.values, stacked.values)


def test_names_of_xarray_that_are_none():
    with pytest.raises(DimError) as caught:
        array(xr.DataArray(np.zeros(2), dims=["not a name"]))
    assert caught.value.code == "PH007"


def test_without_xarray():
    code = """
import sys
sys.modules["xarray"] = None
import numpy as np
from frontend.arrays.incoming import array
try:
    array(np.zeros(2), "x").to_xarray()
except ImportError as error:
    print(error)
"""
    root = str(Path(named.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env={"PYTHONPATH": root}
    )
    assert "polyhedral-loops[xarray]" in done.stdout
