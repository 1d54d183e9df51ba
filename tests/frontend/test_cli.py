# SPDX-License-Identifier: MIT
"""The command line: every command, every exit code, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from frontend.commands import completion
from frontend.commands.cli import app, main
from frontend.commands.general import hoisted

PROGRAMS = """
import polyhedral as ph
from polyhedral.dim import i, j, k, t, x, y

@ph.function(u0="x")
def jacobi(u0, steps: ph.Size):
    u = ph.var("u", like=u0, t=steps + 1)
    u(t=0)[...] = u0
    u[t + 1] = ph.orelse(0.33 * (u + u[x - 1] + u[x + 1]), u)
    return u(t=steps)

@ph.function(X="y x", W="k")
def blur(X, W):
    blur1 = ph.let((X[x + k] * W).sum(k), "blur1")
    return (blur1[x + k] * W).sum(k)

@ph.function(A="i k", B="k j", returns="j i")
def mm(A, B):
    return (A * B).sum(k)

@ph.function(A="i k", inout="A")
def double(A):
    A[...] *= 2.0

@ph.function(X="x")
def outside(X):
    return X + X[x + 1]

@ph.function(X="x")
def crashes(X):
    return X + nothing_of_that_name

def plain(X):
    return X
"""
POLY = """
program scaled
  input X: f64[y, x]
  output out: f64[y: X.y, x: X.x]
  S0: for y < X.y, x < X.x:  out = X * 2.0
"""
STAGES = ("domains", "accesses", "deps", "graph", "schedule", "tiled", "memory", "layout", "ast", "c", "asm")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "programs_of_cli.py").write_text(PROGRAMS)
    (tmp_path / "scaled.poly").write_text(POLY)
    (tmp_path / "broken_of_cli.py").write_text("def helper():\n    return undefined_here\n\nhelper()\n")
    (tmp_path / "syntax_of_cli.py").write_text("def f(:\n")
    (tmp_path / "stops_of_cli.py").write_text("raise KeyboardInterrupt\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("programs_of_cli", "broken_of_cli", "syntax_of_cli", "stops_of_cli"):
        sys.modules.pop(name, None)


class Said:
    """What one call of the command line did."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        self.code = main(words)
        self.out, self.err = capsys.readouterr()

    @property
    def data(self) -> dict[str, object]:
        return json.loads(self.out)


F = "programs_of_cli.py"


# --- show ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [f"{F}:mm", "programs_of_cli:mm", "scaled.poly"])
def test_targets(here: Path, capsys: pytest.CaptureFixture[str], target: str):
    said = Said(capsys, "show", target)
    assert (said.code, said.err) == (0, "")
    assert "[y, x]" in said.out if target.endswith("poly") else "out[" in said.out


@pytest.mark.parametrize("stage", STAGES)
def test_stages(here: Path, capsys: pytest.CaptureFixture[str], stage: str):
    said = Said(capsys, "show", f"{F}:blur", "--stage", stage)
    assert said.code == 0
    assert said.out.strip()
    assert said.err == ""


def test_layouts_of_all_arrays(here: Path, capsys: pytest.CaptureFixture[str]):
    said = Said(capsys, "show", f"{F}:mm", "--stage", "layouts")
    assert said.code == 0
    rows = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert rows.keys() == {"A", "B", "out"}
    assert "given by the caller" in rows["A"]
    assert rows["out"].startswith("output, order ")
    assert said.out == Said(capsys, "show", f"{F}:mm", "--stage", "layout").out


def test_all_stages_in_a_folder(here: Path, capsys: pytest.CaptureFixture[str]):
    said = Said(capsys, "show", f"{F}:mm", "--stage", "all", "-o", "stages/")
    assert (said.code, said.out) == (0, "")
    assert {p.stem for p in (here / "stages").iterdir()} == set(STAGES)
    assert "#pragma omp" in (here / "stages" / "c.c").read_text()


def test_before_after_and_diff(here: Path, capsys: pytest.CaptureFixture[str]):
    before, after, diff = (Said(capsys, "show", f"{F}:jacobi", f"--{w}").out for w in ("before", "after", "diff"))
    assert "wave" not in before
    assert "wave" in after
    assert any(line.startswith("+") and "wave" in line for line in diff.splitlines())
    assert Said(capsys, "show", f"{F}:jacobi", "--before", "--diff").code == 2


