# SPDX-License-Identifier: MIT
"""`polyhedral tune`: what it says where, its exit codes, and what is left when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import polyhedral as ph
from frontend.commands import tune_target
from frontend.commands.cli import main
from frontend.commands.targets import load, lowered
from frontend.lowering.trials import Trial, Verdict

PROGRAM = """
import polyhedral as ph
from polyhedral.dim import k

@ph.function(A="i k", B="k j", returns="i j")
def mm(A, B):
    return (A * B).sum(k)
"""
SIZES = ("-s", "i=60", "-s", "j=70", "-s", "k=50")
LONG = ("--budget", "10m")
F = "programs_of_tune.py:mm"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "programs_of_tune.py").write_text(PROGRAM)
    (tmp_path / "mm.poly").write_text(
        "program mm\n  sizes n\n  input A: f32[i: n, k: n]\n  input B: f32[k: n, j: n]\n  output out: f32[i: n, j: n]\n"
        "  S0: for i < n, j < n:  out = sum[k < n] A * B\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("POLYHEDRAL_CACHE_DIR", str(tmp_path / "cache"))
    with ph.options(cache_dir=str(tmp_path / "cache")):
        yield tmp_path
    sys.modules.pop("programs_of_tune", None)


def test_a_table_on_stdout_and_progress_on_stderr(here: Path, capsys: pytest.CaptureFixture[str]):
    code = main(["tune", F, *SIZES, *LONG, "--trials", "1", "--threads", "1"])
    out, err = capsys.readouterr()
    assert code == 0
    assert out.startswith("<Tuned mm: ")
    assert "as predicted" in out
    assert err.startswith("tuning for A.i=60, A.k=50, B.j=70")
    assert len(err.splitlines()) >= 3
    assert main(["tune", F, *SIZES, *LONG, "--trials", "1", "--threads", "1", "--resume", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    (kept,) = (here / "cache").rglob("*.tuned")
    assert len(json.loads(kept.read_text())["trials"]) >= 3


def test_what_is_found_is_used_from_then_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tune_target, "MEASURE", lambda r: 0.5 if r.exe.lowered.built.plans else 1.0)
    assert main(["tune", F, *SIZES, *LONG, "--trials", "1", "--threads", "1"]) == 0
    with ph.options(threads=1):
        assert lowered(load(F), {"i": 60, "j": 70, "k": 50}).built.plans
    assert main(["tune", "mm.poly", "-s", "n=60", *LONG, "--trials", "1", "--db", "own.json"]) == 0
    assert lowered(load("mm.poly"), {"n": 60}).built.plans == ph.hints().plans
    with ph.options(tuned="own.json"):
        assert lowered(load("mm.poly"), {"n": 60}).built.plans


def test_events(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["tune", F, *SIZES, *LONG, "--trials", "1", "--json", "--jobs", "2"]) == 0
    out, _ = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["event"] for e in events[:2]] == ["start", "trial"]
    assert events[-1]["event"] == "end"
    assert all(e["schema"] == "polyhedral.tune/1" for e in events)
    assert events[0]["budget"] == 600
    assert events[1]["verdict"] == "FIRST"
    assert events[-1].keys() >= {"gain", "changes", "complete", "remarks"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--budget", "5 parsecs"], 1, "is no length of time"),
        (["--budget", "-5s"], 1, "is no length of time"),
        (["--trials", "0"], 2, "trials"),
        (["--jobs", "0"], 2, "jobs"),
        (["--db", "no/folder/x.json"], 1, "there is no folder"),
        (["--db", "mm.poly"], 1, "no file that f.tune"),
        (["--nonsense"], 2, "nonsense"),
    ],
)
def test_wrong_usage(here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str):
    assert main(["tune", F, *SIZES, *words]) == code
    assert said in capsys.readouterr().err


def test_no_target(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["tune", "nowhere.py:f"]) == 2
    assert main(["tune", F, "-s", "q=3"]) == 2


def test_another_result_is_exit_code_3(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    tuned = tune_target.tune.tune

    def wrong(*given: object) -> object:
        found = tuned(*given)  # type: ignore[arg-type]
        bad = Trial("out", "a plan", None, 1.0, Verdict.WRONG, note="out differs by 1")
        return type(found)(found.executable, found.plans, (*found.trials, bad), found.gain)

    monkeypatch.setattr(tune_target.tune, "tune", wrong)
    assert main(["tune", F, *SIZES, *LONG, "--trials", "1"]) == 3
    assert "another result: out differs by 1" in capsys.readouterr().out


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_was_found(here: Path, jobs: str):
    """Exit code 130, the trials so far on disk, and no process left."""
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without it
if __name__ == "__main__":
    from frontend.commands.cli import main
    sys.exit(main())
"""
    (here / "command.py").write_text(code)
    words = ["tune", F, *SIZES, "--budget", "1h", "--jobs", jobs, "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "command.py", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "as predicted" not in line and line.startswith("["):
                break
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "--resume goes on" in err
    assert "Traceback" not in err
    (kept,) = (here / "cache").rglob("*.tuned")
    assert len(json.loads(kept.read_text())["trials"]) >= 2
    while _alive(process.pid):  # what keeps count of shared memory ends a moment after its parent
        time.sleep(0.05)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
