# SPDX-License-Identifier: MIT
"""The options that every command has, before or after its name, and where commands write.

Which commands there are is `frontend.commands.cli`'s to say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module

_WITH_VALUE = ("-s", "--size", "--dtype", "--target", "--cache-dir", "--color", "--progress")
_FLAGS = ("--json", "-q", "--quiet", "-v", "--verbose", "--version")
_JOINED = ("-s", *(f"{o}=" for o in _WITH_VALUE if o.startswith("--")))


@dataclass
class Global:
    """The options that every command has."""

    json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: str = "auto"
    progress: str = "auto"
    words: tuple[str, ...] = ()
    own_process: bool = False
    """Whether the process is this command's alone, and may be started again."""
    sizes: dict[str, int | None] = field(default_factory=dict[str, int | None])
    dtype: str | None = None
    target: str | None = None
    cache_dir: str | None = None

    def options(self) -> AbstractContextManager[None]:
        """The compiler options that the command line sets."""
        chosen = {"target": self.target, "cache_dir": self.cache_dir}
        made: Callable[..., AbstractContextManager[None]] = import_module("frontend.environment.options").options
        return made(**{k: v for k, v in chosen.items() if v is not None})

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        if not self.quiet:
            sys.stderr.write(text + "\n")


def out(text: str) -> None:
    """Data, on stdout."""
    if text:
        sys.stdout.write(text + "\n")


def hoisted(words: Sequence[str]) -> list[str]:
    """Options of every command moved to the front, where the parser wants them."""
    front: list[str] = []
    rest: list[str] = []
    queue = list(words)
    while queue:
        w = queue.pop(0)
        if w == "--":
            return [*front, *rest, w, *queue]
        if w in _WITH_VALUE:
            front += [w, *queue[:1]]
            queue = queue[1:]
        elif w in _FLAGS or w.startswith(_JOINED) or (w.strip("vq") == "-" and len(w) > 1):
            front.append(w)
        else:
            rest.append(w)
    return [*front, *rest]