def test_one_statement(here: Path, capsys: pytest.CaptureFixture[str]):
    said = Said(capsys, "show", f"{F}:blur", "--stage", "schedule,domains", "--statement", "blur1")
    assert "blur1" in said.out
    assert "out[" not in said.out
    wrong = Said(capsys, "show", f"{F}:blur", "--statement", "blurr1")
    assert wrong.code == 2
    assert "did you mean 'blur1'?" in wrong.err


def test_formats(here: Path, capsys: pytest.CaptureFixture[str]):
    text = {f: Said(capsys, "show", f"{F}:mm", "--format", f).out for f in ("json", "isl", "dot", "svg", "html")}
    data = json.loads(text["json"])
    assert set(data) == {"schema", "program", "sizes", "text", "stages"}
    assert set(data["stages"]["schedule"]) == {"band", "permutable", "child"}
    assert "schedule:" in text["isl"]
    assert text["dot"].startswith("digraph")
    assert ElementTree.fromstring(text["svg"]).tag.endswith("svg")
    assert "<script" not in text["html"]
    assert "<svg" in text["html"]
    graph = Said(capsys, "show", f"{F}:blur", "--format", "dot", "--stage", "deps").out
    assert '"blur1" -> "out"' in graph
    picture = Said(capsys, "show", f"{F}:blur", "--format", "svg", "--stage", "deps").out
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert Said(capsys, "show", f"{F}:mm", "--format", "svg", "--stage", "c").code == 2
    assert Said(capsys, "show", f"{F}:mm", "--format", "pdf").code == 2


def test_sizes_by_name_and_by_dim(here: Path, capsys: pytest.CaptureFixture[str]):
    def sizes(*words: str) -> object:
        return Said(capsys, "--json", "show", f"{F}:mm", *words).data["sizes"]

    assert sizes("-s", "A.i=6", "-s", "k=5") == {"A.i": 6, "A.k": 5, "B.k": 5}
    assert sizes("-s", "i=6", "-s", "k=sym") == {"A.i": 6}
    assert Said(capsys, "show", "scaled.poly", "-s", "y=3", "--json").data["sizes"] == {"X.y": 3}
    unknown = Said(capsys, "show", f"{F}:mm", "-s", "A.ii=3")
    assert unknown.code == 2
    assert "did you mean 'A.i'?" in unknown.err
    assert Said(capsys, "show", f"{F}:mm", "-s", "i").code == 2


def test_element_types(here: Path, capsys: pytest.CaptureFixture[str]):
    assert "double" in Said(capsys, "show", f"{F}:mm", "--stage", "c", "--dtype", "f64").out
    assert Said(capsys, "show", f"{F}:mm", "--dtype", "f65").code == 2
    assert Said(capsys, "show", "scaled.poly", "--dtype", "f64").code == 2


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain(here: Path, capsys: pytest.CaptureFixture[str]):
    said = Said(capsys, "explain", f"{F}:jacobi", "tile", "u", "t=8,x=64")
    assert said.code == 3
    assert [w for w in ("legal?", "chosen:", "change:") if w in said.out] == ["legal?", "chosen:", "change:"]
    assert "distance (1,-1)" in said.out
    assert Said(capsys, "explain", f"{F}:jacobi", "tile", "u", "x=64").code == 0
    data = Said(capsys, "explain", f"{F}:blur", "fuse", "blur1", "out", "--at", "y,x", "--json")
    assert data.code == 3
    assert {"code", "statement", "dims", "point", "sizes", "dependence", "hint"} <= set(data.data)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("parallel", "j"), 0),
        (("parallel", "k"), 3),
        (("vectorize", "j"), 0),
        (("bounds", "out"), 0),
        (("layout", "out"), 0),
        (("layout", "A"), 3),
        (("why",), 0),
        (("why", "out"), 0),
        (("why", "slow"), 0),
        (("why", "SLOW"), 0),
        (("why", "mm"), 0),
        (("why", "slower"), 1),
        (("tile", "outt", "i=2"), 1),
        (("tile", "out", "q=2"), 1),
        (("tile", "out"), 2),
        (("nonsense",), 2),
    ],
)
def test_questions(here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int):
    assert Said(capsys, "explain", f"{F}:mm", *words).code == code


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [f"{F}:mm", f"{F}:blur", f"{F}:jacobi", f"{F}:double", "scaled.poly"])
def test_run(here: Path, capsys: pytest.CaptureFixture[str], target: str):
    said = Said(capsys, "run", target, "--check", "numpy", "--seed", "3")
    assert said.code == 0, said.err
    assert "agrees with the interpreter" in said.out
    assert "compiling" in said.err


