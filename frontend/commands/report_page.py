# SPDX-License-Identifier: MIT
"""The page of `polyhedral report`: one file of HTML with its own style, no script, light and dark.

Everything that comes in is escaped here; where it comes from is `frontend.commands.report`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from frontend.pictures.svg import escaped
from frontend.units import readable, shown_seconds

Data = Mapping[str, Any]

_STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--paper:#fff;--soft:#f2f3f5;--line:#d5d8dc;--good:#17663a;--bad:#9a4a00;
--bar:#6c9bd2;--bar2:#d2a24c}
@media (prefers-color-scheme:dark){:root{--ink:#e4e6e9;--paper:#17191c;--soft:#22262b;--line:#3a4048;--good:#7fd39d;
--bad:#f0b070;--bar:#44719f;--bar2:#8f6a24}}
body{font:15px/1.45 system-ui,sans-serif;margin:2em;max-width:100em;color:var(--ink);background:var(--paper)}
pre,code,td.code{font:13px/1.4 ui-monospace,monospace}pre{overflow:auto;background:var(--soft);padding:.6em}
table{border-collapse:collapse;margin:.4em 0}td,th{text-align:left;vertical-align:top;padding:.15em .8em .15em 0}
th{border-bottom:1px solid var(--line)}td.n{text-align:right;color:GrayText}td.code{white-space:pre}
tr.said td{background:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
summary{cursor:pointer;font-weight:600}details{margin:.5em 0}details details{margin-left:1em}
.bars{display:flex;height:1.1em;width:40em;max-width:100%}.bars span{background:var(--bar)}
.bars span:nth-child(even){background:var(--bar2)}ul{margin:.2em 0;padding-left:1.2em}
"""


class Compiled(Protocol):
    """What of `frontend.commands.report.Compiled` is shown."""

    @property
    def about(self) -> Data: ...
    @property
    def texts(self) -> Mapping[str, str]: ...
    @property
    def kernel(self) -> Data | None: ...
    @property
    def calls(self) -> Data | None: ...


class Process(Protocol):
    """What of `frontend.commands.report.Process` is shown."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> Data: ...
    @property
    def programs(self) -> Sequence[Compiled]: ...
    @property
    def events(self) -> Sequence[Data]: ...
    @property
    def broken(self) -> int: ...


def page(title: str, processes: Sequence[Process]) -> str:
    """All processes, the last one open."""
    parts = [_process(p, opened=p is processes[-1]) for p in processes]
    head = f'<meta charset="utf-8"/><title>{escaped(title)}</title><style>{_STYLE}</style>'
    body = f"<h1>{escaped(title)}</h1>\n" + "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>'


def _process(p: Process, *, opened: bool) -> str:
    about = ", ".join(f"{k} {p.about[k]}" for k in ("command", "python", "date") if k in p.about)
    left = [f"{n} {what} left out" for what, n in _pairs(p.about.get("left_out"))]
    left += [f"{p.broken} files could not be read"] if p.broken else []
    note = f'<p class="bad">{escaped("; ".join(left))}</p>' if left else ""
    parts = [f"<p>{escaped(about)}</p>", note, _overview(p.programs)]
    parts += [_program(c, opened=len(p.programs) == 1) for c in p.programs]
    parts.append(f"<p>{len(p.events)} events in trace.json, which ui.perfetto.dev opens.</p>")
    return _fold(f"process {p.name}", "\n".join(filter(None, parts)), opened=opened)


def _overview(programs: Sequence[Compiled]) -> str:
    """One row a program: seconds of lowering and compiling, calls, memory."""
    rows = [
        (
            _text(c.about.get("program")),
            ", ".join(f"{n}={v}" for n, v in _pairs(c.about.get("sizes"))) or "-",
            shown_seconds(_total(c.about.get("phases"))),
            _made(c.kernel),
            _called(c.calls),
            _memory(c.about),
        )
        for c in programs
    ]
    return _table(("program", "sizes", "lowering", "kernel", "calls", "intermediate results"), rows)


def _made(kernel: Data | None) -> str:
    if kernel is None:
        return "not compiled"
    seconds = shown_seconds(_total(kernel.get("phases")))
    return f"found in the cache, loaded in {seconds}" if kernel.get("hit") else f"compiled in {seconds}"


def _called(calls: Data | None) -> str:
    if not calls:
        return "none"
    count = int(_number(calls.get("calls")))
    mean = _number(calls.get("seconds")) / max(count, 1)
    failed = int(_number(calls.get("failed")))
    times = f"{shown_seconds(mean)} on average, {shown_seconds(_number(calls.get('least')))} at least"
    return f"{count} calls, {times}" + (f", {failed} failed" if failed else "")


def _memory(about: Data) -> str:
    memory = about.get("memory")
    peak = int(_number(cast("Data", memory).get("peak"))) if isinstance(memory, dict) else 0
    return readable(peak) if peak else "none in memory"


# --- one program -----------------------------------------------------------------------------------------------------


def _program(c: Compiled, *, opened: bool) -> str:
    about = c.about
    phases = [*_steps(about.get("phases")), *_steps((c.kernel or {}).get("phases"))]
    parts = [
        _fold("source lines", "".join(_listings(about)), opened=True),
        _fold("where the time went", _bars(phases), opened=True),
        _fold("kernel", _kernel(c), opened=False),
        _fold("remarks", _remarks(about.get("remarks")), opened=False),
        _fold("layouts", _table(("array", "lies"), _pairs(about.get("layouts"))), opened=False),
        _fold("memory", f"<pre>{escaped(_memory_text(about))}</pre>", opened=False),
        *(_fold(n, f"<pre>{escaped(text)}</pre>", opened=False) for n, text in c.texts.items()),
    ]
    return _fold(f"program {_text(about.get('program'))}", "\n".join(parts), opened=opened)


def _memory_text(about: Data) -> str:
    memory = about.get("memory")
    return _text(cast("Data", memory).get("text")) if isinstance(memory, dict) else ""


def _kernel(c: Compiled) -> str:
    kernel = c.kernel or {}
    rows = [(k, _text(kernel[k])) for k in ("key", "path", "remark") if kernel.get(k)]
    rows += [("made", _made(c.kernel)), ("calls", _called(c.calls))]
    rows += [(f"argument {n}", _text(v)) for n, v in _pairs(c.about.get("arguments"))]
    return _table(("", ""), rows)


def _listings(about: Data) -> Iterator[str]:
    """Each file with its statements' notes beside their lines; statements whose line is not known stand below."""
    left = list(_objects(about.get("statements")))
    for listing in _objects(about.get("listings")):
        rows: list[str] = []
        for n, line in enumerate(_list(listing.get("lines")), int(_number(listing.get("first")))):
            here = [s for s in left if _at(s) == (listing.get("file"), n)]
            left = [s for s in left if s not in here]
            said = "".join(map(_notes, here))
            mark = ' class="said"' if said else ""
            rows.append(
                f'<tr{mark}><td class="n">{n}</td><td class="code">{escaped(str(line))}</td><td>{said}</td></tr>'
            )
        yield f"<p><code>{escaped(_text(listing.get('file')))}</code></p><table>{''.join(rows)}</table>"
    if left:
        yield "".join(map(_notes, left))


