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
from polyhedral import fusion
from polyhedral.interpreter import run
from polyhedral.layout import row_major
from polyhedral.legality import violation
from polyhedral.pipeline import analyze, plan
from polyhedral.program import Program
from polyhedral.text import to_text
from polyhedral.tree import Band, Filter, Fold, Leaf, Local, Member, Promote, Run, Sequence, Tree, local_arrays, render
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
        with eager(rng):
            kernel = compiled(p, {}, inputs, run(p, inputs), rng, what)
        seen["shared"] += "_block" in kernel.source.text
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
