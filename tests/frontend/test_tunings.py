# SPDX-License-Identifier: MIT
"""What tuning found on disk: in the cache and in files, damaged, of other versions, where nothing can be written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from codegen.runtime.cache import Cache
from frontend.lowering.trials import Record, Trial, Verdict, record_of
from frontend.lowering.tunings import NOT_USED, Tunings, at
from frontend.measuring.duel import Runner
from polyhedral.dim import k
from polyhedral.plans.preferences import Lying, Preferences, Preferred, Together

PLAN = Preferred("out", ("i",), "j", 16, (("i", 6),), ("k",), (("j", 16), ("i", 6)), ("k",), (("B", "j", 16),))
TRIAL = Trial("out", str(PLAN), PLAN, 1e6, Verdict.KEPT, 1e-3, 1e-5, 2e-3, "a note")
FIRST = Trial("", "as predicted", None, 2e6, Verdict.FIRST)
BLOCKS, LAYOUTS = Together(("a", "b"), False), Lying("greedy")
WHOLE = tuple(replace(TRIAL, change=c, predicted=None) for c in (BLOCKS, LAYOUTS))
EVERY = Preferences((PLAN,), (BLOCKS,), LAYOUTS)
RECORD = Record("mm", "2026-01-01T00:00:00+00:00", EVERY, 0.5, (FIRST, TRIAL, *WHOLE), True)
KEY, OTHER = "0" * 64, "1" * 64

RNG = np.random.default_rng(0)
A, B = RNG.random((60, 50), dtype=np.float32), RNG.random((50, 70), dtype=np.float32)


@ph.function(A="i k", B="k j", returns="i j")
def mm(A, B):
    return (A * B).sum(k)


def changed_wins(r: Runner) -> float:
    return 0.5 if r.exe.lowered.built.plans else 1.0


@pytest.fixture(params=["cache", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Tunings:
    return Tunings(Cache(tmp_path / "cache"), tmp_path / "own.json" if request.param == "file" else None)


def test_json_and_back():
    assert record_of(json.loads(json.dumps(RECORD.to_json()))) == RECORD


@pytest.mark.parametrize("key", list(RECORD.to_json()))
def test_a_record_without_a_part_is_none(key: str):
    whole = json.loads(json.dumps(RECORD.to_json()))
    assert record_of({n: v for n, v in whole.items() if n != key}) is None
    if key != "complete":  # anything but true is false
        for wrong in (None, [1], {"a": 1}, -1.5 if key != "gain" else "1"):
            if not (key == "trials" and wrong == []):
                assert record_of({**whole, key: wrong}) is None


def test_a_plan_with_wrong_parts_is_none():
    whole = json.loads(json.dumps(RECORD.to_json()))
    for n in whole["plans"]["plans"][0]:
        broken = json.loads(json.dumps(whole))
        broken["plans"]["plans"][0][n] = {"no": "such thing"}
        assert record_of(broken) is None


@pytest.mark.parametrize("value", [None, 1, "text", [], [RECORD.to_json()], {}, {"schema": "polyhedral.tuned/0"}])
def test_other_values_are_none(value: object):
    assert record_of(value) is None


def test_kept_and_replaced(place: Tunings):
    assert place.write(KEY, RECORD) is None
    assert place.read(KEY).record == RECORD
    less = replace(RECORD, gain=0.1)
    assert place.write(KEY, less) is None
    assert place.write(OTHER, RECORD) is None
    assert place.read(KEY).record == less
    assert place.read(OTHER).record == RECORD
    if place.file is None:  # what was replaced is gone
        assert place.cache.stat().entries == 2
        assert len(list(place.cache.folder.glob("*.tuned"))) == 2
    else:
        assert place.file.stat().st_mode & 0o077 == 0


def test_nothing_kept(place: Tunings):
    kept = place.read(KEY)
    assert kept.record is None
    if place.file is None:
        assert kept.remark is None
    else:
        assert kept.remark is not None
        assert "there is no" in kept.remark.because


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": "polyhedral.tuned/0"}', b"[" * 100_000, b"\xff\x00"])
def test_damaged_ones_are_said_and_not_used(place: Tunings, damage: bytes):
    place.write(KEY, RECORD)
    file = place.file or next(place.cache.folder.glob("*.tuned"))
    file.write_bytes(damage)
    kept = place.read(KEY)
    assert kept.record is None
    assert kept.remark is not None
    assert kept.remark.what == NOT_USED


def test_an_entry_of_another_version_is_said_and_not_used(place: Tunings):
    if place.file is None:
        raw = json.dumps({**RECORD.to_json(), "schema": "polyhedral.tuned/99"}).encode()
        place.cache.store(KEY, raw, {}, ".tuned")
    else:
        place.write(KEY, RECORD)
        whole = json.loads(place.file.read_text())
        whole["records"][KEY]["schema"] = "polyhedral.tuned/99"
        place.file.write_text(json.dumps(whole))
    kept = place.read(KEY)
    assert kept.record is None
    assert kept.remark is not None


def test_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    gone = Tunings(Cache(tmp_path / "cache"), tmp_path / "file" / "own.json")
    remark = gone.write(KEY, RECORD)
    assert remark is not None
    assert "cannot be written" in remark.because


def test_a_cache_that_cannot_be_kept_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with ph.options(cache_dir=str(tmp_path / "file" / "cache"), threads=1):
        tuned = mm.tune(A, B, trials=1, budget="10m", measure=changed_wins)
    assert tuned.plans
    assert any(r.what == "cache not kept" for r in tuned.remarks)


def test_places():
    cache = Cache.__new__(Cache)
    assert at("off", cache) is None
    assert at("auto", cache) == Tunings(cache)
    assert at("x.json", cache) == Tunings(cache, Path("x.json"))


# --- what lowering makes of it ---------------------------------------------------------------------------------------


def lowered(**chosen: Any) -> Any:
    return mm.lower(A, B, **chosen)


def test_a_file_of_its_own(tmp_path: Path):
    file = tmp_path / "own.json"
    with ph.options(cache_dir=str(tmp_path / "cache"), threads=1):
        tuned = mm.tune(A, B, trials=1, budget="10m", db=file, measure=changed_wins)
        assert tuned.plans
        assert not lowered().built.plans
        assert lowered(tuned=str(file)).built.plans == tuned.plans
        with ph.options(tuned=str(file)):
            assert mm.lower(A, B).built.plans == tuned.plans
            np.testing.assert_allclose(np.asarray(mm(A, B)), A @ B, rtol=1e-5)


def test_nothing_is_stored_where_nobody_asks_for_it(tmp_path: Path):
    with ph.options(cache_dir=str(tmp_path / "cache"), threads=1):
        assert mm.tune(A, B, trials=1, budget="10m", db=None, measure=changed_wins).plans
        assert not lowered().built.plans
    assert not list((tmp_path / "cache").rglob("*.tuned"))


@pytest.mark.parametrize("change", [{"vector": "q"}, {"width": 7}, {"relaid": (("nothing", "j", 3),)}, {"loops": ()}])
def test_a_plan_that_is_no_candidate_is_said_and_not_used(tmp_path: Path, change: dict[str, Any]):
    """A record that others wrote names plans that are weighed, or none."""
    with ph.options(cache_dir=str(tmp_path / "cache"), threads=1):
        predicted = lowered()
        tuned = mm.tune(A, B, trials=1, budget="10m", measure=changed_wins)
        place = Tunings(Cache(tmp_path / "cache"))
        key = predicted.given.key(1)
        record = place.read(key).record
        assert record is not None
        (plan,) = tuned.plans.plans
        place.write(key, replace(record, plans=Preferences((replace(plan, **change),))))
        low = lowered()
        assert low.source() == predicted.source()
        assert any(r.what == "preferred plan not used" for r in low.remarks)
        begun = mm.tune(A, B, trials=1, budget="10m", measure=lambda _: 1.0, resume=True)
        assert any(r.what == "begun anew" for r in begun.remarks)


def test_a_damaged_entry_is_said_by_the_lowering(tmp_path: Path):
    with ph.options(cache_dir=str(tmp_path / "cache"), threads=1):
        predicted = lowered()
        mm.tune(A, B, trials=1, budget="10m", measure=changed_wins)
        next((tmp_path / "cache").rglob("*.tuned")).write_bytes(b"{}")
        low = lowered()
        assert low.source() == predicted.source()
        assert any(r.what == NOT_USED for r in low.remarks)
