# SPDX-License-Identifier: MIT
"""The session: the one place that knows the process's environment, and holds its compiler, cache and thread team."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from codegen.runtime.cache import Cache, default_root
from codegen.runtime.cc import Compiler, find_compiler
from codegen.runtime.cuda import open_device as open_cuda
from codegen.runtime.device import Driver
from codegen.runtime.machine import Measured, recall, refined
from codegen.runtime.native import Team
from codegen.runtime.opencl import open_device as open_opencl
from frontend.environment import logs
from frontend.environment.options import Options, default_threads, enclosing, project_options, resolve
from frontend.environment.trace_files import Tracer
from polyhedral.errors import ToolchainError
from polyhedral.machine.device import BY_ARCHITECTURE, GENERIC, Device
from polyhedral.machine.target import Target, host

_CHOICES = 256
"""Choices of options that a process remembers."""


@dataclass(frozen=True)
class Session:
    """This process: its environment, compiler, cache and threads.  Made once, on first use."""

    env: Mapping[str, str]
    team: Team = field(default_factory=Team)
    _resolved: dict[Any, Options] = field(default_factory=dict[Any, Options])

    @cached_property
    def project(self) -> Mapping[str, Any]:
        return project_options(Path.cwd())

    @cached_property
    def threads(self) -> int:
        given = self.env.get("OMP_NUM_THREADS", "").split(",")[0]
        return int(given) if given.isdigit() and int(given) > 0 else default_threads()

    @cached_property
    def editing(self) -> bool:
        """Whether generated texts lie where users may edit them: POLYHEDRAL_EDIT=1."""
        return self.env.get("POLYHEDRAL_EDIT", "") not in ("", "0", "false")

    @cached_property
    def tracer(self) -> Tracer | None:
        """What writes down what this process does, where POLYHEDRAL_TRACE names a folder."""
        given = self.env.get("POLYHEDRAL_TRACE", "")
        return Tracer(Path(given).expanduser().absolute()) if given else None

    def cache(self, options: Options) -> Cache:
        return _cache_at(options.cache_dir or str(default_root(self.env)))

    def compiler(self, options: Options) -> Compiler:
        return _compiler(self, options.cache_dir or str(default_root(self.env)))

    def target(self, options: Options) -> Target:
        """The machine in numbers: those that `polyhedral doctor --measure` kept, else what it says of itself."""
        return _target(options.cache_dir or str(default_root(self.env)), options.threads or self.threads)

    def driver(self, options: Options) -> Driver:
        """The device that a target names; ToolchainError PH520 where there is none."""
        return _driver(tuple(sorted(self.env.items())), options.target)

    def device(self, options: Options) -> Device:
        """What plans for a target assume: the architecture that it names, or the device that is here."""
        return replace(self._named(options), tf32=options.tf32)

    def _named(self, options: Options) -> Device:
        if options.architecture is not None:
            return replace(BY_ARCHITECTURE.get(options.architecture, GENERIC), architecture=options.architecture)
        try:
            return self.driver(options).device
        except ToolchainError:
            return GENERIC

    def options(self, **call: Any) -> Options:
        """The options in force; all but the enclosing blocks and the call itself stay as long as this process."""
        kinds = tuple(map(type, (*enclosing().values(), *call.values())))  # True is no 1
        key = tuple(enclosing().items()), tuple(call.items()), kinds
        try:
            found = self._resolved.get(key)
        except TypeError:  # a value that cannot be hashed is no option, which is said below
            return resolve(self.env, call, self.project)
        if found is None:
            found = resolve(self.env, call, self.project)
            if len(self._resolved) < _CHOICES:
                self._resolved[key] = found
        return found


@cache
def _cache_at(root: str) -> Cache:
    return Cache(Path(root))


@cache
def _target(root: str, cores: int) -> Target:
    """Looked up once: the plans of a process do not change under it."""
    detected, found = host(cores), recall(Path(root))
    return refined(detected, found) if isinstance(found, Measured) else detected


@cache
def _driver(env: tuple[tuple[str, str], ...], target: str) -> Driver:
    """Opened once: a context belongs to a process."""
    return open_opencl() if target == "opencl" else open_cuda(dict(env), target.partition(":")[2] or None)


@cache
def _compiler_for(env: tuple[tuple[str, str], ...], root: str) -> Compiler:
    store = _cache_at(root)
    return find_compiler(dict(env), store.folder / "compilers.json")


def _compiler(session: Session, root: str) -> Compiler:
    return _compiler_for(tuple(sorted(session.env.items())), root)


@cache
def current() -> Session:
    """The session of this process."""
    logs.listen(os.environ.get("POLYHEDRAL_LOG", ""))
    return Session(dict(os.environ))
