# SPDX-License-Identifier: MIT
"""EM routing forward and backward on a machine whose caches hold no votes: nothing of their size is stored, and the
derivatives are those of the reference.
"""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

import polyhedral as ph
from benchmarks import backward
from benchmarks.case import parts
from codegen import loops as lp
from frontend.environment import session
from polyhedral.ir.program import Role
from polyhedral.machine.target import Target

SMALL = Target("small", cores=2, l1=1 << 12, l2=1 << 15, l3=1 << 16)
AXES = {"Pose": "n y x i p r", "Act": "n y x i", "W": "ky kx i o r q", "bu": "o", "ba": "o", "T": "n y x o p q"}


def test_no_votes_are_stored_on_the_way_back(monkeypatch: pytest.MonkeyPatch):
    case = backward.em("EM-backward", 4, 6, 4, 8, 3, 2)
    arrays = case.inputs(0)
    shapes = {name: zip(AXES[name].split(), a.shape, strict=True) for name, a in arrays.items()}
    specs = {name: f"f32[{', '.join(f'{d}:{e}' for d, e in shape)}]" for name, shape in shapes.items()}
    monkeypatch.setattr(session, "_target", lambda root, cores: SMALL)
    with ph.options(threads=2, plan_above=5000):
        low = case.function.lower(**specs)
    said = " ".join(r.what for r in low.remarks)
    assert "in blocks" in said
    assert "summed at places" in said
    own = {n.array for n in lp.walk(low.built.loops) if isinstance(n, lp.Local)}
    stored = [a for a in low.built.program.with_role(Role.TEMPORARY) if a.name not in own]
    votes = 4 * 2 * 2 * 9 * 4 * 8 * 16
    assert all(prod(e.const for _, e in a.dims) < votes / 2 for a in stored)
    got = low.compile()(**arrays)
    for one, want in zip(parts(tuple(map(np.asarray, got))), parts(case.expected(arrays)), strict=True):
        np.testing.assert_allclose(one, want, rtol=0, atol=1e-4 * np.abs(want).max())
