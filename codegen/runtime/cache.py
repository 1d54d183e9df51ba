# SPDX-License-Identifier: MIT
"""The private, content-addressed store of compiled artefacts: nothing is handed out before its digest was checked.

An entry is a payload named by its own sha256 and a JSON sidecar named by the caller's key; what goes into a key, and
how a payload is loaded, is left to the caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import warnings
import weakref
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import filelock
import platformdirs

from polyhedral.errors import ArgumentError, Remark, ToolchainError

SCHEMA = "polyhedral.artefact/1"
FOLDER = "artefacts-1"
_HEX = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,8})?")
_MEMBER = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,8})?")
_SIDECAR_LIMIT = 1 << 20
_PAYLOAD_LIMIT = 1 << 30


@dataclass(frozen=True)
class Entry:
    """One artefact: its key, where its payload lies, and what the caller recorded about it."""

    key: str
    path: Path
    size: int
    sha256: str
    meta: Mapping[str, object]


@dataclass(frozen=True)
class Stats:
    """What a cache holds; `broken` counts sidecars whose payload would be refused."""

    root: Path
    entries: int
    bytes: int
    broken: int
    private: bool


@dataclass(frozen=True)
class Swept:
    """How many broken entries, stale locks and unfinished files were removed."""

    broken: int
    locks: int
    unfinished: int


@dataclass(frozen=True)
class Stored:
    """Where a payload lies now; `remark` says why it is not in the cache, when it is not."""

    path: Path
    remark: Remark | None = None


def default_root(env: Mapping[str, str]) -> Path:
    """`$POLYHEDRAL_CACHE_DIR`, else the user's cache folder; never a shared temporary one."""
    given = env.get("POLYHEDRAL_CACHE_DIR", "")
    return Path(given).expanduser().absolute() if given else Path(platformdirs.user_cache_dir("polyhedral-loops"))


