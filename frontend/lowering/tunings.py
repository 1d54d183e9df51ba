# SPDX-License-Identifier: MIT
"""What tuning found, kept for later: in the cache of compiled kernels, or in a file of its own.

A record picks among plans that the compiler weighs itself, so that one which others wrote can be slow and nothing else;
one that is damaged, or of another version, is not used, and a remark says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import filelock

from codegen.runtime.cache import Cache, write_private
from frontend.lowering.given import SCHEMA, Given
from frontend.lowering.trials import Record, about, record_of
from polyhedral.errors import ArgumentError, Remark

Read = TypeVar("Read")

SUFFIX = ".tuned"
PATIENCE = 10.0
"""Seconds that another process is waited for which writes the same file."""
_LARGEST = 64 << 20
NOT_USED = "what tuning found is not used"


@dataclass(frozen=True)
class Kept:
    """What was found for a key: a record, or a remark that says why what is there is none; neither where there is
    nothing.
    """

    record: Record | None = None
    remark: Remark | None = None


@dataclass(frozen=True)
class Tunings:
    """Records by key: each an entry of a cache, or all in one `file`."""

    cache: Cache
    file: Path | None = None

    def read(self, key: str) -> Kept:
        """What is kept under a key."""
        if self.file is not None:
            return self._of_file(self.file, key)
        try:
            present = (self.cache.folder / f"{key}.json").exists()
            path = self.cache.lookup(key) if present else None
            raw = None if path is None else path.read_bytes()
        except OSError as error:
            return Kept(remark=_unused(f"{self.cache.folder} cannot be read: {error.strerror or error}"))
        if not present:
            return Kept()
        record = None if raw is None else _parsed(raw, record_of)
        return (
            Kept(record) if record else Kept(remark=_unused("its entry in the cache is damaged or of another version"))
        )

    def write(self, key: str, record: Record) -> Remark | None:
        """Keep a record, whole or not at all, in the place of the one before; a remark where it cannot be."""
        raw = json.dumps(record.to_json(), sort_keys=True).encode()
        if self.file is not None:
            return self._into_file(self.file, key, record)
        with self.cache.lock(key, PATIENCE):
            old = self.cache.lookup(key)
            stored = self.cache.store(key, raw, {"symbol": f"tuned {record.program}"}, SUFFIX)
            if old is not None and old != stored.path:
                old.unlink(missing_ok=True)
        return stored.remark or self.cache.remark

    def _of_file(self, file: Path, key: str) -> Kept:
        if not file.exists():
            return Kept(remark=_unused(f"there is no {file}"))
        records = _records(file)
        if records is None:
            return Kept(remark=_unused(f"{file} is no file that f.tune(db=...) writes"))
        if key not in records:
            return Kept()
        record = record_of(records[key])
        return Kept(record) if record else Kept(remark=_unused(f"its record in {file} is damaged"))

    def _into_file(self, file: Path, key: str, record: Record) -> Remark | None:
        try:
            with filelock.FileLock(f"{file}.lock", timeout=PATIENCE, mode=0o600):
                records = (_records(file) if file.exists() else {}) or {}
                whole = {"schema": SCHEMA, "records": {**records, key: record.to_json()}}
                write_private(file, json.dumps(whole, sort_keys=True, indent=1).encode())
        except (OSError, filelock.Timeout) as error:
            return Remark("what tuning found is not kept", f"{file} cannot be written: {error}")
        return None


def at(where: str, cache: Cache) -> Tunings | None:
    """The place that `tuned=` names: "auto" the cache, "off" none."""
    if where == "off":
        return None
    return Tunings(cache, None if where == "auto" else Path(where).expanduser())


def opened(where: str, cache: Cache) -> Tunings | None:
    """The place that `db=` names, to be written to.  ArgumentError PH506 for a file that is something else already, or
    cannot be: said before hours are spent.
    """
    place = at(where, cache)
    if place is not None and place.file is not None:
        _require_ours(place.file)
    return place


def _require_ours(file: Path) -> None:
    if file.exists() and (not file.is_file() or (file.stat().st_size and _records(file) is None)):
        what = "a folder" if file.is_dir() else "no file that f.tune(db=...) wrote"
        raise ArgumentError(
            "PH506", f"db={str(file)!r} is {what}", hints=("name a new file, or leave db= out for the cache",)
        )
    if not file.parent.is_dir():
        raise ArgumentError("PH506", f"db={str(file)!r}: there is no folder {file.parent}", hints=("make it first",))


def recalled(given: Given, threads: int, cache: Cache) -> tuple[Given, tuple[Remark, ...]]:
    """What is given with the plans that tuning found for it, if it may be used, and what is to be said of that."""
    place = at(given.options.tuned, cache)
    if place is None or not given.tunable or given.hints.plans:
        return given, ()
    kept = place.read(given.key(threads))
    if kept.record is None:
        return given, (kept.remark,) if kept.remark else ()
    record = kept.record
    if not record.plans:
        return given, ()
    gain = f"{len(record.trials)} trials on {record.date}: {record.gain:.0%} less time than as predicted"
    said = tuple(
        Remark("tuned", f"{x}; {gain}; tuned='off' takes what is predicted", about(x)) for x in record.plans.changes
    )
    return replace(given, hints=replace(given.hints, plans=record.plans)), said


def _records(file: Path) -> dict[str, object] | None:
    """All records of a file by key, or None where it is no such file."""
    try:
        if file.stat().st_size > _LARGEST:
            return None
        raw = file.read_bytes()
    except OSError:
        return None

    def of(value: object) -> dict[str, object] | None:
        found = cast("dict[str, object]", value) if isinstance(value, dict) else {}
        records = found.get("records")
        whole = found.get("schema") == SCHEMA and isinstance(records, dict)
        return cast("dict[str, object]", records) if whole else None

    return _parsed(raw, of)


def _parsed(raw: bytes, of: Callable[[object], Read | None]) -> Read | None:
    try:
        return of(json.loads(raw))
    except (ValueError, RecursionError):
        return None


def _unused(why: str) -> Remark:
    return Remark(NOT_USED, why)
