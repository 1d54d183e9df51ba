# SPDX-License-Identifier: MIT
"""Pictures and what notebooks show: well-formed, complete, true to the program, without scripts, whatever the names.

What the pictures are made from (placements, trees) is tested where it is made.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import polyhedral as ph
from frontend.commands import show
from frontend.pictures import graphs, trees
from frontend.pictures.cells import Cells, layout_svg
from frontend.pictures.svg import Picture, bundle, escaped
from frontend.stages.lowered import Lowered, lower
from polyhedral.dim import k
from polyhedral.errors import ArgumentError, PolyhedralError
from polyhedral.ir import expr as ex
from polyhedral.ir.program import Access, Program, Role
from polyhedral.sets.instances import Kind, families
from polyhedral.whole.storage import steps
from tests.polyhedral.test_storage import drawn, pipeline
from tests.programs import CASES

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</text><script>alert(1)</script><img src=x onerror=alert(2)>&\"' ]]> */ #error \\"
SOME = ("softmax", "matmul", "trisolve", "lu", "conv_same")


def evil(p: Program) -> Program:
    """The same program with names that try to be markup, or C."""

    def bad(e: ex.Expr) -> ex.Expr:
        return ex.rewrite(e, lambda n: replace(n, array=n.array + EVIL) if isinstance(n, ex.Load) else n)

    statements = tuple(
        replace(s, name=s.name + EVIL, write=Access(s.write.array + EVIL, s.write.index), value=bad(s.value))
        for s in p.statements
    )
    arrays = tuple(replace(a, name=a.name + EVIL) for a in p.arrays)
    return replace(p, name=p.name + EVIL, arrays=arrays, statements=statements)


def lowered(name: str) -> Lowered:
    match name:
        case "pipeline":
            return lower(pipeline(), {"X.i": 30})
        case "evil":
            return lower(evil(drawn(3)), {"X.i": 30})
        case "symbolic":
            return lower(pipeline())
        case _:
            return lower(CASES[name].program, CASES[name].sizes)


NAMES = ("pipeline", "evil", "symbolic", *(n for n in SOME if n in CASES))


def parsed(svg: str) -> ElementTree.Element:
    """The picture as XML; it runs nothing, loads nothing, and styles only itself."""
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    kinds = {e.tag.removeprefix(SVG) for e in root.iter()}
    assert kinds <= {"svg", "style", "rect", "path", "text", "title", "circle"}
    assert not any(a.startswith("on") or "href" in a for e in root.iter() for a in e.attrib)
    style = root.find(f"{SVG}style")
    assert style is not None
    assert all(rule.strip().startswith(".ph ") for rule in (style.text or "").split("}") if rule.strip())
    return root


def words(root: ElementTree.Element) -> list[str]:
    return [e.text or "" for e in root.iter() if e.tag in (f"{SVG}text", f"{SVG}title")]


def boxes(root: ElementTree.Element, kind: str) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of each rect of a kind."""
    found = [e for e in root.iter(f"{SVG}rect") if e.get("class") == kind]
    sides = [[float(e.get(a, "nan")) for a in ("x", "y", "width", "height")] for e in found]
    return [(x, y, x + w, y + h) for x, y, w, h in sides]


