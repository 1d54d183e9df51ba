# SPDX-License-Identifier: MIT
"""Preferences: which of a statement's candidate plans is to be used, as data that a search makes and a file keeps.

They pick among what `polyhedral.plans.candidates` weighs, so that a wrong one can be slow and nothing else; which of
them are good is for those to measure who make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyhedral.errors import Remark
from polyhedral.plans.candidates import Asked, Choice, ranked


@dataclass(frozen=True)
class Preferred:
    """A plan of a `statement`, and of all that are like it, as `polyhedral.plans.register_plan` describes it.

    `whole` are the dims along which the statement is planned as one block; `relaid` are the operands that are copied:
    array, dim and panel.
    """

    statement: str
    whole: tuple[str, ...]
    vector: str
    width: int
    rows: tuple[tuple[str, int], ...]
    order: tuple[str, ...]
    loops: tuple[tuple[str, int], ...]
    written: tuple[str, ...]
    relaid: tuple[tuple[str, str, int], ...]

    @property
    def tile(self) -> tuple[object, ...]:
        """What is held in registers and read from where: plans that have this in common differ in their loops alone."""
        return self.vector, self.width, self.rows, self.relaid

    def __str__(self) -> str:
        tile = " by ".join(f"{d}*{n}" for d, n in ((self.vector, self.width), *self.rows))
        loops = ", ".join(f"{d}/{n}" for d, n in self.loops)
        copies = ", ".join(dict.fromkeys(array for array, _, _ in self.relaid))
        parts = [tile, f"loops {loops}" if loops else "", f"sums {', '.join(self.order)}" if self.order else ""]
        parts += [
            f"written out {', '.join(self.written)}" if self.written else "",
            f"copies {copies}" if copies else "",
        ]
        return "; ".join(filter(None, parts))


@dataclass(frozen=True)
class Preferences:
    """The plans preferred, one for each statement that has one."""

    plans: tuple[Preferred, ...] = ()

    def of(self, asked: Asked) -> Preferred | None:
        """What is preferred for a statement, as it is planned here."""
        name, whole = asked.statement.name, _whole(asked)
        return next((x for x in self.plans if x.statement == name and x.whole == whole), None)

    def with_plan(self, plan: Preferred) -> Preferences:
        """These, with another plan for its statement."""
        kept = (x for x in self.plans if (x.statement, x.whole) != (plan.statement, plan.whole))
        return replace(self, plans=(*kept, plan))

    def __bool__(self) -> bool:
        return bool(self.plans)


NO_PREFERENCES = Preferences()


def described(asked: Asked, choice: Choice) -> Preferred:
    """A candidate as data."""
    plan = choice.plan
    loops = tuple((loop.dim, loop.size) for loop in plan.loops)
    relaid = tuple(sorted((o.load.array, d, panel) for o, d, panel in choice.relaid))
    return Preferred(
        asked.statement.name, _whole(asked), plan.vector, plan.width, plan.rows, plan.order, loops, plan.written, relaid
    )


def alternatives(asked: Asked) -> list[tuple[Preferred, Choice]]:
    """Every candidate once, the least predicted cycles first."""
    found: dict[Preferred, Choice] = {}
    for choice in ranked(asked):
        found.setdefault(described(asked, choice), choice)
    return list(found.items())


def preferred(asked: Asked, preferences: Preferences) -> Choice | None:
    """The candidate that is preferred; None where none is, or where it is no candidate."""
    wanted = preferences.of(asked)
    if wanted is None:
        return None
    choice = next((c for c in ranked(asked) if described(asked, c) == wanted), None)
    return None if choice is None else replace(choice, preferred=True)


def unused(preferences: Preferences, choices: Mapping[str, Choice]) -> tuple[Remark, ...]:
    """A remark for each plan that none of the `choices` made is: its statement is planned otherwise by now."""
    used = {x for c in choices.values() if c.preferred and c.asked and (x := preferences.of(c.asked))}
    why = "it is none of the plans that are weighed for it now"
    return tuple(
        Remark("preferred plan not used", f"{x}: {why}", x.statement) for x in preferences.plans if x not in used
    )


def _whole(asked: Asked) -> tuple[str, ...]:
    return tuple(sorted(asked.within.whole))
