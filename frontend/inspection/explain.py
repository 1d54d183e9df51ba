# SPDX-License-Identifier: MIT
"""`low.explain`: why, and why not, in three parts: legal?  chosen?  what would change it.

Legality is answered by `polyhedral.questions.legal`; this adds what the schedule did instead and the estimates at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from frontend.arrays.named import Names, name_of, names_of
from frontend.environment import session
from frontend.inspection.cost import cost
from frontend.inspection.layouts import change, chosen, laid
from frontend.inspection.slow import kernels, of_kernels, of_statements
from frontend.inspection.why import Why, nest_of, why
from frontend.lowering.built import Built
from frontend.usage import UsageError
from polyhedral.checks.check import Checked
from polyhedral.errors import ArgumentError, Remark
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Access, Role, Statement, reads, specialise
from polyhedral.ir.tree import Run, members_of
from polyhedral.machine.target import Target
from polyhedral.pipeline import analyze, prepared
from polyhedral.questions import legal
from polyhedral.questions.answers import Answer, Asked
from polyhedral.sets.instances import Family

USAGE = (
    "fuse S1 S2 [--at y,x] | tile S t=8,x=64 | parallel DIM [S] | vectorize DIM [S] | bounds S"
    ' | layout T "b y x" | why [S|slow]'
)


class Looked(Protocol):
    """What of a Lowered is looked at."""

    module: Any
    sizes: dict[str, int]
    built: Built

    @property
    def remarks(self) -> tuple[Remark, ...]: ...


@dataclass(frozen=True)
class Explanation:
    """An answer in three parts; true when what was asked is legal."""

    question: str
    legal: bool
    answer: tuple[str, ...]
    chosen: tuple[str, ...] = ()
    change: tuple[str, ...] = ()
    facts: Answer | None = None
    kind: str = "question"
    predicted: tuple[dict[str, object], ...] = ()

    def __bool__(self) -> bool:
        return self.legal

    def __str__(self) -> str:
        def block(title: str, lines: Sequence[str]) -> str:
            return f"{title} " + "\n".join(lines).replace("\n", "\n" + " " * (len(title) + 1))

        parts = [block("legal? ", [("yes: " if self.legal else "no: ") + self.answer[0], *self.answer[1:]])]
        parts += [block("chosen:", self.chosen or ("nothing is recorded",))]
        parts += [block("change:", self.change or ("nothing needs to",))]
        return "\n".join(parts)

    def to_json(self) -> dict[str, object]:
        facts = {} if self.facts is None else self.facts.to_json()
        v = None if self.facts is None else self.facts.violation
        hint = [] if self.facts is None else [r.hint for r in self.facts.remedies if r.hint]
        return {
            "schema": "polyhedral.explain/1",
            "code": None if self.legal else "PH401",
            "question": self.question,
            "legal": self.legal,
            "statement": self.facts.statements[0] if self.facts is not None else None,
            "dims": [d for d, _ in self.facts.distance] if self.facts is not None else [],
            "point": dict(v.then_at) if v else None,
            "sizes": None,
            "dependence": facts.get("dependence"),
            "distance": facts.get("distance"),
            "deltas": facts.get("deltas"),
            "answer": list(self.answer),
            "chosen": list(self.chosen),
            "change": list(self.change),
            "hint": hint,
            "predicted": list(self.predicted),
        }


class Explain:
    """Questions about a lowered program: `low.explain.fuse("conv", "relu")`, `.tile("u", t=8, x=64)`, ..."""

    def __init__(self, low: Looked) -> None:
        self._low = low

    @cached_property
    def _asked(self) -> Asked:
        """The program in the user's dims, before register tiles fuse and split them."""
        return Asked(analyze(prepared(specialise(self._low.module.program, self._low.sizes))))

    @property
    def _target(self) -> Target:
        return session.current().target(self._low.built.options)

    def fuse(self, one: str, two: str, at: Names | None = None) -> Explanation:
        """May two statements share loops, over `at` or over all that they can share?"""
        q = self._asked
        answer = legal.fuse(q, one, two, None if at is None else names_of(at))
        kept = self._kept_in_cache(q.analyzed.program.statement(q.statement(one)))
        both = [q.statement(one), q.statement(two)]
        together = both[1] in nest_of(both[0], self._low.remarks)
        alone = () if together else ("estimated: each has its own loops",)
        return self._explained(answer, both, kept, alone)

    def tile(self, statement: str, **sizes: int) -> Explanation:
        """May the loops of a statement be tiled, in this order and with these sizes?"""
        q = self._asked
        answer = legal.tile(q, statement, sizes)
        s = q.analyzed.program.statement(q.statement(statement))
        return self._explained(answer, [s.name], self._footprint(s, sizes))

    def parallel(self, dim: Any, statement: str | None = None) -> Explanation:
        """May the iterations of a dim run on all cores?"""
        answer = legal.parallel(self._asked, name_of(dim), statement)
        return self._explained(answer, answer.statements, self._extent(answer.statements, name_of(dim)))

    def vectorize(self, dim: Any, statement: str | None = None) -> Explanation:
        """May the iterations of a dim be lanes of a vector?"""
        answer = legal.vectorise(self._asked, name_of(dim), statement)
        return self._explained(answer, answer.statements, self._strides(answer.statements, name_of(dim)))

    def bounds(self, statement: str) -> Explanation:
        """What is proved of the accesses of a statement, and what the sizes must satisfy."""
        s = self._asked.statement(statement)
        checked: Checked = self._low.module.checked
        proofs = [str(p) for p in checked.proofs if p.statement == s]
        needs = [str(p) for p in checked.preconditions if p.statement == s]
        assumed = [f"assumed of the sizes: {c}" for c in checked.program.assumptions if c != aff.TRUE]
        return Explanation(
            f"bounds of {statement}",
            True,
            tuple(proofs) or (f"{s} reads nothing",),
            tuple(assumed),
            tuple(needs),
            kind="bounds",
        )

    def layout(self, array: str, order: Names | None = None) -> Explanation:
        """Where a tensor lies and why, and whether another axis order could be asked for, at what price."""
        p = self._low.built.program
        a = next((a for a in p.arrays if a.name == array), None)
        if a is None:
            raise ArgumentError(
                "PH402", f"{p.name} has no tensor {array!r}", hints=(f"it has {', '.join(a.name for a in p.arrays)}",)
            )
        found = laid(self._low.built, array)
        free = a.role in (Role.OUTPUT, Role.TEMPORARY)
        asked = None if order is None else names_of(order)
        if asked is not None and sorted(asked) != sorted(a.dim_names):
            raise ArgumentError(
                "PH402",
                f"layout {array} {' '.join(asked)!r}: {array} has {{{', '.join(a.dim_names)}}}",
                hints=("name each dim once",),
            )
        why = "any axis order is" if free else f"{array} is an {a.role.value}, and these keep the caller's strides"
        return Explanation(
            f"layout of {array}", free, (why,), tuple(chosen(found, asked)), tuple(change(found, asked)), kind="layout"
        )

    def slow(self) -> Explanation:
        """Where the predicted time of a whole call goes: statements, or kernels of a device, the slowest first; what
        bounds those, and what would change it.
        """
        built, program = self._low.built, self._low.built.program
        if built.mapped is not None:
            found = of_kernels(program.name, built.mapped)
        else:
            kinds = [a.dtype.bits for a in program.with_role(Role.OUTPUT, Role.INOUT)]
            work = cost(self._low.module.program, self._low.sizes, built.placement(self._low.sizes))
            bits = 64 if max(kinds, default=32) >= 64 else 32
            found = of_statements(program.name, list(self._bounds_of(None)), work, bits, self._target)
        loops = [line for w in found.most for n in self._names(w.statement.split(" and ")) for line in self._loops(n)]
        refused = [str(r) for r in self._low.remarks if not r.data]
        return Explanation(
            f"why {program.name} is slow",
            True,
            ("the oracle accepts the whole schedule", *found.lines()),
            (*(line for w in found.most for line in w.plan), *loops),
            (*(line for w in found.most for line in w.change), *(refused or ("nothing was refused",))),
            kind="slow",
            predicted=tuple(w.to_json() for w in (*found.ranked, *found.unknown)),
        )

    def why(self, statement: str | None = None) -> Explanation:
        """What bounds one statement, or each, by predicted cycles; its plan, and what was refused on the way.  A kernel
        of a device has the name of any statement in it, the program's own name stands for all.
        """
        statement = None if statement == self._low.built.program.name else statement
        names = (
            self._names([self._asked.statement(statement)])
            if statement
            else [s.name for s in self._low.built.program.statements]
        )
        about = [
            r
            for r in self._low.remarks
            if statement is None or r.statement is None or set(r.statement.split(" and ")) & set(names)
        ]
        remarks = [str(r) for r in about if not r.data]
        found = list(self._bounds_of(statement))
        chosen = [*(line for w in found for line in w.plan), *(line for n in names for line in self._loops(n))]
        chosen += [str(r) for r in about if r.data]
        asked = f"why {statement}" if statement else f"why {self._low.built.program.name}"
        return Explanation(
            asked,
            True,
            ("the oracle accepts the whole schedule", *(line for w in found for line in w.lines())),
            tuple(chosen),
            (*(line for w in found for line in w.change), *(remarks or ("nothing was refused",))),
            kind="why",
            predicted=tuple(w.to_json() for w in found),
        )

    def _bounds_of(self, statement: str | None) -> Iterator[Why]:
        """What bounds a statement, or each; on a device the kernels that have it."""
        wanted = None if statement is None else self._asked.statement(statement)
        mapped = self._low.built.mapped
        if mapped is not None:
            yield from (w for w in kernels(mapped) if wanted is None or wanted in w.statement.split(" and "))
            return
        for s in self._asked.analyzed.program.statements:
            if wanted in (None, s.name):
                yield why(s, self._low.built, self._target, self._low.remarks, self._once)

    @property
    def _once(self) -> frozenset[str]:
        """Arguments that stay the same from call to call."""
        once = self._low.built.once
        return frozenset[str]() if once is None else frozenset(a.name for a in once.program.with_role(Role.INPUT))

    def names(self, word: str) -> bool:
        """Whether a word is a statement or a tensor of this program."""
        p = self._asked.analyzed.program
        return word in {n for s in p.statements for n in (s.name, s.write.array)}

    # --- parts -------------------------------------------------------------------------------------------------------

    def _explained(self, answer: Answer, statements: Sequence[str], *estimates: Iterable[str]) -> Explanation:
        chosen = [line for n in self._names(statements) for line in self._loops(n)]
        chosen += [str(r) for r in self._low.remarks if set((r.statement or "").split(" and ")) & set(statements)]
        chosen += [line for e in estimates for line in e]
        first, *rest = str(answer).split("\n")
        lines = [
            first.split("; legal ")[0] if answer.remedies and not rest else first,
            *(r for r in rest if "legal instead" not in r),
        ]
        if answer.violation is not None:
            lines.append(f"witness: {answer.violation}")
        if answer.deltas:
            lines.append(f"isl: deltas {answer.deltas}")
        change = tuple(map(str, answer.remedies))
        if not change and answer.legal:
            change = (f"hint {answer.hint} asks for it",) if answer.hint else ()
        return Explanation(
            answer.question,
            answer.legal,
            tuple(lines),
            tuple(chosen),
            change or (() if answer.legal else ("no remedy is known",)),
            answer,
        )

    def _names(self, statements: Sequence[str]) -> list[str]:
        """The statements of the planned program that came from these (register tiles split some)."""
        planned = [s.name for s in self._low.built.program.statements]
        return [
            n
            for n in planned
            if n in statements or any(n.startswith(f"{s}_") and n not in self._originals for s in statements)
        ]

    @cached_property
    def _originals(self) -> frozenset[str]:
        return frozenset(s.name for s in self._asked.analyzed.program.statements)

    def _loops(self, statement: str) -> Iterator[str]:
        """`u: wave serial, t tile 32 parallel, ...`, one line for each family."""
        frame = self._low.built.analyzed.frame
        for f in frame.families:
            if f.statement.name == statement:
                loops = [
                    self._loop(f, m.name, m.time(f.id), m.run)
                    for m in members_of(self._low.built.scheduled.schedule.tree, f.id)
                ]
                yield f"{f.shown} runs in " + (", ".join(loops) or "no loop")

    @staticmethod
    def _loop(f: Family, name: str, time: Affine, run: Run) -> str:
        sizes = {t.divisor for t, _ in time.terms if isinstance(t, aff.Floor)}
        tile = f" of {sizes.pop()}" if len(sizes) == 1 else ""
        return f"{name}{tile}" + ("" if run is Run.SERIAL else f" ({run.value})")

    # --- estimates ---------------------------------------------------------------------------------------------------

    def _footprint(self, s: Statement, sizes: Mapping[str, int]) -> Iterator[str]:
        """Bytes that one tile touches, against the caches."""
        p = self._asked.analyzed.program
        box = {r.dim: sizes.get(r.dim, _number(r.hi - r.lo)) for r in s.domain.ranges}
        unknown = [d for d, n in box.items() if n is None]
        if unknown:
            yield f"estimated footprint of a tile: unknown, {', '.join(unknown)} is of symbolic extent (-s fixes it)"
            return
        touched: dict[str, int] = {}
        for access in (
            s.write,
            *(Access(r.array, tuple((d, i) for d, i in r.index if isinstance(i, Affine))) for r in reads(s)),
        ):
            cells = 1
            for _, i in access.index:
                cells *= 1 + sum(
                    abs(i.coefficient(aff.Var(d))) * ((box[d] or 1) - 1) for d in aff.dims_of(i) & box.keys()
                )
            touched[access.array] = max(
                touched.get(access.array, 0), cells * p.array(access.array).dtype.numpy.itemsize
            )
        total = sum(touched.values())
        t = self._target
        fits = next((name for name, size in (("L1", t.l1), ("L2", t.l2), ("L3", t.l3)) if total <= size), "no cache")
        shown = ", ".join(f"{a} {_bytes(n)}" for a, n in touched.items())
        caches = f"L1 {_bytes(t.l1)}, L2 {_bytes(t.l2)}"
        yield f"estimated footprint of a tile: {shown}; {_bytes(total)} together, fits {fits} ({caches})"

    def _extent(self, statements: Sequence[str], dim: str) -> Iterator[str]:
        p = self._asked.analyzed.program
        for n in statements:
            span = next((r.hi - r.lo for r in p.statement(n).domain.ranges if r.dim == dim), None)
            if span is not None:
                yield f"estimated: {dim} has {span} iterations in {n}, for {self._target.cores} cores"

    def _strides(self, statements: Sequence[str], dim: str) -> Iterator[str]:
        p = self._asked.analyzed.program
        for n in statements:
            s = p.statement(n)
            shown: list[str] = []
            for array, index in (s.write.array, s.write.index), *((r.array, r.index) for r in reads(s)):
                layout = self._low.built.layouts.get(array)
                step = 0 if layout is not None else None
                for d, i in index:
                    c = i.coefficient(aff.Var(dim)) if isinstance(i, Affine) else 1
                    stride = None if layout is None else layout.stride(d)
                    if c:
                        step = step + c * stride if step is not None and isinstance(stride, int) else None
                shown.append(f"{array} {'unknown' if step is None else step}")
            found = ", ".join(dict.fromkeys(shown))
            yield f"estimated: strides along {dim} in {n}: {found} (1 is best, 0 is a broadcast)"

    def _kept_in_cache(self, s: Statement) -> Iterator[str]:
        p = self._asked.analyzed.program
        total = p.array(s.write.array).dtype.numpy.itemsize
        for _, e in p.array(s.write.array).dims:
            if not e.is_const:
                return
            total *= e.const
        yield f"estimated: {s.write.array} takes {_bytes(total)}; fused, what is read soon after stays in cache"


