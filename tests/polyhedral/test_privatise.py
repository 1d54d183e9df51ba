# SPDX-License-Identifier: MIT
"""Reductions in blocks mean what they meant whole, interpreted and compiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polyhedral as ph
from polyhedral.dim import i, j
from polyhedral.ir import affine as aff
from polyhedral.ir import dtypes, interpreter
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Access, Array, Domain, Program, Range, Role, Statement
from polyhedral.rewrites.privatise import privatise

I32 = dtypes.i32


def reduction(op: str, rows: int, columns: int, kept: int) -> Program:
    ranges = tuple(Range(d, aff.const(0), aff.const(n)) for d, n in (("r", kept), ("y", rows), ("x", columns)))
    cells = tuple((d, aff.var(d)) for d in "ryx")
    arrays = (
        Array("X", tuple((r.dim, r.hi) for r in ranges), I32, Role.INPUT),
        Array("out", (("r", aff.const(kept)),), I32, Role.OUTPUT),
    )
    s = Statement("out", Domain(ranges), Access("out", (("r", aff.var("r")),)), ex.Load("X", cells, I32), op)
    return Program("reduction", (), arrays, (s,))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["sum", "prod", "max", "min"]),
    st.integers(1, 9),
    st.integers(2, 30),
    st.integers(1, 3),
    st.integers(2, 5),
    st.sampled_from("yx"),
    st.integers(0, 1000),
)
def test_blocks_are_the_whole(op: str, rows: int, columns: int, kept: int, blocks: int, dim: str, seed: int):
    extent = {"y": rows, "x": columns}[dim]
    blocks = min(blocks, extent)
    p = reduction(op, rows, columns, kept)
    made = privatise(p.statements[0], I32, dim, blocks, lambda base: base)
    split = Program(p.name, (), (*p.arrays, made.array), (*made.parts, made.combined))
    assert len(made.parts) == (2 if extent % blocks else 1)
    X = np.random.default_rng(seed).integers(-3, 4, (kept, rows, columns)).astype(np.int32)
    want = interpreter.run(p, {"X": X}, {})
    np.testing.assert_array_equal(interpreter.run(split, {"X": X}, {})["out"], want["out"])


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("n", [64, 65, 97, 4099])
def test_few_results_are_shared_out(n: int, threads: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polyhedral.plans.plan.PRIVATE", 8)

    @ph.function(X="i", A="k j", returns=("", "", "k"))
    def few(X, A):
        return X.sum(i), (X * X).max(i), A.sum(j)

    rng = np.random.default_rng(n)
    X, A = rng.integers(-9, 9, n).astype(np.float64), rng.integers(-9, 9, (1, n)).astype(np.float64)
    with ph.options(threads=threads):
        low = few.lower(X=X, A=A)
        total, square, row = few(X, A)
    assert all(f"out{n}_blocks" in str(low.schedule()) for n in range(3))
    assert float(total) == X.sum()
    assert float(square) == (X * X).max()
    np.testing.assert_array_equal(np.asarray(row), A.sum(1))


def test_a_nan_in_any_block_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polyhedral.plans.plan.PRIVATE", 8)

    @ph.function(X="i")
    def largest(X):
        return X.max(i)

    for at in (0, 49, 50, 99, 100):
        X = np.arange(101.0)
        X[at] = np.nan
        with ph.options(threads=2):
            assert np.isnan(float(largest(X)))


def test_a_strict_sum_stays_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polyhedral.plans.plan.PRIVATE", 8)

    @ph.function(X="i")
    def total(X):
        return X.sum(i, order="strict")

    with ph.options(threads=2):
        assert "block" not in str(total.lower(X=np.ones(1000)).schedule())
        assert float(total(np.ones(1000))) == 1000
