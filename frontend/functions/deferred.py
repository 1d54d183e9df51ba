# SPDX-License-Identifier: MIT
"""Modules that are imported when something of them is first asked for.

For what most of a process's life does without; the import stands under TYPE_CHECKING beside it, where tools see it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Deferred:
    """Stands for a module of this name.

    >>> Deferred("math").floor(2.5)
    2
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: Any = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:
            self._module = import_module(self._name)
        return getattr(self._module, attribute)
