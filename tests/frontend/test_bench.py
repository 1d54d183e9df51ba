# SPDX-License-Identifier: MIT
"""`polyhedral bench`: what it writes, compares, draws and refuses.  No test looks at a time."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.runtime.roof import Roof
from frontend.commands import bench, bench_options
from frontend.commands.bench import apart, is_target, percent
from frontend.commands.cli import main
from frontend.commands.progress import Bar, Lines, Progress, progress
from frontend.measuring import charts, ledger, tables, timing
from frontend.measuring.ledger import Change, Work, changes, regressions
from frontend.measuring.timing import Times
from frontend.usage import UsageError

PROGRAMS = """
import polyhedral as ph
from polyhedral.dim import i, j, k, x

@ph.function(A="i k", B="k j", returns="i j")
def mm(A, B):
    return (A * B).sum(k)

@ph.function(u="x", inout="u")
def twice(u):
    u[...] *= 2.0

@ph.function(u="x", inout="u")
def running(u):
    with ph.loop(x, 1, u.size(x)):
        u[...] = u + u[x - 1]
"""
QUICK = ("--seconds", "0", "--progress", "none")
ROOF = Roof(1, 100.0, 50.0, 20.0, 25.0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "programs_of_bench.py").write_text(PROGRAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("programs_of_bench", None)


def made(case: str = "a", who: str = ledger.OURS, seconds: float = 1e-3, **changed: Any) -> dict[str, Any]:
    times = Times((seconds, seconds, seconds))
    found = ledger.record(Work(case, 10**8, 10**6, 32, 1e-5, ("W",)), who, times, ROOF, 0.0)
    return {**found, "threads": 1, "flushed": False, "small": False, **changed}


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("name", ["mm", "twice", "running"])
def test_a_target(here: Path, capsys: pytest.CaptureFixture[str], name: str, threads: str):
    sizes = [w for d in ("ikj" if name == "mm" else "x") for w in ("-s", f"{d}=40")]
    command = ["bench", f"programs_of_bench.py:{name}", *sizes, *QUICK, "--threads", threads, "-o", "out.jsonl"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert f"{name}:" in shown.out
    assert shown.err == ""
    records = ledger.load(here / "out.jsonl")
    assert [r["who"] for r in records] == [ledger.OURS, bench.WITHOUT, bench.WRITTEN]
    for r in records:
        assert {"command", "commit", "machine", "versions", "roof", "iqr", "date"} <= r.keys()
        assert r["command"] == "polyhedral " + " ".join(command)
        assert r["error"] <= r["tolerance"]


def test_events(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "programs_of_bench.py:mm", *QUICK, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events] == ["start", "record", "record", "record", "end"]
    assert {e["schema"] for e in events} == {bench.SCHEMA}
    assert events[0]["cases"] == ["programs_of_bench.py:mm"]
    assert events[-1]["failed"] == events[-1]["slower"] == 0


def test_an_error_of_one_case_does_not_stop_the_others(here: Path, capsys: pytest.CaptureFixture[str]):
    (here / "wrong_of_bench.py").write_text(
        "import polyhedral as ph\nfrom polyhedral.dim import x\n"
        "@ph.function(X='x')\ndef outside(X):\n    return X + X[x + 1]\n"
    )
    assert main(["bench", "wrong_of_bench.py:outside", "programs_of_bench.py:mm", *QUICK, "--json"]) == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events].count("record") == 3
    assert next(e for e in events if e["event"] == "error")["code"] == "PH101"
    sys.modules.pop("wrong_of_bench", None)


def test_what_a_target_is():
    assert is_target("file.py:fn")
    assert is_target("prog.poly")
    assert not is_target("capsule")
    assert not is_target("CAP0+fresh")


@pytest.mark.parametrize(
    "words",
    [
        ("CAP99",),
        ("capsul",),
        ("CAP0", "programs_of_bench.py:mm"),
        ("programs_of_bench.py:mm", "--vs", "polly"),
        ("CAP0", "--small", "--vs", "abacus"),
        ("programs_of_bench.py:mm", "--fail-over", "a lot"),
        ("programs_of_bench.py:mm", "--compare", "none.jsonl"),
        ("programs_of_bench.py:mm", "--compare", "programs_of_bench.py"),
        ("programs_of_bench.py:mm", "--roofline", "picture.txt"),
        ("programs_of_bench.py:mm", "--threads", "0"),
        ("programs_of_bench.py:mm", *QUICK, "-o", "no/such/folder.jsonl"),
    ],
)
def test_wrong_usage(here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]):
    assert main(["bench", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err


def test_suites_need_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "frontend" / "commands" / "bench.py"))
    with pytest.raises(UsageError, match="checkout"):
        bench.listed()


# --- suites ----------------------------------------------------------------------------------------------------------


def test_a_suite(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "TALL", "CAP0+fresh", "--small", "--vs", "c", *QUICK, "-o", "out.jsonl"]) == 0
    assert "operands fresh at each call" in capsys.readouterr().out
    assert {r["case"] for r in ledger.load(here / "out.jsonl")} == {"TALL", "CAP0+fresh"}
    assert main(["bench", "--list"]) == 0
    listed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert set(listed) == {"capsule", "conv", "gemm", "other", "programs", "backward", "all"}
    assert "C2x16-nhwc" in listed["conv"].split()


def steadily(contestants, sample, **_):
    """Every contestant takes a millisecond, on every turn."""
    for c in contestants:
        c.run()
    return {c.name: timing.Times((1e-3,) * 3) for c in contestants}, (sample(),)


def test_a_regression_is_exit_code_5(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "interleave", steadily)
    command = ["bench", "TALL", "--small", "--vs", "", *QUICK]
    assert main([*command, "-o", "now.jsonl"]) == 0
    (record,) = ledger.load(here / "now.jsonl")
    for file, factor in (("better.jsonl", 1e6), ("worse.jsonl", 1e-6)):
        (here / file).write_text(json.dumps([{**record, "of_roof": record["of_roof"] * factor}]))
    assert main([*command, "--compare", "worse.jsonl"]) == 0
    assert main([*command, "--compare", "better.jsonl", "--fail-over", "50%"]) == bench_options.REGRESSION
    assert "slower" in capsys.readouterr().out
    assert main([*command, "--compare", "better.jsonl", "--json"]) == bench_options.REGRESSION
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(e for e in events if e["event"] == "compared")["verdict"] == "slower"


def test_what_peers_are_freed_of():
    env = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512", "PATH": "/bin", "OMP_NUM_THREADS": "8"}
    fair = bench_options.fair(env, 2)
    assert "PATH" in fair
    assert not set(bench_options.HANDICAPS) & set(fair)
    assert {fair[n] for n in bench_options.THREADS} == {"2"}
    assert bench_options.fair(fair, 2) == fair


# --- records ---------------------------------------------------------------------------------------------------------


def test_changes_are_beyond_noise():
    before, after = [made(seconds=1e-3)], [made(seconds=2e-3), made("b")]
    (found,) = changes(before, after)
    assert found.ratio == pytest.approx(0.5)
    assert regressions([found], 0.05) == [found]
    assert regressions(changes(before, [made(seconds=2e-3, iqr=2e-3)]), 0.05) == []
    assert regressions(changes([made(who="torch")], [made(who="torch", seconds=1.0)]), 0.05) == []
    assert changes(before, [made(threads=2)]) == changes(before, [made(constant=[])]) == []
    assert Change("a", "b", 1, 0.5, 0.6, 0.0).verdict(0.05) == "faster"


def test_percent():
    assert percent("5%") == percent(" 0.05") == 0.05
    for wrong in ("", "five", "-1%", "200%", "nan"):
        with pytest.raises(UsageError):
            percent(wrong)


def test_apart():
    assert apart(np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf])) == 0.0
    assert apart(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == 0.5
    assert apart(np.array([np.nan]), np.array([1.0])) > 1e300
    assert apart(np.array([], np.int32), np.array([], np.int32)) == 0.0


def test_tables_say_what_is_constant(capsys: pytest.CaptureFixture[str]):
    tables.show([made(), made(who="torch", error=1.0), made(iqr=1.0, absent=["jax: not installed"])])
    shown = capsys.readouterr().out
    for phrase in ("W constant", "WRONG", "NOISY", "torch"):
        assert phrase in shown


# --- pictures and progress -------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_pictures(tmp_path: Path):
    records = [made(), made(who="torch", seconds=2e-3), made("b", bits=64, flops=0)]
    for draw in (charts.roofline, charts.bars):
        ax = draw(records)
        assert draw(records, ax=ax) is ax
        charts.save(ax, tmp_path / "picture.svg")
        assert "<svg" in (tmp_path / "picture.svg").read_text()
    assert [t.get_text() for t in charts.bars(records).get_yticklabels()] == ["a", "b"]
    with pytest.raises(UsageError, match="cannot write"):
        charts.save(charts.bars(records), tmp_path / "no" / "folder.svg")


def test_pictures_need_matplotlib(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(charts, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"polyhedral-loops\[plot\]"):
        charts.ready(Path("roofline.svg"))


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    with progress(2, "none") as none, progress(2, "plain") as plain, progress(2) as auto:
        assert type(none) is Progress
        assert isinstance(plain, Lines)
        assert isinstance(auto, Lines)
        for one in (none, plain):
            one.begin("CAP0")
            one.at(0.5)
    assert capsys.readouterr().err == "[1/2] CAP0\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(1) as bar:
        assert isinstance(bar, Bar)
        bar.begin("CAP0")
        bar.at(0.5)


def test_the_quickest_part_of_a_turn_counts(monkeypatch: pytest.MonkeyPatch):
    clock, calls = [0.0], list[float]()
    took = iter([1.0, 1.0, 9.0, 1.0, 2.0, 2.0])

    def run() -> object:
        calls.append(clock[0])
        clock[0] += next(took)
        return None

    monkeypatch.setattr(timing, "_settle", lambda *_: None)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert timing.turn(timing.Contestant("c", run), 6, parts=3) == 1.0
    assert len(calls) == 6
    took = iter([4.0, 2.0])
    assert timing.turn(timing.Contestant("c", run), 2) == 3.0
