# SPDX-License-Identifier: MIT
"""Chains of statements that share loops wherever they may, however little it pays: compiled is interpreted.

Prices are put aside, blocks and memory of its own are of any size.  A longer run:
POLYHEDRAL_EXAMPLES=5000 pytest tests/properties/test_fused.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from codegen.lower import lower
from polyhedral.errors import InternalError
from polyhedral.ir import expr as ex
from polyhedral.ir.interpreter import run
from polyhedral.ir.layout import row_major
from polyhedral.ir.program import Program
from polyhedral.ir.tree import (
    Band,
    Filter,
    Fold,
    Leaf,
    Local,
    Member,
    Promote,
    Run,
    Sequence,
    Tree,
    local_arrays,
    render,
)
from polyhedral.oracle.legality import violation
from polyhedral.pipeline import analyze, plan
from polyhedral.scheduling import schedule as scheduling
from polyhedral.text.printer import to_text
from polyhedral.transforms.share import taken
from polyhedral.whole import fusion
from tests.chains import drawn
from tests.executor import Executor, OutOfBoundsError
from tests.properties.batch import Batch, same
from tests.properties.enumerated import disagreement
from tests.properties.schedules import NARROW, compiled, interned
from tests.properties.test_sanitizers import clean
from tests.strategies import inputs_for

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "150"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))


@contextmanager
def eager(rng: random.Random) -> Iterator[None]:
    """Statements share what they can, in blocks that fit a cache of any size."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(fusion, "_saved", lambda *_: 1.0))
        stack.enter_context(patch.object(fusion, "_again", lambda *_: 0.0))
        stack.enter_context(patch.object(fusion, "BUSY", 0))
        stack.enter_context(patch.object(fusion, "FULL", rng.choice((0.002, 0.01, 0.1, 1.0))))
        stack.enter_context(patch.object(fusion, "LOCAL", rng.choice((0.0, 300.0, 3000.0, 1e6, 1e6))))
        yield


def test_compiled_is_interpreted(tmp_path: Path):
    rng = random.Random(SEED)
    batch, seen, kernels = Batch(), Counter[str](), []
    for k in range(EXAMPLES):
        p = interned(drawn(rng))
        inputs = inputs_for(p, {}, rng.randrange(1 << 30), "whole")
        what = rng.choice(("default", "narrow vectors", "narrow vectors", "small tiles", "serial", "checked"))
        with eager(rng), patch.object(scheduling, "taken", wraps=taken) as nest:
            kernel = compiled(p, {}, inputs, run(p, inputs), rng, what)
        seen["shared"] += nest.called
        seen["local"] += "__attribute__((aligned(64)))" in kernel.source.text
        batch.add(kernel)
        kernels += [kernel] if k % 4 == 0 else []
    wrong = [f"{k.what}: {bad}\n{to_text(k.program)}\n{k.source.text}" for k, bad in batch.results() if bad is not None]
    batch.close()
    assert not wrong, f"{len(wrong)} failures\n" + "\n".join(wrong[:3])
    assert seen["shared"] > EXAMPLES / 8, seen
    assert seen["local"] > EXAMPLES / 20, seen
    for first in range(0, len(kernels), 100):
        clean(kernels[first : first + 100], tmp_path)


def fused(p: Program, rng: random.Random):  # type: ignore[no-untyped-def]
    """The analysis, and a tree that shares what it may."""
    analyzed = analyze(p)
    layouts = {a.name: row_major(a) for a in p.arrays}
    with eager(rng):
        return analyzed, plan(analyzed, layouts, target=NARROW).schedule


def misses(p: Program, tree: Tree, analyzed, salt: int) -> str | None:  # type: ignore[no-untyped-def]
    """What executing a tree gets wrong."""
    inputs = inputs_for(p, {}, salt, "whole")
    trace: list = []
    want = run(p, inputs, trace=trace)
    loops = lower(analyzed.frame, tree)
    for way in ("forward", "shuffled", "snapshot"):
        executor = Executor(p, {}, way, salt)
        try:
            got = executor.run(loops, inputs)
        except OutOfBoundsError as error:
            return f"{way}: {error} is not there"
        if executor.races:
            return f"{way}: race at {executor.races[0]}"
        wrong = disagreement(p, {}, trace, executor.order)
        if wrong is not None:
            return f"{way}: {wrong}"
        if not all(same(got[n], w) for n, w in want.items()):
            return f"{way}: values"
    return None


