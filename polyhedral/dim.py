# SPDX-License-Identifier: MIT
"""Any name as a dimension: `from polyhedral.dim import b, c, y, x, ky, kx`.

A facade resolved on first use (PEP 562): the engine never imports the front end, which owns `Dim` itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("frontend.lang").Dim(name)