def _at(statement: Data) -> tuple[object, object]:
    place = statement.get("location")
    return (place.get("file"), place.get("line")) if isinstance(place, dict) else (None, None)  # pyright: ignore


def _notes(statement: Data) -> str:
    """What became of a statement, what one hopes for in green, what not in orange; then its remarks."""
    items = [
        f'<li class="{"good" if note.get("good") else "bad"}">{escaped(_text(note.get("text")))}</li>'
        for note in _objects(statement.get("notes"))
    ]
    items += [f"<li>{escaped(_remark(r))}</li>" for r in _objects(statement.get("remarks"))]
    return f"<code>{escaped(_text(statement.get('name')))}</code><ul>{''.join(items)}</ul>"


def _remarks(value: object) -> str:
    items = [f"<li>{escaped(_remark(r))}</li>" for r in _objects(value)]
    return f"<ul>{''.join(items)}</ul>" if items else "<p>none</p>"


def _remark(r: Data) -> str:
    at = f"{r.get('statement')}: " if r.get("statement") else ""
    return f"{at}{_text(r.get('what'))}, because {_text(r.get('because'))}"


def _bars(steps: Sequence[tuple[str, float]]) -> str:
    """One bar of all steps, each as wide as it took long, and a table."""
    whole = sum(s for _, s in steps)
    if whole <= 0:
        return "<p>nothing was timed</p>"
    spans = "".join(
        f'<span style="width:{100 * s / whole:.2f}%" title="{escaped(f"{n}: {shown_seconds(s)}")}"></span>'
        for n, s in steps
        if s > 0
    )
    rows = [(n, shown_seconds(s), f"{s / whole:.0%}") for n, s in steps]
    table = _table(("step", "took", "share"), [*rows, ("together", shown_seconds(whole), "")])
    return f'<div class="bars">{spans}</div>{table}'


# --- parts -----------------------------------------------------------------------------------------------------------


def _fold(title: str, content: str, *, opened: bool) -> str:
    return f"<details{' open' if opened else ''}><summary>{escaped(title)}</summary>\n{content}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    title = f"<tr>{''.join(f'<th>{escaped(h)}</th>' for h in head)}</tr>" if any(head) else ""
    body = "".join(f"<tr>{''.join(f'<td>{escaped(_text(x))}</td>' for x in row)}</tr>" for row in rows)
    return f"<table>{title}{body}</table>"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else 0.0


def _list(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list) else ()


def _objects(value: object) -> Iterator[Data]:
    return (cast("Data", v) for v in _list(value) if isinstance(v, dict))


def _pairs(value: object) -> list[tuple[str, Any]]:
    return list(cast("Data", value).items()) if isinstance(value, dict) else []


def _steps(value: object) -> list[tuple[str, float]]:
    """Steps with their seconds; whatever is no such pair is left out."""
    pairs = (cast("Sequence[object]", v) for v in _list(value) if isinstance(v, list))
    return [(_text(p[0]), max(_number(p[1]), 0.0)) for p in pairs if len(p) == 2]


def _total(value: object) -> float:
    return sum(seconds for _, seconds in _steps(value))
