# SPDX-License-Identifier: MIT
"""`f.tune`: other plans are tried, checked and measured, and the fastest is kept and found again.

Who is fastest is said by the tests, but for one search with a real clock.
"""

from __future__ import annotations

import json
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from frontend.lowering.built import Built
from frontend.lowering.trials import Trial, Verdict
from frontend.measuring import duel
from frontend.measuring.duel import Runner
from frontend.tuning import tune
from polyhedral.dim import d, k, t
from polyhedral.plans.preferences import Lying, Preferred, Together
from tests.properties.test_blocks import everywhere

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


def changed_wins(r: Runner) -> float:
    """By this measure other plans are faster than the predicted one, all alike."""
    return 1.0 if plan_of(r) is None else 0.5


def test_a_search_with_a_real_clock():
    heard: list[Trial] = []
    f = product()
    tuned = f.tune(A, B, trials=3, budget="10m", hear=heard.append)
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
    predicted = f(A, B)
    tuned = f.tune(A, B, trials=2, budget="10m", measure=changed_wins)
    (plan,) = tuned.plans.plans
    assert tuned.gain == pytest.approx(0.5)
    assert [t.verdict for t in tuned.trials].count(Verdict.KEPT) == 1
    low = f.lower(A, B)
    assert low.built.plans == tuned.plans
    assert low.source() == tuned.lowered.source()
    (said,) = [r for r in low.remarks if r.what == "tuned"]
    assert str(plan) in said.because
    assert "50% less time" in said.because
    np.testing.assert_allclose(np.asarray(f(A, B)), np.asarray(predicted), rtol=1e-5)
    assert all(e.lowered.built.plans == tuned.plans for e in f._kernels.executables.values())
    assert product().lower(A, B).built.plans == tuned.plans  # another process would find it too


def test_only_exactly_what_was_tuned_is_changed():
    f = product()
    f.tune(A, B, trials=1, budget="10m", measure=changed_wins)
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


def test_the_predicted_plan_stays_where_nothing_is_faster():
    f = product()
    tuned = f.tune(A, B, trials=4, budget="10m", measure=lambda _: 1.0)
    assert not tuned.plans
    assert tuned.gain == 0.0
    assert tuned.lowered.source() == f.lower(A, B).source()
    assert {t.verdict for t in tuned.trials[1:]} <= {Verdict.NOISE, Verdict.SAME}


def test_a_gain_that_the_last_duel_does_not_confirm_is_given_back():
    turns: list[Runner] = []

    def fickle(r: Runner) -> float:
        """The first plan wins while it is tried, and never after."""
        turns.append(r)
        return 0.5 if plan_of(r) and turns.count(r) <= duel.FEW else 1.0

    tuned = product().tune(A, B, trials=1, budget="10m", measure=fickle)
    assert tuned.trials[-1].verdict is Verdict.KEPT
    assert not tuned.plans
    assert any(r.what == "the predicted plan stays" for r in tuned.remarks)


def test_resuming_goes_on_where_the_search_ended():
    f = product()
    first = f.tune(A, B, trials=2, budget="10m", measure=changed_wins)
    again = f.tune(A, B, trials=2, budget="10m", measure=changed_wins, resume=True)
    plans = [t.change for t in again.trials if t.change is not None]
    assert len(plans) == len(set(plans))
    assert [t.change for t in first.trials[1:]] == plans[: len(first.trials) - 1]
    assert sum(t.seconds is not None for t in again.trials) == 1 + 4
    assert first.plans
    assert first.plans == again.plans


def test_interrupted_it_keeps_what_it_has():
    f = product()

    def interrupted(r: Runner) -> float:
        if plan_of(r) is not None and plan_of(r) != won[0]:
            if won[0] is not None:
                raise KeyboardInterrupt
            won[0] = plan_of(r)
        return 1.0 if plan_of(r) is None else 0.5

    won: list[Preferred | None] = [None]
    with pytest.raises(KeyboardInterrupt):
        f.tune(A, B, measure=interrupted)
    low = f.lower(A, B)
    assert low.built.plans.plans == (won[0],)
    assert any("50% less time" in r.because for r in low.remarks)


