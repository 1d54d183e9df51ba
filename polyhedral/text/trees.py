# SPDX-License-Identifier: MIT
"""Schedule trees as plain data, for JSON: written for people and programs, and read back.

    tree := null | {"band": [{"name", "run", "coincident", "time": {statement: index}}], "permutable", "child"}
          | {"sequence": [{"statements", "child"}], "waits"} | {"registers": array, ..., "child"}
          | {"local": array, "cells", "folds", "child"} | {"block": array, "cells", "child"}

Statements have the names that users see (`conv`, `conv.init`).  Whether a tree that was read is one of the program, and
legal, is `polyhedral.questions.proposed`' to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never, cast

from polyhedral.errors import ArgumentError
from polyhedral.ir import tree as tr
from polyhedral.ir.affine import Affine
from polyhedral.ir.tree import Tree
from polyhedral.sets.instances import Family
from polyhedral.text.printer import affine_text
from polyhedral.text.tokens import read_affine

DEPTH = 200
"""Deepest tree that is read."""
_HINT = "polyhedral show TARGET --stage schedule --format json -o FILE writes one"


# --- written ---------------------------------------------------------------------------------------------------------


def data_of(tree: Tree, families: Sequence[Family]) -> Any:
    """A schedule tree as plain data."""
    return _data(tree, {f.id: f for f in families})


def _data(tree: Tree, families: Mapping[str, Family]) -> Any:
    match tree:
        case tr.Leaf():
            return None
        case tr.Band(members, child):
            found = [
                {
                    "name": m.name,
                    "run": m.run.value,
                    "coincident": m.coincident,
                    "time": {families[f].shown: affine_text(t, families[f].dims) for f, t in m.times},
                }
                for m in members
            ]
            return {"band": found, "permutable": tree.permutable, "child": _data(child, families)}
        case tr.Filter(inside, child):
            return {"statements": [families[f].shown for f in inside], "child": _data(child, families)}
        case tr.Sequence(children, waits):
            return {"sequence": [_data(c, families) for c in children], **({"waits": list(waits)} if waits else {})}
        case tr.Promote(array, child, streams, partials, stored, ahead):
            kept = {"streams": streams, "partials": partials, "stored": stored, "ahead": [list(a) for a in ahead]}
            return {"registers": array, **kept, "child": _data(child, families)}
        case tr.Local(array, folds, child):
            kept = [
                {"axis": x.axis, "size": x.size, "up": x.up, "further": x.further and list(x.further)} for x in folds
            ]
            cells = {x.axis: x.size for x in folds}
            return {"local": array, "cells": cells, "folds": kept, "child": _data(child, families)}
        case tr.Stage(array, box, child):
            held = {c.axis: [str(c.first), c.size] for c in box}
            return {"block": array, "cells": held, "child": _data(child, families)}
        case _:
            assert_never(tree)


# --- read ------------------------------------------------------------------------------------------------------------


def tree_of(value: object, families: Sequence[Family], sizes: Sequence[str]) -> Tree:
    """The tree that plain data states.  ArgumentError PH405 where it is of another form, PH404 for statements that the
    program has not, PH060 and PH001 for a time that is no index over a statement's dims.
    """
    return _Reader({f.shown: f for f in families}, tuple(sizes)).tree(value, 0)


class _Reader:
    """Reads nodes; knows the families by the names that users see."""

    def __init__(self, families: Mapping[str, Family], sizes: tuple[str, ...]) -> None:
        self.families = families
        self.sizes = sizes

    def tree(self, value: object, depth: int) -> Tree:
        if value is None:
            return tr.Leaf()
        if depth > DEPTH:
            raise _malformed(f"it is more than {DEPTH} levels deep")
        node = _object(value, "a node")
        child = node.get("child")
        if "band" in node:
            members = tuple(self.member(m) for m in _list(node["band"], "band"))
            if not members:
                raise _malformed("a band has no members")
            return tr.Band(members, self.tree(child, depth + 1), _flag(node, "permutable"))
        if "sequence" in node:
            parts = tuple(self.part(c, depth) for c in _list(node["sequence"], "sequence"))
            return tr.Sequence(parts, tuple(_whole(w, "waits") for w in _list(node.get("waits", []), "waits")))
        if "registers" in node:
            ahead = (_list(a, "ahead") for a in _list(node.get("ahead", []), "ahead"))
            return tr.Promote(
                _text(node["registers"], "registers"),
                self.tree(child, depth + 1),
                _flag(node, "streams"),
                _whole(node.get("partials", 1), "partials"),
                _flag(node, "stored", default=True),
                tuple((_text(a, "ahead"), _whole(n, "ahead")) for a, n in map(_two, ahead)),
            )
        if "local" in node:
            folds = tuple(_fold(x) for x in _list(node.get("folds"), "folds"))
            return tr.Local(_text(node["local"], "local"), folds, self.tree(child, depth + 1))
        if "statements" in node:
            return self.part(value, depth)
        raise _malformed(f"a node has {', '.join(map(repr, node)) or 'nothing'}, and none of band, sequence, registers")

    def part(self, value: object, depth: int) -> tr.Filter:
        node = _object(value, "a part of a sequence")
        inside = tuple(self.family(s).id for s in _list(node.get("statements"), "statements"))
        return tr.Filter(inside, self.tree(node.get("child"), depth + 1))

    def member(self, value: object) -> tr.Member:
        node = _object(value, "a member of a band")
        times = _object(node.get("time"), "time")
        try:
            run = tr.Run(node.get("run", "serial"))
        except ValueError:
            known = ", ".join(r.value for r in tr.Run)
            raise _malformed(f"{node.get('run')!r} is no way to run a loop; ways are {known}") from None
        found = tuple((self.family(s).id, self.time(s, t)) for s, t in times.items())
        return tr.Member(_text(node.get("name"), "name"), found, _flag(node, "coincident"), run)

    def family(self, shown: object) -> Family:
        found = self.families.get(shown) if isinstance(shown, str) else None
        if found is None:
            raise ArgumentError(
                "PH404",
                f"the schedule orders {shown!r}, which this program has not",
                details=(f"it has {', '.join(self.families)}",),
                hints=(_HINT,),
            )
        return found

    def time(self, shown: str, text: object) -> Affine:
        """A time as an index over the dims of its statement."""
        if isinstance(text, int) and not isinstance(text, bool):
            text = str(text)
        dims = self.family(shown).dims
        return read_affine(_text(text, f"the time of {shown}"), dims, self.sizes, f"time of {shown}")


def _fold(value: object) -> tr.Fold:
    x = _object(value, "a fold")
    further = x.get("further")
    two = None if further is None else _two(_list(further, "further"))
    return tr.Fold(
        _text(x.get("axis"), "axis"),
        _whole(x.get("size"), "size"),
        _whole(x.get("up"), "up"),
        None if two is None else (_whole(two[0], "further"), _whole(two[1], "further")),
    )


def _malformed(why: str) -> ArgumentError:
    return ArgumentError("PH405", f"this is no schedule that can be read: {why}", hints=(_HINT,))


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _malformed(f"{what} is a {type(value).__name__}, not an object")
    return cast("Mapping[str, object]", value)


def _list(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise _malformed(f"{what} is a {type(value).__name__}, not a list")
    return cast("Sequence[object]", value)


def _two(value: Sequence[object]) -> tuple[object, object]:
    if len(value) != 2:
        raise _malformed(f"{list(value)} are not two")
    return value[0], value[1]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _malformed(f"{what} is {value!r}, not a text")
    return value


def _whole(value: object, what: str) -> int:
    if type(value) is not int:
        raise _malformed(f"{what} is {value!r}, not a whole number")
    return value


def _flag(node: Mapping[str, object], name: str, *, default: bool = False) -> bool:
    value = node.get(name, default)
    if not isinstance(value, bool):
        raise _malformed(f"{name} is {value!r}, not true or false")
    return value
