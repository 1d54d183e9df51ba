# SPDX-License-Identifier: MIT
"""`POLYHEDRAL_EDIT=1`: an edited text is used and says so, an unedited one is as before, a foreign one is refused."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import polyhedral as ph
from codegen.runtime.cache import Cache
from codegen.runtime.edited import edited, place
from frontend.environment import session
from frontend.environment.session import Session
from polyhedral.dim import k


@pytest.fixture
def editing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that edits, with a cache of its own; where its texts lie."""
    here = Session({**os.environ, "POLYHEDRAL_EDIT": "1", "POLYHEDRAL_CACHE_DIR": str(tmp_path)})
    monkeypatch.setattr(session, "current", lambda: here)
    return tmp_path / "edited-1"


def scaled():
    return ph.function(X="x", returns="x")(_scaled)


def _scaled(X):
    return X * 2.5


def change(folder: Path, old: str, new: str) -> Path:
    (file,) = folder.iterdir()
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def test_an_edited_text_is_used_and_says_so(editing: Path, caplog: pytest.LogCaptureFixture):
    row = np.arange(5.0)
    np.testing.assert_array_equal(np.asarray(scaled()(row)), row * 2.5)
    assert "used" not in caplog.text
    file = change(editing, "2.5", "3.5")
    assert re.fullmatch(r"_scaled-[0-9a-f]{16}\.c|scaled-[0-9a-f]{16}\.c", file.name)
    for _ in range(2):  # each time
        caplog.clear()
        np.testing.assert_array_equal(np.asarray(scaled()(row)), row * 3.5)
        (said,) = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert str(file) in said.getMessage()
    low = scaled().lower(X="f64[x:5]")
    assert any("an edited text is used" in r.what for r in low.remarks)
    assert "3.5" in low.source()
    exe = low.compile()
    assert "3.5" in exe.source()
    np.testing.assert_array_equal(np.asarray(exe(row)), row * 3.5)


def test_an_unedited_text_is_as_before(editing: Path, monkeypatch: pytest.MonkeyPatch):
    low = scaled().lower(X="f64[x:5]")
    here = session.current()
    monkeypatch.setattr(session, "current", lambda: replace(here, env={**here.env, "POLYHEDRAL_EDIT": "0"}))
    plain = scaled().lower(X="f64[x:5]")
    assert low.source() == plain.source()
    assert low.remarks == plain.remarks
    assert plain.built.editable is None
    assert low.built.editable is not None
    assert low.built.editable.read_text() == plain.source()
    assert low.compile().info.key == plain.compile().info.key
    change(editing, "2.5", "3.5")
    np.testing.assert_array_equal(np.asarray(scaled()(np.ones(5))), np.full(5, 2.5))


def test_texts_are_private(editing: Path):
    scaled().lower(X="f64[x:5]")
    (file,) = editing.iterdir()
    assert stat.S_IMODE(editing.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["writable", "link", "folder", "bytes"])
def test_what_others_could_have_written_is_refused(editing: Path, caplog: pytest.LogCaptureFixture, how: str):
    scaled().lower(X="f64[x:5]")
    file = change(editing, "2.5", "3.5")
    match how:
        case "writable":
            file.chmod(0o666)
        case "link":
            file.rename(editing.parent / "elsewhere.c")
            file.symlink_to(editing.parent / "elsewhere.c")
        case "folder":
            file.unlink()
            file.mkdir()
        case _:
            file.write_bytes(b"\xff\xfe")
    low = scaled().lower(X="f64[x:5]")
    assert "2.5" in low.source()
    assert "the generated text is used" in caplog.text
    assert any(r.what == "no edited text" for r in low.remarks)
    np.testing.assert_array_equal(np.asarray(low.compile()(np.ones(5))), np.full(5, 2.5))


def test_a_text_that_does_not_compile_is_an_error(editing: Path):
    scaled().lower(X="f64[x:5]")
    change(editing, "2.5", "2.5 +")
    with pytest.raises(ph.ToolchainError, match="error"):
        scaled()(np.ones(5))


def test_what_is_computed_once_may_be_edited_too(editing: Path):
    product = ph.function(A="i k", B="k j", returns="i j")(_product).bind(B=np.ones((100, 100), np.float32))
    once = product.lower(A="f32[i:100, k:100]").built.once
    assert once is not None
    assert once.editable is not None
    once.editable.write_text(once.source.text + "/* a word of mine */\n")
    low = product.lower(A="f32[i:100, k:100]")
    assert low.built.once is not None
    assert "a word of mine" in low.built.once.source.text
    assert [str(once.editable) in r.because for r in low.remarks if "edited text" in r.what] == [True]
    made = low.compile()(np.ones((100, 100), np.float32), np.ones((100, 100), np.float32))
    np.testing.assert_array_equal(np.asarray(made), np.full((100, 100), 100.0))


def _product(A, B):
    return (A * B).sum(k)


def test_places_differ_by_text_and_program(tmp_path: Path):
    cache = Cache(tmp_path)
    assert len({place(cache, n, t, "c") for n in ("f", "g") for t in ("int a;", "int b;")}) == 4
    assert place(cache, "../f", "int a;", "cuda").parent == tmp_path / "edited-1"
    assert place(cache, "f", "int a;", "cuda").suffix == ".cu"
    assert edited(cache, "f", "int a;", "c").text == "int a;"
    place(cache, "f", "int a;", "c").write_text("int b;")
    again = edited(cache, "f", "int a;", "c")
    assert (again.text, again.changed) == ("int b;", True)


def test_no_place_to_keep_texts(tmp_path: Path):
    tmp_path.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="can be written by others"):
        cache = Cache(tmp_path)
    found = edited(cache, "f", "int a;", "c")
    assert found.text == "int a;"
    assert found.path is None
    assert "there is no cache folder" in (found.refused or "")


def test_show_says_where(tmp_path: Path):
    (tmp_path / "program.py").write_text(
        "import polyhedral as ph\n@ph.function(X='x')\ndef scaled(X):\n    return X * 2.5\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": root, "POLYHEDRAL_EDIT": "1", "POLYHEDRAL_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "polyhedral", "show", "program.py:scaled", "--stage", "c", "-s", "x=5"]
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    (file,) = (tmp_path / "cache" / "edited-1").iterdir()
    assert f"the text may be edited in {file}" in said.stderr
    assert said.stdout.rstrip("\n") == file.read_text().rstrip("\n")
    file.write_text(file.read_text().replace("2.5", "3.5"))
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "3.5" in said.stdout
    assert "which nothing checks" in said.stderr


def test_a_text_for_a_device(editing: Path):
    low = scaled().lower(X="f64[x:5]", target="cuda:sm_90")
    (file,) = editing.iterdir()
    assert file.suffix == ".cu"
    assert file.read_text() == low.source("cuda")
    change(editing, "2.5", "3.5")
    assert "3.5" in scaled().lower(X="f64[x:5]", target="cuda:sm_90").source("cuda")
