# SPDX-License-Identifier: MIT
"""`show --schedule FILE` and `ph.hints().schedule(text)`: read back, judged, used; what is wrong has its own error."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polyhedral as ph
from frontend.commands.cli import main
from polyhedral.dim import k, t, x
from polyhedral.errors import ArgumentError, LegalityError, PolyhedralError

PROGRAMS = """
import polyhedral as ph
from polyhedral.dim import k, x

@ph.function(A="i k", B="k j", returns="i j")
def mm(A, B):
    return (A * B).sum(k)

@ph.function(A="i k", B="k j", returns="i j")
def other(A, B):
    return (A * B).max(k)

@ph.function(u="x", inout="u")
def running(u):
    with ph.loop(x, 1, u.size(x)):
        u[...] = u + u[x - 1]
"""
F = "programs_of_saved.py"
SIZES = ("-s", "i=9", "-s", "j=10", "-s", "k=11")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / F).write_text(PROGRAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop(F.removesuffix(".py"), None)


def saved(name: str, *sizes: str) -> dict[str, Any]:
    assert main(["show", f"{F}:{name}", *sizes, "--stage", "schedule", "--format", "json", "-o", "saved.json"]) == 0
    return json.loads(Path("saved.json").read_text())


def write(data: object) -> None:
    Path("saved.json").write_text(json.dumps(data))


def shown(name: str, *words: str) -> int:
    return main(["show", f"{F}:{name}", "--schedule", "saved.json", *words])


# --- on the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sizes"), [("mm", SIZES), ("mm", ("-s", "i=96", "-s", "j=96", "-s", "k=96")),
                                             ("running", ("-s", "x=20")), ("mm", ())])  # fmt: skip
def test_what_was_written_is_the_same_code(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, sizes: tuple[str, ...]
):
    saved(name, *sizes)
    assert main(["show", f"{F}:{name}", *sizes, "--stage", "c"]) == 0
    own = capsys.readouterr().out
    assert shown(name, "--stage", "c") == 0
    assert capsys.readouterr().out == own


def test_another_legal_order(here: Path, capsys: pytest.CaptureFixture[str]):
    data = saved("mm", *SIZES)
    data["stages"]["schedule"] = {
        "sequence": [
            {"statements": ["out.init"], "child": {"band": [member(d, d, "out.init") for d in "ij"]}},
            {"statements": ["out"], "child": {"band": [
                {**member("j_tile", "j//4", "out"), "run": "parallel"}, member("k", "k", "out"),
                member("i", "-i", "out"), {**member("j", "j", "out"), "run": "vector"},
            ]}},
        ]
    }  # fmt: skip
    write(data)
    assert shown("mm", "--stage", "schedule,ast") == 0
    said = capsys.readouterr().out
    assert "band j_tile: parallel, k: serial, i: serial, j: vector" in said
    assert said.index("for j_tile") < said.index("for k")
    assert main(["run", f"{F}:mm", "--schedule", "saved.json", "--check", "numpy"]) == 0
    assert "agrees with the interpreter" in capsys.readouterr().out


def member(name: str, time: str, *statements: str) -> dict[str, Any]:
    return {"name": name, "time": dict.fromkeys(statements, time)}


def test_an_illegal_order_has_a_witness(here: Path, capsys: pytest.CaptureFixture[str]):
    data = saved("running", "-s", "x=20")
    (only,) = data["stages"]["schedule"]["band"]
    for change in ({"time": {s: f"-({e})" for s, e in only["time"].items()}}, {"run": "parallel"}):
        data["stages"]["schedule"]["band"] = [{**only, **change}]
        write(data)
        assert shown("running", "--json") == 1
        error = json.loads(capsys.readouterr().out)
        assert error["code"] == "PH401"
        assert set(error["point"]) == {"x"}
        assert any(d.startswith("witness: ") for d in error["details"])
        assert error["hint"]


def test_a_schedule_of_another_program(here: Path, capsys: pytest.CaptureFixture[str]):
    saved("mm", *SIZES)
    for words in (("other",), ("mm", "-s", "i=9", "-s", "j=10", "-s", "k=12"), ("mm", "--dtype", "f64")):
        assert shown(*words) == 1
        said = capsys.readouterr().err
        assert "PH404" in said
        assert "\n  +" in said
    assert main(["show", f"{F}:mm", "--schedule", "none.json"]) == 2
    assert "--schedule none.json: No such file" in capsys.readouterr().err


def test_sizes_that_are_open(here: Path, capsys: pytest.CaptureFixture[str]):
    saved("mm")
    assert main(["run", f"{F}:mm", "--schedule", "saved.json"]) == 2
    assert "leaves A.i, A.k" in capsys.readouterr().err


# --- what is no schedule ---------------------------------------------------------------------------------------------


@ph.function(A="i k", B="k j", returns="i j")
def product(A, B):
    return (A * B).sum(k)


SPECS = {"A": "f32[i:3, k:4]", "B": "f32[k:4, j:5]"}


def base() -> dict[str, Any]:
    """A hand-written order of a small product."""
    data = json.loads(product.lower(**SPECS).schedule(form="json"))
    every = ("out.init", "out")
    inner = {"sequence": [
        {"statements": ["out.init"], "child": None},
        {"statements": ["out"], "child": {"band": [member("k", "k", "out")]}},
    ]}  # fmt: skip
    return {
        **data,
        "stages": {"schedule": {"band": [member("i", "i", *every), member("j", "j", *every)], "child": inner}},
    }


def refused(data: object, code: str) -> PolyhedralError:
    text = data if isinstance(data, str) else json.dumps(data)
    with pytest.raises(PolyhedralError) as raised:
        product.lower(**SPECS, hints=ph.hints().schedule(text))
    assert raised.value.code == code, raised.value
    assert raised.value.hints
    return raised.value


def test_a_hand_written_order():
    low = product.lower(**SPECS, hints=ph.hints().schedule(json.dumps(base())))
    assert low.schedule().startswith("band i: serial, j: serial\n  sequence")
    assert any("it was given as a whole" in r.because for r in low.remarks)
    a, b = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((4, 5), np.float32)
    np.testing.assert_array_equal(np.asarray(low.compile()(a, b)), a @ b)
    assert json.loads(low.schedule(form="json"))["text"] == base()["text"]
    assert product.lower(**SPECS).schedule("initial", form="json") != product.lower(**SPECS).schedule(form="json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, '{"schema": "polyhedral.show/1"}'])
def test_no_json(text: str):
    refused(text, "PH405")


def changed(place: list[Any], value: object) -> dict[str, Any]:
    """The base with one place of its tree changed."""
    data = copy.deepcopy(base())
    node: Any = data["stages"]
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    return data


TOP = ["schedule"]
BAND = [*TOP, "band"]
INNER = [*TOP, "child", "sequence"]


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (TOP, [], "PH405"),
        (TOP, {"child": None}, "PH405"),
        (TOP, {"block": "A", "cells": {}, "child": None}, "PH405"),
        (BAND, [], "PH405"),
        (BAND, {}, "PH405"),
        ([*BAND, 0], {"name": "i"}, "PH405"),
        ([*BAND, 0, "run"], "quickly", "PH405"),
        ([*BAND, 0, "coincident"], 1, "PH405"),
        ([*BAND, 0, "name"], "i; int64_t y", "PH405"),
        ([*BAND, 0, "name"], 3, "PH405"),
        ([*BAND, 0, "time", "out"], ["i"], "PH405"),
        ([*BAND, 0, "time", "out"], "i + 99999999999", "PH405"),
        ([*BAND, 0, "time", "out"], "i * j", "PH060"),
        ([*BAND, 0, "time", "out"], "i // 0", "PH060"),
        ([*BAND, 0, "time", "out"], "__import__('os')", "PH060"),
        ([*BAND, 0, "time", "out"], "q", "PH001"),
        ([*BAND, 0, "time", "nobody"], "i", "PH404"),
        ([*BAND, 0, "time"], {"out": "i"}, "PH404"),
        ([*INNER, 0, "statements"], ["out"], "PH404"),
        ([*INNER, 0, "statements"], [], "PH404"),
        ([*INNER, 0, "statements"], [["out"]], "PH404"),
        ([*TOP, "child"], None, "PH405"),
        ([*INNER, 1, "child"], None, "PH405"),
        ([*BAND, 0, "run"], "vector", "ok"),
        ([*BAND, 0, "run"], "block", "PH406"),
        ([*BAND, 0, "run"], "unroll", "PH406"),
        ([*TOP, "child"], {"registers": "out", "child": base}, "PH406"),
        ([*TOP, "child"], {"local": "out", "folds": [], "child": base}, "PH406"),
        ([*TOP, "child"], {"local": "out", "folds": [3], "child": base}, "PH405"),
        ([*INNER, 0, "statements"], ["out.init", "out.init"], "PH404"),
        ([*BAND, 0, "time", "out"], "i - j", "PH401"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_tree(place: list[Any], value: Any, code: str):
    if isinstance(value, dict) and value.get("child") is base:
        value = {**value, "child": base()["stages"]["schedule"]["child"]}
    data = changed(place, value)
    if code == "ok":
        product.lower(**SPECS, hints=ph.hints().schedule(json.dumps(data)))
    else:
        refused(data, code)


def test_updates_before_their_init_are_refused():
    data = base()
    data["stages"]["schedule"]["child"]["sequence"].reverse()
    error = refused(data, "PH401")
    assert isinstance(error, LegalityError)
    assert "out.init" in str(error)


def test_register_tiles_stay_as_the_plan_has_them():
    specs = {"A": "f32[i:96, k:96]", "B": "f32[k:96, j:96]"}
    low = product.lower(**specs, threads=1)
    data = json.loads(low.schedule(form="json"))
    node = data["stages"]["schedule"]
    while "registers" not in node:
        node = node["child"] if "child" in node else node["sequence"][0]["child"]
    node["streams"] = not node["streams"]
    with pytest.raises(ArgumentError, match=r"registers for .* is not as the plan has it"):
        product.lower(**specs, threads=1, hints=ph.hints().schedule(json.dumps(data)))


def test_a_whole_order_stands_alone():
    text = json.dumps(base())
    for hints, options in (
        (ph.hints().schedule(text).parallel("j"), {}),
        (ph.hints().schedule(text), {"target": "cuda:sm_90"}),
    ):
        with pytest.raises(ArgumentError, match="states the whole order"):
            product.lower(**SPECS, hints=hints, **options)


def test_names_that_are_no_identifiers_come_back():
    def attention(Q, K):
        s = ph.fresh("t")
        return (Q * K(t=s)).sum(x)

    f = ph.function(Q="t x", K="t x")(attention)
    low = f.lower(Q="f32[t:4, x:3]", K="f32[t:4, x:3]")
    again = f.lower(Q="f32[t:4, x:3]", K="f32[t:4, x:3]", hints=ph.hints().schedule(low.schedule(form="json")))
    assert again.source() == low.source()
    assert t is not None
