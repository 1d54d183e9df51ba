# SPDX-License-Identifier: MIT
"""`polyhedral cache` and `polyhedral config`: looking after what the compiler keeps and reads.

The store is `codegen.runtime.cache`; the meaning of options is `frontend.environment.options`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codegen.runtime.cache import Cache
from frontend.environment import session
from frontend.environment.options import Options, options
from frontend.usage import UsageError


@dataclass(frozen=True)
class Result:
    """What a command says, for people and for programs."""

    text: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])


def _store() -> Cache:
    here = session.current()
    return here.cache(here.options())


def _ls() -> Result:
    found = _store().entries()
    lines = [f"{e.key[:16]}  {e.size:>9}  {e.meta.get('symbol', '')}" for e in found]
    entries = [
        {"key": e.key, "size": e.size, "sha256": e.sha256, "file": str(e.path), "meta": dict(e.meta)} for e in found
    ]
    return Result("\n".join(lines), {"entries": entries})


def _stat() -> Result:
    s = _store().stat()
    note = " (a stand-in that goes when the process ends)" if s.private else ""
    text = f"{s.root}{note}\n{s.entries} entries, {s.bytes} bytes, {s.broken} broken"
    return Result(text, {**asdict(s), "root": str(s.root)})


def _clear() -> Result:
    store = _store()
    n = store.clear()
    return Result(f"{n} entries removed from {store.root}", {"removed": n, "root": str(store.root)})


def _export(file: Path) -> Result:
    try:
        n = _store().export(file)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from None
    return Result(f"{n} entries written to {file}", {"written": n})


def _import(file: Path) -> Result:
    try:
        n = _store().import_(file)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
    return Result(f"{n} entries taken over", {"imported": n})


# --- configuration ---------------------------------------------------------------------------------------------------


def _project() -> Path | None:
    here = Path.cwd()
    return next((f / "pyproject.toml" for f in (here, *here.parents) if (f / "pyproject.toml").is_file()), None)


def _get(name: str | None) -> Result:
    values = asdict(session.current().options())
    if name is None:
        return Result("\n".join(f"{k} = {v}" for k, v in values.items()), {"options": values})
    return Result(str(values[_known(name)]), {"options": {name: values[_known(name)]}})


def _known(name: str) -> str:
    name = name.replace("-", "_")
    if name not in asdict(Options()):
        raise UsageError(f"there is no option {name!r}; options are {', '.join(asdict(Options()))}")
    return name


def _set(name: str, value: str) -> Result:
    """Edit one line of [tool.polyhedral], which is added when it is not there."""
    key, file = _known(name), _project()
    if file is None:
        raise UsageError("there is no pyproject.toml here; make one, or set POLYHEDRAL_" + key.upper())
    literal = (
        value
        if re.fullmatch(r"-?\d+|true|false", value)
        else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
    with options(**{key: tomllib.loads(f"v = {literal}")["v"]}):
        session.current().options()
    file.write_text(_edited(file.read_text(), key, literal))
    return Result(f"{key} = {literal} in {file}", {"file": str(file), "option": key})


def _edited(text: str, key: str, literal: str) -> str:
    head = re.search(r"^\[tool\.polyhedral\][^\n]*$", text, re.MULTILINE)
    if head is None:
        return text.rstrip("\n") + f"\n\n[tool.polyhedral]\n{key} = {literal}\n"
    following = re.search(r"^\[", text[head.end() :], re.MULTILINE)
    end = len(text) if following is None else head.end() + following.start()
    body, line = text[head.end() : end], re.compile(rf"^{key.replace('_', '[_-]')}\s*=.*$", re.MULTILINE)
    new = line.sub(lambda _: f"{key} = {literal}", body, 1) if line.search(body) else f"\n{key} = {literal}" + body
    return text[: head.end()] + new + text[end:]


def _path() -> Result:
    file = _project()
    return Result(str(file) if file else "(no pyproject.toml here)", {"path": str(file) if file else None})


COMMANDS: Mapping[str, Callable[..., Result]] = {
    "ls": _ls,
    "stat": _stat,
    "clear": _clear,
    "export": _export,
    "import": _import,
    "get": _get,
    "set": _set,
    "path": _path,
}