def inside(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {a for a, _ in attrs}

    def handle_data(self, data):
        self.text += data


def harmless(page: str) -> str:
    """The text of HTML without scripts, images or handlers."""
    found = Tags(page)
    assert not found.tags & {"script", "img", "iframe", "link", "object"}
    assert not any(a.startswith("on") or a in ("src", "href") for a in found.attributes)
    return found.text


# the statement graph


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_has_every_statement_and_array(name: str):
    low = lowered(name)
    picture = low.plot.graph()
    root = parsed(picture.svg)
    texts = words(root)
    for s in low.program.statements:
        assert sum(t.startswith(f"{s.name}: ") for t in texts) == 1
    for a in low.program.arrays:
        size = graphs.size_of(a, low.sizes)
        assert f"{a.name} {size}" in texts
        assert f"{a.name}: {size}" in picture.text
        outer = {Role.TEMPORARY: 0, Role.INOUT: 2}.get(a.role, 1)
        assert texts.count(f"{a.role.value} {a.name}") == outer
    clusters, every = boxes(root, "cluster"), boxes(root, "statement")
    groups = [{f for f in s} for s in steps(low.tree)]
    assert len(clusters) == sum(
        1 for g in groups if any(f.kind is not Kind.INIT and (f.id in g or not g) for f in families(low.program))
    )
    assert len(every) == len(low.program.statements)
    assert all(sum(inside(s, c) for c in clusters) == 1 for s in every)
    assert not any(inside(a, b) or inside(b, a) for a, b in combinations(clusters, 2))


def test_statements_of_one_nest_stand_together():
    blur = """program recurrences
      input X: f64[i]
      output a: f64[i: X.i]
      output b: f64[i: X.i]
      a: for i < X.i: a = where([i > 0], b(i=i - 1), 0.0) + X
      b: for i < X.i: b = a * 2.0"""
    low = lower(ph.parse(blur), {"X.i": 9})
    found = graphs.graph(low.program, low.tree, low.sizes)
    assert [[n for n, _ in c.statements] for c in found.clusters] == [["a", "b"]]
    flows = {f.array: (f.writers, f.readers, f.size) for f in found.flows}
    assert flows == {"X": ((), ("a",), "72 B"), "a": (("a",), ("b",), "72 B"), "b": (("b",), ("a",), "72 B")}


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_as_dot(name: str):
    low = lowered(name)
    text = graphs.dot_text(graphs.graph(low.program, low.tree, low.sizes))
    quoted = r'"(?:[^"\\]|\\.)*"'
    left = re.sub(quoted, "Q", text)
    assert re.fullmatch(r"[\w\s{}\[\]=,;>-]+", left), "names stay inside their quotes"
    for s in low.program.statements:
        assert json.dumps(f"s:{s.name}") in text


# memory


@pytest.mark.parametrize("name", NAMES)
def test_the_timeline_shows_lives_and_places(name: str):
    low = lowered(name)
    picture = low.plot.memory()
    root = parsed(picture.svg)
    texts = words(root)
    placement = low.built.placement(low.sizes)
    live = boxes(root, "live")
    assert len(live) == len(placement.slots)
    for s, box in zip(placement.slots, live, strict=True):
        assert sum(t.startswith(f"{s.array}: ") for t in texts) == 2, "a row, and what is shown when pointed at"
        assert round((box[2] - box[0] + 4) / 56) == s.last - s.first + 1
        assert f"bytes {s.start}..{s.end - 1}" in picture.text
        for other in placement.slots:
            if other.array != s.array and other.shares(s):
                assert (
                    other.array in next(t for t in texts if t.startswith(f"{s.array}: ")).split("shares memory with")[1]
                )
    for a, b in combinations(live, 2):
        across = min(a[2], b[2]) - max(a[0], b[0]) > 0
        high = min(a[3], b[3]) - max(a[1], b[1]) > 3
        assert not (across and high), "two that live at once do not lie on each other"


def test_what_has_no_temporaries_says_so():
    low = lowered("matmul")
    assert low.plot.memory().text == "no intermediate results in memory"
    assert "no intermediate results in memory" in words(parsed(low.plot.memory().svg))


def test_sizes_can_be_given_for_the_timeline():
    plot = lowered("symbolic").plot
    assert "bytes 0..1663" in plot.memory(**{"X.i": 200}).text
    assert "count as 1" not in plot.memory(**{"X.i": 200}).text
    assert plot.memory().text.splitlines()[0] == "sizes that are not known count as 1: X.i"
    assert "sizes that are not known count as 1: X.i" in words(parsed(plot.memory().svg))


def test_layouts_that_only_a_call_knows_say_so():
    f = ph.function(A="i k", B="k j", returns="i j")(mm)
    assert "give sizes" in words(parsed(f.lower(A="f32[i, k]", B="f32[k, j]").plot.layout("A", "B").svg))[0]


# layouts


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((3, 5)),
        np.zeros((3, 5)).T,
        np.zeros((40, 30), "f4")[::-2, ::3],
        np.zeros((2, 3, 4), "i2").transpose(1, 2, 0),
        np.zeros(7)[::-1],
        np.zeros(()),
        np.zeros((0, 4)),
        np.broadcast_to(np.zeros(4), (3, 4)),
    ],
)
def test_layout_maps_give_addresses(a: np.ndarray):
    dims = tuple(
        (f"d{n}", size, stride // a.itemsize) for n, (size, stride) in enumerate(zip(a.shape, a.strides, strict=True))
    )
    root = parsed(layout_svg([Cells("a", dims, a.itemsize)]))
    lowest = np.lib.array_utils.byte_bounds(a)[0] if a.size else 0
    cells = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "cell"]
    shown = sorted(range(a.ndim), key=lambda n: -abs(dims[n][2]))[-2:]
    assert len(cells) == np.prod([min(a.shape[n], 24) for n in shown], dtype=int)
    hues: dict[int, set[str]] = {}
    for cell in cells:
        title = cell.find(f"{SVG}title")
        assert title is not None
        index = dict(part.split("=") for part in re.findall(r"d\d=\d+", title.text or ""))
        at = tuple(int(index.get(f"d{n}", 0)) for n in range(a.ndim))
        bytes_ = int(re.search(r"(\d+) bytes from", title.text or "")[1])
        assert (
            bytes_ == a.__array_interface__["data"][0] + sum(x * s for x, s in zip(at, a.strides, strict=True)) - lowest
        )
        hues.setdefault(bytes_, set()).add(cell.get("style", ""))
    assert all(len(colours) == 1 for colours in hues.values()), "one colour for one address"


