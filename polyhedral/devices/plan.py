# SPDX-License-Identifier: MIT
"""How one statement runs on a device: digits of its dims on blocks, threads and registers of a thread.

A plan and the nest that it stands for are data; which plan to take is `polyhedral.devices.chooser`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from polyhedral.ir.affine import TRUE, Condition
from polyhedral.ir.tree import Cells, Fold

SIDE = 16
"""Rows and columns of a tile of matrix units."""
WARP = 32
"""Threads that compute a tile of matrix units together."""


@dataclass(frozen=True)
class Cut:
    """A kept dim: `threads` of a block along it, each with `outer` runs of `inner` neighbouring results, runs of all
    threads taking turns.
    """

    dim: str
    threads: int = 1
    outer: int = 1
    inner: int = 1

    @property
    def rows(self) -> int:
        return self.outer * self.inner

    @property
    def size(self) -> int:
        return self.threads * self.rows


@dataclass(frozen=True)
class Spread:
    """How an operand of matrix units lies in shared memory: its last axis is `along` one of the dims of the tile, rows
    are apart along the `other`.
    """

    array: str
    last: str
    along: str
    other: str
    gap: int = 32
    """Bytes after each row: rows begin at multiples of 32 bytes, or of 16 where tiles begin at every eighth one."""

    def pad(self, item: int) -> int:
        """Cells after each row in shared memory."""
        return self.gap // item


@dataclass(frozen=True)
class Matrix:
    """Tiles of 16 results along `m` and `n` in one instruction, of `depth` terms along `k`, of operands as `kind`; the
    first operand moves along m, the second along n.
    """

    m: str
    n: str
    k: str
    depth: int
    kind: str
    operands: tuple[Spread, Spread]

    def spread(self, array: str) -> Spread:
        return next(o for o in self.operands if o.array == array)


@dataclass(frozen=True)
class BlockPlan:
    """Kept dims from the slowest block to the fastest, `lanes` the dims of threads from the slowest to the fastest;
    reduced dims in the order of their loops with the portion whose operands are staged at once (0 for all of a dim);
    arrays that are staged; the reduced dim that a team of threads shares out, and how many they are; `cycles`
    predicted.
    """

    cuts: tuple[Cut, ...]
    lanes: tuple[str, ...]
    portions: tuple[tuple[str, int], ...] = ()
    staged: tuple[str, ...] = ()
    team: tuple[str, int] | None = None
    cycles: float = 0.0
    buffers: int = 1
    """Copies of what is staged: with two, the next portion is on its way while one is used."""
    matrix: Matrix | None = None
    """The tiles of matrix units, each of which 32 threads compute."""

    @property
    def threads(self) -> int:
        """Of a block."""
        return prod(c.threads for c in self.cuts) * (self.team[1] if self.team else WARP if self.matrix else 1)

    @property
    def rows(self) -> int:
        """Results of one thread."""
        return prod(c.rows for c in self.cuts)

    def cut(self, dim: str) -> Cut:
        return next(c for c in self.cuts if c.dim == dim)


@dataclass(frozen=True)
class Phase:
    """One statement of those that a block runs one after another on its rows: the digit of the team and the loops of a
    thread; where there is no such digit the first thread of a team does it.
    """

    statement: str
    team: str | None
    inside: tuple[str, ...]


@dataclass(frozen=True)
class Slab:
    """Statements that run for `size` neighbours of a row dim at a time, `count` times one after another, in iterations
    of `loop` that the host runs: all of them, and the arrays whose memory has place for one time, along which axis.
    """

    loop: str
    count: int
    size: int
    statements: tuple[str, ...]
    arrays: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BlockNest:
    """The digits of a plan by their names: block loops; threads and how many, the fastest last; the results of a
    thread; loops over portions of a reduction and within one; the team; boxes of staged arrays; and what keeps dims
    within their ranges, which a nest whose threads meet leaves to loads and stores.
    """

    statement: str
    plan: BlockPlan
    blocks: tuple[str, ...]
    threads: tuple[tuple[str, int], ...]
    rows: tuple[tuple[str, int], ...]
    portions: tuple[str, ...]
    inside: tuple[str, ...]
    team: tuple[str, int] | None = None
    staged: tuple[tuple[str, tuple[Cells, ...]], ...] = ()
    within: tuple[Condition, ...] = (TRUE,)
    epilogue: tuple[str, ...] = ()
    """Statements that are computed on the results of a thread before it stores them."""
    only: frozenset[str] = frozenset()
    """Arrays that are in registers, or in memory that a block shares, and nowhere else."""
    phases: tuple[Phase, ...] = ()
    """All statements, where they run one after another and the threads of a block meet in between."""
    kept: tuple[tuple[str, tuple[Fold, ...]], ...] = ()
    """Arrays of which a block keeps its own rows in memory that its threads share."""
    depth: str | None = None
    """The digit of a reduced dim that one matrix instruction sums over."""
    slab: Slab | None = None
    """The iterations of the host around it."""

    @property
    def statements(self) -> frozenset[str]:
        """All that run in the nest."""
        return frozenset((self.statement, *self.epilogue))

    @property
    def meets(self) -> bool:
        """Whether the threads of a block wait for each other."""
        return bool(self.staged) or self.team is not None or bool(self.phases)

    @property
    def padded(self) -> bool:
        """Whether a block runs for whole tiles, in registers, and leaves out what lies outside at loads and stores."""
        return self.meets or bool(self.rows)
