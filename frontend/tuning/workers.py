# SPDX-License-Identifier: MIT
"""Who compiles plans while `polyhedral tune` measures none: processes here, a Dask cluster, or MPI's.

Only compiling is shared out: what is measured runs in the process that tunes, one kernel at a time.  Workers must be of
our version, on processors like ours, as plans are made for these; that is asked before anything else.
"""

from __future__ import annotations

import multiprocessing
import re
import signal
import sys
import time
from collections.abc import Generator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from codegen.runtime.build import package_version
from codegen.runtime.cc import machine_identity
from frontend.environment import session
from frontend.environment.options import Options
from frontend.usage import UsageError

GRACE = 0.3
"""Seconds that processes have to end their compilers."""
ANSWER = 60.0
"""Seconds in which a worker has to say what it is."""
_ADDRESS = re.compile(r"dask://([\w.\-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


@dataclass(frozen=True)
class Workers:
    """What was asked for: `jobs` processes here, or `kind` dask at an `address`, or mpi."""

    jobs: int = 1
    kind: str | None = None
    address: str = ""

    @contextmanager
    def started(self, options: Options) -> Generator[Executor | None]:
        """The executor, none where this process compiles alone.  UsageError for workers that are not like us."""
        if self.kind is None:
            with _processes(self.jobs) as pool:
                yield pool
            return
        with _cluster(self) as executor:
            alike(executor, options)
            yield executor


def asked(executor: str | None, hosts: str | None, jobs: int) -> Workers:
    """What the command line wants.  UsageError for what there is not, or what is not installed."""
    if hosts is not None:
        raise UsageError(
            f"--hosts {hosts}: hosts are reached through a cluster of theirs: run `dask scheduler` on one and `dask "
            "worker HOST:8786` on each, then --executor dask://HOST:8786; or mpiexec and --executor mpi"
        )
    if executor is None:
        return Workers(jobs)
    found = _ADDRESS.fullmatch(executor)
    if executor != "mpi" and (found is None or int(found[2]) > 65535):
        raise UsageError(f"--executor {executor}: executors are dask://HOST:PORT and mpi; --jobs N for processes here")
    if found is not None and jobs != 1:
        raise UsageError("--jobs and --executor dask://... both say how many compile: leave --jobs out")
    package, extra = ("mpi4py", "mpi") if executor == "mpi" else ("distributed", "dask")
    if find_spec(package) is None:
        raise UsageError(f"--executor {executor} needs {package}: pip install 'polyhedral-loops[{extra}]'")
    return Workers(jobs, "mpi") if found is None else Workers(1, "dask", f"tcp://{found[1]}:{found[2]}")


@contextmanager
def _cluster(wanted: Workers) -> Generator[Executor]:
    """The executor of a cluster; what it still has to do is forgotten in the end."""
    client: Any = None
    if wanted.kind == "dask":
        try:
            client = import_module("distributed").Client(wanted.address, timeout=ANSWER)
        except OSError as error:
            raise UsageError(f"--executor: no Dask scheduler at {wanted.address}: {error}") from None
        executor: Any = client.get_executor()
    else:
        executor = import_module("mpi4py.futures").MPIPoolExecutor(wanted.jobs if wanted.jobs > 1 else None)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True) if client is None else executor.shutdown(wait=False)
        if client is not None:
            client.close()


def nature(options: Options) -> tuple[str, str, str]:
    """What plans and machine code depend on where this is called: version, processor, and what is assumed of that."""
    here = session.current()
    return package_version(), machine_identity(), repr(here.target(options))


def alike(executor: Executor, options: Options) -> None:
    """UsageError for a worker of another version, on another processor, or one that does not answer."""
    try:
        found = executor.submit(nature, options).result(ANSWER)
    except TimeoutError:
        raise UsageError(f"--executor: no worker answered in {ANSWER:.0f} seconds; are there any?") from None
    except Exception as error:
        raise UsageError(
            f"--executor: a worker cannot compile: {type(error).__name__}: {error}; is ours installed there?"
        ) from error
    own = nature(options)
    for what, mine, theirs in zip(("version", "processor", "machine model"), own, found, strict=True):
        if mine != theirs:
            raise UsageError(
                f"--executor: workers have another {what}, and make plans for that: {theirs} there, {mine} here; use "
                "workers like this machine, with the same `polyhedral doctor --measure` or none"
            )


@contextmanager
def _processes(jobs: int) -> Generator[Executor | None]:
    """So many processes that compile, none of which is left whatever happens; this one compiles where it is one."""
    if jobs == 1:
        yield None
        return
    spawned = multiprocessing.get_context("spawn")  # a child forked after OpenMP ran would hang
    pool = ProcessPoolExecutor(jobs, spawned, initializer=_deaf)
    try:
        yield pool
    except BaseException:
        children = multiprocessing.active_children()
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        time.sleep(GRACE)
        for child in children:
            child.kill()
        raise
    pool.shutdown()


def _deaf() -> None:
    """Ctrl-C is for the parent, which ends this process so that it ends its compilers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)