def test_run_stores_and_loads(here: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 4), dtype=np.float32), rng.random((4, 5), dtype=np.float32)
    np.savez(here / "in.npz", A=a, B=b)
    said = Said(capsys, "-q", "run", f"{F}:mm", "--npz", "in.npz", "-o", "out.npz", "--json", "--check", "numpy")
    assert (said.code, said.err) == (0, "")
    assert said.data["sizes"] == {"A.i": 3, "A.k": 4, "B.k": 4, "B.j": 5}
    assert {"schema", "seconds", "gflops", "agrees", "error", "bound"} <= set(said.data)
    with np.load(here / "out.npz") as stored:
        np.testing.assert_allclose(stored["out"], a @ b, rtol=1e-5)
    np.savez(here / "half.npz", A=a)
    assert Said(capsys, "run", f"{F}:mm", "--npz", "half.npz").code == 2
    assert Said(capsys, "run", f"{F}:mm", "--npz", "none.npz").code == 2
    assert Said(capsys, "run", f"{F}:mm", "--npz", "in.npz", "--random").code == 2
    assert Said(capsys, "run", f"{F}:mm", "--check", "torch").code == 2


def test_run_takes_the_types_of_a_file(here: Path, capsys: pytest.CaptureFixture[str]):
    a, b = np.full((3, 4), 1 + 1e-12), np.ones((4, 5))
    np.savez(here / "wide.npz", A=a, B=b, note=np.array("what is no argument"))
    assert Said(capsys, "-q", "run", f"{F}:mm", "--npz", "wide.npz", "-o", "out.npz").code == 0
    with np.load(here / "out.npz") as stored:
        assert stored["out"].dtype == np.float64
        np.testing.assert_allclose(stored["out"], a @ b, rtol=1e-15)
    said = Said(capsys, "--dtype", "f32", "run", f"{F}:mm", "--npz", "wide.npz")
    assert said.code == 2
    assert "A holds f64 in the .npz file and f32 in the program" in said.err
    np.savez(here / "big.npz", A=a.astype(">f8"), B=b)
    assert "PH303" in Said(capsys, "run", f"{F}:mm", "--npz", "big.npz").err
    np.savez(here / "text.npz", A=np.array([["x"]]), B=b)
    said = Said(capsys, "run", f"{F}:mm", "--npz", "text.npz")
    assert said.code == 2
    assert "A holds <U1 in the .npz file" in said.err


def test_a_mismatch_is_exit_code_3(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "frontend.commands.run.interpreter.run", lambda program, inputs, sizes: {"out": inputs["X"] * 3.0}
    )
    said = Said(capsys, "run", "scaled.poly", "--check", "numpy")
    assert said.code == 3
    assert "DIFFERS" in said.out


# --- doctor, cache, config, completion -------------------------------------------------------------------------------


def test_doctor(capsys: pytest.CaptureFixture[str]):
    said = Said(capsys, "doctor")
    assert said.code == 0
    for name in (
        "C compiler",
        "OpenMP",
        "-march",
        "threads",
        "caches",
        "islpy",
        "cache folder",
        "frequency governor",
        "torch",
    ):
        assert f"{name}:" in said.out
    found = Said(capsys, "doctor", "--json").data["findings"]
    assert all(set(f) == {"name", "ok", "what", "fix"} for f in found)  # type: ignore[union-attr]


