# SPDX-License-Identifier: MIT
"""The CUDA drivers themselves, each on a GPU that is a processor: modules, memory, launches, events, errors."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import polyhedral as ph
from codegen.runtime import cuda
from codegen.runtime.cache import Cache
from frontend.environment import session
from frontend.environment.options import Options
from polyhedral.dim import k
from polyhedral.errors import ToolchainError
from tests.device.fake.gpu import FailedError, Gpu
from tests.device.fake.opened import WAYS, installed, opened

rng = np.random.default_rng(0)
A, B = rng.random((40, 24), np.float32), rng.random((24, 33), np.float32)


def product():
    @ph.function(A="i k", B="k j", returns="i j")
    def mm(A, B):
        return (A * B).sum(k)

    return mm


def test_a_call(gpu: Gpu):
    with ph.options(target="cuda"):
        mm = product()
        np.testing.assert_allclose(mm(A, B), A @ B, rtol=1e-5)
        out = np.empty((33, 40), np.float32).T
        mm(A, B, out=out)
    np.testing.assert_allclose(out, A @ B, rtol=1e-5)
    assert len(gpu.launches) == 2
    assert gpu.used == 0


def test_numbers_types_and_order(gpu: Gpu):
    """Symbolic sizes are numbers that kernels take; bf16 is no buffer to NumPy; statements run in order."""
    X = rng.random(1000, np.float32).astype(ph.bf16.numpy)

    @ph.function(X="i", returns="i")
    def shifted(X):
        total = ph.let(X.astype(ph.f32).sum(ph.dims("i")), "total")
        return (X.astype(ph.f32) - total).astype(ph.bf16)

    exe = shifted.lower(X="bf16[i]", target="cuda").compile()
    got = np.asarray(exe(X)).astype(np.float32)
    want = X.astype(np.float32) - X.astype(np.float32).sum()
    np.testing.assert_allclose(got, want, rtol=1e-2)
    assert gpu.used == 0


def test_time_is_the_devices(gpu: Gpu):
    exe = product().lower(A=A, B=B, target="cuda").compile()
    made, seconds = exe.timed(3, A=A, B=B)
    np.testing.assert_allclose(made, A @ B, rtol=1e-5)
    assert len(seconds) == 3
    assert all(s > 0 for s in seconds)
    assert len(gpu.launches) == 4
    assert gpu.used == 0


def test_another_thread(gpu: Gpu):
    """Contexts are current in one thread alone."""
    found: list[np.ndarray] = []

    def work() -> None:
        with ph.options(target="cuda"):
            found.append(np.asarray(product()(A, B)))

    t = threading.Thread(target=work)
    t.start()
    t.join()
    np.testing.assert_allclose(found[0], A @ B, rtol=1e-5)


def test_memory_that_is_not_there(gpu: Gpu):
    gpu.capacity = A.nbytes + B.nbytes + 100
    with ph.options(target="cuda"):
        with pytest.raises(ToolchainError) as caught:
            product()(A, B)
        assert caught.value.code == "PH521"
        need = A.nbytes + B.nbytes + 40 * 33 * 4 + 4
        assert f"needs {need - 4:,} bytes" in str(caught.value)
        assert f"{gpu.capacity:,} were free" in str(caught.value)
        assert "A: 3,840" in str(caught.value)
        assert gpu.used == 0
        gpu.capacity = 1 << 20
        np.testing.assert_allclose(product()(A, B), A @ B, rtol=1e-5)


def test_a_kernel_that_fails(gpu: Gpu, monkeypatch: pytest.MonkeyPatch):
    with ph.options(target="cuda"):
        mm = product()
        mm(A, B)

        def missing(address: int, size: int = 1) -> np.ndarray:
            if size == 1:  # as kernels ask
                raise FailedError(700)
            return memory(address, size)

        memory = gpu.memory
        monkeypatch.setattr(gpu, "memory", missing)
        with pytest.raises(ToolchainError, match="a kernel failed") as caught:
            mm(A, B)
    assert caught.value.code == "PH522"
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in str(caught.value)
    assert "start a new process" in str(caught.value)


def test_a_cubin_that_the_driver_does_not_know(gpu: Gpu, monkeypatch: pytest.MonkeyPatch):
    def load(image: bytes) -> int:
        raise FailedError(209)

    monkeypatch.setattr(gpu, "load", load)
    with ph.options(target="cuda"), pytest.raises(ToolchainError, match="NO_BINARY_FOR_GPU") as caught:
        product()(A, B)
    assert caught.value.code == "PH523"
    assert "newer than the driver" in str(caught.value)


def test_a_machine_without_nvcc(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path):
    """What another machine has compiled is carried in its cache."""
    opened(monkeypatch, Gpu(), "libcuda", folder)
    text, cache = product().lower(A=A, B=B, target="cuda").built.source, Cache(tmp_path)
    symbols = [s.symbol for s in text.launches]
    bare = cuda.open_device({"PATH": "/nonexistent"})
    with pytest.raises(ToolchainError, match="no nvcc found") as caught:
        bare.compile(text.text, symbols, cache)
    assert caught.value.code == "PH525"
    assert "carry POLYHEDRAL_CACHE_DIR" in str(caught.value)
    session.current().driver(Options(target="cuda")).compile(text.text, symbols, cache)
    kernels, info = bare.compile(text.text, symbols, cache)
    assert set(kernels) == set(symbols)
    assert info.hit


def test_a_driver_that_does_not_say_the_clock():
    assert cuda.described("H100", 9, 0, 132, 0.0, 228 << 10).clock == 1.98


def test_a_forked_process(gpu: Gpu, monkeypatch: pytest.MonkeyPatch):
    with ph.options(target="cuda"):
        mm = product()
        mm(A, B)
        monkeypatch.setattr("os.getpid", lambda: 1)
        with pytest.raises(ToolchainError, match="was forked from") as caught:
            mm(A, B)
    monkeypatch.undo()
    assert caught.value.code == "PH520"
    assert "spawn" in str(caught.value)


@pytest.mark.parametrize("way", [*WAYS, "none"])
def test_no_device(monkeypatch: pytest.MonkeyPatch, way: str):
    installed(monkeypatch, Gpu(devices=0), way)
    with pytest.raises(ToolchainError, match="no device here") as caught:
        cuda.open_device({})
    assert caught.value.code == "PH520"
    assert "nvidia-smi" in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_another_architecture(monkeypatch: pytest.MonkeyPatch, way: str):
    installed(monkeypatch, Gpu(), way)
    with pytest.raises(ToolchainError, match="A processor is sm_80") as caught:
        cuda.open_device({}, "sm_90")
    assert caught.value.code == "PH520"