def test_a_crash_is_found_when_it_goes_on():
    """A kernel that takes the process with it is on disk as begun; it is not tried again."""
    f = product()

    class Crash(BaseException):
        """Nothing runs after it."""

    def crashes(r: Runner) -> float:
        if plan_of(r) is not None:
            raise Crash
        return 1.0

    with pytest.raises(Crash):
        f.tune(A, B, measure=crashes)
    found = f.tune(A, B, trials=1, budget="10m", measure=lambda _: 1.0, resume=True)
    (begun,) = found.findings
    assert begun.verdict is Verdict.BEGUN
    assert [t.change for t in found.trials].count(begun.change) == 1


def test_another_result_is_reported_and_never_kept(monkeypatch: pytest.MonkeyPatch):
    once = Runner.once

    def wrong(r: Runner) -> Any:
        result, changed = once(r)
        if plan_of(r) is not None:
            result.data[0, 0] += 1
        return result, changed

    monkeypatch.setattr(Runner, "once", wrong)
    with pytest.warns(RuntimeWarning, match="another result"):
        tuned = product().tune(A, B, trials=3, budget="10m", measure=lambda r: 1.0 if plan_of(r) is None else 0.1)
    assert not tuned.plans
    assert {t.verdict for t in tuned.trials[1:]} <= {Verdict.WRONG, Verdict.SAME}
    assert tuned.findings
    assert "from the plain nest by" in tuned.findings[0].note


def test_rounding_of_ill_conditioned_sums_is_no_other_result():
    """Sums that cancel: the plain nest, in yet another order, says how far rounding goes."""
    signs = np.where(np.arange(50) % 2, -1.0, 1.0).astype("f4")
    left = (1e6 * (1 + 1e-6 * RNG.random((60, 50)))).astype("f4") * signs
    tuned = product().tune(left, np.ones((50, 70), "f4"), trials=6, budget="10m", measure=lambda _: 1.0)
    assert not tuned.findings


