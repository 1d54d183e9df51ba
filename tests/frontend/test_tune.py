# SPDX-License-Identifier: MIT
"""`f.tune`: other plans are tried, checked and measured, and the fastest is kept and found again.

Who is fastest is said by the tests, but for one search with a real clock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from frontend.duel import Runner
from frontend.trials import Trial, Verdict
from polyhedral.dim import k
from polyhedral.plans.preferences import Preferred

RNG = np.random.default_rng(0)
A = RNG.random((60, 50), dtype=np.float32)
B = RNG.random((50, 70), dtype=np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What one test tunes, no other finds."""
    with ph.options(cache_dir=str(tmp_path / "cache"), threads=1):
        yield


def product() -> Any:
    @ph.function(A="i k", B="k j", returns="i j")
    def product(A, B):
        return (A * B).sum(k)

    return product


def plan_of(r: Runner) -> Preferred | None:
    """What was changed in a kernel."""
    return next(iter(r.exe.lowered.built.plans.plans), None)


def ranking(*best: Callable[[Preferred | None], bool]) -> Callable[[Runner], float]:
    """A measure by which plans that the last condition holds for are the fastest, then those of the one before."""
    return lambda r: 1.0 / (1 + max((n + 1 for n, of in enumerate(best) if of(plan_of(r))), default=0))


def test_a_search_with_a_real_clock():
    heard: list[Trial] = []
    f = product()
    tuned = f.tune(A, B, trials=3, budget="20s", hear=heard.append)
    np.testing.assert_allclose(np.asarray(tuned(A, B)), A @ B, rtol=1e-5)
    assert list(tuned.trials) == heard
    first, *others = [t for t in tuned.trials if t.seconds is not None]
    assert first.verdict is Verdict.FIRST
    assert len(others) == 3
    assert all(t.verdict in (Verdict.KEPT, Verdict.SLOWER, Verdict.NOISE) for t in others)
    assert (tuned.gain > 0) == bool(tuned.plans)
    assert not tuned.findings


def test_who_wins_is_kept_and_used_from_then_on():
    f = product()
    narrow = ranking(lambda p: p is not None and p.rows == (("i", 3),))
    predicted = f(A, B)
    tuned = f.tune(A, B, trials=40, measure=narrow)
    assert tuned.complete or len(tuned.trials) > 40
    (plan,) = tuned.plans.plans
    assert plan.rows == (("i", 3),)
    assert tuned.gain == pytest.approx(0.5)
    assert [t.verdict for t in tuned.trials].count(Verdict.KEPT) == 1
    low = f.lower(A, B)
    assert low.built.plans == tuned.plans
    assert low.source() == tuned.lowered.source()
    (said,) = [r for r in low.remarks if r.what == "tuned"]
    assert str(plan) in said.because
    assert "50% less time" in said.because
    np.testing.assert_allclose(np.asarray(f(A, B)), np.asarray(predicted), rtol=1e-5)
    assert all(e.lowered.built.plans == tuned.plans for e in f._executables.values())
    assert product().lower(A, B).built.plans == tuned.plans  # another process would find it too


def test_only_exactly_what_was_tuned_is_changed():
    f = product()
    f.tune(A, B, trials=40, measure=ranking(lambda p: p is not None and p.rows == (("i", 3),)))
    assert f.lower(A, B).built.plans
    assert not f.lower(A, B, tuned="off").built.plans
    with ph.options(tuned="off"):
        assert not f.lower(A, B).built.plans
    assert not f.lower(A.T.copy().T, B).built.plans
    assert not f.lower(A[:59], B).built.plans
    assert not f.lower(A.astype("f8"), B.astype("f8")).built.plans
    assert not f.lower(A, B, threads=2).built.plans
    assert not f.bind(B=B).lower(A).built.plans
    assert not f.lower(A, B, hints=ph.hints().tile("out", i=8)).built.plans
