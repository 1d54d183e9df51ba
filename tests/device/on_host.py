# SPDX-License-Identifier: MIT
"""CUDA text run on a processor: the words of CUDA are a header (`host/device.hpp`), and g++ compiles the kernels.

What is printed for nvcc is what runs, thread by thread, with the barriers, shuffles and copies that it asks for; only a
GPU's own arithmetic and timing are not seen.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.launch import DeviceSource
from codegen.runtime.build import BuildInfo
from codegen.runtime.cache import Cache
from frontend.environment import session
from frontend.environment.options import Options
from frontend.lowering import driver
from frontend.lowering.built import Built
from frontend.running.buffers import buffer
from frontend.running.on_device import OnDevice
from polyhedral.errors import ToolchainError
from polyhedral.ir import affine as aff
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program, Role, specialise
from polyhedral.machine.device import Device

HOST = Path(__file__).parent / "host"
FLAGS = ("-std=c++17", "-O1", "-w", "-fno-strict-aliasing", "-ffp-contract=off", "-fPIC")
WORDS: tuple[str, ...] = (f"-I{HOST}",)
"""Where g++ finds the words of CUDA."""


def read_once(compiler: str, folder: Path) -> tuple[str, ...]:
    """The words, as a precompiled header in `folder`: reading them takes longer than most kernels."""
    for file in HOST.iterdir():
        shutil.copy(file, folder)
    header = folder / "device.hpp"
    subprocess.run([compiler, *FLAGS, "-x", "c++-header", str(header), "-o", f"{header}.gch"], check=True)
    return f"-I{folder}", "-include", "device.hpp"


class OnHost:
    """A driver whose device is this process."""

    language = "cuda"
    ordinal = 0

    def __init__(self, device: Device, folder: Path, seed: int = 0) -> None:
        self.device, self.folder, self.seed = device, folder, seed

    def compile(self, text: str, symbols: Sequence[str], cache: Cache) -> tuple[dict[str, Any], BuildInfo]:
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("no g++ here")
        entries = "".join(
            f'extern "C" int run_{s}(void **a, const int *n, int seed) {{ return host::call({s}, a, n, seed); }}\n'
            for s in dict.fromkeys(symbols)
        )
        source, made = self.folder / "kernels.cc", self.folder / "kernels.so"
        source.write_text(text + entries)
        subprocess.run([compiler, *FLAGS, *WORDS, "-shared", "-o", str(made), str(source)], check=True)
        library = ctypes.CDLL(str(made))
        return {s: library[f"run_{s}"] for s in symbols}, BuildInfo("", made, False, 0.0)

    def begin(self) -> None:
        pass

    def free(self) -> int | None:
        return None

    def borrowed(self, address: int, size: int) -> np.ndarray:
        raise NotImplementedError

    def address(self, memory: np.ndarray) -> int:
        return memory.ctypes.data

    def wait_for(self, stream: int) -> None:
        pass

    def where(self, address: int) -> int | None:
        return None

    def allocate(self, size: int) -> np.ndarray:
        """Poison: what a kernel leaves out is seen."""
        block = np.full(size + 64, 0xFF, np.uint8)
        return block[-block.ctypes.data % 64 :][:size]

    def release(self, memory: np.ndarray) -> None:
        pass

    def upload(self, memory: np.ndarray, data: np.ndarray) -> None:
        memory[: data.nbytes] = data.reshape(-1).view(np.uint8)

    def download(self, memory: np.ndarray, data: np.ndarray) -> None:
        data.reshape(-1).view(np.uint8)[...] = memory[: data.nbytes]

    def launch(self, kernel: Any, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]) -> None:
        held = [
            ctypes.c_void_p(a.ctypes.data)
            if isinstance(a, np.ndarray)
            else (ctypes.c_int32 if isinstance(a, np.int32) else ctypes.c_int64)(int(a))
            for a in arguments
        ]
        pointers = (ctypes.c_void_p * max(len(held), 1))(*(ctypes.addressof(h) for h in held))
        if kernel(pointers, (ctypes.c_int * 6)(*grid, *block), self.seed):
            raise ToolchainError("PH522", "a kernel failed")

    def finish(self) -> None:
        pass

    def seconds(self, work: Callable[[], object], launches: int = 1) -> float:
        work()
        return 0.0


def lowered(program: Program, sizes: Mapping[str, int], target: str, **options: Any) -> Built:
    """A program of known sizes on a device that need not be here; dense arguments."""
    p = specialise(program, sizes)
    given = {a.name: row_major(a) for a in p.arrays if a.role not in (Role.CONSTANT, Role.TEMPORARY)}
    return driver.lower(p, given, Options(target=target, **options))


def run_on_host(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    folder: Path,
    target: str = "cuda:sm_80",
) -> tuple[dict[str, np.ndarray], Built]:
    """Outputs and inouts of a program's CUDA text."""
    built = lowered(program, sizes, target)
    return executed(built, inputs, sizes, folder), built


def executed(
    built: Built, inputs: Mapping[str, np.ndarray], sizes: Mapping[str, int], folder: Path, text: str | None = None
) -> dict[str, np.ndarray]:
    """What the kernels of a source compute, or those of another `text` in their place."""
    source = built.source
    assert isinstance(source, DeviceSource)
    assert built.mapped is not None
    on = OnHost(built.mapped.device, folder)
    symbols = [k.symbol for k in source.launches]
    kernels, _ = on.compile(text or source.text, symbols, session.current().cache(built.options))
    return called(OnDevice(on, source, kernels, built.layouts), built.program, inputs, sizes)


def called(
    loaded: OnDevice, p: Program, inputs: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """What loaded kernels compute."""
    buffers = [buffer(p.array(n), loaded.layouts[n]) for n in loaded.source.buffers]
    found: dict[str, np.ndarray] = {}
    arrays: list[np.ndarray | None] = []
    for b in buffers:
        a = p.array(b.name)
        if b.role is not Role.TEMPORARY:
            shape = [max(aff.evaluate(e, {}, sizes), 0) for _, e in a.stored]
            found[b.name] = inputs[b.name].copy() if b.name in inputs else np.full(shape, 77).astype(a.dtype.numpy)
        own = found.get(b.name)
        arrays.append(None if own is None else own.transpose([a.dim_names.index(d) for d in b.axes]))
    assert loaded.run(buffers, arrays, sizes) == 0
    return {a.name: found[a.name] for a in p.with_role(Role.OUTPUT, Role.INOUT)}
