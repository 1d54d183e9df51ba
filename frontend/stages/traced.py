# SPDX-License-Identifier: MIT
"""What `POLYHEDRAL_TRACE` keeps of programs, kernels and calls: stages as text, and what became of each source line.

Where and how much is written is `frontend.environment.trace_files`', how it is shown `frontend.commands.report`'s.
"""

from __future__ import annotations

import json
import linecache
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from codegen import loops as lp
from codegen.runtime.build import BuildInfo
from frontend.arrays.memory import Strided
from frontend.environment import session
from frontend.environment.trace_files import SCHEMA, Tracer
from frontend.inspection import plot
from frontend.inspection.layouts import table
from frontend.lowering.built import Built, Timings
from frontend.stages.device_executable import DeviceExecutable
from frontend.stages.executable import Executable
from polyhedral.errors import Location, Remark
from polyhedral.ir import tree as tr
from polyhedral.ir.program import Statement
from polyhedral.ir.tree import Run, Tree
from polyhedral.text.printer import to_text

AROUND = 2
"""Lines of a source file that are shown before and after those with statements."""
LINES = 400
"""Lines of a source file that are kept at most."""
CORES = (Run.PARALLEL, Run.BLOCK, Run.THREAD)
LANES = (Run.VECTOR, Run.LANES, Run.MATRIX)

_folders: WeakKeyDictionary[Built, Path | None] = WeakKeyDictionary()
"""Where each program of this process was written."""


class Low(Protocol):
    """What of `frontend.stages.lowered.Lowered` is written."""

    @property
    def built(self) -> Built: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...
    @property
    def specs(self) -> Mapping[str, Any]: ...
    @property
    def remarks(self) -> tuple[Remark, ...]: ...
    @property
    def timings(self) -> Timings: ...


def lowered(low: Low) -> None:
    """Keep what a program was lowered to, where this process is traced."""
    tracer = session.current().tracer
    if tracer is None or low.built in _folders:
        return
    end = time.perf_counter()
    name = low.built.program.name
    steps = low.timings.steps
    at = end - sum(seconds for _, seconds in steps)
    for what, seconds in steps:
        tracer.event(f"{what} {name}", "lowering", at, seconds, program=name)
        at += seconds
    tracer.flush()
    try:
        _folders[low.built] = tracer.program(name, lambda: _texts(low))
    except Exception as error:  # a trace never stops a program
        _folders[low.built] = None
        logging.getLogger("polyhedral.trace").warning("%s is not traced: %s: %s", name, type(error).__name__, error)


def compiled(low: Low, exe: Executable) -> None:
    """Keep where native code came from, where this process is traced."""
    tracer = session.current().tracer
    if tracer is None:
        return
    lowered(low)
    folder = _folders.get(low.built)
    if folder is not None:
        tracer.write(folder, "kernel.json", json.dumps(_kernel(exe.info, exe.timings, low.timings)))


class Watched(Executable):
    """An executable whose calls are kept."""

    def run(self, data: Sequence[Strided], sizes: Mapping[str, int], out: Any = None) -> Any:
        tracer = session.current().tracer
        assert tracer is not None
        start = time.perf_counter()
        try:
            result = super().run(data, sizes, out)
        except BaseException:
            self._heard(tracer, start, failed=True)
            raise
        self._heard(tracer, start, failed=False)
        return result

    def _heard(self, tracer: Tracer, start: float, *, failed: bool) -> None:
        name = self.lowered.built.program.name
        tracer.call(name, self.info.key, start, time.perf_counter() - start, failed)


class WatchedOnDevice(Watched, DeviceExecutable):
    """The same for kernels of a device."""


def _kernel(info: BuildInfo, timings: Timings, before: Timings) -> dict[str, Any]:
    """Where native code came from, and the seconds that this took."""
    return {
        "key": info.key,
        "path": str(info.path),
        "hit": info.hit,
        "phases": [list(s) for s in timings.steps[len(before.steps) :]],
        "remark": None if info.remark is None else str(info.remark),
    }


# --- a program -------------------------------------------------------------------------------------------------------


def _texts(low: Low) -> dict[str, str]:
    built = low.built
    shown = {f.id: f.shown for f in built.analyzed.frame.families}
    ending = {"c": "c", "cuda": "cu", "opencl": "cl"}[built.source.language]
    return {
        "program.poly": to_text(built.program),
        "schedule.txt": tr.render(built.scheduled.schedule.tree, shown),
        "loops.txt": lp.render(built.loops),
        f"source.{ending}": built.source.text,
        "compilation.json": json.dumps(_compilation(low, f"source.{ending}"), default=str),
    }


