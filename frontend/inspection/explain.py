# SPDX-License-Identifier: MIT
"""`low.explain`: why, and why not, in three parts: legal?  chosen?  what would change it.

Legality is answered by `polyhedral.questions.legal`; this adds what the schedule did instead and the estimates at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

from frontend.arrays.names import Names, name_of, names_of
from frontend.environment import session
from frontend.inspection import estimates
from frontend.inspection.cost import cost
from frontend.inspection.explanation import Explanation
from frontend.inspection.layouts import change, chosen, laid
from frontend.inspection.slow import kernels, of_kernels, of_statements
from frontend.inspection.why import Why, nest_of, why
from frontend.lowering.built import Built
from polyhedral.checks.check import Checked
from polyhedral.errors import ArgumentError, Remark
from polyhedral.ir import affine as aff
from polyhedral.ir.affine import Affine
from polyhedral.ir.program import Program, Role, specialise
from polyhedral.ir.tree import Run, members_of
from polyhedral.machine.target import Target
from polyhedral.pipeline import analyze, prepared
from polyhedral.questions import legal
from polyhedral.questions.answers import Answer, Asked
from polyhedral.sets.instances import Family


class Looked(Protocol):
    """What of a Lowered is looked at."""

    module: Any
    sizes: dict[str, int]
    built: Built

    @property
    def remarks(self) -> tuple[Remark, ...]: ...


class Explain:
    """Questions about a lowered program: `low.explain.fuse("conv", "relu")`, `.tile("u", t=8, x=64)`, ..."""

    def __init__(self, low: Looked) -> None:
        self._low = low

    @cached_property
    def _asked(self) -> Asked:
        """The program in the user's dims, before register tiles fuse and split them."""
        return Asked(analyze(prepared(specialise(self._low.module.program, self._low.sizes))))

    @property
    def _program(self) -> Program:
        return self._asked.analyzed.program

    @property
    def _target(self) -> Target:
        return session.current().target(self._low.built.options)

    def fuse(self, one: str, two: str, at: Names | None = None) -> Explanation:
        """May two statements share loops, over `at` or over all that they can share?"""
        q = self._asked
        answer = legal.fuse(q, one, two, None if at is None else names_of(at))
        kept = estimates.kept_in_cache(self._program, self._program.statement(q.statement(one)))
        both = [q.statement(one), q.statement(two)]
        together = both[1] in nest_of(both[0], self._low.remarks)
        alone = () if together else ("estimated: each has its own loops",)
        return self._explained(answer, both, kept, alone)

    def tile(self, statement: str, **sizes: int) -> Explanation:
        """May the loops of a statement be tiled, in this order and with these sizes?"""
        q = self._asked
        answer = legal.tile(q, statement, sizes)
        s = self._program.statement(q.statement(statement))
        return self._explained(answer, [s.name], estimates.footprint(self._program, s, sizes, self._target))

    def parallel(self, dim: Any, statement: str | None = None) -> Explanation:
        """May the iterations of a dim run on all cores?"""
        answer = legal.parallel(self._asked, name_of(dim), statement)
        found = estimates.extent(self._program, answer.statements, name_of(dim), self._target)
        return self._explained(answer, answer.statements, found)

    def vectorize(self, dim: Any, statement: str | None = None) -> Explanation:
        """May the iterations of a dim be lanes of a vector?"""
        answer = legal.vectorise(self._asked, name_of(dim), statement)
        found = estimates.strides(self._program, answer.statements, name_of(dim), self._low.built.layouts)
        return self._explained(answer, answer.statements, found)

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
        for s in self._program.statements:
            if wanted in (None, s.name):
                yield why(s, self._low.built, self._target, self._low.remarks, self._once)

    @property
    def _once(self) -> frozenset[str]:
        """Arguments that stay the same from call to call."""
        once = self._low.built.once
        return frozenset[str]() if once is None else frozenset(a.name for a in once.program.with_role(Role.INPUT))

    def names(self, word: str) -> bool:
        """Whether a word is a statement or a tensor of this program."""
        return word in {n for s in self._program.statements for n in (s.name, s.write.array)}

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
        return frozenset(s.name for s in self._program.statements)

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
