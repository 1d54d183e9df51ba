# SPDX-License-Identifier: MIT
"""`POLYHEDRAL_TRACE` writes what a process compiled and called, bounded; `polyhedral report` makes a page of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import polyhedral as ph
from frontend.commands import report
from frontend.commands.cli import main
from frontend.environment import session
from frontend.environment.trace_files import RUN, Bounds, Tracer
from frontend.stages import traced
from polyhedral.dim import k, x

PROGRAM = """
import numpy as np, polyhedral as ph
from polyhedral.dim import k, x

@ph.function(X="y x", W="k")
def blur(X, W):
    once = ph.let((X[x + k] * W).sum(k), "once")
    return (once[x + k] * W).sum(k)

X = np.arange(120, dtype=np.float32).reshape(6, 20)
for _ in range(3):
    Y = blur(X, np.ones(3, np.float32))
print(float(np.asarray(Y.order("y x")).sum()))
"""


def start(folder: Path, program: str = PROGRAM, **env: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(program)
    command = [sys.executable, str(folder / "program.py")]
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": root, **env}, stdout=-1, stderr=-1, text=True
    )


def ran(folder: Path, program: str = PROGRAM, **env: str) -> str:
    process = start(folder, program, **env)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


def test_a_process(tmp_path: Path):
    plain = ran(tmp_path)
    assert ran(tmp_path, POLYHEDRAL_TRACE="trace") == plain
    (run,) = (tmp_path / "trace").iterdir()
    assert RUN.fullmatch(run.name)
    events = json.loads((run / "trace.json").read_text())
    assert {e["ph"] for e in events} == {"X"}
    assert all({"name", "cat", "ts", "dur", "pid", "tid", "args"} <= e.keys() for e in events)
    assert [e["name"] for e in events if e["cat"] == "lowering"][:3] == ["trace blur", "assemble blur", "check blur"]
    assert sum(e["cat"] == "call" for e in events) == 3
    assert all(e["dur"] >= 0 for e in events)
    (calls,) = json.loads((run / "calls.json").read_text())["calls"].values()
    assert (calls["program"], calls["calls"], calls["failed"]) == ("blur", 3, 0)
    (program,) = (f for f in run.iterdir() if f.is_dir())
    assert {f.name for f in program.iterdir()} == {
        "program.poly", "schedule.txt", "loops.txt", "source.c", "compilation.json", "kernel.json",
    }  # fmt: skip
    assert "#pragma" in (program / "source.c").read_text()
    about = json.loads((program / "compilation.json").read_text())
    assert {"layouts", "memory", "phases", "remarks", "sizes", "options"} <= about.keys()
    once = next(s for s in about["statements"] if s["name"] == "once")
    assert once["location"]["line"] == 7
    assert any(n["good"] and n["text"].startswith("fused with out over") for n in once["notes"])
    assert any(n["text"] == "vectorised along x" for n in once["notes"])


def test_an_error_of_a_call_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = session.current()
    monkeypatch.setitem(here.__dict__, "tracer", Tracer(tmp_path / "trace"))
    gather = ph.function(X="x", I="k", returns="k")(lambda X, I: X(x=I))  # noqa: E741
    wrong = np.array([0, 9])
    with pytest.raises(ph.BoundsError):
        gather(np.ones(4), wrong)
    assert here.tracer is not None
    here.tracer.flush()
    run = here.tracer.run
    assert run is not None
    (calls,) = json.loads((run / "calls.json").read_text())["calls"].values()
    assert (calls["calls"], calls["failed"]) == (1, 1)


def test_processes_at_once_do_not_meet(tmp_path: Path):
    several = [start(tmp_path, POLYHEDRAL_TRACE="trace") for _ in range(3)]
    assert {p.communicate(timeout=100)[0] for p in several} == {ran(tmp_path)}
    runs = list((tmp_path / "trace").iterdir())
    assert len(runs) == 3
    for run in runs:
        assert len({e["pid"] for e in json.loads((run / "trace.json").read_text())}) == 1
    assert len(report.processes(tmp_path / "trace")) == 3


FORKING = """
import os, time
from pathlib import Path
from frontend.environment.trace_files import Tracer

def said(what):
    tracer.event(what, "test", time.perf_counter(), 0.0)
    tracer.flush()