def _number(e: Affine) -> int | None:
    return e.const if e.is_const else None


def _bytes(n: int) -> str:
    return f"{n} B" if n < 1024 else f"{n / 1024:.1f} KiB" if n < 1 << 20 else f"{n / (1 << 20):.1f} MiB"


# --- the command line ------------------------------------------------------------------------------------------------


def ask(low: Any, question: str, words: Sequence[str], at: str | None) -> Explanation:
    """A question in the words of the command line."""
    explain = Explain(low)
    match (question, *words):
        case ("fuse", one, two):
            return explain.fuse(one, two, None if at is None else at.replace(",", " "))
        case ("tile", statement, *sizes) if sizes:
            return explain.tile(statement, **dict(map(_size, ",".join(sizes).split(","))))
        case ("parallel", dim, *rest) if len(rest) < 2:
            return explain.parallel(dim, *rest)
        case ("vectorize" | "vectorise", dim, *rest) if len(rest) < 2:
            return explain.vectorize(dim, *rest)
        case ("bounds", statement):
            return explain.bounds(statement)
        case ("layout", array, *order):
            return explain.layout(array, " ".join(order) or None)
        case ("why", word) if word.lower() == "slow" and not explain.names(word):
            return explain.slow()
        case ("why", *rest) if len(rest) < 2:
            return explain.why(*rest)
        case _:
            raise UsageError(f"explain {' '.join([question, *words])}: ask one of {USAGE}")


def _size(text: str) -> tuple[str, int]:
    dim, _, n = text.partition("=")
    if not dim.strip() or not n.strip().isdigit():
        raise UsageError(f"explain tile: {text!r} is not DIM=SIZE, such as x=64")
    return dim.strip(), int(n)
