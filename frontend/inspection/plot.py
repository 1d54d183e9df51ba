# SPDX-License-Identifier: MIT
"""`low.plot`: pictures of a lowered program, and what notebooks show of it.

Gathers what there is to draw; drawing is `frontend.pictures`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frontend.lowering.built import Built
from frontend.pictures import graphs, trees
from frontend.pictures.cells import Cells, layout_svg
from frontend.pictures.graphs import Graph
from frontend.pictures.page import sections
from frontend.pictures.svg import Picture, escaped, headed
from frontend.pictures.timelines import Timeline, timeline_svg
from polyhedral.errors import ArgumentError
from polyhedral.ir import affine as aff
from polyhedral.ir.program import Program
from polyhedral.ir.tree import Tree
from polyhedral.scheduling.schedule import original
from polyhedral.sets.instances import families
from polyhedral.whole.storage import steps


@dataclass(frozen=True, eq=False)
class Plot:
    """Pictures as SVG, for the sizes that are known; `str` of one is its text, `save` writes it."""

    built: Built
    sizes: Mapping[str, int]

    def graph(self) -> Picture:
        """Statements in their loop nests, arrays between them with bytes."""
        found = graph(self.built, self.sizes)
        return Picture(graphs.svg(found), str(found))

    def memory(self, **sizes: int) -> Picture:
        """Which intermediate results live when and where, the peak, and who shares memory with whom."""
        found = timeline(self.built, {**self.sizes, **sizes})
        return Picture(timeline_svg(found), str(found))

    def layout(self, *arrays: str) -> Picture:
        """Where the cells of arrays lie, coloured by address; all whose strides are known, or those that are named."""
        every = [a.name for a in self.built.program.arrays]
        for name in arrays:
            if name not in every:
                raise ArgumentError("PH045", f"there is no array {name!r}", hints=(f"arrays are {', '.join(every)}",))
        found = cells(self.built, self.sizes, arrays or every)
        return Picture(layout_svg(found), "\n".join(c.caption() for c in found))

    def schedule(self, which: str = "final") -> Picture:
        """The schedule tree, `initial` or `final`: boxes run for each iteration of what is around them."""
        tree = self.built.scheduled.schedule.tree
        tree = original(self.built.analyzed.frame.families) if which == "initial" else tree
        return Picture(tree_svg(self.built, tree), f"schedule of {self.built.program.name}")


def graph(built: Built, sizes: Mapping[str, int]) -> Graph:
    return graphs.graph(built.program, built.scheduled.schedule.tree, sizes)


def timeline(built: Built, sizes: Mapping[str, int]) -> Timeline:
    """Steps are named by their statements; sizes that are not known count as 1."""
    shown = {f.id: f.statement.name for f in built.analyzed.frame.families}
    order = steps(built.scheduled.schedule.tree)
    inside = [s or tuple(shown) for s in order]
    named = tuple(", ".join(dict.fromkeys(shown[f] for f in s)) for s in inside)
    needed = {n for life in built.lives for e in life.extents for n in aff.sizes_of(e)}
    return Timeline(built.placement(sizes), named, tuple(sorted(needed - sizes.keys())))


def cells(built: Built, sizes: Mapping[str, int], arrays: Sequence[str]) -> list[Cells]:
    """The arrays among these whose extents and strides are known."""
    found: list[Cells] = []
    for a in (built.program.array(n) for n in arrays):
        strides = {d: s for d, s in built.layouts[a.name].strides if isinstance(s, int)}
        if len(strides) == len(a.dims) and all(aff.sizes_of(e) <= sizes.keys() for _, e in a.stored):
            dims = tuple((d, max(aff.evaluate(e, {}, sizes), 0), strides[d]) for d, e in a.stored)
            found.append(Cells(a.name, dims, a.dtype.numpy.itemsize))
    return found


def tree_svg(built: Built, tree: Tree) -> str:
    return trees.tree_svg(trees.boxes(tree, {f.id: f.shown for f in built.analyzed.frame.families}))


def folds(plot: Plot, texts: Mapping[str, str], opened: Sequence[str] = ()) -> str:
    """HTML of a lowered program: its graph, schedule, memory and layouts as pictures, then these texts, folded."""
    pictures = {
        "statements": plot.graph(),
        "schedule": plot.schedule(),
        "memory": plot.memory(),
        "layouts": plot.layout(),
    }
    every = {**{n: p.text for n, p in pictures.items()}, **texts}
    return sections(every, {n: p.svg for n, p in pictures.items()}, opened)


def of_program(shown: str, text: str, program: Program | None) -> dict[str, str]:
    """A program for notebooks: its text, and its statements in the order in which they are written."""
    if program is None:
        return {"text/plain": shown, "text/html": headed(shown, f"<pre>{escaped(text)}</pre>")}
    found = graphs.graph(program, original(families(program)), {})
    svg = graphs.svg(found)
    texts = {"program": text, "statements": str(found)}
    page = headed(shown, sections(texts, {"statements": svg}, texts))
    return {"text/plain": shown, "text/html": page, "image/svg+xml": svg}