def test_the_oracle_is_right_of_memory_of_its_own():
    """Trees with memory of its own that the oracle accepts run right; most changes of it are refused."""
    rng = random.Random(SEED)
    tried, accepted, refused, local = 0, 0, Counter[str](), 0
    while tried < EXAMPLES // 5:
        p = interned(drawn(rng))
        if max(e.const for a in p.arrays for _, e in a.dims) > 9:
            continue
        analyzed, schedule = fused(p, rng)
        tried += 1
        salt = rng.randrange(1 << 30)
        assert violation(p, schedule.tree) is None
        wrong = misses(p, schedule.tree, analyzed, salt)
        assert wrong is None, f"{wrong}\n{to_text(p)}\n{render(schedule.tree, {})}"
        local += bool(local_arrays(schedule.tree))
        for _ in range(4):
            tree = changed(schedule.tree, p, rng)
            why = violation(p, tree)
            if why is not None:
                refused[why.why] += 1
                continue
            try:
                wrong = misses(p, tree, analyzed, salt)
            except InternalError:  # the order is right, but isl takes the region apart, and the lowering notices
                refused["taken apart"] += 1
                continue
            accepted += 1
            assert wrong is None, f"{wrong}\n{to_text(p)}\n{render(tree, {})}"
    assert local > EXAMPLES / 40
    assert len(refused) > 4, refused
    assert accepted > EXAMPLES / 10


def changed(tree: Tree, p: Program, rng: random.Random) -> Tree:
    """One Local more, moved, lost or with another fold; or one loop marked or counted otherwise."""
    every = list(_nodes(tree))
    locals_ = [n for n in every if isinstance(n, Local)]
    if locals_ and rng.random() < 0.6:
        node = rng.choice(locals_)
        return _put(tree, node, _refolded(node, p, rng))
    bands = [n for n in every if isinstance(n, Band)]
    if bands and rng.random() < 0.4:
        band = rng.choice(bands)
        k = rng.randrange(len(band.members))
        members = tuple(_recounted(m, rng) if i == k else m for i, m in enumerate(band.members))
        return _put(tree, band, replace(band, members=members))
    touched = {x.array for s in p.statements for x in (s.write, *ex.loads(s.value))}
    a = rng.choice([a for a in p.arrays if a.name in touched])
    at = rng.choice([n for n in every if not isinstance(n, Promote) and not _in_promote(tree, n)])
    folds = (
        (Fold(rng.choice(a.dim_names), rng.choice((1, 2, 4, 9, 33)), rng.randint(1, 2)),) if rng.random() < 0.6 else ()
    )
    return _put(tree, at, Local(a.name, folds, at))


def _refolded(node: Local, p: Program, rng: random.Random) -> Tree:
    folds = list(node.folds)
    how = rng.choice(("lost", "fewer", "smaller", "larger", "axis", "up", "down"))
    if not folds or how == "lost":
        return node.child
    k = rng.randrange(len(folds))
    f = folds[k]
    match how:
        case "fewer":
            folds.pop(k)
        case "smaller":
            folds[k] = replace(f, size=f.size - rng.randint(1, f.size))
        case "larger":
            folds[k] = replace(f, size=f.size * 2)
        case "axis":
            folds[k] = replace(f, axis=rng.choice(p.array(node.array).dim_names))
        case _:
            folds[k] = replace(f, up=f.up + (1 if how == "up" else -1))
    return replace(node, folds=tuple(folds))


def _recounted(m: Member, rng: random.Random) -> Member:
    how = rng.choice(("parallel", "vector", "shift", "reverse", "halve"))
    if how in ("parallel", "vector"):
        return replace(m, run=Run(how))
    f = rng.choice(m.times)[0]
    times = {
        "shift": lambda g, t: t + (1 if g == f else 0),
        "reverse": lambda _, t: -t,
        "halve": lambda _, t: t // 2,
    }[how]
    return replace(m, times=tuple((g, times(g, t)) for g, t in m.times))


def _nodes(tree: Tree) -> Iterator[Tree]:
    yield tree
    match tree:
        case Sequence(children):
            for c in children:
                yield from _nodes(c.child)
        case Leaf():
            return
        case Band() | Promote() | Local() | Filter():
            yield from _nodes(tree.child)


def _in_promote(tree: Tree, node: Tree) -> bool:
    return any(node in _nodes(n) for n in _nodes(tree) if isinstance(n, Promote))


def _put(tree: Tree, old: Tree, new: Tree) -> Tree:
    """The tree with the node `old` (by identity) replaced."""
    if tree is old:
        return new
    match tree:
        case Leaf():
            return tree
        case Sequence(children):
            return Sequence(tuple(Filter(c.families, _put(c.child, old, new)) for c in children))
        case Band() | Promote() | Local() | Filter():
            return replace(tree, child=_put(tree.child, old, new))
