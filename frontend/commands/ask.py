# SPDX-License-Identifier: MIT
"""`polyhedral explain`: a question in the words of the command line.

What is asked of a program, and answered, is in `frontend.inspection.explain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frontend.inspection.explain import Explain
from frontend.inspection.explanation import Explanation
from frontend.usage import UsageError

USAGE = (
    "fuse S1 S2 [--at y,x] | tile S t=8,x=64 | parallel DIM [S] | vectorize DIM [S] | bounds S"
    ' | layout T "b y x" | why [S|slow]'
)


def ask(low: Any, question: str, words: Sequence[str], at: str | None) -> Explanation:
    """A question in the words of the command line."""
    explain = Explain(low)
    match (question, *words):
        case ("fuse", one, two):
            return explain.fuse(one, two, None if at is None else at.replace(",", " "))
        case ("tile", statement, *sizes) if sizes:
            return explain.tile(statement, **dict(map(_size, ",".join(sizes).split(","))))
        case ("parallel", dim, *rest) if len(rest) < 2:
            return explain.parallel(dim, *rest)
        case ("vectorize" | "vectorise", dim, *rest) if len(rest) < 2:
            return explain.vectorize(dim, *rest)
        case ("bounds", statement):
            return explain.bounds(statement)
        case ("layout", array, *order):
            return explain.layout(array, " ".join(order) or None)
        case ("why", word) if word.lower() == "slow" and not explain.names(word):
            return explain.slow()
        case ("why", *rest) if len(rest) < 2:
            return explain.why(*rest)
        case _:
            raise UsageError(f"explain {' '.join([question, *words])}: ask one of {USAGE}")


def _size(text: str) -> tuple[str, int]:
    dim, _, n = text.partition("=")
    if not dim.strip() or not n.strip().isdigit():
        raise UsageError(f"explain tile: {text!r} is not DIM=SIZE, such as x=64")
    return dim.strip(), int(n)
