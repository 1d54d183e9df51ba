# SPDX-License-Identifier: MIT
"""What a plan for blocks and threads costs on a device: arithmetic, loads from shared memory, bytes, waiting, starts.

Predictions only, from access relations and the device's numbers.  Which plan to take is `polyhedral.devices.chooser`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2, prod

from polyhedral.devices import banks
from polyhedral.devices.plan import SIDE, BlockPlan
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine, Compare, Condition, Floor
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Program, Statement, reads
from polyhedral.machine.device import Device
from polyhedral.machine.prices import LOAD, work

UNKNOWN = 1024
"""What an extent that is only known at run time is taken for."""
WAIT = 80
"""Cycles that a block loses at each portion, less those in which others run."""
START = 2500.0
"""Nanoseconds from the end of one kernel to the first instruction of the next."""
LATENCY = 600.0
"""Nanoseconds that a load from memory takes."""
IN_FLIGHT = 16
"""Bytes that one thread has under way while it reads along a loop."""
STEP = 8.0
"""Cycles from one step of a thread's reduction to the next, at least."""
SHARED_RATE = 128.0
"""Bytes a cycle that a unit reads from shared memory."""
SECTOR = 32
"""Bytes that memory moves at once."""


@dataclass(frozen=True)
class Operand:
    """One load: per axis the coefficients of the dims that move it, and how far apart cells lie along each axis."""

    array: str
    axes: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    strides: Mapping[str, int]
    item: int

    def cells(self, extents: Mapping[str, int]) -> int:
        """How many cells a box of the dims reads, in the hull along each axis."""
        return prod(1 + sum(abs(c) * (extents.get(d, 1) - 1) for d, c in moved) for _, moved in self.axes)

    def moves(self, dim: str) -> bool:
        return any(d == dim for _, moved in self.axes for d, _ in moved)

    def step(self, dim: str) -> int:
        """How far apart in memory neighbours along a dim lie."""
        return sum(c * self.strides[axis] for axis, moved in self.axes for d, c in moved if d == dim)


@dataclass(frozen=True)
class BlockPrice:
    """Cycles of the device that one kernel takes for each of its causes, were it the only one."""

    arithmetic: float = 0.0
    shared: float = 0.0
    memory: float = 0.0
    waiting: float = 0.0
    start: float = 0.0

    @property
    def cycles(self) -> float:
        """Of what overlaps the longest, and a share of the rest; what nothing hides is added."""
        busy = max(self.arithmetic, self.shared)
        return max(busy, self.memory) + (busy + self.memory) / 8 + self.waiting

    @property
    def whole(self) -> float:
        """With its start, which counts where the number of kernels is to be decided."""
        return self.cycles + self.start

    @property
    def bound(self) -> str:
        """The cause that takes longest."""
        causes = {
            "arithmetic": self.arithmetic,
            "shared memory": self.shared,
            "memory": self.memory,
            "waiting": self.waiting,
            "start": self.start,
        }
        return max(causes, key=lambda c: causes[c])


def extents(s: Statement) -> dict[str, int]:
    """Of each dim, as far as they are numbers."""
    spans = {r.dim: r.hi - r.lo for r in s.domain.ranges}
    return {d: max(e.const, 1) if e.is_const else UNKNOWN for d, e in spans.items()}


def operand(load: ex.Load, layout: Layout, item: int) -> Operand | None:
    """A load as the hull of what moves it; None where data does, or a division."""
    axes: list[tuple[str, tuple[tuple[str, int], ...]]] = []
    for axis, i in load.index:
        if not isinstance(i, Affine) or any(isinstance(t, Floor) for t, _ in i.terms):
            return None
        axes.append((axis, tuple((t.name, c) for t, c in i.terms if isinstance(t, aff.Var))))
    strides = {d: st if isinstance(st, int) else UNKNOWN for d, st in layout.strides}
    return Operand(load.array, tuple(axes), strides, item)


