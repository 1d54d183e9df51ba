# SPDX-License-Identifier: MIT
"""Arrays of other libraries on a CUDA device: taken where they lie, after what is under way; results given so too.

The other library is a few lines here, as PyTorch (DLPack), CuPy (both) and Numba (the CUDA array interface) do it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from frontend.arrays import dlpack
from frontend.arrays.device import DeviceView
from polyhedral.dim import i, k
from polyhedral.errors import PolyhedralError
from tests.device.fake.gpu import Gpu
from tests.device.fake.opened import opened

rng = np.random.default_rng(0)
A, B = rng.random((40, 24), np.float32), rng.random((24, 33), np.float32)


class Other:
    """An array of another library: the values are there once its stream has come so far."""

    def __init__(
        self, gpu: Gpu, values: np.ndarray, *, stream: int = 7, device: int = 0, late: bool = True, **said: Any
    ):
        self.gpu, self.shape, self.dtype, self.device, self.stream = gpu, values.shape, values.dtype, device, stream
        order = sorted(range(values.ndim), key=lambda d: -values.strides[d])
        dense = np.ascontiguousarray(values.transpose(order))
        self.strides = tuple(dense.strides[order.index(d)] for d in range(values.ndim))
        self.said = said
        self.address = gpu.allocate(max(values.nbytes, 1))
        put = lambda: gpu.memory(self.address, dense.nbytes).__setitem__(slice(None), dense.reshape(-1).view(np.uint8))  # noqa: E731
        gpu.start(stream, put) if late else put()

    def numpy(self) -> np.ndarray:
        flat = self.gpu.memory(self.address, int(np.prod(self.shape)) * self.dtype.itemsize).view(self.dtype)
        return np.lib.stride_tricks.as_strided(flat, self.shape, self.strides).copy()


class Interface(Other):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "strides": self.strides,
            "version": 3, "stream": self.stream, **self.said,
        }  # fmt: skip


class Capsule(Other):
    asked: int | None = None

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        if "max_version" in options and "old" in self.said:
            raise TypeError("unexpected keyword")
        self.asked = stream
        event = self.gpu.event()
        self.gpu.record(event, self.stream)
        self.gpu.wait(stream or 0, event)
        return dlpack.made(self.address, self.device, self.shape, self.strides, self.dtype, self)


@ph.function(A="i k", B="k j", returns="i j")
def mm(A, B):
    return (A * B).sum(k)


@ph.function(A="i k", inout="A")
def doubled(A):
    A[...] = 2 * A


@ph.function(X="i j", returns="i j")
def scaled(X):
    return 3 * X


def fresh(f: Any) -> Any:
    """The same function, with no executables of another test's driver."""
    return type(f)(f.python, f.axes, f.inout, f.returns)


@pytest.mark.parametrize("kind", [Interface, Capsule])
def test_in_place_and_out_again(gpu: Gpu, kind: type[Other]):
    a, b = kind(gpu, A), kind(gpu, B, old=True)
    before = gpu.used
    with ph.options(target="cuda"):
        made = fresh(mm)(a, b)
    out = made.order("i j")
    assert gpu.used == before + A.shape[0] * B.shape[1] * 4
    np.testing.assert_allclose(made.numpy(), A @ B, rtol=1e-5)
    np.testing.assert_allclose(out.numpy(), A @ B, rtol=1e-5)
    said = out.__cuda_array_interface__
    assert (said["version"], said["shape"], said["stream"], said["data"][1]) == (3, (40, 33), None, False)
    found = dlpack.read(out.__dlpack__(stream=7))
    assert (found.address, found.device, found.strides) == (said["data"][0], (2, 0), (132, 4))
    assert out.__dlpack_device__() == (2, 0)
    with pytest.raises(ph.ArgumentError, match="nothing copies it to the host silently"):
        np.asarray(made)
    del made, out, found
    gc.collect()
    assert gpu.used == before
    if isinstance(a, Capsule):
        assert a.asked == 1


def test_results_are_arguments(gpu: Gpu):
    with ph.options(target="cuda"):
        once = fresh(mm)(Interface(gpu, A), B)
        again = fresh(scaled)(once)
        twice = fresh(mm)(A.T.copy().T, B)
    np.testing.assert_allclose(again.numpy(), 3 * (A @ B), rtol=1e-5)
    assert isinstance(again.data, DeviceView)
    assert isinstance(twice.data, np.ndarray)


def test_updates_and_given_results(gpu: Gpu):
    a, b, out = Interface(gpu, A), Capsule(gpu, B), Interface(gpu, np.zeros((40, 33), np.float32))
    t = Interface(gpu, np.ascontiguousarray(A.T).T)
    with ph.options(target="cuda"):
        fresh(mm)(a, b, out=out)
        fresh(doubled)(a)
        fresh(doubled)(t)
    np.testing.assert_allclose(out.numpy(), A @ B, rtol=1e-5)
    np.testing.assert_array_equal(a.numpy(), 2 * A)
    np.testing.assert_array_equal(t.numpy(), 2 * A)


