# SPDX-License-Identifier: MIT
"""`polyhedral doctor --fix`: what it sets right, what it leaves to the user, and what it never touches."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import filelock
import pytest

from codegen.runtime.cache import FOLDER, Cache, key_of
from frontend.commands import doctor
from frontend.commands.cli import main
from frontend.commands.repair import repair

ENV = {k: v for k, v in os.environ.items() if k != "CC"}


def said(env: dict[str, str], root: Path) -> list[str]:
    return [str(r) for r in repair(env, root)]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def old(path: Path, text: str = "") -> Path:
    path.write_text(text)
    path.chmod(0o600)
    os.utime(path, (1, 1))
    return path


def test_a_folder_is_made(tmp_path: Path):
    (line,) = said(ENV, tmp_path / "cache")
    assert line.startswith("fixed the cache folder")
    assert mode(tmp_path / "cache" / FOLDER) == 0o700
    assert said(ENV, tmp_path / "cache") == []


def test_a_folder_that_others_may_write_to_is_closed(tmp_path: Path):
    root = tmp_path / "cache"
    Cache(root)
    root.chmod(0o777)
    (root / FOLDER).chmod(0o770)
    assert len(said(ENV, root)) == 2
    assert not (mode(root) | mode(root / FOLDER)) & 0o022
    assert not Cache(root).private


def test_what_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("mine")
    (line,) = said(ENV, tmp_path / "file")
    assert line.startswith("you")
    assert "is not a folder" in line
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "elsewhere").mkdir(mode=0o777)
    (tmp_path / "elsewhere").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "is not a folder" in said(ENV, tmp_path / "link")[0]
    assert mode(tmp_path / "elsewhere") == 0o777
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign").chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "belongs to another user" in said(ENV, tmp_path / "foreign")[0]
    assert mode(tmp_path / "foreign") == 0o777
    assert list((tmp_path / "foreign").iterdir()) == []


def test_leftovers_go_and_the_rest_stays(tmp_path: Path):
    cache = Cache(tmp_path / "cache")
    sound, broken, held = (key_of(n) for n in ("sound", "broken", "held"))
    cache.store(sound, b"sound", {})
    cache.store(broken, b"broken", {}).path.write_bytes(b"changed")
    stay = [old(cache.folder / n, "{}") for n in (f"{sound}.tuned", "machine-1.json", "notes.lock", "mine.txt")]
    edited = cache.root / "edited-1" / "f.c"
    edited.parent.mkdir()
    old(edited, "int a;")
    fresh = cache.folder / f"{key_of('fresh')}.lock"
    fresh.write_text("")
    go = [old(cache.folder / f"{broken}.lock"), old(cache.folder / ".new-abc")]
    with filelock.FileLock(cache.folder / f"{held}.lock"):
        os.utime(cache.folder / f"{held}.lock", (1, 1))
        lines = said(ENV, cache.root)
    assert [line.split(" removed")[0] for line in lines] == [
        "fixed 1 broken kernels", "fixed 1 stale locks", "fixed 1 unfinished files",
    ]  # fmt: skip
    assert not any(p.exists() for p in go)
    assert all(p.exists() for p in (*stay, edited, fresh, cache.folder / f"{held}.lock"))
    assert cache.lookup(sound) is not None
    assert cache.lookup(broken) is None


def test_what_is_remembered_of_compilers(tmp_path: Path):
    cache = Cache(tmp_path / "cache")
    file = old(cache.folder / "compilers.json", "{")
    assert "compilers are looked for again" in said(ENV, cache.root)[0]
    assert not file.exists()
    old(file, "{}")
    assert said(ENV, cache.root) == []
    assert file.exists()


def test_compilers_are_for_the_user(tmp_path: Path):
    (made, line) = said({**ENV, "CC": "no-such-compiler"}, tmp_path / "cache")
    assert made.startswith("fixed")
    assert "unset CC" in line
    assert "install gcc" in said({"PATH": str(tmp_path)}, tmp_path / "cache")[0]


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    place = ("--cache-dir", str(tmp_path / "cache"))
    assert main([*place, "doctor", "--fix", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [r["done"] for r in data["repairs"]] == [True]
    assert next(f for f in data["findings"] if f["name"] == "measured")["ok"] is True
    assert list((tmp_path / "cache" / FOLDER).glob("machine-*.json"))
    monkeypatch.setattr(doctor, "meter", lambda: pytest.fail("measured again"))
    assert main([*place, "doctor", "--fix"]) == 0
    assert "fixed" not in capsys.readouterr().out
    assert main([*place, "doctor", "--json"]) == 0
    assert "repairs" not in json.loads(capsys.readouterr().out)
