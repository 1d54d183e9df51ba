# SPDX-License-Identifier: MIT
"""The artefact cache against damage, foreigners, full disks and competitors.

What is cached does not matter here: payloads are plain bytes.
"""

import errno
import json
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from codegen.runtime import cache as cache_module
from codegen.runtime.cache import Cache, default_root, key_of
from polyhedral.errors import ArgumentError, ToolchainError

KEY = key_of("some", "kernel")
PAYLOAD = b"payload " * 100
META = {"symbol": "f", "flags": ["-O3"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> Cache:
    return Cache(root)


def sidecar(cache: Cache, key: str = KEY) -> Path:
    return cache.folder / f"{key}.json"


def test_a_key_separates_its_parts():
    assert key_of("ab", "c") != key_of("a", "bc") != key_of("abc")
    assert key_of("a") == key_of(b"a")
    assert len(KEY) == 64


def test_default_root(tmp_path: Path):
    assert default_root({"POLYHEDRAL_CACHE_DIR": str(tmp_path)}) == tmp_path
    assert default_root({}).name == "polyhedral-loops"


def test_store_then_lookup(cache: Cache):
    assert cache.lookup(KEY) is None
    stored = cache.store(KEY, PAYLOAD, META)
    assert stored.remark is None
    assert cache.lookup(KEY) == stored.path
    assert stored.path.read_bytes() == PAYLOAD
    assert not cache.private


def test_everything_is_private(cache: Cache, root: Path):
    path = cache.store(KEY, PAYLOAD, META).path
    assert {stat.S_IMODE(p.stat().st_mode) for p in (root, cache.folder)} == {0o700}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (path, sidecar(cache))} == {0o600}


def test_a_second_cache_sees_it(cache: Cache, root: Path):
    cache.store(KEY, PAYLOAD, META)
    assert Cache(root).lookup(KEY) is not None


@pytest.mark.parametrize("bad", ["", "x", "../" + "a" * 61, "A" * 64, KEY + "\n"])
def test_keys_are_hex(cache: Cache, bad: str):
    with pytest.raises(ValueError, match="cache key"):
        cache.lookup(bad)


def test_suffixes_are_plain(cache: Cache):
    for bad in (".json", "/../x", "so", ".SO"):
        with pytest.raises(ValueError, match="suffix"):
            cache.store(KEY, PAYLOAD, META, bad)


@pytest.mark.parametrize("keep", [0, 1, len(PAYLOAD) - 1])
def test_a_truncated_payload_is_a_miss_and_removed(cache: Cache, keep: int):
    path = cache.store(KEY, PAYLOAD, META).path
    path.write_bytes(PAYLOAD[:keep])
    assert cache.lookup(KEY) is None
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("at", [0, 77, len(PAYLOAD) - 1])
def test_a_flipped_bit_is_a_miss_and_removed(cache: Cache, at: int):
    path = cache.store(KEY, PAYLOAD, META).path
    damaged = bytearray(PAYLOAD)
    damaged[at] ^= 1
    path.write_bytes(damaged)
    assert cache.lookup(KEY) is None
    assert not path.exists()
    assert cache.lookup(KEY) is None


def test_a_missing_payload_is_a_miss(cache: Cache):
    cache.store(KEY, PAYLOAD, META).path.unlink()
    assert cache.lookup(KEY) is None


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a_payload_that_others_can_touch_is_refused(cache: Cache, mode: int):
    cache.store(KEY, PAYLOAD, META).path.chmod(mode)
    assert cache.lookup(KEY) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("which", ["payload", "sidecar"])
def test_a_foreign_entry_is_refused(cache: Cache, which: str):
    path = cache.store(KEY, PAYLOAD, META).path
    os.chown(path if which == "payload" else sidecar(cache), 12345, -1)
    assert cache.lookup(KEY) is None


def test_a_symbolic_link_is_not_followed(cache: Cache, tmp_path: Path):
    path = cache.store(KEY, PAYLOAD, META).path
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert cache.lookup(KEY) is None
    assert elsewhere.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other/1"},
        {"key": "0" * 64},
        {"size": str(len(PAYLOAD))},
        {"size": len(PAYLOAD) + 1},
        {"sha256": "0" * 64},
        {"file": "../../outside.so"},
        {"file": "/etc/passwd"},
        {"file": None},
        {"meta": []},
    ],
)
def test_a_sidecar_that_does_not_fit_is_a_miss(cache: Cache, change: dict[str, object]):
    cache.store(KEY, PAYLOAD, META)
    record = json.loads(sidecar(cache).read_text()) | change
    sidecar(cache).write_text(json.dumps(record))
    assert cache.lookup(KEY) is None
    assert not sidecar(cache).exists()


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b"\x80\x04N."])
def test_a_sidecar_that_is_no_json_is_a_miss(cache: Cache, text: bytes):
    cache.store(KEY, PAYLOAD, META)
    sidecar(cache).write_bytes(text)
    assert cache.lookup(KEY) is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_root_that_others_can_write_is_refused(root: Path, mode: int):
    root.mkdir()
    root.chmod(mode)
    with pytest.warns(RuntimeWarning, match="can be written by others"):
        cache = Cache(root)
    assert cache.private
    assert cache.root != root
    assert list(root.iterdir()) == []
    assert cache.lookup(KEY) is None
    path = cache.store(KEY, PAYLOAD, META).path
    assert cache.lookup(KEY) == path
    assert stat.S_IMODE(cache.root.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_foreign_root_is_refused(root: Path):
    root.mkdir(mode=0o700)
    os.chown(root, 12345, -1)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert Cache(root).private


def test_a_root_below_a_folder_open_to_all_is_refused(tmp_path: Path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.warns(RuntimeWarning, match="everyone can write to"):
        assert Cache(tmp_path / "open" / "cache").private


def test_the_private_stand_in_goes_with_the_cache(root: Path):
    root.write_text("a file, no folder")
    with pytest.warns(RuntimeWarning, match="is not a folder"):
        cache = Cache(root)
    stand_in = cache.root
    assert stand_in.is_dir()
    del cache
    assert not stand_in.exists()


def test_a_root_that_cannot_be_made_costs_only_the_keeping(tmp_path: Path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    assert cache.private
    assert cache.remark is not None
    assert cache.lookup(KEY) is None
    assert cache.store(KEY, PAYLOAD, META).path.read_bytes() == PAYLOAD


@pytest.fixture
def full_disk(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """mkstemp succeeds in the cache folder, writing does not, as on a full disk."""
    real = os.fdopen

    def fdopen(fd: int, *args: object, **options: object) -> object:
        if str(Path(f"/proc/self/fd/{fd}").readlink()).startswith(str(cache.folder)) and "wb" in args:
            os.close(fd)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, *args, **options)

    monkeypatch.setattr(cache_module.os, "fdopen", fdopen)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_costs_only_the_keeping(cache: Cache):
    stored = cache.store(KEY, PAYLOAD, META)
    assert stored.remark is not None
    assert "No space left" in stored.remark.because
    assert stored.path.read_bytes() == PAYLOAD
    assert list(cache.folder.iterdir()) == []
    assert cache.lookup(KEY) is None


@pytest.mark.usefixtures("full_disk")
def test_no_space_anywhere_is_an_error(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ToolchainError, match="cannot write") as caught:
        cache.store(KEY, PAYLOAD, META)
    assert caught.value.code == "PH504"
    assert list(cache.folder.iterdir()) == []


def test_a_file_size_limit_leaves_nothing_half_written(root: Path):
    """A real failing write, in a process of its own: the payload is larger than files may be."""
    code = f"""
import resource
from pathlib import Path
from codegen.runtime.cache import Cache
from polyhedral.errors import ToolchainError
cache = Cache(Path({str(root)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    cache.store({KEY!r}, b"x" * 100_000, {{}})
except ToolchainError as error:
    print(error.code, len(list(cache.folder.iterdir())))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(cache_module.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60)
    assert done.stdout.split() == ["PH504", "0"]


def test_a_disk_that_is_really_full(tmp_path: Path):
    """A tmpfs of 64 KiB in a mount namespace of its own: first the cache's disk is full, then every disk."""
    code = f"""
import os, tempfile
from pathlib import Path
from codegen.runtime.cache import Cache
from codegen.runtime.cc import compile_shared, find_compiler
from polyhedral.errors import ToolchainError
small = Path(os.environ["SMALL"])
compiler = find_compiler(os.environ)
cache = Cache(small / "cache")
stored = cache.store({KEY!r}, b"x" * 200_000, {{}})
print(stored.remark is not None, stored.path.stat().st_size, len(list(cache.folder.iterdir())), cache.lookup({KEY!r}))
tempfile.tempdir = str(small)
for work in (
    lambda: Cache(small / "cache").store({KEY!r}, b"x" * 200_000, {{}}),
    lambda: compile_shared("/*" + "x" * 200_000 + "*/", compiler),
    lambda: compile_shared("long table[40000] = {{1}};", compiler),
):
    try:
        work()
    except ToolchainError as error:
        print(error.code)
"""
    root = str(Path(cache_module.__file__).parents[2])
    mount = 'mkdir "$SMALL" && mount -t tmpfs -o size=64k none "$SMALL" || exit 77; exec "$0" -c "$1"'
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    command = ["unshare", "-rm", "sh", "-c", mount, sys.executable, code]
    env = {**os.environ, "PYTHONPATH": root, "SMALL": str(tmp_path / "small")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)
    if done.returncode in {1, 77} and "Traceback" not in done.stderr:
        pytest.skip("no private mounts here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True 200000 0 None", "PH504", "PH504", "PH504"]


def _compete(root: str, start: float, made: str) -> None:
    cache = Cache(Path(root))
    time.sleep(max(0.0, start - time.time()))
    with cache.lock(KEY):
        if cache.lookup(KEY) is None:
            with Path(made).open("a") as f:
                f.write("made\n")
            time.sleep(0.2)
            cache.store(KEY, PAYLOAD, META)
    assert cache.lookup(KEY) is not None


def test_of_two_processes_one_makes_and_the_other_uses(root: Path, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    made = tmp_path / "made"
    start = time.time() + 1.0
    workers = [context.Process(target=_compete, args=(str(root), start, str(made))) for _ in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert [w.exitcode for w in workers] == [0, 0]
    assert made.read_text() == "made\n"


def test_without_a_lock_both_write_and_nothing_breaks(cache: Cache, root: Path):
    other = Cache(root)
    assert cache.store(KEY, PAYLOAD, META).path == other.store(KEY, PAYLOAD, META).path
    assert other.store(KEY, b"another compiler run", META).path == cache.lookup(KEY)


def test_a_lock_that_is_never_released_is_passed_by(cache: Cache, root: Path):
    with cache.lock(KEY), Cache(root).lock(KEY, timeout=0.05):
        pass


def test_entries_stat_clear(cache: Cache):
    other = key_of("other")
    cache.store(KEY, PAYLOAD, META)
    cache.store(other, b"cubin", {}, ".cubin")
    assert {e.key for e in cache.entries()} == {KEY, other}
    assert dict(next(e for e in cache.entries() if e.key == KEY).meta) == META
    assert cache.stat().bytes == len(PAYLOAD) + 5
    cache.lookup(other).write_bytes(b"bad!!")  # type: ignore[union-attr]
    assert (cache.stat().entries, cache.stat().broken) == (1, 1)
    assert cache.clear() == 2
    assert cache.stat().entries == 0
    assert list(cache.folder.iterdir()) == []


def test_export_and_import(cache: Cache, tmp_path: Path):
    cache.store(KEY, PAYLOAD, META)
    cache.store(key_of("other"), b"cubin", {}, ".cubin")
    first, second = tmp_path / "a.tar", tmp_path / "b.tar"
    assert cache.export(first) == cache.export(second) == 2
    assert first.read_bytes() == second.read_bytes()
    target = Cache(tmp_path / "target")
    assert target.import_(first) == 2
    assert target.entries()[0].sha256 == cache.entries()[0].sha256


def _tar(path: Path, files: dict[str, bytes], link: str = "") -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            source = path.with_name("member")
            source.write_bytes(content)
            tar.add(source, name)
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)


def test_import_reads_only_our_names(cache: Cache, tmp_path: Path):
    archive = tmp_path / "evil.tar"
    _tar(archive, {"../outside.so": b"x", "/tmp/absolute": b"x", "a/b": b"x"}, link="f" * 64)
    assert cache.import_(archive) == 0
    assert list(cache.folder.iterdir()) == []
    assert not (tmp_path / "outside.so").exists()


def test_import_checks_digests(cache: Cache, tmp_path: Path):
    path = cache.store(KEY, PAYLOAD, META).path
    archive = tmp_path / "damaged.tar"
    for files in ({path.name: PAYLOAD[:-1]}, {}, {path.name: b"y" * len(PAYLOAD)}):
        _tar(archive, {sidecar(cache).name: sidecar(cache).read_bytes(), **files})
        with pytest.raises(ArgumentError, match="damaged") as caught:
            Cache(tmp_path / "target").import_(archive)
        assert caught.value.code == "PH319"


def test_import_of_something_else(cache: Cache, tmp_path: Path):
    (tmp_path / "x").write_bytes(b"not a tar file" * 100)
    with pytest.raises(ArgumentError, match="not an exported cache"):
        cache.import_(tmp_path / "x")