def test_streams_that_say_nothing(gpu: Gpu):
    """Before version 3 nobody says on which stream: all are waited for.  None of version 3 says there is no need."""
    with ph.options(target="cuda"):
        old = fresh(mm)(Interface(gpu, A, version=2, stream=None), B)
        ready = fresh(mm)(Interface(gpu, A, late=False, version=3, stream=None), B)
        default = fresh(mm)(Interface(gpu, A, stream=1), B)
    for made in (old, ready, default):
        np.testing.assert_allclose(made.numpy(), A @ B, rtol=1e-5)


def wide(gpu: Gpu) -> Interface:
    a = Interface(gpu, np.zeros((40, 48), np.float32))
    a.shape, a.strides = (40, 24), (48 * 4, 8)
    return a


WRONG: list[tuple[str, str, Callable[[Gpu], Any]]] = [
    ("PH527", "A lies on device 1, and kernels run on device 0", lambda g: mm_on(Capsule(g, A, device=1), B)),
    ("PH528", "A lies on the device, not dense", lambda g: mm_on(wide(g), B)),
    ("PH312", "A is written but read-only", lambda g: fresh(doubled)(Interface(g, A, data=(1 << 20, True)))),
    ("PH316", "stream 0", lambda g: mm_on(Interface(g, A, stream=0), B)),
    ("PH316", "the CUDA array interface", lambda g: mm_on(Interface(g, A, typestr="an f4"), B)),
    ("PH304", "elements of type object", lambda g: mm_on(Interface(g, A, typestr="|O"), B)),
    ("PH303", "foreign byte order", lambda g: mm_on(Interface(g, A, typestr=">f4"), B)),
    ("PH315", "A is a masked array", lambda g: mm_on(Interface(g, A, mask=1), B)),
    ("PH304", "A has elements of DLPack type 2 of 24 bits", lambda g: mm_on(odd(g), B)),
    ("PH316", "DLPack: no tensor with a gradient", lambda g: mm_on(refuses(g), B)),
    ("PH040", "3 axes", lambda g: mm_on(Interface(g, np.zeros((2, 3, 4), np.float32)), B)),
    ("PH010", "sizes disagree", lambda g: mm_on(Interface(g, B), B)),
    ("PH311", "share memory", lambda g: aliased(g)),
    ("PH528", "out for", lambda g: mm_on(Interface(g, A), B, out=ph.array(Interface(g, turned()), "i j"))),
    ("PH312", "read-only", lambda g: mm_on(Interface(g, A), B, out=Interface(g, A @ B, data=(1 << 20, True)))),
]


def turned() -> np.ndarray:
    return np.zeros((33, 40), np.float32).T


def mm_on(*arrays: Any, **named: Any) -> Any:
    return fresh(mm)(*arrays, **named)


def odd(gpu: Gpu) -> Any:
    a = Capsule(gpu, A)

    def capsule(**options: Any) -> Any:
        made = dlpack.made(a.address, 0, a.shape, a.strides, a.dtype, a)
        dlpack._Managed.from_address(dlpack._pointer(made, b"dltensor")).tensor.bits = 24
        return made

    return type("Odd", (), {"__dlpack_device__": a.__dlpack_device__, "__dlpack__": staticmethod(capsule)})()


def refuses(gpu: Gpu) -> Any:
    def capsule(self: Any, **options: Any) -> Any:
        raise BufferError("no tensor with a gradient")

    return type("Refuses", (), {"__dlpack_device__": lambda self: (2, 0), "__dlpack__": capsule})()


def aliased(gpu: Gpu) -> Any:
    a = Interface(gpu, np.zeros((24, 24), np.float32))
    return mm_on(a, Interface(gpu, np.zeros((24, 24), np.float32)), out=a)


@pytest.mark.parametrize(("code", "message", "call"), WRONG, ids=[f"{c} {m}" for c, m, _ in WRONG])
def test_what_cannot_be_taken(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str, message: str, call: Any):
    gpu = Gpu()
    opened(monkeypatch, gpu, "cuda-python", folder)
    with ph.options(target="cuda"), pytest.raises(PolyhedralError) as caught:
        call(gpu)
    assert caught.value.code == code, caught.value
    assert message in str(caught.value)
    assert caught.value.hints


def test_memory_of_another_device(monkeypatch: pytest.MonkeyPatch, folder: Path):
    """The CUDA array interface does not say which device; the driver does."""
    gpu = Gpu()
    opened(monkeypatch, gpu, "libcuda", folder)
    a = Interface(gpu, A)
    gpu.elsewhere[a.address] = 3
    with ph.options(target="cuda"), pytest.raises(ph.ArgumentError, match="A lies on device 3") as caught:
        fresh(mm)(a, B)
    assert caught.value.code == "PH527"


def test_a_processor_computes_with_its_own_memory():
    gpu = Gpu()
    for a in (Interface(gpu, A), Capsule(gpu, A)):
        with pytest.raises(ph.ArgumentError, match="A lies on a CUDA device") as caught:
            fresh(mm)(a, B)
        assert caught.value.code == "PH314"
        with pytest.raises(ph.ArgumentError) as caught:
            fresh(mm).bind(A=a)
        assert caught.value.code == "PH314"
    assert ph.array(Interface(gpu, A), "i k").size(i) == 40