def _compilation(low: Low, source: str) -> dict[str, Any]:
    built = low.built
    statements = [_statement(s, low) for s in built.program.statements]
    places = [s.location for s in built.program.statements if s.location is not None]
    memory = plot.timeline(built, low.sizes)
    return {
        "schema": SCHEMA,
        "program": built.program.name,
        "sizes": dict(low.sizes),
        "arguments": {n: str(s) for n, s in low.specs.items()},
        "options": asdict(built.options),
        "phases": [list(s) for s in low.timings.steps],
        "statements": statements,
        "remarks": [_said(r) for r in low.remarks],
        "layouts": {x.array: str(x) for x in table(built)},
        "memory": {"text": str(memory), "peak": memory.placement.peak, "unshared": memory.placement.apart},
        "source": source,
        "listings": list(_listings(places)),
    }


def _said(r: Remark) -> dict[str, Any]:
    return {"statement": r.statement, "what": r.what, "because": r.because}


def _statement(s: Statement, low: Low) -> dict[str, Any]:
    """A statement, its line, and what became of it: each note with whether that is what one hopes for."""
    about = [r for r in low.remarks if r.statement is not None and s.name in r.statement.split(" and ")]
    return {
        "name": s.name,
        "location": _place(s.location),
        "notes": [{"good": good, "text": text} for good, text in _notes(s, low.built, about)],
        "remarks": [_said(r) for r in about],
    }


def _place(at: Location | None) -> dict[str, Any] | None:
    return None if at is None else {"file": at.file, "line": at.line, "text": at.text}


def _notes(s: Statement, built: Built, about: Sequence[Remark]) -> Iterator[tuple[bool, str]]:
    """Lanes, cores, loops in common and registers; where there are no lanes or cores, why, as far as it was said."""
    tree = built.scheduled.schedule.tree
    families = [f.id for f in built.analyzed.frame.families if f.statement.name == s.name]
    members = {f: tr.members_of(tree, f) for f in families}
    main = members[families[-1]] if families else ()
    refused = "; ".join(f"{r.what}, because {r.because}" for r in about if not r.data)
    for runs, yes, no in ((LANES, "vectorised along", "not vectorised"), (CORES, "parallel over", "not parallel")):
        found = [m.name for m in main if m.run in runs]
        if found:
            yield True, f"{yes} {', '.join(found)}"
        else:
            yield False, no + (f": {refused}" if refused else "") + ("" if main else ": it has no loop")
    others, loops = _together(tree, families, built)
    if others:
        yield True, f"fused with {', '.join(others)} over {', '.join(loops)}"
    held = [n.array for n in _regions(tree, families) if isinstance(n, tr.Promote)]
    if held:
        yield True, f"registers hold {', '.join(dict.fromkeys(held))}"
    near = [n.array for n in _regions(tree, families) if not isinstance(n, tr.Promote)]
    if near:
        yield True, f"close by: {', '.join(dict.fromkeys(near))}"
    if s.name in built.choices:
        yield True, "planned as a register tile"


def _regions(tree: Tree, families: Sequence[str]) -> Iterator[tr.Promote | tr.Local | tr.Stage]:
    for f in families:
        for _, node in tr.held(tree, f):
            yield node


def _together(tree: Tree, families: Sequence[str], built: Built) -> tuple[list[str], list[str]]:
    """The statements that share loops with these families, and which loops these are."""
    owner = {f.id: f.statement.name for f in built.analyzed.frame.families}
    own = {owner[f] for f in families}
    others: dict[str, None] = {}
    loops: dict[str, None] = {}
    for band in tr.bands(tree):
        inside = [f for f, _ in band.members[0].times]
        if set(families) & set(inside):
            more = [owner[f] for f in inside if owner[f] not in own]
            others |= dict.fromkeys(more)
            loops |= dict.fromkeys(m.name for m in band.members) if more else {}
    return list(others), list(loops)


def _listings(places: Sequence[Location]) -> Iterator[dict[str, Any]]:
    """The lines of each file around those with statements."""
    for file in dict.fromkeys(p.file for p in places):
        numbers = [p.line for p in places if p.file == file]
        first = max(1, min(numbers) - AROUND)
        last = min(max(numbers) + AROUND, first + LINES - 1)
        lines = [linecache.getline(file, n).rstrip("\n") for n in range(first, last + 1)]
        if any(lines):
            yield {"file": file, "first": first, "lines": lines}
