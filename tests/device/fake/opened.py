# SPDX-License-Identifier: MIT
"""Our CUDA drivers on the GPU that is a processor: which packages are there decides which of them is opened."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen.runtime import cuda, libcuda
from codegen.runtime.device import Driver
from frontend.environment import session
from tests.device import on_host
from tests.device.fake import cuda_python, nvcc, pycuda
from tests.device.fake.gpu import Gpu
from tests.device.fake.libcuda import Library

WAYS = ("pycuda", "cuda-python", "libcuda")


def compiler(folder: Path) -> Path:
    """The stand-in for nvcc, as a program."""
    made = folder / "nvcc"
    if not made.exists():
        flags = " ".join(map(shlex.quote, (*on_host.FLAGS, *on_host.WORDS)))
        made.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{nvcc.__file__}" {flags} , "$@"\n')
        made.chmod(0o755)
    return made


def installed(monkeypatch: pytest.MonkeyPatch, gpu: Gpu, way: str) -> None:
    """The packages of a way are those that can be imported."""
    real = importlib.import_module
    found = {"pycuda": ("pycuda.driver", pycuda.Driver), "cuda-python": ("cuda.bindings.driver", cuda_python.Driver)}
    name, module = found.get(way, ("", None))

    def fake(wanted: str, *rest: Any) -> Any:
        if wanted == name and module is not None:
            return module(gpu)
        if wanted.partition(".")[0] in ("pycuda", "cuda"):
            raise ImportError(f"No module named {wanted!r}")
        return real(wanted, *rest)

    def library(wanted: str) -> Library:
        if way != "libcuda":
            raise OSError(f"{wanted}: cannot open shared object file")
        return Library(gpu)

    plain: Callable[[], libcuda.LibCuda] = lambda: original(library)  # noqa: E731
    original = libcuda.load
    monkeypatch.setattr(importlib, "import_module", fake)
    monkeypatch.setattr(libcuda, "load", plain)


def opened(monkeypatch: pytest.MonkeyPatch, gpu: Gpu, way: str, folder: Path) -> Driver:
    """The driver that this process then has for `target="cuda"`."""
    installed(monkeypatch, gpu, way)
    made = cuda.open_device({"NVCC": str(compiler(folder)), "PATH": "/usr/bin:/bin"})
    monkeypatch.setattr(session, "_driver", lambda env, target: made)
    return made
