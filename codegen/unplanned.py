# SPDX-License-Identifier: MIT
"""Kernels of nests without a plan: parallel loops over all threads of the grid, in turns.

Planned nests, and which nest is a kernel, are `codegen.kernels`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cgen

from codegen import loops as lp
from codegen.device import DeviceEmitter, own_name
from codegen.launch import Axis
from polyhedral.ir import affine as aff
from polyhedral.ir.tree import Run

_PARALLEL_BLOCKS: Mapping[int, tuple[int, int, int]] = {0: (1, 1, 1), 1: (256, 1, 1), 2: (32, 8, 1), 3: (32, 4, 2)}
"""Threads of a block over so many loops that are parallel, x being the innermost."""


def unplanned(
    e: DeviceEmitter, root: lp.Node
) -> tuple[list[cgen.Generable], tuple[Axis, Axis, Axis], tuple[int, int, int], list[cgen.Generable]]:
    """Parallel loops over all threads of the grid, the innermost along x, up to three deep."""
    deep = min(_depth(root), 3)  # at least one: the root is a parallel loop, or runs on one thread
    threads = _PARALLEL_BLOCKS[deep]
    loops: dict[str, list[tuple[tuple[lp.Bound, lp.Bound], ...]]] = {}
    head: list[cgen.Generable] = []
    for k, a in enumerate("xyz"[:deep]):
        d = e.dialect
        at, all_of = (e.spell(own_name(f"{what}_{a}")) for what in ("thread", "threads"))
        text = f"{d.block[a]} * {threads[k]} + {d.thread[a]}"
        head.append(cgen.Initializer(cgen.Value(f"const {e.index}", at), text))
        head.append(cgen.Initializer(cgen.Value(f"const {e.index}", all_of), f"{d.blocks[a]} * {threads[k]}"))
    marked = _marked(root, "xyz"[:deep], loops, e)
    axes = [Axis(tuple(loops.get(a, ())), threads[k]) for k, a in enumerate("xyz")]
    body = e.kernel(marked)
    return head, (axes[0], axes[1], axes[2]), threads, body


def _depth(n: lp.Node) -> int:
    """How many parallel loops are directly around each other.  Threads do not wait for each other, so that what stands
    next to a loop inside a parallel one would not be ordered with it: such a loop stays serial.
    """
    match n:
        case lp.For(run=Run.PARALLEL, body=body):
            return 1 + _depth(body)
        case lp.If(_, then, None) | lp.Block((then,)):
            return _depth(then)
        case _:
            return 0


def _marked(
    n: lp.Node,
    left: str,
    loops: dict[str, list[tuple[tuple[lp.Bound, lp.Bound], ...]]],
    e: DeviceEmitter,
) -> lp.Node:
    """Each parallel loop of a chain on an axis, the last one along x, loops beyond three serial; an instance that isl
    left no loop for, along an axis, is run by the first along it.
    """
    match n:
        case lp.If(condition, then, None):
            return lp.If(condition, _marked(then, left, loops, e))
        case lp.Block((only,)):
            return _marked(only, left, loops, e)
        case lp.For(name, lo, hi, _, Run.PARALLEL) if left:
            deep = _depth(n)
            if deep > len(left):
                return replace(n, run=Run.SERIAL, body=_marked(n.body, left, loops, e))
            axis = left[deep - 1]
            loops.setdefault(axis, []).append(((lo, hi),))
            e.strides[name] = (own_name(f"thread_{axis}"), own_name(f"threads_{axis}"))
            return replace(n, body=_marked(n.body, left.replace(axis, ""), loops, e))
        case _:
            tests = [aff.equal(aff.var(own_name(f"thread_{a}"))) for a in left]
            return lp.If(aff.both(*tests), n) if tests else n