@pytest.mark.parametrize("stride", [1, -1])
def test_layout_maps_part_cache_lines(stride: int):
    """24 doubles from the first byte of a line on, or up to the last: lines change at every eighth."""
    svg = layout_svg([Cells("a", (("x", 24, stride),), 8)])
    cells = boxes(parsed(svg), "cell")
    seams = [float(x) for x in re.findall(r"M (\d+) \d+ v 14", svg)]
    assert seams == [cells[8][0], cells[16][0]]


def test_layouts_of_a_program():
    low = lowered("pipeline")
    texts = words(parsed(low.plot.layout().svg))
    assert all(any(t.startswith(f"{a.name}[") for t in texts) for a in low.program.arrays)
    assert [t for t in words(parsed(low.plot.layout("t1").svg)) if "[" in t] == ["t1[i: 30 (stride 1)], 8 B a cell"]
    with pytest.raises(ArgumentError, match="no array 'nope'"):
        low.plot.layout("nope")


# the tree, pages and the command


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["initial", "final"])
def test_the_schedule_tree_has_every_statement(name: str, which: str):
    low = lowered(name)
    texts = words(parsed(low.plot.schedule(which).svg))
    for f in low.built.analyzed.frame.families:
        assert any(f.shown in t for t in texts)


@pytest.mark.parametrize("name", NAMES)
def test_pages_show_every_drawn_stage(name: str):
    low = lowered(name)
    page = show.show(low, show.stages_of("graph,schedule,memory,layout,deps"), "html", "after", None)["all"]
    text = harmless(page)
    assert page.count("<svg") == 5
    for s in low.program.statements:
        assert s.name in text
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        parsed(svg)


def test_stages_as_files(tmp_path: Path):
    low = lowered("pipeline")
    for form, stages in (("svg", "graph,memory,layout,schedule,deps"), ("dot", "graph,schedule,deps")):
        show.write(show.show(low, show.stages_of(stages), form, "after", None), form, f"{tmp_path}/")
        assert {f.stem for f in tmp_path.glob(f"*.{form}")} == set(stages.split(","))
    for file in tmp_path.glob("*.svg"):
        parsed(file.read_text())
    found = json.loads(show.show(low, ("graph", "memory"), "json", "after", None)["all"])["stages"]
    assert [s for c in found["graph"]["clusters"] for s in c["statements"]] == ["t0", "t1", "t2", "t3", "t4", "t5", "Y"]
    assert found["memory"]["peak"] == low.compile().cost().temporary
    assert found["memory"]["arrays"]["t0"]["shares"] == ["t2", "t4"]