def test_doctor_without_a_compiler(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    said = Said(capsys, "doctor")
    assert said.code == 4
    failures = re.findall(r"^FAIL.*\n(.*)", said.out, re.MULTILINE)
    assert failures
    assert all(line.strip().startswith("fix:") for line in failures)


def test_doctor_measures(here: Path, capsys: pytest.CaptureFixture[str]):
    place = ("--cache-dir", str(here / "kernels"))
    assert "measured: nothing yet" in Said(capsys, *place, "doctor").out
    assert "multiply-adds of a vector" in Said(capsys, *place, "doctor", "--measure").out
    assert re.search(r"^ok    measured: .* GHz", Said(capsys, *place, "doctor").out, re.MULTILINE)
    next((here / "kernels").rglob("machine-*.json")).write_text("{}")
    assert "measured: ignored" in Said(capsys, *place, "doctor").out


def test_cache(here: Path, capsys: pytest.CaptureFixture[str]):
    place = ("--cache-dir", str(here / "kernels"))
    assert Said(capsys, *place, "run", "scaled.poly").code == 0
    assert Said(capsys, *place, "cache", "stat", "--json").data["entries"] == 1
    assert len(Said(capsys, *place, "cache", "ls").out.splitlines()) == 1
    assert "1 entries" in Said(capsys, *place, "cache", "export", "kernels.tar").out
    assert str(here / "kernels") in Said(capsys, *place, "cache", "clear").out
    assert Said(capsys, *place, "cache", "ls", "--json").data["entries"] == []
    assert Said(capsys, *place, "cache", "import", "kernels.tar", "--json").data["imported"] == 1
    assert Said(capsys, *place, "cache", "import", "none.tar").code == 2
    (here / "bad.tar").write_text("no archive")
    assert Said(capsys, *place, "cache", "import", "bad.tar").code == 1
    assert Said(capsys, "cache").code == 2


def test_config(here: Path, capsys: pytest.CaptureFixture[str]):
    assert Said(capsys, "config", "get", "tile").out == "32\n"
    (here / "pyproject.toml").write_text(
        '[project]\nname = "x"\n\n[tool.polyhedral]\nthreads = 1\n\n[tool.other]\na = 1\n'
    )
    for value in ("16", "8"):
        assert Said(capsys, "config", "set", "tile", value).code == 0
    text = (here / "pyproject.toml").read_text()
    assert text.count("tile = 8") == 1
    assert text.index("tile = 8") < text.index("[tool.other]")
    assert "threads = 1" in text
    assert Said(capsys, "config", "path").out.strip() == str(here / "pyproject.toml")
    assert Said(capsys, "config", "set", "tiles", "8").code == 2
    assert Said(capsys, "config", "set", "target", "abacus").code == 1
    assert "abacus" not in (here / "pyproject.toml").read_text()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion(capsys: pytest.CaptureFixture[str], shell: str):
    said = Said(capsys, "completion", shell)
    assert said.code == 0
    assert all(c in said.out for c in completion.WORDS)
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=said.out, text=True, check=False).returncode == 0


def test_completion_knows_the_commands(capsys: pytest.CaptureFixture[str]):
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback is not None}
    groups = {g.name for g in app.registered_groups}
    assert commands | groups == set(completion.WORDS)
    for name, words in completion.WORDS.items():
        text = Said(capsys, name, "-h").out
        assert all(w in text for w in words if w.startswith("--")), name
    assert Said(capsys, "completion", "csh").code == 2


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_of_the_program(here: Path, capsys: pytest.CaptureFixture[str]):
    said = Said(capsys, "show", f"{F}:outside")
    assert (said.code, said.out) == (1, "")
    assert "PH101" in said.err
    assert "Traceback" not in said.err
    data = Said(capsys, "show", f"{F}:outside", "--json")
    assert data.code == 1
    assert {"code", "statement", "dim", "point", "sizes", "hint"} <= set(data.data)
    assert data.data["code"] == "PH101"


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("broken_of_cli.py:f", "NameError: name 'undefined_here' is not defined"),
        ("syntax_of_cli.py:f", "SyntaxError: invalid syntax"),
        (f"{F}:crashes", "NameError: name 'nothing_of_that_name' is not defined"),
    ],
)
def test_a_target_that_fails(here: Path, capsys: pytest.CaptureFixture[str], target: str, last: str):
    said = Said(capsys, "show", target)
    assert said.code == 1
    assert said.err.strip().splitlines()[-1] == last
    assert "frontend" not in said.err
    assert "importlib" not in said.err


