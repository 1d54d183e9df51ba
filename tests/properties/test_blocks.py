# SPDX-License-Identifier: MIT
"""Chains of reductions that run in common blocks wherever they may, however little it pays: compiled is interpreted.

Values are whole numbers in narrow bounds, so that every order of every sum gives the same.  A longer run:
POLYHEDRAL_EXAMPLES=5000 pytest tests/properties/test_blocks.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program
from polyhedral.plans import block_loops, blocked, blocks, plan
from polyhedral.text.printer import to_text
from polyhedral.text.reader import parse
from tests.properties.batch import Batch
from tests.properties.schedules import compiled
from tests.properties.test_sanitizers import clean
from tests.strategies import inputs_for

EXAMPLES = int(os.environ.get("POLYHEDRAL_EXAMPLES", "60"))
SEED = int(os.environ.get("POLYHEDRAL_SEED", "0"))
EXTENTS = (1, 2, 3, 5, 8, 9, 12, 16, 17, 24, 33)
GUARDS = (
    "",
    "",
    "t <= s",
    "t <= s",
    "s <= t",
    "t <= s and s <= t + {w}",
    "s <= t + {w} and t <= s + 1",
    "t + {w} <= s",
)


@contextmanager
def everywhere(rng: random.Random) -> Iterator[None]:
    """Statements run in blocks where they can, of up to a few elements or many."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(blocked, "_pays", lambda *_: True))
        stack.enter_context(patch.object(blocks, "LARGE", 0.0))
        stack.enter_context(patch.object(block_loops, "LEAST", 1))
        stack.enter_context(patch.object(block_loops, "LARGEST", rng.choice((1, 2, 4, 8, 16, 64))))
        yield


def drawn(rng: random.Random) -> Program:
    """Scores, what is the same for a row of them, values of both, and what is summed of these: parts are left out, and
    results are seen from outside or not.
    """
    sizes = {d: rng.choice(EXTENTS) for d in "hstde"}
    sizes["h"] = rng.choice((1, 2, 3, 4))
    head = ["h"] if rng.random() < 0.6 else []
    guard = rng.choice(GUARDS).format(w=rng.choice((0, 1, 3, 7)))
    seen = f" if {guard}" if guard else ""
    dtype = rng.choice(("f32", "f32", "f32", "f64", "i32"))
    roles = {n: "output" if rng.random() < 0.12 and not (seen and n in "SE") else "temporary" for n in "SmEz"}

    def array(role: str, name: str, dims: str) -> str:
        every = [*head, *dims]
        if role != "input" and rng.random() < 0.3:
            rng.shuffle(every)
        return f"{role} {name}: {dtype}[{', '.join(f'{d}: {sizes[d]}' for d in every)}]"

    def over(dims: str, condition: str = "") -> str:
        return ", ".join(f"{d} < {sizes[d]}" for d in [*head, *dims]) + condition

    def reduced(op: str, d: str, value: str) -> str:
        return f"{op}[{d} < {sizes[d]}{seen if d == 't' else ''}] {value}"

    lines = [
        array("input", "Q", "sd"),
        array("input", "K", "td"),
        array("input", "V", "te"),
        array("output", "out", "se"),
    ]
    first = reduced(rng.choice(("sum", "sum", "max")), "d", "Q * K")
    stages = [f"S: for {over('st', seen)}: S = {first}"]
    lines.append(array(roles["S"], "S", "st"))
    row, last = "0", "S"
    if rng.random() < 0.7:
        lines.append(array(roles["m"], "m", "s"))
        stages.append(f"m: for {over('s')}: m = {reduced(rng.choice(('max', 'min', 'sum')), 't', 'S')}")
        row = "m"
    if rng.random() < 0.8:
        lines.append(array(roles["E"], "E", "st"))
        stages.append(f"E: for {over('st', seen)}: E = min(max(S - {row}, -8), 8)")
        last = "E"
    total = rng.choice(("sum", "sum", "max"))
    value = reduced(total, "t", f"{last} * V" if rng.random() < 0.8 else f"min(max({last}, -3), 3) + V")
    if rng.random() < 0.5:
        lines.append(array(roles["z"], "z", "s"))
        stages.append(f"z: for {over('s')}: z = {reduced('sum', 't', last)}")
        lines.append(array("temporary", "O", "se"))
        stages += [f"O: for {over('se')}: O = {value}", f"out: for {over('se')}: out = O + min(max(z, -8), 8)"]
    else:
        stages.append(f"out: for {over('se')}: out = {value}")
    return parse("\n  ".join(["program whole", *lines, *stages]))


def test_compiled_is_interpreted(tmp_path: Path):
    rng = random.Random(SEED)
    batch, seen, kernels = Batch(), Counter[str](), []
    for k in range(EXAMPLES):
        p = drawn(rng)
        inputs = inputs_for(p, {}, rng.randrange(1 << 30), "whole")
        what = rng.choice(("register tiles", "narrow vectors", "narrow vectors"))
        with everywhere(rng), patch.object(plan, "in_blocks", wraps=blocked.in_blocks) as asked:
            kernel = compiled(p, {}, inputs, run(p, inputs), rng, what)
        seen["blocks"] += asked.called
        seen["local"] += "__attribute__((aligned(64)))" in kernel.source.text
        batch.add(kernel)
        kernels += [kernel] if k % 4 == 0 else []
    wrong = [f"{k.what}: {bad}\n{to_text(k.program)}\n{k.source.text}" for k, bad in batch.results() if bad is not None]
    batch.close()
    assert not wrong, f"{len(wrong)} failures\n" + "\n".join(wrong[:3])
    assert seen["blocks"] > EXAMPLES / 4, seen
    assert seen["local"] > EXAMPLES / 5, seen
    for first in range(0, len(kernels), 100):
        clean(kernels[first : first + 100], tmp_path)
