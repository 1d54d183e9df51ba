# SPDX-License-Identifier: MIT
"""Any name as a dimension: `from polyhedral.dim import b, c, y, x, ky, kx`; `import *` takes the single letters.

A facade resolved on first use (PEP 562): the engine never imports the front end, which owns `Dim` itself.
"""

from __future__ import annotations

from importlib import import_module
from string import ascii_lowercase
from typing import Any

__all__ = list(ascii_lowercase)  # pyright: ignore[reportUnsupportedDunderAll]  what `import *` takes, as of sympy.abc


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("frontend.lang").Dim(name)