def test_internal_frames_on_request(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYHEDRAL_TRACEBACK", "1")
    said = Said(capsys, "show", f"{F}:outside")
    assert said.code == 1
    assert "Traceback" in said.err
    assert "bounds.py" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("show", "no_such.py:f"),
        ("show", f"{F}:no_such"),
        ("show", f"{F}:plain"),
        ("show", F),
        ("show", "no_such.poly"),
        ("show", "no_such_module:f"),
        ("show", f"{F}:mm", "--stage", "schedul"),
        ("show", f"{F}:mm", "--stage", "cud"),
        ("show", f"{F}:mm", "--no-such-option"),
        ("no-such-command",),
        ("--color", "blue", "doctor"),
    ],
)
def test_wrong_usage(here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]):
    said = Said(capsys, *words)
    assert (said.code, said.out) == (2, "")
    assert said.err


def test_a_target_that_is_not_available(here: Path, capsys: pytest.CaptureFixture[str]):
    assert Said(capsys, "show", f"{F}:mm", "--target", "abacus").code == 1


def test_interrupted(here: Path, capsys: pytest.CaptureFixture[str]):
    assert Said(capsys, "show", "stops_of_cli.py:f").code == 130


def test_no_compiler_is_exit_code_4(here: Path):
    said = process(here, "run", "scaled.poly", CC="no-such-compiler", POLYHEDRAL_CACHE_DIR=str(here / "empty"))
    assert said.returncode == 4
    assert "polyhedral doctor" in said.stderr


# --- the process -----------------------------------------------------------------------------------------------------


def process(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from frontend.commands.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_colour_only_when_wanted(here: Path):
    assert "\x1b[" not in process(here, "show", "no_such.py:f").stderr
    assert "\x1b[" in process(here, "show", "no_such.py:f", FORCE_COLOR="1").stderr
    assert "\x1b[" in process(here, "show", "no_such.py:f", "--color", "always").stderr
    assert "\x1b[" not in process(here, "show", "no_such.py:f", "--color", "never", FORCE_COLOR="1").stderr


def test_the_version_is_quick(here: Path):
    """Nothing heavy is imported for it: the best of three, so that a busy machine does not count."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        said = process(here, "--version")
        seconds.append(time.perf_counter() - start)
        assert re.fullmatch(r"polyhedral-loops \d+\.\d+\.\d+\n", said.stdout)
    assert min(seconds) < 0.5
    code = "import sys, frontend.commands.cli; sys.exit(bool({'numpy', 'islpy', 'scipy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_options_may_stand_anywhere():
    assert hoisted(["show", "f.py:g", "-s", "X.y=3", "--json"]) == ["-s", "X.y=3", "--json", "show", "f.py:g"]
    assert hoisted(["run", "t", "-sX=3", "--dtype=f64", "-vq"]) == ["-sX=3", "--dtype=f64", "-vq", "run", "t"]
    assert hoisted(["show", "t", "--stage", "c", "--", "-q"]) == ["show", "t", "--stage", "c", "--", "-q"]


def test_pictures_go_into_a_folder_that_is_made(here: Path, capsys: pytest.CaptureFixture[str]):
    assert Said(capsys, "show", f"{F}:mm", "--format", "svg", "--stage", "graph,layout", "-o", "drawn").code == 0
    assert sorted(f.name for f in (here / "drawn").iterdir()) == ["graph.svg", "layout.svg"]
    for file in (here / "drawn").iterdir():
        assert ElementTree.fromstring(file.read_text()).tag.endswith("svg")
    assert Said(capsys, "show", f"{F}:mm", "--format", "svg", "--stage", "graph", "-o", "one.svg").code == 0
    assert (here / "one.svg").is_file()


def test_types_that_a_text_program_declares_are_said_there(here: Path, capsys: pytest.CaptureFixture[str]):
    (here / "scaled.poly").write_text(POLY)
    np.savez(here / "narrow.npz", X=np.ones((2, 3), np.float32))
    said = Said(capsys, "run", "scaled.poly", "--npz", "narrow.npz")
    assert said.code == 2
    assert "declare X: f32[...] in the program" in said.err
    assert "--dtype" not in said.err


def test_the_package_is_the_command_too(here: Path):
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", "polyhedral", "show", "missing.poly"],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot read missing.poly" in done.stderr