tracer = Tracer(Path("trace"))
said("parent")
if (child := os.fork()) == 0:
    said("child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
said("parent again")
"""


def test_a_forked_child_has_a_folder_of_its_own(tmp_path: Path):
    """In a process of its own: threads that other tests started would make forking unsafe, and JAX warns of it."""
    ran(tmp_path, FORKING, PYTHONWARNINGS="error")
    runs = (tmp_path / "trace").iterdir()
    found = sorted([e["name"] for e in json.loads((r / "trace.json").read_text())] for r in runs)
    assert found == [["child"], ["parent", "parent again"]]


def test_bounds(tmp_path: Path):
    tracer = Tracer(tmp_path, Bounds(runs=2, programs=2, events=5, text=100, pause=0.0))
    for n in range(9):
        tracer.call("f", "key", time.perf_counter(), float(n))
    places = [tracer.program("a/b<c>", lambda: {"long.txt": "x" * 1000, "long.json": "1" * 1000}) for _ in range(3)]
    tracer.flush()
    run = tracer.run
    assert run is not None
    assert [p and p.name for p in places] == ["001-a_b_c", "002-a_b_c", None]
    assert len((run / "001-a_b_c" / "long.txt").read_text()) < 200
    assert not (run / "001-a_b_c" / "long.json").exists()
    assert len(json.loads((run / "trace.json").read_text())) == 5
    assert json.loads((run / "calls.json").read_text())["calls"]["key"]["calls"] == 9
    assert json.loads((run / "process.json").read_text())["left_out"] == {"events": 4, "programs": 1, "files": 2}
    Tracer(tmp_path).program("f", dict)
    third = Tracer(tmp_path, Bounds(runs=2))
    with pytest.warns(RuntimeWarning, match="it holds 2 processes already"):
        assert third.program("f", dict) is None
    assert len(list(tmp_path.iterdir())) == 2


def test_a_whole_process_is_bounded(tmp_path: Path):
    tracer = Tracer(tmp_path, Bounds(whole=5000, pause=0.0))
    for n in range(200):
        tracer.call("f", "key", time.perf_counter(), float(n))
        tracer.program("f", lambda: {"text.txt": "x" * 500})
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 7000


def test_what_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(session.current().__dict__, "tracer", Tracer(tmp_path / "file"))
    total = ph.function(X="x")(lambda X: (X + 3.25).sum(x))
    with pytest.warns(RuntimeWarning, match="nothing is traced any more") as said:
        results = [float(total(np.ones(8))) for _ in range(2)]
    assert results == [34.0, 34.0]
    assert len(said) == 1


def test_a_mistake_in_what_is_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    def broken(low: object) -> dict[str, str]:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(traced, "_texts", broken)
    monkeypatch.setitem(session.current().__dict__, "tracer", Tracer(tmp_path))
    total = ph.function(X="x")(lambda X: (X + 4.25).sum(x))
    assert float(total(np.ones(8))) == 42.0
    assert "is not traced: RuntimeError: a mistake" in caplog.text


def test_a_whole_file_at_any_time(tmp_path: Path):
    tracer = Tracer(tmp_path)
    for n in range(4):
        tracer.event(f"event {n}", "test", time.perf_counter(), 0.0)
        tracer.flush()
        assert tracer.run is not None
        assert len(json.loads((tracer.run / "trace.json").read_text())) == n + 1


# --- the report ------------------------------------------------------------------------------------------------------


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trace of one program whose names and text want to be tags."""
    tracer = Tracer(tmp_path / "trace")
    monkeypatch.setitem(session.current().__dict__, "tracer", tracer)
    product = ph.function(A="i k", B="k j")(lambda A, B: ph.let((A * B).sum(k), "part") + 1)
    product.python.__name__ = product.name = "<script>alert(1)</script>"
    product(np.ones((3, 4)), np.ones((4, 5)))
    tracer.flush()
    return tmp_path / "trace"


def test_a_page(trace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(trace)]) == 0
    said = capsys.readouterr()
    assert (said.out.strip(), said.err) == (str(trace / "report.html"), "")
    text = (trace / "report.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"(src|href)=", text)
    line = next(row for row in text.split("<tr") if "ph.let((A * B)" in row)
    assert "<code>part</code>" in line
    assert "not vectorised" in line or "vectorised along" in line
    for phrase in ("where the time went", "1 calls", "schedule", "A<", "#pragma omp", "f64[k:4, j:5]"):
        assert phrase in text
    for tag in ("details", "table", "ul", "pre", "div"):
        assert len(re.findall(f"<{tag}[ >]", text)) == text.count(f"</{tag}>")


def test_where_it_goes(trace: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(trace), "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")
    assert main(["report", str(trace), "-o", str(trace / "events.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"].endswith("events.json")
    assert any(e["cat"] == "call" for e in json.loads((trace / "events.json").read_text()))
    assert main(["report", str(trace), "-o", str(trace / "no" / "page.html")]) == 2


def test_what_is_broken_is_left_out(trace: Path, capsys: pytest.CaptureFixture[str]):
    (run,) = trace.iterdir()
    (run / "trace.json").write_text("[{")
    (run / "calls.json").write_text('{"schema": "another"}')
    (folder,) = (f for f in run.iterdir() if f.is_dir())
    about = json.loads((folder / "compilation.json").read_text())
    for name, wrong in (("phases", [["x"], 3, [1, "a"], ["y", None]]), ("sizes", []), ("statements", {"a": 1})):
        about[name] = wrong
    (folder / "compilation.json").write_text(json.dumps({**about, "listings": [{"lines": [None], "first": "a"}]}))
    (run / "999-more").mkdir()
    (run / "999-more" / "compilation.json").write_text("[" * 100_000)
    assert main(["report", str(trace)]) == 0
    assert "3 files could not be read" in (trace / "report.html").read_text()
    (run / "process.json").write_text("{}")
    assert main(["report", str(trace)]) == 2
    assert "holds no trace" in capsys.readouterr().err


def test_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(tmp_path)]) == 2
    assert f"POLYHEDRAL_TRACE={tmp_path}" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none")]) == 2


def test_lanes_that_are_refused_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tracer = Tracer(tmp_path)
    monkeypatch.setitem(session.current().__dict__, "tracer", tracer)
    running = ph.function(u="x", inout="u")(_running)
    running(np.ones(9))
    (file,) = tmp_path.rglob("compilation.json")
    (statement,) = json.loads(file.read_text())["statements"]
    assert [n["good"] for n in statement["notes"]][:2] == [False, False]
    assert statement["notes"][0]["text"].startswith("not vectorised")


def _running(u):
    with ph.loop(x, 1, u.size(x)):
        u[...] = u + u[x - 1]
