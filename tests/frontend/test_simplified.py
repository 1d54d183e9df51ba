# SPDX-License-Identifier: MIT
"""Programs are simplified on their way to a kernel: the same results, with remarks; hints still find their names."""

from __future__ import annotations

import numpy as np

import polyhedral as ph
from polyhedral.dim import i, j, k


@ph.function(x="n i", W="o i j", y="n j", returns="n o")
def bilinear(x, W, y):
    return (x * W * y).sum(i, j)


@ph.function(A="i k", s="i", returns="i")
def scaled(A, s):
    return (A * A * s * 0.5).sum(k) + (0.5 * (A * A * s)).sum(k)


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-3, 4, shape).astype(np.float32)


def test_a_bilinear_form_is_contracted_pairwise():
    rng = np.random.default_rng(0)
    x, W, y = whole(rng, 70, 33), whole(rng, 50, 33, 20), whole(rng, 70, 20)
    low = bilinear.lower(x=x, W=W, y=y)
    assert any(r.what == "contracted pairwise" for r in low.remarks)
    assert len(low.built.program.statements) >= 2
    np.testing.assert_array_equal(np.asarray(bilinear(x, W, y)), np.einsum("ni,oij,nj->no", x, W, y))


def test_the_result_is_the_same_for_sizes_not_worth_it():
    rng = np.random.default_rng(0)
    x, W, y = whole(rng, 2, 3), whole(rng, 4, 3, 2), whole(rng, 2, 2)
    assert not any(r.what == "contracted pairwise" for r in bilinear.lower(x=x, W=W, y=y).remarks)
    np.testing.assert_array_equal(np.asarray(bilinear(x, W, y)), np.einsum("ni,oij,nj->no", x, W, y))


def test_factors_leave_and_equal_sums_meet():
    rng = np.random.default_rng(1)
    A, s = whole(rng, 40, 300), whole(rng, 40)
    low = scaled.lower(A=A, s=s)
    assert {r.what for r in low.remarks} >= {"factors hoisted", "merged"}
    np.testing.assert_array_equal(np.asarray(scaled(A, s)), (A * A * s[:, None]).sum(1))


def test_hints_find_what_they_name():
    """A program with hints is scheduled as it was written."""
    low = bilinear.lower(
        x="f32[n:70, i:33]", W="f32[o:50, i:33, j:20]", y="f32[n:70, j:20]", hints=ph.hints().tile("out", n=8, o=8, j=4)
    )
    assert not any(r.what == "contracted pairwise" for r in low.remarks)
    assert bool(low.explain.tile("out", n=8, o=8))
