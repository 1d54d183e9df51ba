# SPDX-License-Identifier: MIT
"""What questions of legality are asked of, and what they answer: values that print in the user's words.

The questions themselves are in `polyhedral.questions.legal` and `polyhedral.questions.fusing`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from polyhedral.errors import ArgumentError, DimError, LegalityError
from polyhedral.ir.cluster import components
from polyhedral.ir.tree import Filter, Leaf, Tree
from polyhedral.ir.tree import Sequence as InOrder
from polyhedral.oracle.legality import Pairs, Violation, obligations, violation
from polyhedral.pipeline import Analyzed
from polyhedral.questions.proposals import PLAIN, Part, Shape, part_of
from polyhedral.sets.instances import Family


@dataclass(frozen=True)
class Remedy:
    """Something that would be legal instead; `hint` is how to ask for it."""

    text: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.text if self.hint is None else f"{self.text}: hint {self.hint}"


@dataclass(frozen=True)
class Answer:
    """Whether what was asked for is legal; `tree` orders the families of `statements` as asked.

    If not: the pair of instances that forbids it, how far apart they are over the dims asked about, and remedies.
    """

    question: str
    legal: bool
    statements: tuple[str, ...]
    tree: Tree | None = None
    reasons: tuple[str, ...] = ()
    violation: Violation | None = None
    distance: tuple[tuple[str, int], ...] = ()
    deltas: str | None = None
    remedies: tuple[Remedy, ...] = ()
    hint: str | None = None

    def __bool__(self) -> bool:
        return self.legal

    def __str__(self) -> str:
        if self.legal:
            return f"{self.question} is legal" + (f" ({'; '.join(self.reasons)})" if self.reasons else "")
        head = f"{self.question} is not legal"
        if len(self.reasons) > 1:
            remedies = (f"\n  legal instead: {'; or '.join(r.text for r in self.remedies)}",) if self.remedies else ()
            return head + ":" + "".join(f"\n  {r}" for r in self.reasons) + "".join(remedies)
        text = head + "".join(f": {r}" for r in self.reasons)
        text += "; " + "; or ".join(map(str, self.remedies)) if self.remedies else ""
        return text + (f" [isl: deltas {self.deltas}]" if self.deltas else "")

    def error(self) -> LegalityError:
        """PH401, for a refused hint."""
        v = self.violation
        return LegalityError(
            "PH401",
            f"{self.question} is not legal" + (f": {self.reasons[0]}" if len(self.reasons) == 1 else ""),
            details=(
                *(self.reasons if len(self.reasons) > 1 else ()),
                *((f"witness: {v}",) if v else ()),
                *((f"isl: deltas {self.deltas}",) if self.deltas else ()),
            ),
            hints=tuple(r.text if r.hint is None else f"{r.hint}   # {r.text}" for r in self.remedies)
            or ("leave the hint out: the schedule then chooses for itself",),
            statement=self.statements[0],
            dim=next((d for d, n in self.distance if n < 0), self.distance[0][0] if self.distance else None),
            point=dict(v.then_at) if v else None,
        )

    def to_json(self) -> dict[str, object]:
        v = self.violation
        pair = None if v is None else {
            "first": {"statement": v.first, "point": dict(v.first_at)},
            "then": {"statement": v.then, "point": dict(v.then_at)},
            "tensor": v.array,
            "why": v.why,
        }  # fmt: skip
        return {
            "question": self.question,
            "legal": self.legal,
            "statements": list(self.statements),
            "dependence": pair,
            "distance": dict(self.distance) or None,
            "deltas": self.deltas,
            "reasons": list(self.reasons),
            "remedies": [{"text": r.text, "hint": r.hint} for r in self.remedies],
        }


@dataclass(frozen=True, eq=False)
class Asked:
    """An analyzed program with its obligations, which every question needs."""

    analyzed: Analyzed

    @cached_property
    def pairs(self) -> tuple[Pairs, ...]:
        return obligations(self.analyzed.program)

    @cached_property
    def flow(self) -> tuple[Pairs, ...]:
        """The obligations that do not come from storage shared along time."""
        p = self.analyzed.program
        return obligations(replace(p, arrays=tuple(replace(a, planes=()) for a in p.arrays)))

    @cached_property
    def clusters(self) -> tuple[tuple[str, ...], ...]:
        return components([s.name for s in self.analyzed.program.statements], self.analyzed.dependences.edges)

    def cluster(self, statement: str) -> tuple[str, ...]:
        return next(c for c in self.clusters if statement in c)

    def families(self, *statements: str) -> tuple[Family, ...]:
        return tuple(f for f in self.analyzed.frame.families if f.statement.name in statements)

    def between(self, *statements: str) -> tuple[Pairs, ...]:
        return tuple(p for p in self.pairs if {p.first.statement.name, p.then.statement.name} <= set(statements))

    def statement(self, name: str) -> str:
        """A statement by its name or by the tensor that it writes (the one that updates it, where several do)."""
        p = self.analyzed.program
        if any(s.name == name for s in p.statements):
            return name
        edges = self.analyzed.dependences.edges
        writers = [s for s in p.statements if s.write.array == name]
        if writers:
            return max(writers, key=lambda s: ((s.name, s.name) in edges, len(s.dims))).name
        known = list(dict.fromkeys(n for s in p.statements for n in (s.name, s.write.array)))
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]!r}?" if near else f"its statements are {', '.join(known)}"
        raise ArgumentError("PH402", f"{p.name} has no statement {name!r}", hints=(meant,), statement=name)

    def dim(self, statement: str, dim: str) -> str:
        have = self.families(statement)[-1].dims
        if dim not in have:
            near = difflib.get_close_matches(dim, have, 1)
            hint = f"did you mean {near[0]!r}?" if near else "name one of its dims"
            text = f"{statement} has no dimension named {dim!r}; it has {{{', '.join(have)}}}"
            raise DimError("PH001", text, statement=statement, dim=dim, hints=(hint,))
        return dim

    def part(self, statement: str, shape: Shape = PLAIN) -> Part:
        return part_of(self.families(statement), self.pairs, shape)

    def violations(self, tree: Tree, statements: Sequence[str]) -> Iterator[tuple[Pairs, Violation]]:
        """The obligations among some statements that a tree over their families breaks."""
        inside = tuple(f.id for f in self.families(*statements))
        rest = tuple(f.id for f in self.analyzed.frame.families if f.id not in inside)
        parts = (Filter(inside, tree), *((Filter(rest, Leaf()),) if rest else ()))
        for pair in self.between(*statements):
            found = violation(self.analyzed.program, InOrder(parts), (pair,))
            if found is not None:
                yield pair, found

    def legal(self, tree: Tree | None, statements: Sequence[str]) -> bool:
        return tree is not None and next(self.violations(tree, statements), None) is None


def length(v: Violation) -> int:
    then = dict(v.then_at)
    return sum(abs(then[d] - n) for d, n in v.first_at if d in then)


def distance_of(pair: Pairs, v: Violation, dims: Sequence[str]) -> tuple[tuple[str, int], ...]:
    first, then = dict(v.first_at), dict(v.then_at)
    return tuple((d, then[d] - first[d]) for d in dims if d in first and d in then)
