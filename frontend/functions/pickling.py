# SPDX-License-Identifier: MIT
"""Functions in other processes: pickled by the name of the Python function, as Python pickles its own.

What was compiled stays here; cached kernels are found again there by their content.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

from polyhedral.errors import ArgumentError


class Pickled(Protocol):
    """What of `frontend.functions.function.Function` matters here."""

    name: str
    python: Callable[..., Any]
    rule: Callable[..., Any] | None


def reduced(f: Pickled, *given: Any) -> str | tuple[Any, ...]:
    """For `__reduce__`: the global that `f` is, or how to make it again from that global and what it was given.

    ArgumentError PH049 for functions that no module has, such as lambdas, and those within other functions.
    """
    python = f.python
    found: Any = sys.modules.get(getattr(python, "__module__", ""))
    for part in getattr(python, "__qualname__", f.name).split("."):
        found = getattr(found, part, None)
    if found is f:
        return python.__qualname__
    if found is python:
        return type(f), (python, *given, f.rule)
    if getattr(found, "python", None) is python:
        return _again, (found, *given)
    raise ArgumentError(
        "PH049",
        f"{f.name} cannot be pickled: no module has it as {getattr(python, '__qualname__', f.name)}",
        hints=("define it with def, at the top level of a module", "make gradients and lambdas where they are called"),
    )


def _again(declared: Any, *given: Any) -> Any:
    """What was made of a decorated function, `bind` for instance."""
    return type(declared)(declared.python, *given, declared.rule)
