# SPDX-License-Identifier: MIT
"""Exit codes, and errors the way users should see them: diagnostics, or a traceback of their own frames.

What errors say is in `polyhedral.errors`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import typer

from frontend.commands.general import Global, out
from frontend.usage import UsageError
from polyhedral.errors import PolyhedralError, ToolchainError

OK, PROGRAM, USAGE, NO, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes: fine, an error in the program, wrong usage, the answer is no, no toolchain, interrupted."""
_PACKAGES = tuple(str(Path(__file__).resolve().parents[2] / p) + os.sep for p in ("frontend", "polyhedral", "codegen"))


def tell(error: Exception, given: Global) -> int:
    """Print an error the way users should see it, and give the exit code."""
    if os.environ.get("POLYHEDRAL_TRACEBACK", "") not in ("", "0"):
        traceback.print_exception(error)
    if isinstance(error, PolyhedralError):
        if given.json:
            out(json.dumps(error.to_json(), indent=2))
        else:
            sys.stderr.write(f"{_red(given, 'error')}: {error}\n")
        return MISSING if isinstance(error, ToolchainError) else PROGRAM
    if isinstance(error, UsageError):
        sys.stderr.write(f"{_red(given, 'usage')}: {error}\n")
        return USAGE
    if given.json:
        out(
            json.dumps(
                {"schema": "polyhedral.error/1", "family": type(error).__name__, "code": None, "message": str(error)},
                indent=2,
            )
        )
    sys.stderr.write("".join(shortened(error)))
    return PROGRAM


def shortened(error: BaseException) -> list[str]:
    """A traceback of the user's own frames only."""
    summary = traceback.TracebackException.from_exception(error)
    own = [
        f for f in summary.stack if not f.filename.startswith((*_PACKAGES, "<frozen", str(Path(typer.__file__).parent)))
    ]
    ours = (
        bool(summary.stack) and summary.stack[-1].filename.startswith(_PACKAGES) and not isinstance(error, SyntaxError)
    )
    lines = ["Traceback (most recent call last):\n", *traceback.StackSummary.from_list(own).format()] if own else []
    lines += list(summary.format_exception_only())
    if ours:
        lines.append("  (raised inside the compiler; POLYHEDRAL_TRACEBACK=1 shows where)\n")
    return lines


def _red(given: Global, text: str) -> str:
    wanted = given.color == "always" or (
        given.color == "auto"
        and (bool(os.environ.get("FORCE_COLOR")) or (sys.stderr.isatty() and not os.environ.get("NO_COLOR")))
    )
    return f"\x1b[1;31m{text}\x1b[0m" if wanted else text
