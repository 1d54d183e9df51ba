# SPDX-License-Identifier: MIT
"""Sums over the inverse of windows fall apart into sums over boxes: the interpreter agrees, the checker finds no fault.

That adjoints are such sums is `tests/frontend/test_gradients`' business.
"""

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.checks.wellformed import require_wellformed
from polyhedral.ir.affine import TRUE, Compare, comparisons
from polyhedral.ir.program import specialise
from polyhedral.rewrites.phases import phases

GATHER = """program gather
  input dY: f64[y]
  input W: f64[k]
  output dX: f64[x]
  dX: for x < dX.x:
    dX = sum[y < dY.y, k < W.k if {}] dY * W
"""


def fallen_apart(condition, x, y, k):
    p = specialise(ph.parse(GATHER.format(condition)), {"dX.x": x, "dY.y": y, "W.k": k})
    return p, *phases(p, 0)


@pytest.mark.parametrize("size", [(9, 4, 3), (11, 6, 2), (4, 5, 5), (1, 3, 1)])
@pytest.mark.parametrize(
    "condition",
    ["2*y + k == x", "2*y + k == x + 1", "x == 3*y + 2*k", "2*y + 4*k == x + 3", "y + k == x + 2", "y == x + k"],
)
def test_the_phases_of_a_sum_mean_what_it_meant(condition, size):
    x, y, k = size
    p, q, _ = fallen_apart(condition, x, y, k)
    rng = np.random.default_rng(1)
    given = {"dY": rng.standard_normal(y), "W": rng.standard_normal(k)}
    np.testing.assert_allclose(ph.interpret(q, given)["dX"], ph.interpret(p, given)["dX"], atol=1e-12)
    require_wellformed(q)
    ph.check(q)


def test_every_phase_is_a_box():
    _, q, remarks = fallen_apart("2*y + k == x + 1", 9, 4, 3)
    assert len(q.statements) == 2
    assert [str(r) for r in remarks] == ["dX: 2 phases, because its cells differ in which places of a window see them"]
    assert not any(isinstance(c, Compare) and c.equal for s in q.statements for c in comparisons(s.domain.guard))
    assert all(s.domain.guard == TRUE for s in q.statements)


@pytest.mark.parametrize("condition", ["20*y + k == x", "2*y + k <= x", "2*y + k == 2*x", "y + k == x and y <= 2"])
def test_other_conditions_stay(condition):
    p, q, remarks = fallen_apart(condition, 9, 4, 3)
    given = {"dY": np.arange(4.0), "W": np.arange(3.0) + 1}
    np.testing.assert_allclose(ph.interpret(q, given)["dX"], ph.interpret(p, given)["dX"])
    if condition != "y + k == x and y <= 2":
        assert q is p
        assert not remarks


def test_small_sums_stay():
    p = specialise(ph.parse(GATHER.format("2*y + k == x")), {"dX.x": 9, "dY.y": 4, "W.k": 3})
    assert phases(p, 1000)[0] is p
