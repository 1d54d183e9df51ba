# SPDX-License-Identifier: MIT
"""Peers made from a program compute what the interpreter does, in each library, or say why there is none."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from frontend.commands.cli import main
from frontend.measuring import ledger, timing
from frontend.measuring.agreement import apart, tolerance
from frontend.peers import contestants
from frontend.peers.forms import form
from frontend.peers.libraries import Jax, NoFormError, NumPy, Torch
from polyhedral.ir.interpreter import run
from polyhedral.ir.program import Program, Role, specialise
from polyhedral.text.reader import parse
from tests.programs import CASES
from tests.strategies import inputs_for, programs

LIBRARIES = {"numpy": lambda _: NumPy(), "torch": Torch, "jax": Jax}
HERE = [n for n in LIBRARIES if importlib.util.find_spec(n) is not None]
PROGRAMS = """
import polyhedral as ph
from polyhedral.dim import i, j, k, x

@ph.function(A="i k", B="k j", returns="j i")
def mm(A, B):
    return ph.relu((A * B).sum(k))

@ph.function(u="x", inout="u")
def twice(u):
    u[...] *= 2.0
"""
QUICK = ("--seconds", "0", "--progress", "none")


def result(p: Program, inputs: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    library = LIBRARIES[name](import_module(name))
    made = form(p, library)
    with np.errstate(all="ignore"):
        found = made({n: library.array(v) for n, v in inputs.items()})
        return {n: library.numpy(v) for n, v in found.items()}


def agrees(p: Program, inputs: dict[str, np.ndarray], name: str) -> bool:
    """Whether a library computes what the interpreter does; a program without a form does not count."""
    with np.errstate(all="ignore"):
        expected = run(p, inputs)
    try:
        found = result(p, inputs, name)
    except NoFormError:
        return False
    for n, want in expected.items():
        assert found[n].shape == want.shape
        assert apart(found[n], want) <= tolerance([p.array(n).dtype]), n
    return True


@pytest.mark.parametrize("name", HERE)
def test_the_zoo(name: str):
    had = 0
    for case in CASES.values():
        p = specialise(case.program, case.sizes)
        if name == "jax" and any(a.dtype.bits >= 64 for a in p.arrays):
            continue  # 64 bits are a switch of the whole process
        had += agrees(p, inputs_for(p, {}), name)
    assert had >= 8


@pytest.mark.parametrize("name", [n for n in HERE if n != "jax"])
def test_random_programs(name: str):
    had = [0]

    @seed(0)
    @settings(
        max_examples=150, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(programs(updates=False), st.integers(0, 1 << 30))
    def computed(p: Program, salt: int) -> None:
        try:
            had[0] += agrees(p, inputs_for(p, {}, salt), name)
        except (RuntimeError, NotImplementedError):  # torch lacks some arithmetic of narrow integers
            assert name == "torch"

    computed()
    assert had[0] >= 40


FORMS = {
    "windows": """program w
  input X: f32[c: 3, y: 11, x: 12]
  input W: f32[c: 3, ky: 3, kx: 2]
  output out: f32[y: 5, x: 11]
  out: for y < 5, x < 11: out = sum[c < 3, ky < 3, kx < 2] X(y=2*y + ky, x=x + kx) * W
""",
    "triangle": """program t
  input P: f32[s: 6, t: 6]
  input V: f32[t: 6, d: 3]
  output out: f32[s: 6, d: 3]
  out: for s < 6, d < 3: out = sum[t < 6 if t <= s] P * V
""",
    "empty rows": """program e
  input P: f32[s: 6, t: 6]
  output out: f32[s: 6]
  out: for s < 6: out = max[t < s] P
""",
    "padding": """program p
  input X: f32[x: 6]
  output out: f32[x: 6]
  out: for x < 6: out = where([1 <= x], X(x=x - 1), 0.5)
""",
    "gather": """program g
  input X: f32[n: 5, d: 3]
  input K: i64[i: 4]
  output out: f32[i: 4, d: 3]
  out: for i < 4, d < 3: out = X(n:=K)
""",
    "diagonal": """program d
  input X: f32[i: 5, j: 5]
  output out: f32[i: 5]
  out: for i < 5: out = X(j=i) * 2.0 + X(j=4 - i)
""",
    "counted": """program c
  input X: f32[i: 5]
  output out: f32[i: 5]
  out: for i < 5: out = sum[k < 7] X
