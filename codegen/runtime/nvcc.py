# SPDX-License-Identifier: MIT
"""nvcc: CUDA text to a cubin or PTX for an architecture, and what ptxas says that kernels take.

Loading what comes out needs a driver (`codegen.runtime.cuda`); this needs no GPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegen.runtime.build import BuildInfo, package_version
from codegen.runtime.cache import Cache, key_of
from codegen.runtime.device import Resources
from polyhedral.errors import ToolchainError

ABI = "cuda/1"
FLAGS = ("--fmad=false", "-O3", "-Xptxas", "-v")
"""Products and sums are rounded one by one, as everywhere; a multiply-add that is meant says so."""
_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Nvcc:
    """The compiler at an absolute path, and what it says of itself."""

    path: str
    version: str


def find_nvcc(env: Mapping[str, str]) -> Nvcc:
    """`$NVCC`, `nvcc` on the path, or that of `$CUDA_HOME`; ToolchainError PH525 where there is none."""
    tried = [env.get("NVCC"), shutil.which("nvcc", path=env.get("PATH", "")), _of(env.get("CUDA_HOME"))]
    for path in filter(None, tried):
        try:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        return Nvcc(str(Path(path).absolute()), said.strip().splitlines()[-1])
    raise ToolchainError(
        "PH525",
        "no nvcc found (tried $NVCC, the path and $CUDA_HOME)",
        hints=("install the CUDA toolkit", "or carry POLYHEDRAL_CACHE_DIR from a machine that has it"),
    )


def _of(home: str | None) -> str | None:
    return str(Path(home) / "bin" / "nvcc") if home else None


@dataclass(frozen=True)
class Compiled:
    """A compiled file with what ptxas said."""

    path: Path
    said: str
    info: BuildInfo


def compiled_before(text: str, architecture: str, cache: Cache, kind: str = "cubin") -> Compiled | None:
    """What any nvcc made of a text, from the cache: for machines that have none."""
    key = _of_any(text, architecture, kind)
    path, notes = cache.lookup(key), cache.lookup(key_of(key, "ptxas"))
    if path is None or notes is None:
        return None
    return Compiled(path, notes.read_text(), BuildInfo(key, path, True, 0.0))


def _of_any(text: str, architecture: str, kind: str) -> str:
    return key_of(ABI, package_version(), "any nvcc", architecture, kind, *FLAGS, text)


def compile_cuda(text: str, nvcc: Nvcc, architecture: str, cache: Cache, kind: str = "cubin") -> Compiled:
    """The cubin or PTX of a text, from the cache where it is; ToolchainError PH523 where nvcc refuses it."""
    key = key_of(ABI, package_version(), nvcc.path, nvcc.version, architecture, kind, *FLAGS, text)
    path, notes = cache.lookup(key), cache.lookup(key_of(key, "ptxas"))
    if path is not None and notes is not None:
        return Compiled(path, notes.read_text(), BuildInfo(key, path, True, 0.0))
    with tempfile.TemporaryDirectory(prefix="polyhedral-") as folder:
        source, made = Path(folder) / "kernels.cu", Path(folder) / f"kernels.{kind}"
        source.write_text(text)
        command = [nvcc.path, f"-arch={architecture}", *FLAGS, f"-{kind}", "-o", str(made), str(source)]
        begin = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired as error:
            raise ToolchainError(
                "PH523", f"nvcc took more than {error.timeout:.0f} s", hints=("a smaller tile",)
            ) from error
        if done.returncode or not made.is_file():
            said = (done.stderr or done.stdout).strip().replace(folder, "")
            raise ToolchainError(
                "PH523",
                f"nvcc failed for {architecture} with exit code {done.returncode}",
                details=tuple(said.splitlines()[-12:]),
                hints=("is this architecture one that your toolkit knows? nvcc --list-gpu-code",),
            )
        seconds = time.perf_counter() - begin
        meta = {"symbol": "", "compiler": nvcc.version, "flags": list(FLAGS), "seconds": round(seconds, 3)}
        stored = cache.store(key, made.read_bytes(), meta, f".{kind}")
        cache.store(key_of(key, "ptxas"), done.stderr.encode(), meta, ".txt")
        carried = _of_any(text, architecture, kind)
        cache.store(carried, made.read_bytes(), meta, f".{kind}")
        cache.store(key_of(carried, "ptxas"), done.stderr.encode(), meta, ".txt")
    return Compiled(stored.path, done.stderr, BuildInfo(key, stored.path, False, seconds, stored.remark))


def resources(said: str, symbols: Sequence[str]) -> tuple[Resources, ...]:
    """What ptxas says that each kernel takes."""
    found: dict[str, Resources] = {}
    parts = _ENTRY.split(said)
    for symbol, text in zip(parts[1::2], parts[2::2], strict=True):
        found[symbol] = Resources(symbol, _first(_USED, text), _first(_SHARED, text) or 0, _first(_SPILLS, text))
    return tuple(found.get(s, Resources(s)) for s in symbols)


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return int(match[1]) if match else None
