# SPDX-License-Identifier: MIT
"""Structure of C text: cgen's loops and branches with types, and braces where C needs them.

What stands in a block is left to those who build it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import cgen


def loop(start: str, condition: str, update: str, body: cgen.Generable) -> cgen.Generable:
    """`for (start; condition; update) body`; cgen takes text for the first three, but does not say so."""
    made = cast("Callable[..., cgen.Generable]", cgen.For)
    return made(start, condition, update, body)


def branch(condition: str, then: cgen.Generable, other: cgen.Generable | None) -> cgen.Generable:
    """`if (condition) then else other`; cgen takes text for the condition, but does not say so."""
    made = cast("Callable[..., cgen.Generable]", cgen.If)
    return made(condition, then, other)


def block(parts: Sequence[cgen.Generable]) -> cgen.Generable:
    """One statement needs no braces."""
    return parts[0] if len(parts) == 1 else cgen.Block(list(parts))


def braced(parts: Sequence[cgen.Generable]) -> cgen.Generable:
    """In braces, unless it is one simple statement, or in braces already."""
    plain = len(parts) == 1 and isinstance(parts[0], (cgen.Block, cgen.Assign, cgen.Statement))
    return parts[0] if plain else cgen.Block(list(parts))


def printed(made: cgen.Generable) -> str:
    """Structure as text, braces at the end of the line that opens them."""
    return _with_braces(str(made))


def printed_block(lines: Iterable[str]) -> str:
    """Lines of structure as a block."""
    return _with_braces("\n".join(["{", *(f"  {line}".rstrip() for line in lines), "}"]))


def _with_braces(text: str) -> str:
    return re.sub(r"(?m)^( *(?!#)\S.*\)|.*\belse)\n *\{$", r"\1 {", text)
