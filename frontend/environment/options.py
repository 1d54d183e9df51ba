# SPDX-License-Identifier: MIT
"""Options: what may be chosen for a compilation, and where each choice comes from.

Precedence: call > `with ph.options(...)` > environment > `[tool.polyhedral]` in pyproject.toml.  The environment is
read by `frontend.environment.session`, which passes it in.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from frontend.units import in_bytes
from polyhedral.errors import ArgumentError

ARCHITECTURES = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_103", "sm_120")
"""GPUs that CUDA is written for."""
LAYOUTS = ("global", "greedy")
"""How layouts may be chosen."""


@dataclass(frozen=True)
class Options:
    """`target` cpu or c, opencl, cuda, or cuda:sm_90 for an architecture; `threads` None for all cores; `checked`
    bounds-checks every access at run time; `dump` a folder that receives every stage; `tile` the tile size of isl-
    scheduled bands (0 for none); `plan_above` the number of instances from which a reduction gets a register tile, and
    of cells from which a temporary may be recomputed (-1 for never); `sizes` "auto" or "exact"; `layouts` "global" for
    results and intermediates that lie as is best for the whole program, or "greedy" for each as the statement likes
    that meets it first; `memory` the most that intermediate results may take, as bytes or "512MB", None for any; `tf32`
    whether matrix units of a device may round operands in f32 to 10 bits; `tuned` whether what `f.tune` found
    is used: "auto" what is in the cache, "off" none of it, or the file that it was written to."""

    target: str = "cpu"
    threads: int | None = None
    checked: bool = False
    dump: str | None = None
    tile: int = 32
    parallel: bool = True
    plan_above: int = 50_000
    sizes: str = "auto"
    layouts: str = "global"
    memory: int | str | None = None
    tf32: bool = False
    tuned: str = "auto"
    cache_dir: str | None = None

    @property
    def language(self) -> str | None:
        """What kernels of a device are written in; None for the processor's."""
        name = self.target.partition(":")[0]
        return name if name in ("cuda", "opencl") else None

    @property
    def architecture(self) -> str | None:
        """The GPU that a target names."""
        return self.target.partition(":")[2] or None

    @property
    def budget(self) -> int | None:
        """`memory` in bytes."""
        return self.memory if self.memory is None else in_bytes(self.memory)

    def validated(self) -> Options:
        for name, wanted, what in _TYPES:
            value = getattr(self, name)
            if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
                raise ArgumentError(
                    "PH506", f"{name}={value!r} is not {what}", hints=(f"see help(ph.Options) for {name}",)
                )
        if self.sizes not in ("auto", "exact"):
            raise ArgumentError("PH506", f"sizes={self.sizes!r} is unknown", hints=("sizes='auto' or sizes='exact'",))
        if self.layouts not in LAYOUTS:
            raise ArgumentError(
                "PH506",
                f"layouts={self.layouts!r} is no way to choose layouts",
                hints=("layouts='global' for the best of the whole program, or layouts='greedy'",),
            )
        if self.tile < 0:
            raise ArgumentError("PH506", f"tile={self.tile} is negative", hints=("tile=32, or 0 for no tiles",))
        if self.target not in ("cpu", "c", "opencl", "cuda", *(f"cuda:{a}" for a in ARCHITECTURES)):
            near = get_close_matches(self.target, ("cpu", "opencl", "cuda", "cuda:sm_90"), 1)
            raise ArgumentError(
                "PH505",
                f"target {self.target!r} is not available",
                hints=(f"target={near[0]!r}" if near else "target='cpu', 'opencl', 'cuda' or 'cuda:sm_90'",),
            )
        if self.threads is not None and self.threads < 1:
            raise ArgumentError(
                "PH506", f"threads={self.threads} is not a positive number", hints=("threads=1, or None for all",)
            )
        if self.memory is not None:
            in_bytes(self.memory)
        return self