def price(p: Program, s: Statement, plan: BlockPlan, layouts: Mapping[str, Layout], device: Device) -> BlockPrice:
    """What a statement takes under a plan."""
    found = [operand(r, layouts[r.array], p.array(r.array).dtype.bits // 8) for r in reads(s)]
    known = [o for o in found if o is not None]
    size = extents(s)
    if plan.matrix:
        return matrix_price(s, size, known, plan, device)
    if plan.rows > 1 and len(known) == len(found):
        steps = {d: n or size[d] for d, n in plan.portions}
        return tile_price(p, s, size, known, plan, steps, device, conflicts=True)
    return _streamed(p, s, size, found, plan, layouts, device)


def matrix_price(
    s: Statement, size: Mapping[str, int], operands: Sequence[Operand], plan: BlockPlan, device: Device
) -> BlockPrice:
    """Multiply-adds of matrix units, what tiles read from shared memory, and the bytes that blocks read."""
    assert plan.matrix is not None
    box = {c.dim: c.size for c in plan.cuts}
    steps = {d: n or size[d] for d, n in plan.portions}
    m, n = plan.cut(plan.matrix.m), plan.cut(plan.matrix.n)
    blocks = prod(ceil(size[d] / box[d]) for d in box)
    reduced = prod(size[d] for d in s.reduced)
    registers = 8 * m.outer * n.outer + 8 * (m.outer + n.outer) + 48
    resident = max(1, min(device.registers // (registers * plan.threads), device.threads // plan.threads))
    each = waves(blocks, resident, device) * reduced
    item = operands[0].item
    rate = device.matrix / (item / 2)
    read = m.threads * n.threads * (m.outer + n.outer) * SIDE * item
    rounds = reduced / prod(steps.values())
    moved = blocks * rounds * sum(o.cells({**box, **steps}) * o.item for o in operands)
    first = sum(o.cells({**size}) * o.item for o in operands)
    written = prod(size[d] for d in s.kept) * 4
    memory = (first + written + max(moved - first, 0) / 3) / device.bandwidth * device.clock
    waiting = rounds * waves(blocks, resident, device) * WAIT / plan.buffers
    hidden = min(resident, blocks / device.units) if blocks > device.units else 1.0
    return BlockPrice(
        each * m.size * n.size / rate, each * read / SHARED_RATE, memory, waiting / hidden, START * device.clock
    )


def tile_price(
    p: Program,
    s: Statement,
    size: Mapping[str, int],
    known: Sequence[Operand],
    plan: BlockPlan,
    steps: Mapping[str, int],
    device: Device,
    *,
    conflicts: bool = False,
) -> BlockPrice:
    """Multiply-adds or loads from shared memory, in whole waves of blocks; and the bytes that blocks read, of which a
    cache serves those that others read before.  With `conflicts` of banks, which take a while to count.
    """
    box = {c.dim: c.size for c in plan.cuts}
    own = {c.dim: c.rows for c in plan.cuts}
    blocks = prod(ceil(size[d] / box[d]) for d in box)
    reduced = prod(size[d] for d in s.reduced)
    again = {o.array: asked_again(o, plan, steps) if conflicts and o.array in plan.staged else 1.0 for o in known}
    operand_loads = sum(_loads(o, plan, own) * again[o.array] for o in known)
    registers = plan.rows + sum(o.cells(own) for o in known) + 32
    resident = max(1, min(device.registers // (registers * plan.threads), device.threads // plan.threads))
    many = waves(blocks, resident, device)
    each = many * reduced * plan.threads
    rounds = reduced / max(prod(steps.values()), 1)
    moved = blocks * rounds * sum(o.cells({**box, **steps}) * o.item for o in known)
    first = sum(o.cells({**size}) * o.item for o in known)
    memory = (first + max(moved - first, 0) / 2) / device.bandwidth * device.clock
    return BlockPrice(
        each * plan.rows * _terms(p, s) / _lanes(s, device),
        each * operand_loads / device.warp,
        memory,
        rounds * many * WAIT / plan.buffers,
        START * device.clock,
    )


def _terms(p: Program, s: Statement) -> float:
    """Instructions of one term: a product that is added is one; least and greatest keep NaN, by two more."""
    own = 0.0 if s.op == "sum" and isinstance(s.value, ex.Binary) and s.value.op == "*" else 1.0
    free = sum(padding(p, e) is not None for e in set(ex.walk(s.value)))
    return own + (2.0 if s.op in ("max", "min") else 0.0) + work(s.value) - LOAD * len(s.loads) - free


def padding(p: Program, e: ex.Expr) -> ex.Load | None:
    """The load of `load where it is in its array, else 0`, whose condition asks nothing else."""
    match e:
        case ex.Select(ex.Test(c), ex.Load() as load, ex.Const(value)) if value == 0:
            inside: set[Condition] = set()
            for d, i in load.index:
                if not isinstance(i, Affine):
                    return None
                inside |= {aff.at_least(i), aff.at_least(p.array(load.array).extent(d) - i - 1)}
            asked = aff.conjuncts(c)
            exact = all(isinstance(a, Compare) and not a.equal and aff.at_least(a.expr) in inside for a in asked)
            return load if exact else None
        case _:
            return None


def _lanes(s: Statement, device: Device) -> float:
    """Multiply-adds of a unit in a cycle, of values as a statement has them."""
    return device.lanes * (device.ratio64 or 1.0 if ex.dtype_of(s.value).bits == 64 else 1.0)


def waves(blocks: int, resident: int, device: Device) -> float:
    """How many blocks one unit runs one after another."""
    if blocks < device.units * resident:
        return max(1.0, blocks / device.units)
    return ceil(blocks / (device.units * resident)) * resident


def _loads(o: Operand, plan: BlockPlan, own: Mapping[str, int]) -> float:
    """Loads of one thread for one step: neighbours along the dim that lies densest come several at once, unless a
    window moves along it too, whose steps are no multiples of a vector.
    """
    alone = {moved[0][0] for _, moved in o.axes if len(moved) == 1 and moved[0][1] == 1}
    run = max((c.inner for c in plan.cuts if c.dim in alone), default=1)
    return o.cells(own) / (run if o.array in plan.staged else 1)


def asked_again(o: Operand, plan: BlockPlan, steps: Mapping[str, int]) -> float:
    """How often a warp asks the banks for a run of neighbours of a staged operand, under the best padding of rows: once
    where no two lanes want different words of one bank.
    """
    digits = [(d, plan.cut(d).threads) for d in plan.lanes]
    if plan.threads < banks.BANKS:
        return 1.0
    box, own = {c.dim: c.size for c in plan.cuts} | dict(steps), {d for d in plan.lanes if plan.cut(d).rows > 1}
    fastest = {d: k for k, d in enumerate(plan.lanes)}

    def rank(axis: tuple[str, tuple[tuple[str, int], ...]]) -> tuple[bool, int, int]:
        dims = {d for d, _ in axis[1]}
        return bool(dims & own), max((fastest.get(d, -1) for d in dims), default=-1), -o.strides.get(axis[0], 0)

    order = sorted(o.axes, key=rank)
    axes = tuple((a, 1 + sum(abs(c) * (box.get(d, 1) - 1) for d, c in moved)) for a, moved in order)
    lanes: list[tuple[tuple[str, int], ...]] = []
    for lane in range(banks.BANKS):
        at = banks.digits_of(lane, digits)
        offsets = {a: sum(c * plan.cut(d).inner * at[d] for d, c in moved if d in at) for a, moved in order}
        lanes.append(tuple(offsets.items()))
    last = order[-1][1] if order else ()
    run = plan.cut(last[0][0]).inner if len(last) == 1 and last[0][1] == 1 and last[0][0] in own else 1
    access = banks.Access(tuple(lanes), run)
    return max(1.0, float(banks.least(access, axes, o.item)))


def _streamed(
    p: Program,
    s: Statement,
    size: Mapping[str, int],
    found: Sequence[Operand | None],
    plan: BlockPlan,
    layouts: Mapping[str, Layout],
    device: Device,
) -> BlockPrice:
    """One thread or team for each result: memory gives its bandwidth where enough threads ask for it."""
    blocks = prod(ceil(size[c.dim] / c.size) for c in plan.cuts)
    resident = max(1, min(device.threads // plan.threads, 32))
    many = waves(blocks, resident, device)
    team = plan.team[1] if plan.team else 1
    steps = plan.rows * prod(size[d] for d in s.reduced) / team
    arithmetic = many * plan.threads * steps * (work(s.value) + 1) / _lanes(s, device)
    instances = prod(size.values())
    fast = plan.team[0] if plan.team else plan.lanes[-1] if plan.lanes else None
    first = again = 0.0
    for o in found:
        if o is None:
            first += instances * SECTOR
            continue
        bytes_once = o.cells(size) * o.item * _spread(o, fast)
        first += bytes_once
        again += max(instances * o.item / device.warp - bytes_once, 0.0)
    written = p.array(s.write.array).dtype.bits // 8
    first += prod(size[d] for d in s.kept) * written
    asked = blocks * plan.threads * IN_FLIGHT / (device.bandwidth * LATENCY)
    memory = (first + again / 3) / device.bandwidth * device.clock / min(1.0, asked)
    waiting = (log2(team) + 2) * WAIT / 2 * many if team > 1 else 0.0
    return BlockPrice(max(arithmetic, steps * STEP), 0.0, memory, waiting, START * device.clock)


def _spread(o: Operand, fast: str | None) -> float:
    """How many bytes move for each that neighbouring threads read."""
    step = abs(o.step(fast)) if fast is not None else 1
    return min(step, SECTOR / o.item) if step > 1 and o.axes else 1.0


def rows_price(p: Program, statements: Sequence[Statement], blocks: int, threads: int, device: Device) -> BlockPrice:
    """Statements that blocks run one after another on their rows: memory gives each byte once, a cache again."""
    many = waves(blocks, max(1, min(device.threads // threads, 32)), device)
    asked = min(1.0, blocks * threads * IN_FLIGHT / (device.bandwidth * LATENCY))
    busy = moved = 0.0
    seen = set[str]()
    for s in statements:
        instances = prod(extents(s).values())
        steps = instances / (blocks * threads)
        busy += many * max(steps * threads * (work(s.value) + 1) / _lanes(s, device), steps * STEP)
        for array in s.touched:
            size = min(instances, prod(max(e.const, 1) if e.is_const else UNKNOWN for _, e in p.array(array).dims))
            moved += size * (p.array(array).dtype.bits // 8) * (1 / 8 if array in seen else 1.0)
            seen.add(array)
    memory = moved / device.bandwidth * device.clock / asked
    return BlockPrice(busy, 0.0, memory, len(statements) * WAIT * many, START * device.clock)
