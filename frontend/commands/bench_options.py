# SPDX-License-Identifier: MIT
"""`polyhedral bench` as a command: its options, and the environment in which peers are at their best.

The measuring is in `frontend.commands.bench`, which is imported only when the command runs.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

REGRESSION = 5
"""Exit code: slower than the records compared with, by more than the threshold."""
HANDICAPS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "NPY_DISABLE_CPU_FEATURES",
)
"""Variables that keep a library from the kernels it would choose for this processor."""
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def fair(env: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment without what handicaps peers, and with their number of threads, which they read at load."""
    kept = {k: v for k, v in env.items() if k not in HANDICAPS}
    return kept | dict.fromkeys(THREADS, str(threads))


def start_fairly(threads: int, pinned: bool) -> None:
    """Start this process again in a fair environment, unless it is in one.  XLA's flags do not bind all of its pools,
    so `pinned` confines everybody to as many cores as threads.
    """
    wanted = fair(os.environ, threads)
    if wanted == dict(os.environ):
        return
    if pinned and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, wanted)


def bench(
    context: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE|CASE|TARGET]...", help="capsule, conv, gemm, other, all, names of cases, or file.py:fn."
        ),
    ] = None,
    vs: Annotated[
        str | None,
        typer.Option(help="numpy,torch,compile,jax; for suites also c,polly. Default of suites: numpy,torch,c."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of everybody.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.0, help="For each case, all contestants together.")] = 3.0,
    flush: Annotated[bool, typer.Option("--flush", help="Empty the caches before every call.")] = False,
    small: Annotated[bool, typer.Option("--small", help="The sizes that the tests use.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Append JSON lines.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Records of an earlier run, JSON lines.")] = None,
    fail_over: Annotated[str, typer.Option("--fail-over", help="Slower by more than this is exit code 5.")] = "5%",
    roofline: Annotated[Path | None, typer.Option(help="Draw one, .svg or .png.")] = None,
    bars: Annotated[Path | None, typer.Option(help="Draw all contestants, .svg or .png.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the suites and their cases.")] = False,
) -> None:
    """Measure against the machine's ceilings and peers, turn by turn; exit code 5 when slower than --compare."""
    given: Any = context.obj
    names = tuple(what or ())
    peers = None if vs is None else tuple(filter(None, (w.strip() for w in vs.split(","))))
    suite = not all(":" in w or w.endswith(".poly") for w in names or ("all",))
    if given.own_process and not listed and (suite or peers):
        start_fairly(threads, pinned="jax" in (peers or ()))
    module = import_module("frontend.commands.bench")
    if listed:
        sys.stdout.write(module.listed() + "\n")
        return
    request = module.Request(
        names,
        peers,
        threads,
        seconds,
        flush,
        small,
        output=output,
        compare=compare,
        fail_over=module.percent(fail_over),
        roofline=roofline,
        bars=bars,
        events=given.json,
        progress="none" if given.quiet else given.progress,
        command=shlex.join(["polyhedral", *given.words]),
        sizes=given.sizes,
        dtype=given.dtype,
    )
    with given.options():
        found = module.bench(request)
    raise typer.Exit(REGRESSION if found.slower else 1 if found.failed else 0)
