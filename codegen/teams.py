# SPDX-License-Identifier: MIT
"""Teams: the partial results of threads that share a reduction, combined in a tree whose order is fixed.

Where threads can, they hand values to each other within a warp, and through memory between warps; else all goes through
memory that the block shares.  Every thread of a block takes part, so that all reach every barrier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cgen

from codegen.blocks import branch, loop
from codegen.dialect import Dialect
from codegen.scalar import STORAGE, Scalar, literal
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType


@dataclass(frozen=True)
class Team:
    """`threads` neighbours out of the `total` of a block, of which `digit` says which this is; `memory` declares as
    many partial results of a block as it is asked for, and gives their name.
    """

    scalar: Scalar
    dialect: Dialect
    warp: int
    digit: str
    threads: int
    total: int
    memory: Callable[[int], str]

    def combined(self, op: str, t: DType, held: str) -> list[cgen.Generable]:
        """Statements after which the first thread of a team holds what all held."""
        able = self.total % self.warp == 0 and self.threads & (self.threads - 1) == 0
        return self._shuffled(op, t, held) if self.dialect.shuffle and able else self._in_memory(op, t, held)

    def _shuffled(self, op: str, t: DType, held: str) -> list[cgen.Generable]:
        group = min(self.threads, self.warp)
        lines = self._tree(op, t, held, group, group)
        if self.threads <= self.warp:
            return lines
        parts = self.threads // self.warp
        place, me = self.memory(self.total // self.warp), self.dialect.thread["x"]
        row = f"{me} / {self.threads} * {parts} + {self.digit}" if self.threads < self.total else self.digit
        kept = branch(f"{self.digit} % {self.warp} == 0", cgen.Assign(f"{place}[{me} / {self.warp}]", held), None)
        taken = cgen.Assign(held, f"{self.digit} < {parts} ? {place}[{row}] : {unit(self.scalar, op, t)}")
        wait = cgen.Statement(self.dialect.barrier)
        return [*lines, wait, kept, wait, taken, *self._tree(op, t, held, parts, self.warp)]

    def _tree(self, op: str, t: DType, held: str, count: int, group: int) -> list[cgen.Generable]:
        """The values of the first `count` threads of each group, in the first."""
        if count < 2:
            return []
        other = self.dialect.shuffle.format(value=held, span="span", group=group)
        step = cgen.Assign(held, self._both(op, t, held, "other"))
        body = cgen.Block([cgen.Initializer(cgen.Value(f"const {STORAGE[t.name]}", "other"), other), step])
        return [cgen.Line("#pragma unroll"), loop(f"int span = {count // 2}", "span > 0", "span /= 2", body)]

    def _in_memory(self, op: str, t: DType, held: str) -> list[cgen.Generable]:
        name, me = self.memory(self.total), self.dialect.thread["x"]
        step = cgen.Assign(f"{name}[{me}]", self._both(op, t, f"{name}[{me}]", f"{name}[{me} + span]"))
        wait = cgen.Statement(self.dialect.barrier)
        each = cgen.Block([wait, branch(f"{self.digit} < span", step, None)])
        return [
            wait,
            cgen.Assign(f"{name}[{me}]", held),
            loop(f"int span = {self.threads // 2}", "span > 0", "span /= 2", each),
            cgen.Assign(held, f"{name}[{me}]"),
        ]

    def _both(self, op: str, t: DType, a: str, b: str) -> str:
        one, other = (self.scalar.from_storage(t, v) for v in (a, b))
        return self.scalar.to_storage(t, self.scalar.combine(op, t, one, other))


def unit(scalar: Scalar, op: str, t: DType) -> str:
    """The value of an empty reduction, as it is stored."""
    return scalar.to_storage(t, literal(ex.identity(op, t).value, t))
