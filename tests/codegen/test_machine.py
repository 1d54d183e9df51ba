# SPDX-License-Identifier: MIT
"""Measured numbers: taken, kept privately, found again, and refused when they are anyone else's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from codegen.runtime import machine
from codegen.runtime.cache import Cache
from codegen.runtime.roof import Meter, Pace, best_of
from frontend.environment import session
from frontend.environment.options import Options
from frontend.measuring.timing import native
from polyhedral.errors import Remark
from polyhedral.machine.target import Target, host

PACE = Pace(3.6e9, 1.97, 1.78, 4.04, (105.3, 57.4, 29.6), 11.51, 10.43)
MEASURED = machine.Measured(PACE, 4, 20.0, "2026-01-01T00:00:00+00:00")
DETECTED = Target("avx512", 64, 32, 1.0, 1.0, 5, cores=1)


def test_kept_and_found_again(tmp_path: Path):
    assert machine.recall(tmp_path) is None
    assert machine.keep(Cache(tmp_path), MEASURED) is None
    assert machine.place(tmp_path).stat().st_mode & 0o777 == 0o600
    assert machine.recall(tmp_path) == MEASURED
    assert json.loads(machine.place(tmp_path).read_text())["schema"] == machine.SCHEMA
    Cache(tmp_path).clear()
    assert machine.recall(tmp_path) is None


def test_plans_get_rounded_numbers():
    found = machine.refined(DETECTED, MEASURED)
    assert (found.fma_per_cycle, found.loads_per_cycle, found.latency) == (2.0, 2.0, 4)
    assert found.near == (110.0, 57.0, 30.0)
    assert found.bytes_per_cycle == 12.0
    assert (found.name, found.vector, found.registers, found.l1) == ("avx512", 64, 32, DETECTED.l1)
    again = replace(MEASURED, pace=replace(PACE, fma=2.03, loads=1.83, latency=3.9))
    assert machine.refined(DETECTED, again) == found


def test_cores_share_memory():
    assert machine.refined(replace(DETECTED, cores=4), MEASURED).bytes_per_cycle == 5.0
    assert machine.refined(replace(DETECTED, cores=2), MEASURED).bytes_per_cycle == 10.0


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "polyhedral.machine/0"},
        {"machine": "of someone else"},
        {"cores": 0},
        {"cores": True},
        {"date": None},
        {"fma": "2.0"},
        {"fma": 1e9},
        {"l2": -1},
        {"memory": float("nan")},
        {"latency": None},
    ],
)
def test_figures_that_cannot_be(tmp_path: Path, change: dict[str, object]):
    machine.keep(Cache(tmp_path), MEASURED)
    path = machine.place(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert isinstance(machine.recall(tmp_path), Remark)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_damaged_files(tmp_path: Path, text: str):
    machine.keep(Cache(tmp_path), MEASURED)
    machine.place(tmp_path).write_text(text)
    assert isinstance(machine.recall(tmp_path), Remark)


def test_files_that_others_could_have_written(tmp_path: Path):
    machine.keep(Cache(tmp_path), MEASURED)
    path = machine.place(tmp_path)
    path.chmod(0o644)
    assert isinstance(machine.recall(tmp_path), Remark)
    path.chmod(0o600)
    moved = path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(moved)
    assert isinstance(machine.recall(tmp_path), Remark)


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    store = Cache(tmp_path)
    store.folder.rmdir()
    remark = machine.keep(store, MEASURED)
    assert remark is not None
    assert "cannot be written" in remark.because


def test_the_driver_uses_what_was_measured(tmp_path: Path):
    here = session.current()
    fresh, known = (Options(cache_dir=str(tmp_path / n), threads=1) for n in ("fresh", "known"))
    machine.keep(Cache(tmp_path / "known"), MEASURED)
    assert here.target(fresh) == host(1)
    assert here.target(known) == machine.refined(host(1), MEASURED)
    machine.place(tmp_path / "known").unlink()
    assert here.target(known) == machine.refined(host(1), MEASURED)


def test_a_core_is_measured():
    pace = Meter(native, 32).pace((32 << 10, 512 << 10, 4 << 20), rounds=1, seconds=0.0)
    for figure in (pace.cycles, pace.fma, pace.loads, pace.latency, *pace.near, pace.memory, pace.fill):
        assert figure > 0
    assert best_of([pace, replace(pace, fma=99.0, latency=0.1)]) == replace(pace, fma=99.0, latency=0.1)
    made = machine.measure(Meter(native, 32), Target(l3=4 << 20, cores=2))
    assert made.cores == 2
    assert "GHz" in str(made)
