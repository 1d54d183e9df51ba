# SPDX-License-Identifier: MIT
"""What a user meets where there is no device, compiler, memory or room for a grid; each with its code."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from codegen.launch import Axis, Launch
from codegen.runtime import cuda, nvcc, opencl
from codegen.runtime.cache import Cache
from frontend.running.on_device import grid_of
from polyhedral.dim import i, k
from polyhedral.errors import ToolchainError
from polyhedral.ir import affine as aff
from polyhedral.machine.device import GENERIC
from tests.device.on_opencl import needs_opencl


@ph.function(A="i k", B="k j", returns="i j")
def mm(A, B):
    return (A * B).sum(k)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    real = importlib.import_module

    def fake(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in packages:
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", fake)


def test_no_package_for_cuda(monkeypatch: pytest.MonkeyPatch):
    without(monkeypatch, "pycuda", "cuda")
    with pytest.raises(ToolchainError, match=r"NVIDIA's driver is not here .*libcuda") as caught:
        cuda.open_device({})
    assert caught.value.code == "PH520"


class _Status:
    name = "CUDA_ERROR_NO_DEVICE"

    def __int__(self) -> int:
        return 100


class _NoDriver:
    """cuda-python where no driver is installed."""

    @staticmethod
    def cuInit(flags: int) -> tuple[_Status]:  # noqa: N802
        return (_Status(),)


def test_no_driver(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ToolchainError, match="CUDA_ERROR_NO_DEVICE") as caught:
        cuda.CudaPython(_NoDriver(), {})
    assert caught.value.code == "PH520"


def test_no_pyopencl(monkeypatch: pytest.MonkeyPatch):
    without(monkeypatch, "pyopencl")
    with pytest.raises(ToolchainError) as caught:
        opencl.open_device()
    assert caught.value.code == "PH520"
    assert "polyhedral-loops[opencl]" in caught.value.hints[0]


def test_no_nvcc():
    with pytest.raises(ToolchainError) as caught:
        nvcc.find_nvcc({"PATH": "/nonexistent"})
    assert caught.value.code == "PH525"


def test_nvcc_refuses(tmp_path):
    try:
        found = nvcc.find_nvcc(os.environ)
    except ToolchainError:
        pytest.skip("no nvcc here")
    for text, architecture in (("this is no CUDA", "sm_90"), ("", "sm_999")):
        with pytest.raises(ToolchainError) as caught:
            nvcc.compile_cuda(text, found, architecture, Cache(tmp_path))
        assert caught.value.code == "PH523"


def test_an_architecture_that_nobody_makes():
    with pytest.raises(ph.ArgumentError) as caught:
        mm.lower(A="f32[i:4,k:4]", B="f32[k:4,j:4]", target="cuda:sm_35")
    assert caught.value.code == "PH505"


def test_hints_are_for_processors():
    with pytest.raises(ph.ArgumentError) as caught:
        mm.lower(A="f32[i:4,k:4]", B="f32[k:4,j:4]", target="cuda:sm_90", hints=ph.hints().parallel(i))
    assert caught.value.code == "PH402"


def test_memory_that_a_device_has_not():
    needs_opencl()
    device = opencl.open_device()
    assert isinstance(device, opencl.OpenCL)
    before = device.held
    with pytest.raises(ToolchainError) as caught:
        device.allocate(1 << 50)
    assert caught.value.code == "PH521"
    assert str(1 << 50) in str(caught.value)
    assert device.held == before


def test_a_grid_is_cut_where_it_is_too_long():
    loops = (((aff.const(0), aff.size("n") - 1),),)
    launch = Launch("f", (), ("n",), (Axis(loops), Axis(loops), Axis()), (32, 1, 1))
    assert grid_of(launch, {"n": 1 << 20}, GENERIC.grid) == (1 << 20, 65535, 1)


def test_what_does_not_fit_in_shared_memory_stays_out():
    """Votes of wide windows in f64: a remark, and the same results."""
    low = mm.lower(A="f64[i:4096,k:4096]", B="f64[k:4096,j:4096]", target="cuda:sm_80")
    launches = low.built.source.launches
    assert all(k.shared <= GENERIC.shared_block for k in launches)


def test_calls_on_a_device():
    """Strides, orders and results given by the caller, as on a processor."""
    needs_opencl()
    rng = np.random.default_rng(0)
    A, B = rng.random((40, 9), np.float32)[::2], rng.random((30, 9), np.float32).T
    out = np.empty((20, 30), np.float32)[:, ::-1]
    with ph.options(target="opencl"):
        np.testing.assert_allclose(mm(A, B), A @ B, rtol=1e-5)
        mm(A, B, out=out)
    np.testing.assert_allclose(out, A @ B, rtol=1e-5)


def test_a_gather_out_of_bounds_is_reported():
    needs_opencl()

    @ph.function(X="i", at="j", returns="j")
    def take(X, at):
        return X(i=at)

    X = np.arange(5.0)
    with ph.options(target="opencl"):
        np.testing.assert_array_equal(take(X, np.array([4, 0])), [4, 0])
        with pytest.raises(ph.BoundsError) as caught:
            take(X, np.array([5, 0]))
    assert caught.value.code == "PH103"