@pytest.mark.parametrize("strides", ["C", "F", "backwards", "apart"])
def test_arguments_are_left_as_they_are(strides: str):
    @ph.function(A="i k", B="k j", C="i j", inout="C")
    def added(A, B, C):
        C[...] += (A * B).sum(k)

    whole = RNG.random((120, 70), dtype=np.float32)
    C = {"C": whole[:60], "F": whole[:60].copy("F"), "backwards": whole[59::-1], "apart": whole[::2]}[strides]
    before = whole.copy(), C.copy()
    tuned = added.tune(A, B, C, trials=2, budget="10m", measure=lambda _: 1.0)
    assert tuned.lowered.specs["C"].strides == tuple(s // 4 for s in C.strides)
    np.testing.assert_array_equal(whole, before[0])
    np.testing.assert_array_equal(C, before[1])
    tuned(A, B, C)
    np.testing.assert_allclose(C, before[1] + A @ B, rtol=1e-5)


def test_a_program_with_one_plan_says_so():
    @ph.function(X="i", returns="i")
    def twice(X):
        return 2 * X

    tuned = twice.tune(np.arange(5.0), measure=lambda _: 1.0)
    assert tuned.complete
    assert len(tuned.trials) == 1
    assert "one plan only" in str(tuned)
    np.testing.assert_array_equal(tuned(np.arange(5.0)), 2 * np.arange(5.0))


def test_a_device_has_one_plan():
    try:
        tuned = product().tune(A, B, target="opencl", budget="10m", measure=lambda _: 1.0)
    except ph.ToolchainError as error:
        pytest.skip(str(error))
    assert len(tuned.trials) == 1
    assert tuned.complete
    np.testing.assert_allclose(np.asarray(tuned(A, B)), A @ B, rtol=1e-5)


def test_several_statements_and_sizes_and_plain_arguments():
    @ph.function(A="i k", B="k j", returns="i j")
    def twice(A, B, n: ph.Size, scale=2.0):
        first = ph.let((A * B).sum(k), "first")
        return (first(j=k) * B(k=k, j=ph.dims("j"))).over(k=n).sum(k) * scale

    B50 = RNG.random((50, 60), dtype=np.float32)
    tuned = twice.tune(A, B50, 50, trials=8, budget="10m", measure=lambda _: 1.0)
    assert {t.statement for t in tuned.trials} >= {"", "first"}
    want = 2 * (A @ B50)[:, :50] @ B50
    np.testing.assert_allclose(np.asarray(tuned(A, B50, n=50)), want, rtol=1e-4)


def test_common_blocks_and_layouts_are_tried_before_plans():
    @ph.function(Q="s d", K="t d", V="t e", returns="s e")
    def attended(Q, K, V):
        scores = ph.let((Q * K).sum(d), "scores")
        return (scores * V).sum(t)

    Q, K, V = (RNG.random((48, 32), dtype=np.float32) for _ in range(3))

    def otherwise(r: Runner) -> float:
        return 0.5 if r.exe.lowered.built.plans.blocks else 1.0

    with everywhere(Random(0)):
        before = attended.lower(Q, K, V).built.blocks
        ((members, blocked),) = before.items()
        tuned = attended.tune(Q, K, V, trials=3, budget="10m", measure=otherwise)
        assert tuned.trials[1].change == Together(members, not blocked)
        assert tuned.trials[1].verdict is Verdict.KEPT
        assert Lying("greedy") in [t.change for t in tuned.trials]
        assert attended.lower(Q, K, V).built.blocks == {members: not blocked}
    np.testing.assert_allclose(np.asarray(tuned(Q, K, V)), (Q @ K.T) @ V, rtol=1e-4)
    assert not tuned.findings


# --- executors -------------------------------------------------------------------------------------------------------


def test_an_executor_compiles_what_is_measured_here():
    made: list[Any] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            made.append(args)
            return super().submit(fn, *args, **kwargs)

    with Counting(2) as executor:
        tuned = product().tune(A, B, trials=5, budget="10m", executor=executor, measure=changed_wins)
    assert len(made) >= 5
    assert tuned.trials == product().tune(A, B, trials=5, budget="10m", measure=changed_wins).trials


class Broken(Executor):
    """An executor whose workers are gone."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise BrokenExecutor("all workers have ended")


def test_a_broken_executor_costs_one_candidate():
    tuned = product().tune(A, B, trials=2, budget="10m", executor=Broken(), measure=lambda _: 1.0)
    assert any("all workers have ended" in r.because for r in tuned.remarks)
    assert [t.verdict for t in tuned.trials][1] is Verdict.FAILED
    assert sum(t.seconds is not None for t in tuned.trials) == 2


def test_what_does_not_compile_is_a_trial_that_failed(monkeypatch: pytest.MonkeyPatch):
    lower = tune.driver.lower

    def failing(*given: Any) -> Built:
        if given[4].plans:
            raise AssertionError("a mistake of the compiler")
        return lower(*given)

    monkeypatch.setattr(tune.driver, "lower", failing)
    tuned = product().tune(A, B, trials=1, budget="10m", measure=lambda _: 1.0)
    assert {t.verdict for t in tuned.trials[1:]} == {Verdict.FAILED}
    assert "a mistake of the compiler" in tuned.findings[0].note


@pytest.mark.parametrize("code", ["PH501", "PH502"])
def test_a_compiler_that_was_stopped_is_no_finding_and_tried_again(monkeypatch: pytest.MonkeyPatch, code: str):
    load = tune.loading.load

    def stopped(built: Built) -> Any:
        if built.plans:
            raise ph.ToolchainError(code, "the C compiler did not do it")
        return load(built)

    with monkeypatch.context() as patched:
        patched.setattr(tune.loading, "load", stopped)
        tuned = product().tune(A, B, trials=1, budget="10m", measure=changed_wins)
    (failed,) = [t for t in tuned.trials[1:] if t.verdict is not Verdict.SAME]
    assert failed.verdict is (Verdict.FAILED if code == "PH501" else Verdict.STOPPED)
    assert bool(tuned.findings) == (code == "PH501")
    again = product().tune(A, B, trials=1, budget="10m", measure=changed_wins, resume=True)
    assert (failed.change in [t.change for t in again.trials if t.verdict is Verdict.KEPT]) == (code == "PH502")


def test_a_kernel_that_fails_is_a_trial_that_failed(monkeypatch: pytest.MonkeyPatch):
    once = Runner.once

    def failing(r: Runner) -> Any:
        if plan_of(r) is not None:
            raise ph.InternalError("PH999", "kernel product failed with -1")
        return once(r)

    monkeypatch.setattr(Runner, "once", failing)
    tuned = product().tune(A, B, trials=1, budget="10m", measure=changed_wins)
    assert "failed with -1" in tuned.findings[0].note
    assert not tuned.plans


# --- what is asked for, and what is shown ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget": "5 parsecs"}, "is no length of time"),
        ({"budget": "-5s"}, "is no length of time"),
        ({"budget": 0}, "is no length of time"),
        ({"budget": True}, "is no length of time"),
        ({"trials": 0}, "tries nothing"),
        ({"trials": -1}, "tries nothing"),
        ({"trials": 1.5}, "tries nothing"),
        ({"executor": 4}, "is no concurrent.futures.Executor"),
        ({"seed": "a"}, "is no whole number"),
        ({"db": "/nowhere/at/all"}, "there is no folder"),
        ({"db": "."}, "is a folder"),
        ({"db": __file__}, "is no file that f.tune"),
        ({"target": "gpu"}, "is not available"),
    ],
)
def test_bad_requests(asked: dict[str, Any], message: str):
    with pytest.raises(ph.ArgumentError, match=message) as caught:
        product().tune(A, B, **asked)
    assert caught.value.hints


def test_bad_arrays():
    f = product()
    with pytest.raises(ph.DimError, match="sizes disagree"):
        f.tune(A, A)
    with pytest.raises(ph.ArgumentError, match="misses argument B"):
        f.tune(A)
    with pytest.raises(ph.ArgumentError, match="with 1 axis"):
        f.tune(A[0], B)
    with pytest.raises(ph.ArgumentError, match="A is a str, which is no array"):
        f.tune("f32[i:60, k:50]", B)


def test_it_shows_itself():
    tuned = product().tune(A, B, trials=2, budget="10m", measure=changed_wins)
    assert repr(tuned).startswith("<Tuned product: ")
    assert "\n" not in repr(tuned)
    shown = tuned._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"}
    assert shown["text/html"].count("<tr>") == 1 + len(tuned.trials)
    data = json.loads(json.dumps(tuned.to_json()))
    assert data["schema"] == "polyhedral.tune/1"
    assert data["trials"][0]["verdict"] == "FIRST"
    assert data["gain"] == tuned.gain


def test_what_is_wanted_of_a_duel():
    """Noise of a tenth hides a gain of a hundredth, and not one of a half."""
    rng = np.random.default_rng(1)

    def noisy(seconds: float) -> Any:
        return type("Noisy", (), {"seconds": seconds})()

    def measure(r: Any) -> float:
        return r.seconds * (1 + 0.1 * rng.random())

    def of(challenger: float) -> duel.Duel:
        return duel.duel(noisy(1.0), noisy(challenger), measure, Random(0), float("inf"))

    assert sum(of(0.99).won for _ in range(50)) < 5
    assert all(of(0.5).won for _ in range(20))
    assert not any(of(1.2).won for _ in range(20))
    assert len(of(1.5).challenger.seconds) == 3
