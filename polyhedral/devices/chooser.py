# SPDX-License-Identifier: MIT
"""Which threads compute what: a small search over tiles of blocks and threads, priced for a device.

A contraction gets tiles whose operands are staged for a block and whose results stay in a thread's registers; a
reduction along which memory is dense, or with few results, a team of threads; everything else one thread per result.
Only access relations and the device's numbers decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest
from math import ceil, prod

from polyhedral.devices.matrix import choose_matrix
from polyhedral.devices.plan import BlockPlan, Cut
from polyhedral.devices.prices import UNKNOWN, Operand, extents, operand, price, tile_price
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.affine import Affine
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Program, Statement, reads
from polyhedral.machine.device import Device
from polyhedral.sets.isl import named

THREADS = 256
"""Threads of a block where nothing asks for another number."""
TILE_THREADS = (256, 128)
ROWS = 64
"""Results that a thread may hold: with the operands of one step they fill its registers."""
DEEP = 16
"""Steps of a reduction whose operands are staged at once."""
_COUNTED = 4
"""Of all tiles, for how many the conflicts of banks are counted: those that are cheapest without."""
_TRIED = 2
"""Of tiles with equally many results, how many are tried with all numbers of threads: those that load least."""


def regular(s: Statement, dims: Sequence[str]) -> bool:
    """Whether these dims begin at numbers and end at numbers or sizes."""
    ranges = {r.dim: r for r in s.domain.ranges}
    return all(ranges[d].lo.is_const and not aff.dims_of(ranges[d].hi) for d in dims)


def choose_blocks(p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device) -> BlockPlan | None:
    """The plan of a statement that does not depend on itself; None where its dims are tied or their order is given."""
    if s.ordered or not s.kept or not regular(s, s.kept):
        return None if s.ordered or not regular(s, s.kept) else _single(p, s, layouts, device)
    if s.op is None:
        return _plain(p, s, layouts)
    tiles = filter(None, (_tile(p, s, layouts, device), choose_matrix(p, s, layouts, device)))
    tile = min(tiles, key=lambda plan: plan.cycles, default=None)
    if tile is not None:
        return tile
    plans = filter(None, (_team(p, s, layouts, device), _plain(p, s, layouts)))
    return min(plans, key=lambda plan: price(p, s, plan, layouts, device).cycles)


# --- one thread a result, or a team ----------------------------------------------------------------------------------


def _plain(p: Program, s: Statement, layouts: Mapping[str, Layout]) -> BlockPlan:
    """Threads along the dims in which memory is dense, the densest fastest."""
    size = extents(s)
    order = sorted(s.kept, key=lambda d: -_distance(p, s, d, layouts))
    left, cuts = THREADS, dict[str, Cut]()
    for d in reversed(order):
        threads = min(left, _power_above(size[d]))
        cuts[d] = Cut(d, threads)
        left //= threads
    return BlockPlan(tuple(cuts[d] for d in order), tuple(order), tuple((d, 0) for d in s.reduced))


def _team(p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device) -> BlockPlan | None:
    """A team of threads along the reduced dim in which memory is densest, where the kept ones are too few for the
    device, or it is denser there.
    """
    size = extents(s)
    able = [d for d in s.reduced if size[d] >= 8 and regular(s, [d])]
    if s.strict or not able:
        return None
    dim = min(able, key=lambda d: _distance(p, s, d, layouts))
    results = prod(size[d] for d in s.kept)
    denser = _distance(p, s, dim, layouts) < min(_distance(p, s, d, layouts) for d in s.kept)
    few = results < device.units * device.threads // 2
    if not denser and not few:
        return None
    wide = THREADS if results < device.units * 8 else device.warp
    threads = min(wide, _power_below(size[dim]))
    base = _plain(p, s, layouts)
    left, cuts = THREADS // threads, dict[str, Cut]()
    for d in reversed(base.lanes):
        cuts[d] = replace(base.cut(d), threads=min(left, base.cut(d).threads))
        left //= cuts[d].threads
    plan = replace(base, cuts=tuple(cuts[c.dim] for c in base.cuts), team=(dim, threads))
    return plan if _meet(s, plan) else None


def _meet(s: Statement, plan: BlockPlan) -> bool:
    """Whether every thread of whole tiles, those beyond the last result included, runs the loops of its reduction.
    Those of inequalities with a reduced dim are empty where there is nothing to reduce; a division, or a condition of
    results alone (`t <= s` of scores), keeps threads out of them, for whom the others would wait.
    """
    asked = list(aff.comparisons(s.domain.guard))
    divided = any(isinstance(t, aff.Floor) for c in asked for t, _ in c.expr.terms)
    if not divided and all(aff.dims_of(c.expr) & set(s.reduced) for c in asked):
        return True
    ranges = {r.dim: r for r in s.domain.ranges}
    there = aff.both(*(aff.at_least(r.hi - r.lo - 1) for r in s.domain.ranges))
    tiles: list[aff.Condition] = []
    for d in s.kept:
        lo, span = ranges[d].lo, ranges[d].hi - ranges[d].lo
        size = plan.cut(d).size
        tiles.append(aff.between(lo, aff.var(d), lo + (span + (size - 1)) // size * size))
    inside = (aff.between(ranges[d].lo, aff.var(d), ranges[d].hi) for d in s.reduced)
    asked_of = {n for r in s.domain.ranges for e in (r.lo, r.hi) for n in aff.sizes_of(e)}
    sizes = sorted(asked_of | aff.condition_sizes(s.domain.guard))
    rows = named(s.kept, sizes, aff.both(there, *tiles))
    found = named((*s.kept, *s.reduced), sizes, aff.both(there, *tiles, *inside, s.domain.guard))
    return rows.is_subset(found.only(s.kept))


def _single(p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device) -> BlockPlan | None:
    """A statement with one result: a team where it reduces, one thread where not."""
    size = extents(s)
    able = [d for d in s.reduced if size[d] >= 8 and regular(s, [d])]
    if s.op is None or s.strict or not able:
        return BlockPlan((), (), tuple((d, 0) for d in s.reduced))
    dim = min(able, key=lambda d: _distance(p, s, d, layouts))
    return BlockPlan((), (), tuple((d, 0) for d in s.reduced), team=(dim, min(THREADS, _power_below(size[dim]))))


def _distance(p: Program, s: Statement, dim: str, layouts: Mapping[str, Layout]) -> float:
    """How far apart neighbours along a dim lie, over all accesses; what does not move counts a little."""
    total = 0.0
    for array, index in ((s.write.array, s.write.index), *((r.array, r.index) for r in reads(s))):
        step = 0.0
        for axis, i in index:
            c = i.coefficient(aff.Var(dim)) if isinstance(i, Affine) else 0
            stride = layouts[array].stride(axis)
            step += abs(c) * (stride if isinstance(stride, int) else UNKNOWN)
        weight = 2.0 if array == s.write.array else 1.0
        total += weight * (min(step, 64.0) if step else 2.0)
    return total


# --- tiles of a contraction ------------------------------------------------------------------------------------------


def _tile(p: Program, s: Statement, layouts: Mapping[str, Layout], device: Device) -> BlockPlan | None:
    """The cheapest tile with operands staged for the block, where every operand is used again along some kept dim."""
    size = extents(s)
    if s.strict or s.domain.guard != aff.TRUE or not regular(s, s.dims) or prod(size.values()) < 1 << 15:
        return None
    if ex.dtype_of(s.value).kind == "c" or any(load.array == s.write.array for load in reads(s)):
        return None
    operands = [operand(r, layouts[r.array], p.array(r.array).dtype.bits // 8) for r in reads(s)]
    known = [o for o in operands if o is not None]
    reused = {d for o in known for d in s.kept if not o.moves(d) and size[d] > 1}
    if len(known) < len(operands) or not reused or not all(any(not o.moves(d) for d in reused) for o in known):
        return None
    if len({o.array for o in known}) < 2 or prod(size[d] for d in s.kept) < 256 or prod(size[d] for d in s.reduced) < 8:
        return None
    best = nsmallest(_COUNTED, _tiles(p, s, size, known, layouts, device), key=lambda plan: plan.cycles)
    counted = [replace(plan, cycles=price(p, s, plan, layouts, device).cycles) for plan in best]
    found = min(counted, key=lambda plan: plan.cycles, default=None)
    return None if found is None or found.rows < 4 else found


def _tiles(
    p: Program,
    s: Statement,
    size: Mapping[str, int],
    known: Sequence[Operand],
    layouts: Mapping[str, Layout],
    device: Device,
) -> Iterator[BlockPlan]:
    dense = _dense(s, layouts)
    rows = list(_factors([min(8, _power_above(size[d])) for d in s.kept], 8, ROWS))
    rows.sort(key=lambda r: sum(o.cells(dict(zip(s.kept, r, strict=True))) for o in known) / prod(r))
    portions = _portions(s, size)
    steps = {d: n or size[d] for d, n in portions}
    tried: dict[int, int] = {}
    for r in rows:
        if tried.get(prod(r), 0) == _TRIED:
            continue
        own = dict(zip(s.kept, r, strict=True))
        limits = [max(1, _power_above(ceil(size[d] / own[d]))) for d in s.kept]
        plans = [
            BlockPlan(cuts, lanes, portions, staged, buffers=_buffers(need, size, steps, device))
            for total in TILE_THREADS
            for t in _factors(limits, total, total)
            for cuts in [_cuts(s, t, own)]
            for lanes in [tuple(sorted(s.kept, key=lambda d: (d == dense, own[d])))]
            for staged in [_worth_staging(known, cuts, own, steps, total)]
            for need in [_bytes(known, cuts, staged, steps)]
            if need <= device.shared_block
        ]
        yield from (replace(made, cycles=tile_price(p, s, size, known, made, steps, device).cycles) for made in plans)
        tried[prod(r)] = tried.get(prod(r), 0) + bool(plans)


def _cuts(s: Statement, threads: Sequence[int], own: Mapping[str, int]) -> tuple[Cut, ...]:
    """Up to four results of a thread next to each other, further ones in runs."""
    runs = {d: min(own[d], 4) for d in s.kept}
    return tuple(Cut(d, n, own[d] // runs[d], runs[d]) for d, n in zip(s.kept, threads, strict=True))


def _worth_staging(
    known: Sequence[Operand], cuts: Sequence[Cut], own: Mapping[str, int], steps: Mapping[str, int], threads: int
) -> tuple[str, ...]:
    box = {c.dim: c.size for c in cuts}
    return tuple(dict.fromkeys(o.array for o in known if _shared(o, box, own, steps, threads) >= 2))


def _bytes(known: Sequence[Operand], cuts: Sequence[Cut], staged: Sequence[str], steps: Mapping[str, int]) -> int:
    box = {c.dim: c.size for c in cuts}
    return sum(o.cells({**box, **steps}) * o.item for o in known if o.array in staged)


def _buffers(need: int, size: Mapping[str, int], steps: Mapping[str, int], device: Device) -> int:
    """Two where copies run by themselves, and there is another portion."""
    several = any(size[d] > n for d, n in steps.items())
    return 2 if device.asynchronous and need and several and 2 * need <= device.shared_block else 1


def _shared(
    o: Operand, box: Mapping[str, int], own: Mapping[str, int], steps: Mapping[str, int], threads: int
) -> float:
    """How often a cell that a block stages is read by its threads."""
    return threads * o.cells({**own, **steps}) / o.cells({**box, **steps})


def _portions(s: Statement, size: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Of each reduced dim as much as together makes a portion, the innermost first; 0 for all of it."""
    left, found = DEEP, list[tuple[str, int]]()
    for d in reversed(s.reduced):
        if size[d] <= left + left // 2:
            found.append((d, 0))
            left = max(1, left // size[d])
        else:
            found.append((d, _divisor(size[d], left) if left > 1 else 1))
            left = 1
    return tuple(reversed(found))


def _divisor(n: int, about: int) -> int:
    """How much of a dim is a portion: what leaves no smaller one at the end, if that is near what is wanted."""
    return min(
        (k for k in range(about // 2, 2 * about + 1) if k and n % k == 0), key=lambda k: abs(k - about), default=about
    )


def _dense(s: Statement, layouts: Mapping[str, Layout]) -> str | None:
    """The kept dim along which results are next to each other."""
    layout = layouts[s.write.array]
    for axis, i in s.write.index:
        if layout.stride(axis) == 1:
            return next((d for d in s.kept if i.coefficient(aff.Var(d)) == 1), None)
    return None


def _factors(limits: Sequence[int], least: int, most: int) -> Iterator[tuple[int, ...]]:
    """Powers of two below each limit whose product lies within bounds."""
    if not limits:
        if least <= 1:
            yield ()
        return
    n = 1
    while n <= min(limits[0], most):
        for rest in _factors(limits[1:], -(-least // n), most // n):
            yield (n, *rest)
        n *= 2


def _power_above(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _power_below(n: int) -> int:
    return 1 << (n.bit_length() - 1)