""",
    "floors": """program f
  input X: f32[i: 5]
  output out: f32[i: 10]
  out: for i < 10: out = X(i=i//2)
""",
}


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("what", FORMS)
def test_forms(name: str, what: str):
    if name == "jax" and what == "gather":
        pytest.skip("64 bits are a switch of the whole process")
    p = parse(FORMS[what])
    inputs = inputs_for(p, {}, 3)
    if "K" in inputs:
        inputs["K"] = np.array([4, 0, 0, 2])
    assert agrees(p, inputs, name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("inout u: f32[x: 4]\n S: for x < 4: u = u * 2.0", "updates an argument in place"),
        ("output u: f32[x: 4]\n S: for 1 <= x < 4: u = u(x=x - 1)\n T: for x < 1: u = 1.0", "part by part"),
        ("input X: f32[x: 4]\n output u: f32[x: 4]\n"
         " S: for x < 4: u = where([1 <= x], u(x=x - 1), 0.0) + X", "recurrence"),
        ("input X: f32[x: 4, y: 4]\n output u: f32[x: 4, y: 4]\n"
         " S: for x < 4, y < 4: u(x=3 - x) = X", "defines part of u"),
        ("input X: f32[x: 4]\n input Y: f32[y: 100000]\n output u: f32[x: 4]\n"
         " S: for x < 4: u = max[y < 100000, z < 100000] X + Y + Y(y=z)", "cells"),
    ],
)  # fmt: skip
def test_programs_without_a_form(text: str, why: str):
    with pytest.raises(NoFormError, match=why):
        form(parse(f"program p\n {text}"), NumPy())


# --- polyhedral bench ------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "programs_of_peers.py").write_text(PROGRAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("programs_of_peers", None)


def test_a_target_against_peers(here: Path, capsys: pytest.CaptureFixture[str]):
    wanted = [n for n in ("numpy", "torch", "jax") if n in HERE]
    sizes = [w for d in "ikj" for w in ("-s", f"{d}=24")]
    command = ["bench", "programs_of_peers.py:mm", *sizes, "--vs", ",".join(wanted), *QUICK, "-o", "out.jsonl"]
    assert main(command) == 0
    records = {r["who"]: r for r in ledger.load(here / "out.jsonl")}
    assert set(wanted) < set(records)
    for n in wanted:
        assert records[n]["note"] == contestants.NOTE
        assert records[n]["error"] <= records[n]["tolerance"]
    assert "WRONG" not in capsys.readouterr().out


def test_what_a_target_lacks_is_noted(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    assert main(["bench", "programs_of_peers.py:twice", "--vs", "numpy", *QUICK]) == 0
    assert "numpy: the program has no form in whole arrays" in capsys.readouterr().out
    monkeypatch.setattr(contestants, "find_spec", lambda _: None)
    assert main(["bench", "programs_of_peers.py:mm", "--vs", "torch,jax", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "torch: not installed (pip install torch)" in said
    assert "jax: not installed" in said


def test_peers_that_there_are_not(here: Path, capsys: pytest.CaptureFixture[str]):
    for wrong in ("tvm", "c", "numpi"):
        assert main(["bench", "programs_of_peers.py:mm", "--vs", f"numpy,{wrong}", *QUICK]) == 2
        assert f"--vs {wrong}: a target has the peers numpy, torch, compile, jax" in capsys.readouterr().err


def test_a_wrong_peer_fails_the_case(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(NumPy, "einsum", lambda self, text, values: np.einsum(text, *values) + 1)
    assert main(["bench", "programs_of_peers.py:mm", "--vs", "numpy", *QUICK]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_a_peer_that_breaks_is_left_out(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(self: object, text: str, values: object) -> None:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(NumPy, "einsum", broken)
    assert main(["bench", "programs_of_peers.py:mm", "--vs", "numpy", *QUICK]) == 0
    assert "numpy: RuntimeError: no such kernel" in capsys.readouterr().out


def test_comparing_and_drawing_a_target(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def steadily(contestants, sample, **_):
        for c in contestants:
            c.run()
        return {c.name: timing.Times((1e-3,) * 3) for c in contestants}, (sample(),)

    monkeypatch.setattr(timing, "interleave", steadily)
    drawn = ("--roofline", "roof.svg") if importlib.util.find_spec("matplotlib") else ()
    command = ["bench", "programs_of_peers.py:mm", "--vs", "numpy", *QUICK]
    assert main([*command, "-o", "base.json", *drawn]) == 0
    if drawn:
        assert "<svg" in (here / "roof.svg").read_text()
    records = ledger.load(here / "base.json")
    better = [{**r, "of_roof": r["of_roof"] * 1e6} for r in records]
    (here / "better.json").write_text(json.dumps(better))
    assert main([*command, "--compare", "better.json", "--fail-over", "5%"]) == 5
    (here / "worse.json").write_text(json.dumps([{**r, "of_roof": r["of_roof"] * 1e-6} for r in records]))
    assert main([*command, "--compare", "worse.json", "--fail-over", "5%"]) == 0
    capsys.readouterr()


def test_arguments_in_another_order_of_axes():
    p = parse(
        "program o\n input A: f32[i: 3, k: 4]\n output out: f32[k: 4, i: 3]\n out: for i < 3, k < 4: out = A + 1.0"
    )
    assert p.with_role(Role.OUTPUT)[0].dim_names == ("k", "i")
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    (made,) = result(p, {"A": a}, "numpy").values()
    np.testing.assert_array_equal(made, a.T + 1)
