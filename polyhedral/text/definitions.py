# SPDX-License-Identifier: MIT
"""Programs from statement definitions, for compiler engineers.

    program("conv", "input X: f32[c, x]", "input W: f32[c, k]", "output O: f32[x: (X.x - W.k)//2 + 1]",
            statement("S0", domain="x < (X.x - W.k)//2 + 1, c < X.c, k < W.k",
                      write="O", value="X(x=2*x + k) * W(k=k)", reduce="sum"))

Each definition is a piece of program text (`polyhedral.text.printer`); nothing else is known here.
"""

from __future__ import annotations

from polyhedral.ir.program import Program
from polyhedral.text.printer import name as quoted
from polyhedral.text.reader import parse


def statement(
    name: str,
    *,
    write: str,
    value: str,
    domain: str = "",
    reduce: str | None = None,
    at: tuple[int | str, ...] | None = None,
    strict: bool = False,
    accumulate: bool = False,
) -> str:
    """One statement as text.

    `domain` lists ranges (`"o < W.o, 1 <= y < N if y < o"`) or is a set of constraints (`"{i, j : 0 <= i <= j < N}"`).
    """
    head = f" for {domain}" if domain else ""
    if at is not None:
        head += f" at ({', '.join(str(p) if isinstance(p, int) else quoted(p) for p in at)})"
    head += " strict" * strict + " accumulate" * accumulate
    operator = "=" if reduce is None else f"= {reduce}[]"
    return f"{quoted(name)}:{head}{':' if head else ''} {write} {operator} {value}"


def program(name: str, *parts: str) -> Program:
    """A program from its parts in order: `sizes ...`, arrays, `assume ...`, statements."""
    return parse("\n  ".join((f"program {quoted(name)}", *parts)))
