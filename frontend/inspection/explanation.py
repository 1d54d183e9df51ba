# SPDX-License-Identifier: MIT
"""An explanation: is it legal, what was chosen, what would change it; as text and as JSON.

Questions are answered in `frontend.inspection.explain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyhedral.questions.answers import Answer


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
