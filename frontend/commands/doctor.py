# SPDX-License-Identifier: MIT
"""`polyhedral doctor`: what the machine offers, one finding a line, each failure with a fix.

Only looks; nothing is installed or changed, except that a compiler's probe is remembered in the cache, and with
`--measure` what the processor does in a cycle.  What `--fix` sets right is `frontend.commands.repair`'s.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from codegen.runtime import machine
from codegen.runtime.cache import default_root
from codegen.runtime.cc import Compiler, find_compiler
from frontend.commands.repair import Repair, repair
from frontend.environment import session
from frontend.environment.options import default_threads
from frontend.measuring.timing import meter
from polyhedral.errors import Remark, ToolchainError
from polyhedral.machine.target import Target, host
from polyhedral.sets import isl as door

_ADAPTERS = {
    "torch": "f.torch()",
    "jax": "f.jax()",
    "xarray": "named arrays in and out",
    "pycuda": "the CUDA target (which goes without it)",
    "pyopencl": "the OpenCL target",
    "matplotlib": "plots",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok` None for things that may well be absent."""

    name: str
    ok: bool | None
    what: str
    fix: str | None = None

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[self.ok]
        return f"{mark}  {self.name}: {self.what}" + (f"\n      fix: {self.fix}" if self.fix else "")

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def findings(
    env: Mapping[str, str], cache_dir: str | None = None, measure: bool = False, fix: bool = False
) -> tuple[Finding, ...]:
    """Everything looked at, the compiler first; `measure` also runs the micro-benchmarks that plans profit from, `fix`
    where nothing that they gave is there.
    """
    root = _root(env, cache_dir)
    return tuple(_all(env, root, measure or (fix and not isinstance(machine.recall(root), machine.Measured))))


def repairs(env: Mapping[str, str], cache_dir: str | None = None) -> tuple[Repair, ...]:
    """What was set right, and what its user must do."""
    return repair(env, _root(env, cache_dir))


def _root(env: Mapping[str, str], cache_dir: str | None) -> Path:
    return Path(cache_dir) if cache_dir else default_root(env)


def _all(env: Mapping[str, str], root: Path, measure: bool) -> Iterator[Finding]:
    compiler = tuple(_compiler(env))
    yield from compiler
    yield Finding("processor", True, f"{_model()} ({platform.machine()}), {_assumed(host(1))}")
    yield _measured(root, measure and all(f.ok for f in compiler[:2]))
    yield _threads(env)
    yield _caches()
    yield _governor()
    for package in ("islpy", "numpy", "highspy", "ml_dtypes"):
        yield _package(package)
    yield _folder(root)
    for name, use in _ADAPTERS.items():
        yield _adapter(name, use)


def _compiler(env: Mapping[str, str]) -> Iterator[Finding]:
    try:
        found: Compiler = find_compiler(env)
    except ToolchainError as error:
        tried = "; ".join(" ".join(d.split()) for d in error.details) or error.message
        yield Finding(
            "C compiler",
            False,
            f"none that links OpenMP ({tried})",
            "install gcc (apt-get install gcc, conda install gcc), or set CC",
        )
        yield Finding("OpenMP", False, "not tested without a compiler", "gcc brings libgomp; clang needs libomp-dev")
        return
    yield Finding("C compiler", True, f"{found.version} at {found.path}")
    yield Finding("OpenMP", True, "a kernel with -fopenmp compiled and linked")
    march = next((f for f in found.flags if f.startswith(("-march", "-mcpu"))), None)
    fix = None if march else "a newer compiler that accepts -march=native uses the processor's vectors"
    yield Finding("-march", bool(march), march or "the compiler refuses -march=native here", fix)


def _model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor() or "unknown",
    )


def _assumed(t: Target) -> str:
    return f"vectors for {t.name}, {t.fma_per_cycle:g} multiply-adds and {t.loads_per_cycle:g} loads a cycle assumed"


def _measured(root: Path, now: bool) -> Finding:
    """Numbers measured now or earlier, and whether plans use them."""
    name, again = "measured", "polyhedral doctor --measure"
    if now:
        here = session.current()
        made = machine.measure(meter(), host(here.threads))
        remark = machine.keep(here.cache(here.options()), made)
        return Finding(name, remark is None, str(made), None if remark is None else f"{remark.because}")
    found = machine.recall(root)
    if found is None:
        return Finding(name, None, f"nothing yet; {again} replaces the assumptions in a few seconds")
    if isinstance(found, Remark):
        return Finding(name, None, f"ignored: {found.because}", again)
    return Finding(name, True, f"{found} ({found.date})")


def _threads(env: Mapping[str, str]) -> Finding:
    cores, chosen = default_threads(), env.get("OMP_NUM_THREADS", "")
    if chosen and not chosen.split(",")[0].isdigit():
        return Finding("threads", False, f"OMP_NUM_THREADS={chosen!r} is not a number", "unset OMP_NUM_THREADS")
    total = os.cpu_count() or cores
    note = f"{cores} of {total} cores usable" + (f", OMP_NUM_THREADS={chosen}" if chosen else "")
    return Finding("threads", True, note)


def _caches() -> Finding:
    found: list[str] = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / n).read_text().strip() for n in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    if not found:
        return Finding("caches", None, "sizes are not readable here; portable defaults are used")
    return Finding("caches", True, ", ".join(found))


def _governor() -> Finding:
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        governor = file.read_text().strip()
    except OSError:
        return Finding("frequency governor", None, "not readable here")
    slow = governor in ("powersave", "ondemand", "conservative")
    return Finding(
        "frequency governor",
        not slow,
        governor,
        "cpupower frequency-set -g performance (for steady timings)" if slow else None,
    )


def _package(name: str) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")
    extra = f" (isl {_isl_version()})" if name == "islpy" and _isl_version() else ""
    return Finding(name, True, version + extra)


def _isl_version() -> str:
    """islpy bundles isl; not every version says which."""
    told = getattr(door.isl, "isl_version", None)
    return str(told()).strip() if callable(told) else ""


def _folder(root: Path) -> Finding:
    at = next(p for p in (root, *root.parents) if p.exists())
    if not os.access(at, os.W_OK) and not root.exists():
        return Finding(
            "cache folder", False, f"{root} cannot be made", "point POLYHEDRAL_CACHE_DIR at a folder of yours"
        )
    if root.exists() and root.stat().st_mode & 0o022:
        return Finding("cache folder", False, f"{root} can be written by others", f"chmod go-w {root}")
    return Finding("cache folder", True, f"{root}" + ("" if root.exists() else " (not made yet)"))


def _adapter(name: str, use: str) -> Finding:
    if util.find_spec(name) is None:
        return Finding(name, None, f"not installed (optional, for {use})")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = "installed"
    return Finding(name, True, f"{version} (for {use})")
