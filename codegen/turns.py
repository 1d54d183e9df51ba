# SPDX-License-Identifier: MIT
"""Which cell a thread of a block copies in a turn: its digits, in C.

Cell number `thread + threads * turn` has one digit for each axis.  Compilers do not find that a quotient of this sum is
a sum of quotients, and would compute every address of every turn anew.
"""

from __future__ import annotations


def digit(thread: str, threads: int, below: int, n: int, total: int) -> str:
    """A digit that is one of `n`, of `total` cells; the digits after it tell `below` cells apart.

    Where threads are whole multiples of what is below, the thread says one part of the digit and the turn another, so
    that unrolled turns differ by constants.  Where there is a thread for each cell, `turn` does not occur.
    """
    own = thread if below == 1 else f"{thread} / {below}"
    highest = below * n >= total
    if total <= threads or threads % (below * n) == 0:
        return own if highest else f"{own} % {n}"
    if threads % below:
        text = f"({thread} + {threads} * turn) / {below}"
    else:
        text = f"{own} + {threads // below} * turn"
        text = text if highest else f"({text})"
    return text if highest else f"{text} % {n}"