_NONE = type(None)
_TYPES: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("target", (str,), "a name of a target"),
    ("threads", (int, _NONE), "a number of threads"),
    ("checked", (bool,), "True or False"),
    ("dump", (str, _NONE), "a folder"),
    ("tile", (int,), "a tile size"),
    ("parallel", (bool,), "True or False"),
    ("plan_above", (int,), "a number of instances"),
    ("sizes", (str,), "'auto' or 'exact'"),
    ("layouts", (str,), "'global' or 'greedy'"),
    ("memory", (int, str, _NONE), "a number of bytes"),
    ("tf32", (bool,), "True or False"),
    ("tuned", (str,), "'auto', 'off' or a file"),
    ("cache_dir", (str, _NONE), "a folder"),
)

_context: ContextVar[Mapping[str, Any]] = ContextVar("ph.options of the enclosing blocks", default={})  # noqa: B039
_NAMES = tuple(f.name for f in fields(Options))


@contextmanager
def options(**chosen: Any) -> Generator[None]:
    """Options for every call and lowering inside the block: `with ph.options(threads=1, checked=True): ...`.  One that
    does not exist, or a value that it cannot have, is PH505 or PH506 at once.
    """
    _known(chosen)
    _validated(replace(Options(), **chosen))
    token = _context.set({**_context.get(), **chosen})
    try:
        yield
    finally:
        _context.reset(token)


def enclosing() -> Mapping[str, Any]:
    """What the blocks around a call choose."""
    return _context.get()


def resolve(env: Mapping[str, str], call: Mapping[str, Any], project: Mapping[str, Any]) -> Options:
    """The options in force: each field from the nearest place that sets it."""
    _known(call)
    merged = {**project, **from_environment(env), **_context.get(), **{k: v for k, v in call.items() if v is not None}}
    _known(merged)
    return _validated(replace(Options(), **merged))


def _validated(chosen: Options) -> Options:
    try:
        return _checked(chosen)
    except TypeError:  # a value that cannot be hashed is no option either
        return chosen.validated()


@lru_cache(256)
def _checked(chosen: Options) -> Options:
    return chosen.validated()


def from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """POLYHEDRAL_TARGET, _THREADS, _CHECK, _DUMP, _TILE, _LAYOUTS, _MEMORY, _TUNED, _CACHE_DIR."""
    found: dict[str, Any] = {}
    readers: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
        ("POLYHEDRAL_TARGET", "target", str),
        ("POLYHEDRAL_THREADS", "threads", int),
        ("POLYHEDRAL_CHECK", "checked", lambda v: v not in ("", "0", "false")),
        ("POLYHEDRAL_DUMP", "dump", str),
        ("POLYHEDRAL_TILE", "tile", int),
        ("POLYHEDRAL_LAYOUTS", "layouts", str),
        ("POLYHEDRAL_MEMORY", "memory", str),
        ("POLYHEDRAL_TUNED", "tuned", str),
        ("POLYHEDRAL_CACHE_DIR", "cache_dir", str),
    )
    for name, field, convert in readers:
        if env.get(name):
            try:
                found[field] = convert(env[name])
            except ValueError:
                raise ArgumentError(
                    "PH506", f"{name}={env[name]!r} is not a number", hints=(f"unset {name}",)
                ) from None
    return found


def project_options(start: Path) -> dict[str, Any]:
    """`[tool.polyhedral]` of the nearest pyproject.toml."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            try:
                table = tomllib.loads(file.read_text()).get("tool", {}).get("polyhedral", {})
            except (OSError, tomllib.TOMLDecodeError):
                return {}
            return {k.replace("-", "_"): v for k, v in table.items()}
    return {}


def default_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _known(chosen: Mapping[str, Any]) -> None:
    for name in chosen:
        if name not in _NAMES:
            raise ArgumentError("PH506", f"there is no option {name!r}", hints=(f"options are {', '.join(_NAMES)}",))