def key_of(*parts: str | bytes) -> str:
    """sha256 over the parts, each preceded by its length, so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


def read_private(path: Path, limit: int) -> bytes | None:
    """The content of a regular file that is ours alone (our uid, mode 0600 or less); None for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as f:
        at = os.fstat(fd)
        if not stat.S_ISREG(at.st_mode) or at.st_uid != os.geteuid() or at.st_mode & 0o077 or at.st_size > limit:
            return None
        try:
            return f.read(limit)
        except OSError:
            return None


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path` as a 0600 file: whole or not at all.  Raises OSError with nothing left behind."""
    fd, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(content)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def make_private(folder: Path) -> None:
    """The folder and its missing parents, 0700; one that is ours already keeps its parents' modes."""
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def read_json(path: Path) -> dict[str, object] | None:
    """A private file holding one JSON object, or None when it is missing, foreign or not that."""
    raw = read_private(path, _SIDECAR_LIMIT)
    return None if raw is None else _parse(raw)


class Cache:
    """Artefacts under `root`, which is checked once: a folder that others own or may write to is refused with a
    warning, and one that cannot be made is replaced silently (see `remark`); both by a fresh private folder that is
    removed when the process ends.

        <root>/artefacts-1/<key>.json               {"schema", "key", "file", "size", "sha256", "meta"}
        <root>/artefacts-1/<sha256 of payload>.so   the payload, 0600 in a 0700 folder
    """

    def __init__(self, root: Path) -> None:
        self.remark: Remark | None = None
        self._scratch: Path | None = None
        refusal = unsafe(root)
        if refusal is not None:
            warnings.warn(f"cache folder {root} {refusal}; using a private one instead", RuntimeWarning, stacklevel=2)
        else:
            try:
                make_private(root / FOLDER)
            except OSError as error:
                refusal = f"cannot be used: {error.strerror or error}"
        if refusal is not None:
            self.remark = Remark("cache not kept", f"{root} {refusal}")
            root = self._temporary()
            make_private(root / FOLDER)
        self.root = root
        self.folder = root / FOLDER

    @property
    def private(self) -> bool:
        """Whether this is the stand-in that is removed when the process ends."""
        return self.remark is not None

    def lookup(self, key: str) -> Path | None:
        """The payload of `key` after checking owner, mode, size and sha256; a broken entry is removed and a miss."""
        sidecar = self._sidecar(key)
        if not sidecar.exists():
            return None
        entry = self._read(key)
        if entry is not None:
            return entry.path
        self._remove(key)
        return None

    def store(self, key: str, payload: bytes, meta: Mapping[str, object], suffix: str = ".so") -> Stored:
        """Keep `payload` under `key`.  A full or read-only disk costs only the keeping: the payload then lies in a
        private temporary folder and a remark says why.  ToolchainError PH504 when even that cannot be written."""
        sidecar = self._sidecar(key)
        sha256 = hashlib.sha256(payload).hexdigest()
        if not _SUFFIX.fullmatch(suffix) or suffix == ".json":
            raise ValueError(f"not a payload suffix: {suffix!r}")
        name = sha256 + suffix
        record = {
            "schema": SCHEMA,
            "key": key,
            "file": name,
            "size": len(payload),
            "sha256": sha256,
            "meta": dict(meta),
        }
        try:
            write_private(self.folder / name, payload)
            write_private(sidecar, json.dumps(record, sort_keys=True).encode())
        except OSError as error:
            why = f"{self.folder} cannot be written: {error.strerror or error}"
            return Stored(self._store_aside(name, payload, why), Remark("artefact not kept in the cache", why))
        return Stored(self.folder / name)

    @contextlib.contextmanager
    def lock(self, key: str, timeout: float = 120.0) -> Generator[None]:
        """One maker per key among processes; after `timeout` seconds, or where locks cannot be made, go on without:
        writes are atomic, so the worst case is work done twice."""
        guard = filelock.FileLock(self._sidecar(key).with_suffix(".lock"), timeout=timeout, mode=0o600)
        held = False
        with contextlib.suppress(OSError, filelock.Timeout):
            guard.acquire()
            held = True
        try:
            yield
        finally:
            if held:
                guard.release()

    def discard(self, key: str) -> None:
        """Forget one entry, for instance because its payload does not load on this machine."""
        self._remove(key)

    def entries(self) -> tuple[Entry, ...]:
        """Every sound entry, in key order; each payload is digested."""
        return tuple(e for e in map(self._read, self._keys()) if e is not None)

    def stat(self) -> Stats:
        """Counts and bytes of the sound entries; a payload shared by two keys counts once."""
        found = self.entries()
        size = sum({e.path: e.size for e in found}.values())
        return Stats(self.root, len(found), size, len(self._keys()) - len(found), self.private)

    def clear(self) -> int:
        """Remove everything, leftovers of killed processes included; gives the number of entries there were.
        Kernels already loaded stay usable."""
        count = len(self._keys())
        for path in list(self.folder.iterdir()):
            with contextlib.suppress(OSError):
                path.unlink()
        return count

    def sweep(self, age: float) -> Swept:
        """Remove entries that would be refused; and locks that nobody holds, and files that nobody finished, which are
        older than so many seconds.  Whatever else lies there stays.
        """
        broken = sum(self.lookup(k) is None for k in self._keys())
        before = time.time() - age
        locks = [p for p in self.folder.glob("*.lock") if _HEX.fullmatch(p.stem) and _older(p, before)]
        new = [p for p in self.folder.glob(".new-*") if _older(p, before)]
        return Swept(broken, sum(map(_unheld, locks)), sum(map(_gone, new)))

    def export(self, path: Path) -> int:
        """Write every sound entry to a tar file, the same bytes for the same entries; gives their number."""
        found = self.entries()
        with tarfile.open(path, "w") as tar:
            for name in sorted({e.path.name for e in found} | {f"{e.key}.json" for e in found}):
                content = read_private(self.folder / name, _PAYLOAD_LIMIT)
                if content is None:
                    raise ToolchainError("PH504", f"cache entry {name} changed while it was being exported")
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o600
                tar.addfile(member, io.BytesIO(content))
        return len(found)

    def import_(self, path: Path) -> int:
        """Take over the entries of an exported tar file, digests checked again; gives their number.

        Imported libraries run in this process: import only what you trust.  Members are read, never extracted, and
        only names that `export` writes are looked at.  ArgumentError PH319 when the file is no such archive.
        """
        files = _members(path)
        taken = 0
        for name in sorted(n for n in files if n.endswith(".json")):
            record = _checked(_parse(files[name]), name.removesuffix(".json"))
            payload = None if record is None else files.get(record.file)
            if record is None or payload is None or not _sound(payload, record):
                raise ArgumentError("PH319", f"{path.name}: entry {name} is damaged", hints=("export it again",))
            if self.store(record.key, payload, record.meta, record.file[64:]).remark is None:
                taken += 1
        return taken

    def _sidecar(self, key: str) -> Path:
        if not _HEX.fullmatch(key):
            raise ValueError(f"a cache key is 64 hex digits, not {key!r}")
        return self.folder / f"{key}.json"

    def _keys(self) -> list[str]:
        return sorted(p.stem for p in self.folder.glob("*.json") if _HEX.fullmatch(p.stem))

    def _read(self, key: str) -> Entry | None:
        record = _checked(read_json(self._sidecar(key)), key)
        if record is None:
            return None
        payload = read_private(self.folder / record.file, _PAYLOAD_LIMIT)
        if payload is None or not _sound(payload, record):
            return None
        return Entry(key, self.folder / record.file, record.size, record.sha256, record.meta)

    def _remove(self, key: str) -> None:
        record = _checked(read_json(self._sidecar(key)), key)
        for path in (self._sidecar(key), None if record is None else self.folder / record.file):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _temporary(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="polyhedral-"))
            weakref.finalize(self, _remove_tree, self._scratch, os.getpid())
        return self._scratch

    def _store_aside(self, name: str, payload: bytes, why: str) -> Path:
        try:
            path = self._temporary() / name
            write_private(path, payload)
        except OSError as error:
            raise ToolchainError(
                "PH504",
                f"cannot write a compiled kernel: {error.strerror or error}",
                details=(why,),
                hints=("free some disk space", "point POLYHEDRAL_CACHE_DIR at a folder with space"),
            ) from error
        return path


@dataclass(frozen=True)
class _Record:
    key: str
    file: str
    size: int
    sha256: str
    meta: dict[str, object]


def _parse(raw: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _checked(value: dict[str, object] | None, key: str) -> _Record | None:
    """A sidecar with every field of the right form, or None."""
    if value is None or value.get("schema") != SCHEMA or value.get("key") != key:
        return None
    file, size, sha256, meta = (value.get(name) for name in ("file", "size", "sha256", "meta"))
    if not (isinstance(file, str) and type(size) is int and isinstance(sha256, str) and isinstance(meta, dict)):
        return None
    named = _MEMBER.fullmatch(file) and file[:64] == sha256 and not file.endswith(".json")
    return _Record(key, file, size, sha256, cast("dict[str, object]", meta)) if named else None


def _sound(payload: bytes, record: _Record) -> bool:
    return len(payload) == record.size and hashlib.sha256(payload).hexdigest() == record.sha256


def _members(path: Path) -> dict[str, bytes]:
    """The regular members of a tar file whose names are ours, by name."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() and member.size <= _PAYLOAD_LIMIT else None
                if content is not None and _MEMBER.fullmatch(member.name):
                    files[member.name] = content.read()
    except (tarfile.TarError, EOFError) as error:
        raise ArgumentError("PH319", f"{path.name} is not an exported cache: {error}") from error
    return files


def unsafe(root: Path) -> str | None:
    """Why others could plant entries under `root`, or None."""
    for folder in (root / FOLDER, root):
        try:
            link, at = folder.lstat(), folder.stat()
        except OSError:
            continue
        if not stat.S_ISDIR(at.st_mode):
            return "is not a folder"
        if at.st_uid != os.geteuid() or link.st_uid not in (at.st_uid, 0):
            return "belongs to another user"
        if at.st_mode & 0o022:
            return f"can be written by others (mode {stat.S_IMODE(at.st_mode):04o})"
    for parent in root.absolute().parents:
        with contextlib.suppress(OSError):
            at = parent.stat()
            if at.st_mode & 0o002 and not at.st_mode & stat.S_ISVTX:
                return f"lies below {parent}, which everyone can write to"
    return None


def _older(path: Path, before: float) -> bool:
    """Whether a regular file of ours was last changed before some time."""
    try:
        at = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(at.st_mode) and at.st_uid == os.geteuid() and at.st_mtime < before


def _unheld(lock: Path) -> bool:
    """Remove a lock, unless somebody holds it."""
    guard = filelock.FileLock(lock, timeout=0, mode=0o600)
    try:
        with guard:
            return _gone(lock)
    except (OSError, filelock.Timeout):
        return False


def _gone(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _remove_tree(folder: Path, owner: int) -> None:
    """A forked child must not take its parent's folder away."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
