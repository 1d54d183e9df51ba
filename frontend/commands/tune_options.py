# SPDX-License-Identifier: MIT
"""`polyhedral tune` as a command: its options.

The work is in `frontend.commands.tune_target`, which is imported only when the command runs.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

WRONG = 3
"""Exit code: a plan gave another result."""


def tune(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="pkg.mod:fn, file.py:fn or prog.poly")],
    budget: Annotated[str, typer.Option(help="How long to search: 60s, 5m, 1.5h.")] = "60s",
    trials: Annotated[int | None, typer.Option(min=1, help="Other plans that are measured at most.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that compile plans, while none is measured.")] = 1,
    executor: Annotated[
        str | None, typer.Option(help="Compile elsewhere: dask://HOST:PORT or mpi; measured is here, one at a time.")
    ] = None,
    hosts: Annotated[str | None, typer.Option(help="Refused: says how to reach hosts with --executor.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was tried before.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random inputs, and of who is measured first.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the kernels; all cores by default.")] = None,
    db: Annotated[Path | None, typer.Option(help="A file for what is found, instead of the cache.")] = None,
) -> None:
    """Measure other plans than the predicted ones on random inputs, and keep the fastest for later calls of these
    sizes.  Ctrl-C keeps what was found (130); exit code 3 when a plan gave another result.
    """
    given: Any = context.obj
    module = import_module("frontend.commands.tune_target")
    request = module.Request(
        target,
        budget,
        trials,
        jobs,
        executor,
        hosts,
        resume,
        seed,
        threads,
        db,
        events=given.json,
        quiet=given.quiet,
        sizes=given.sizes,
        dtype=given.dtype,
    )
    with given.options():
        agree = module.tune_target(request)
    raise typer.Exit(0 if agree else WRONG)
