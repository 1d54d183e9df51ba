# SPDX-License-Identifier: MIT
"""`polyhedral report` as a command: its options.

The work is in `frontend.commands.report`, which is imported only when the command runs.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer


def report(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What POLYHEDRAL_TRACE named.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file, - for stdout; DIR/report.html by default.")
    ] = None,
) -> None:
    """Make one page of HTML from a trace: remarks beside source lines, times, kernels, memory; or, with -o FILE.json,
    the events of all processes for Perfetto.
    """
    given: Any = context.obj
    place, text = import_module("frontend.commands.report").report(folder, output)
    if place is None:
        sys.stdout.write(text + "\n")
    elif given.json:
        sys.stdout.write(json.dumps({"schema": "polyhedral.report/1", "file": str(place)}, indent=2) + "\n")
    else:
        sys.stdout.write(f"{place}\n")