def test_pictures_are_saved(tmp_path: Path):
    picture = lowered("pipeline").plot.graph()
    picture.save(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text() == f"{picture}\n"


# notebooks


def mm(A, B):
    return (A * B).sum(k)


def values() -> dict[str, object]:
    f = ph.function(A="i k", B="k j", returns="i j")(mm)
    low = f.lower(A="f32[i:4, k:5]", B="f32[k:5, j:6]")
    try:
        f(np.zeros((2, 3), "f4"), np.zeros((4, 3), "f4"))
    except PolyhedralError as error:
        wrong = error
    a = ph.array(np.zeros((3, 4)), "i j")
    bad = lower(evil(drawn(3)), {"X.i": 30})
    return {
        "function": f,
        "lowered": low,
        "executable": low.compile(),
        "array": a,
        "ordered": a.order("j i"),
        "error": wrong,
        "evil lowered": bad,
        "evil executable": bad.compile(),
        "evil error": ArgumentError("PH045", EVIL, hints=(EVIL,), details=(EVIL,)),
        "picture": low.plot.graph(),
    }


@pytest.mark.parametrize("name", values())
def test_notebook_forms(name: str):
    value = values()[name]
    forms = value._repr_mimebundle_()  # type: ignore[attr-defined]
    assert forms["text/plain"]
    if name != "picture":
        text = harmless(forms["text/html"])
        ElementTree.fromstring(f"<div>{forms['text/html']}</div>")
        assert forms["text/plain"].splitlines()[0] in text
    if "error" in name:
        assert "hint: " in text
    else:
        parsed(forms["image/svg+xml"])
    if "error" not in name:
        assert set(value._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}  # type: ignore[attr-defined]
        assert "text/plain" not in value._repr_mimebundle_(exclude=["text/plain"])  # type: ignore[attr-defined]


def test_what_notebooks_show_of_each_stage():
    found = {n: v._repr_mimebundle_() for n, v in values().items()}  # type: ignore[attr-defined]
    function, low, exe = (harmless(found[n]["text/html"]) for n in ("function", "lowered", "executable"))
    assert "program mm" in function
    assert "out" in "".join(words(parsed(found["function"]["image/svg+xml"])))
    for part in ("statements", "schedule", "memory", "layouts", "domains", "remarks", "loops", "C"):
        assert part in low
    assert "GFLOP" in exe
    assert "void ph_mm" in exe


def test_a_function_that_f32_does_not_suit_shows_its_text():
    @ph.function(A="i", B="i")
    def masks(A, B):
        return A & B

    forms = masks._repr_mimebundle_()
    assert "masks" in harmless(forms["text/html"])
    assert "image/svg+xml" not in forms
    masks(np.zeros(3, "i4"), np.zeros(3, "i4"))
    assert "out" in "".join(words(parsed(masks._repr_mimebundle_()["image/svg+xml"])))


def test_names_do_not_end_comments_of_the_kernel():
    source = lowered("evil").source()
    first = source.splitlines()[0]
    assert first.startswith("/* ")
    assert first.count("*/") == 1
    assert first.endswith("*/")


def test_what_xml_cannot_write_is_replaced():
    root = parsed(trees.tree_svg(trees.Box("statement", "a\x00b\x1b[31m\ud800c")))
    assert "a\ufffdb\ufffd[31m\ufffdc" in words(root)
    assert escaped("<a href='x'>&\"") == "&lt;a href=&#x27;x&#x27;&gt;&amp;&quot;"


def test_forms_are_chosen():
    parts = {"text/plain": "a", "text/html": "b"}
    assert bundle(parts) == bundle(parts, None, []) == bundle(parts, set(), ()) == parts
    assert bundle(parts, ["text/html"], None) == {"text/html": "b"}
    assert bundle(parts, ["text/html"], ["text/html"]) == {}
    assert repr(Picture("<svg/>", "x")) == "<Picture: x>"
