# SPDX-License-Identifier: MIT
"""Matrix units: contractions whose tiles of 16 x 16 results a warp computes with matrix instructions.

Two operands of f16 or bf16 that are multiplied in f32, or of f32 where tf32 is asked for; a kept dim that moves only
one of them, one that moves only the other, and a reduced dim that moves both.  Whatever else there is becomes loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from polyhedral.devices.plan import SIDE, BlockPlan, Cut, Matrix, Spread
from polyhedral.devices.prices import Operand, extents, matrix_price, operand
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Program, Statement
from polyhedral.machine.device import Device

WARPS = ((2, 2), (4, 2), (2, 4), (4, 1), (1, 4), (2, 1), (1, 2), (1, 1))
TILES = ((4, 2), (2, 4), (2, 2), (4, 1), (1, 4), (2, 1), (1, 2), (1, 1))
"""Warps of a block, and tiles of a warp, along the two kept dims; with four by four a thread has no registers left."""


def factors(s: Statement, device: Device) -> tuple[ex.Load, ex.Load, str] | None:
    """The two operands of a sum of products in f32, and the type in which matrix units take them."""
    v = s.value
    if s.op != "sum" or s.strict or not isinstance(v, ex.Binary) or v.op != "*" or ex.dtype_of(v).name != "f32":
        return None
    found = [side.arg if isinstance(side, ex.Cast) else side for side in (v.lhs, v.rhs)]
    one, other = found
    if not isinstance(one, ex.Load) or not isinstance(other, ex.Load) or one.dtype != other.dtype:
        return None
    kind = {"f16": "f16", "bf16": "bf16", "f32": "tf32" if device.tf32 else None}.get(one.dtype.name)
    return None if kind is None or one.array == other.array else (one, other, kind)


def choose_matrix(p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device) -> BlockPlan | None:
    """The cheapest plan on matrix units, if a device has such and a statement is made for them."""
    found = factors(s, device) if device.matrix else None
    box = all(r.lo == aff.const(0) and r.hi.is_const for r in s.domain.ranges)
    if found is None or not box or s.domain.guard != aff.TRUE or s.accumulate or s.ordered:
        return None
    one, other, kind = found
    size = extents(s)
    a, b = (operand(r, layouts[r.array], p.array(r.array).dtype.bits // 8) for r in (one, other))
    if a is None or b is None:
        return None
    plans = (
        plan
        for m in s.kept
        for n in s.kept
        for k in s.reduced
        if size[m] >= SIDE and size[n] >= SIDE
        if a.moves(m) and not a.moves(n) and b.moves(n) and not b.moves(m) and a.moves(k) and b.moves(k)
        for plan in _plans(s, size, (a, b), (m, n, k), kind, layouts, device)
    )
    return min(plans, key=lambda plan: plan.cycles, default=None)


def _plans(
    s: Statement,
    size: Mapping[str, int],
    operands: tuple[Operand, Operand],
    dims: tuple[str, str, str],
    kind: str,
    layouts: Mapping[str, Layout],
    device: Device,
) -> Iterator[BlockPlan]:
    m, n, k = dims
    a, b = operands
    depth = 8 if kind == "tf32" else 16
    portion = next((t for t in (32, 16, 8) if t % depth == 0 and size[k] % t == 0), None)
    rows = _spread(a, (m, k), layouts[a.array]), _spread(b, (n, k), layouts[b.array])
    if portion is None or rows[0] is None or rows[1] is None:
        return
    inner = {d: 0 if size[d] <= 4 else 1 for d in s.reduced if d != k}
    portions = (*inner.items(), (k, portion))
    for warps in WARPS:
        for tiles in TILES:
            own = {m: Cut(m, warps[0], tiles[0], SIDE), n: Cut(n, warps[1], tiles[1], SIDE)}
            if any(size[d] * 2 <= c.size and c.size > SIDE for d, c in own.items()):
                continue
            cuts = tuple(own.get(d, Cut(d)) for d in s.kept)
            matrix = Matrix(m, n, k, depth, kind, (rows[0], rows[1]))
            plan = BlockPlan(cuts, (m, n), portions, (a.array, b.array), matrix=matrix)
            need = _bytes(operands, plan, size)
            if need + warps[0] * warps[1] * SIDE * SIDE * 4 > device.shared_block:
                continue
            twice = device.asynchronous and 2 * need + warps[0] * warps[1] * SIDE * SIDE * 4 <= device.shared_block
            plan = replace(plan, buffers=2 if twice and size[k] > portion else 1)
            yield replace(plan, cycles=matrix_price(s, size, operands, plan, device).cycles)


def _spread(o: Operand, dims: tuple[str, str], layout: Layout) -> Spread | None:
    """How an operand lies in shared memory: its last axis is one of the tile's dims, in steps of one, moved by nothing
    else, the dense one of its memory if that can be; None where there is none.
    """
    axes = dict(o.axes)
    able = [axis for axis, moved in o.axes if len(moved) == 1 and moved[0][0] in dims and moved[0][1] == 1]
    if not able or any(
        sum(o_.count(d) for o_ in ([x for x, _ in moved] for moved in axes.values())) != 1 for d in dims
    ):
        return None
    last = max(able, key=lambda axis: layout.order.index(axis))
    along = axes[last][0][0]
    other = next(d for d in dims if d != along)
    if any(c < 0 for moved in axes.values() for _, c in moved):
        return None
    outer = [axis for axis in layout.order if axis != last]
    whole = bool(outer) and axes[outer[-1]] == ((other, 1),)  # rows of tiles follow each other, and nothing else does
    return Spread(o.array, last, along, other, 16 if whole else 32)


def _bytes(operands: Sequence[Operand], plan: BlockPlan, size: Mapping[str, int]) -> int:
    box = {c.dim: c.size for c in plan.cuts} | {d: n or size[d] for d, n in plan.portions}
    assert plan.matrix is not None
    total = 0
    for o in operands:
        spread = plan.matrix.spread(o.array)
        last = box[spread.along]
        total += o.cells(box) // last * (last + plan.matrix.spread(o.array).pad(o.item)) * o.item
    return total
