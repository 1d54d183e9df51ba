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
class Together:
    """Whether statements run in common blocks, where they may."""

    members: tuple[str, ...]
    blocked: bool

    def __str__(self) -> str:
        return f"{' and '.join(self.members)} {'' if self.blocked else 'not '}in common blocks"


@dataclass(frozen=True)
class Lying:
    """How layouts are chosen: "global" for the best of the whole program, "greedy" for each as it is met first."""

    how: str

    def __str__(self) -> str:
        return f"{self.how} layouts"


Change = Preferred | Together | Lying
"""One thing that is otherwise than predicted."""


@dataclass(frozen=True)
class Preferences:
    """The plans preferred, one for each statement that has one, which statements run in common blocks whatever that is
    predicted to take, and how layouts are chosen, if not as options say.
    """

    plans: tuple[Preferred, ...] = ()
    blocks: tuple[Together, ...] = ()
    layouts: Lying | None = None

    def of(self, asked: Asked) -> Preferred | None:
        """What is preferred for a statement, as it is planned here."""
        name, whole = asked.statement.name, _whole(asked)
        return next((x for x in self.plans if x.statement == name and x.whole == whole), None)

    def blocked(self, members: tuple[str, ...]) -> bool | None:
        """Whether statements are to run in common blocks; None where prices decide."""
        return next((x.blocked for x in self.blocks if x.members == members), None)

    def changed(self, change: Change) -> Preferences:
        """These, with something else for what a change is about."""
        match change:
            case Preferred():
                kept = (x for x in self.plans if (x.statement, x.whole) != (change.statement, change.whole))
                return replace(self, plans=(*kept, change))
            case Together():
                return replace(self, blocks=(*(x for x in self.blocks if x.members != change.members), change))
            case Lying():
                return replace(self, layouts=change)

    @property
    def changes(self) -> tuple[Change, ...]:
        """One by one."""
        return (*self.plans, *self.blocks, *((self.layouts,) if self.layouts else ()))

    def __bool__(self) -> bool:
        return bool(self.changes)


NO_PREFERENCES = Preferences()
NOT_USED = "preferred plan not used"


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


def unused(
    preferences: Preferences, choices: Mapping[str, Choice], blocks: Mapping[tuple[str, ...], bool]
) -> tuple[Remark, ...]:
    """A remark for each plan that none of the `choices` made is, since its statement is planned otherwise by now, and
    for blocks that are not as preferred.
    """
    used = {x for c in choices.values() if c.preferred and c.asked and (x := preferences.of(c.asked))}
    plans = [x for x in preferences.plans if x not in used]
    others = [x for x in preferences.blocks if blocks.get(x.members, not x.blocked) != x.blocked]
    return (
        *(Remark(NOT_USED, f"{x}: it is none of the plans that are weighed for it now", x.statement) for x in plans),
        *(Remark(NOT_USED, f"{x}: they cannot", " and ".join(x.members)) for x in others),
    )


def _whole(asked: Asked) -> tuple[str, ...]:
    return tuple(sorted(asked.within.whole))
