# SPDX-License-Identifier: MIT
"""`polyhedral show`: every stage of a lowered program as text, JSON, isl's notation, DOT, SVG or HTML.

Only reads what `Lowered` holds; pictures are drawn in `frontend.pictures`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from frontend.inspection import plot
from frontend.inspection.layouts import table
from frontend.lowering import saved
from frontend.pictures import arcs, graphs, trees
from frontend.pictures.page import page
from frontend.running import loading
from frontend.stages.lowered import Lowered
from frontend.usage import UsageError
from polyhedral.ir import tree as tr
from polyhedral.ir.tree import Tree
from polyhedral.scheduling.schedule import original
from polyhedral.sets.isl_schedule import to_yaml
from polyhedral.text.trees import data_of

STAGES = ("domains", "accesses", "deps", "graph", "schedule", "tiled", "memory", "layout", "ast", "c", "asm")
DEVICE = ("cuda", "opencl", "ptx")
"""Stages of devices, which are shown when they are asked for."""
ALSO = {"layouts": "layout"}
"""Other names of stages."""
FORMATS = ("text", "json", "isl", "dot", "svg", "html")
TREES = ("schedule", "tiled")
DRAWN = (*TREES, "deps", "graph", "memory", "layout")
"""Stages that have a picture."""


def stages_of(text: str) -> tuple[str, ...]:
    """`schedule`, `ast,c` or `all`."""
    if text == "all":
        return STAGES
    wanted = tuple(ALSO.get(s.strip(), s.strip()) for s in text.split(",") if s.strip())
    for s in wanted:
        if s not in (*STAGES, *DEVICE):
            near = difflib.get_close_matches(s, (*STAGES, *ALSO, *DEVICE), 1)
            raise UsageError(
                f"--stage {s}: stages are {', '.join((*STAGES, *ALSO, *DEVICE))}, all"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return wanted or ("schedule",)


def show(low: Lowered, stages: Sequence[str], form: str, when: str, statement: str | None) -> dict[str, str]:
    """Text of each stage (one entry 'all' for formats that hold several stages); `when` is before, after or diff."""
    families = _families(low, statement)
    match form:
        case "text":
            return {s: _text(low, s, when, statement, families) for s in stages}
        case "json":
            data = {s: _data(low, s, when, statement, families) for s in stages}
            whole = {
                "schedule": lambda: data_of(pruned(_tree(low, when), families), low.built.analyzed.frame.families),
                "graph": lambda: plot.graph(low.built, low.sizes).to_json(),
                "memory": lambda: plot.timeline(low.built, low.sizes).to_json(),
            }
            data |= {s: whole[s]() for s in stages if s in whole}
            result = saved.to_data(low.program, low.sizes, low.built.scheduled, low.tree) | {"stages": data}
            return {"all": json.dumps(result, indent=2)}
        case "isl":
            return {s: _isl(low, s, when, families) for s in stages}
        case "dot" | "svg":
            return {s: _picture(low, s, form, when, families) for s in stages}
        case "html":
            texts = {s: _text(low, s, when, statement, families) for s in stages}
            pictures = {s: _picture(low, s, "svg", when, families) for s in stages if s in DRAWN}
            return {"all": page(low.program.name, texts, pictures)}
        case _:
            raise UsageError(f"--format {form}: formats are {', '.join(FORMATS)}")


def write(parts: Mapping[str, str], form: str, place: str | None) -> str:
    """Put the parts where -o says and return what goes to stdout.

    A folder exists, ends in /, or has no ending where pictures or several stages are written; it is made.
    """
    if place is None:
        return _joined(parts)
    to = Path(place)
    ending = {"text": "txt", "isl": "isl"}.get(form, form)
    try:
        several = len(parts) > 1 or form in ("dot", "svg", "html")
        if to.is_dir() or place.endswith("/") or (several and not to.suffix and not to.exists()):
            to.mkdir(parents=True, exist_ok=True)
            for name, text in parts.items():
                suffix = {"c": "c", "asm": "s"}.get(name, ending) if form == "text" else ending
                (to / f"{name if name != 'all' else 'show'}.{suffix}").write_text(text + "\n")
        else:
            to.write_text(_joined(parts) + "\n")
    except OSError as error:
        raise UsageError(f"-o {to}: {error.strerror or error}") from None
    return ""


def _joined(parts: Mapping[str, str]) -> str:
    if len(parts) == 1:
        return next(iter(parts.values()))
    return "\n\n".join(f"== {name} ==\n{text}" for name, text in parts.items())


# --- statements ------------------------------------------------------------------------------------------------------


def _families(low: Lowered, statement: str | None) -> tuple[str, ...]:
    """The families to show: all, or those of the statement (also called by the array it writes)."""
    every = low.built.analyzed.frame.families
    if statement is None:
        return tuple(f.id for f in every)
    found = tuple(f.id for f in every if statement in (f.statement.name, f.shown))
    found = found or tuple(f.id for f in every if f.statement.write.array == statement)
    if not found:
        known = list(dict.fromkeys(n for f in every for n in (f.statement.name, f.statement.write.array)))
        near = difflib.get_close_matches(statement, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
        raise UsageError(f"{low.program.name} has no statement {statement!r}; {hint}")
    return found


def pruned(tree: Tree, keep: Sequence[str]) -> Tree:
    """The part of a tree that orders some families."""
    match tree:
        case tr.Sequence(children):
            left = [tr.Filter(tuple(f for f in c.families if f in keep), pruned(c.child, keep)) for c in children]
            left = [c for c in left if c.families]
            return left[0].child if len(left) == 1 else tr.Sequence(tuple(left))
        case tr.Band(members, child):
            cut = tuple(
                tr.Member(m.name, tuple(t for t in m.times if t[0] in keep), m.coincident, m.run) for m in members
            )
            return tr.Band(cut, pruned(child, keep), tree.permutable)
        case tr.Filter(families, child):
            return tr.Filter(tuple(f for f in families if f in keep), pruned(child, keep))
        case tr.Promote(_, child) | tr.Local(_, _, child) | tr.Stage(_, _, child):
            return replace(tree, child=pruned(child, keep))
        case tr.Leaf():
            return tree


def _tree(low: Lowered, when: str) -> Tree:
    return original(low.built.analyzed.frame.families) if when == "before" else low.tree


def _shown(low: Lowered) -> dict[str, str]:
    return {f.id: f.shown for f in low.built.analyzed.frame.families}


# --- text and JSON ---------------------------------------------------------------------------------------------------


def _text(low: Lowered, stage: str, when: str, statement: str | None, keep: Sequence[str]) -> str:
    if stage == "schedule" and when == "diff":
        before, after = (str(_data(low, stage, side, statement, keep)).splitlines() for side in ("before", "after"))
        return "\n".join(difflib.unified_diff(before, after, "as written", "scheduled", lineterm="", n=99))
    found = _data(low, stage, when, statement, keep)
    match found:
        case str(text):
            return text
        case dict():
            return "\n".join(_rows(cast("dict[str, Any]", found)))
        case list():
            return "\n".join(cast("list[str]", found)) or "(none)"
        case other:
            return str(other)


def _rows(table: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, table), default=0)
    for name, value in table.items():
        if isinstance(value, list):
            yield f"{name}:"
            yield from (f"  {v}" for v in cast("list[str]", value))
        else:
            yield f"{name:{width}}  {value}"


def _data(low: Lowered, stage: str, when: str, statement: str | None, keep: Sequence[str]) -> Any:
    """What a stage holds, as plain data."""
    frame = low.built.analyzed.frame
    names = {f.statement.name for f in frame.families if f.id in keep}
    match stage:
        case "domains":
            return {f.shown: low.domains[f.shown] for f in frame.families if f.id in keep}
        case "accesses":
            return {s: list(a) for s, a in low.accesses.items() if s in names}
        case "deps":
            found = (
                d
                for d in low.built.analyzed.dependences.all
                if statement is None or {d.source.id, d.sink.id} & set(keep)
            )
            return list(dict.fromkeys(map(str, found)))
        case "schedule":
            return tr.render(pruned(_tree(low, when), keep), _shown(low))
        case "tiled":
            return {f.shown: _loops(_tree(low, when), f.id) for f in frame.families if f.id in keep}
        case "layout":
            return {x.array: str(x) for x in table(low.built)}
        case _:
            return _whole(low, stage)


def _whole(low: Lowered, stage: str) -> str:
    """Stages that show the program as a whole, whatever statement was asked for."""
    match stage:
        case "graph":
            return str(plot.graph(low.built, low.sizes))
        case "memory":
            return str(plot.timeline(low.built, low.sizes))
        case "ast":
            return low.ast
        case "c":
            return low.source("c")
        case "cuda" | "opencl":
            return low.source(stage)
        case "ptx":
            return low.ptx()
        case "asm":
            return loading.assembly(low.built)
        case _:
            raise UsageError(f"--stage {stage}: stages are {', '.join(STAGES)}, all")


def _loops(tree: Tree, family: str) -> list[str]:
    """One line a loop around an instance, outermost first."""
    where = {tr.Promote: "registers", tr.Local: "memory of its own", tr.Stage: "memory of a block"}
    held = {depth: f"{node.array} in {where[type(node)]}" for depth, node in tr.held(tree, family)}
    lines: list[str] = []
    for depth, m in enumerate(tr.members_of(tree, family)):
        if depth in held:
            lines.append(f"({held[depth]})")
        note = m.run.value if m.run is not tr.Run.SERIAL else "coincident" if m.coincident else "serial"
        lines.append(f"{m.name} = {m.time(family)}: {note}")
    return lines


# --- isl and pictures ------------------------------------------------------------------------------------------------


def _isl(low: Lowered, stage: str, when: str, keep: Sequence[str]) -> str:
    a = low.built.analyzed
    fs = [f for f in a.frame.families if f.id in keep]
    legend = "".join(f"# {p} = {n}\n" for p, n in zip(a.frame.params, a.program.sizes, strict=True))
    legend += "".join(f"# {f.id}[{', '.join(f.dims)}] = {f.shown}\n" for f in fs)
    match stage:
        case "schedule" | "tiled":
            return legend + to_yaml(a.frame, pruned(_tree(low, when), keep), fs)
        case "domains":
            return legend + str(a.frame.domains(fs))
        case "deps":
            return legend + "\n".join(
                f"{d.relation}  # {d.why.value} {d.source.shown} -> {d.sink.shown} through {d.array}"
                for d in a.dependences.all
                if {d.source.id, d.sink.id} & set(keep)
            )
        case _:
            raise UsageError(f"--format isl shows the stages domains, deps, schedule and tiled, not {stage}")


def _picture(low: Lowered, stage: str, form: str, when: str, keep: Sequence[str]) -> str:
    a = low.built.analyzed
    if stage in TREES:
        node = trees.boxes(pruned(_tree(low, when), keep), _shown(low))
        return trees.tree_dot(node) if form == "dot" else trees.tree_svg(node)
    if stage == "deps":
        edges = dict.fromkeys(
            (d.source.statement.name, d.sink.statement.name, d.array)
            for d in a.dependences.all
            if {d.source.id, d.sink.id} & set(keep)
        )
        nodes = dict.fromkeys(n for s, t, _ in edges for n in (s, t)) or {s.name: None for s in a.program.statements}
        return arcs.dot_text(list(nodes), list(edges)) if form == "dot" else arcs.svg(list(nodes), list(edges))
    if stage == "graph":
        return graphs.dot_text(plot.graph(low.built, low.sizes)) if form == "dot" else low.plot.graph().svg
    if form == "svg" and stage in DRAWN:
        return (low.plot.memory() if stage == "memory" else low.plot.layout()).svg
    drawn = DRAWN if form == "svg" else DRAWN[:4]
    raise UsageError(f"--format {form} draws the stages {', '.join(drawn)}, not {stage}")
