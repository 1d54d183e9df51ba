# SPDX-License-Identifier: MIT
"""How the arrays of a built kernel lie, and why: who asked for it, or what the next best order would have cost.

Layouts are chosen in `polyhedral.whole.assignment`; its prices are printed, not recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from frontend.lowering.built import Built
from frontend.units import cycles
from polyhedral.ir.program import Role
from polyhedral.whole.assignment import Reason


@dataclass(frozen=True)
class Laid:
    """One array: its order from slow to fast, strides in elements, and why; `reason` where it was chosen by price."""

    array: str
    role: Role
    order: tuple[str, ...]
    strides: tuple[int | str, ...]
    because: str
    reason: Reason | None = None

    def __str__(self) -> str:
        return f"{self.role.value}, {self.place}; {self.because}"

    @property
    def place(self) -> str:
        """Order and strides."""
        steps = ", ".join(f"{d}: {n}" for d, n in zip(self.order, self.strides, strict=True))
        return f"order {' '.join(self.order) or '-'} (strides {steps or '-'})"

    def price(self, order: Sequence[str]) -> float | None:
        """The cycles of the statements that touch the array in this order, where that was weighed."""
        every = () if self.reason is None else ((self.reason.order, self.reason.cycles), *self.reason.others)
        return next((c for o, c in every if o == tuple(order)), None)


def laid(built: Built, array: str) -> Laid:
    """How one array lies."""
    a, layout = built.program.array(array), built.layouts[array]
    order = layout.order
    reason = built.assigned.reasons.get(array)
    if reason is not None and reason.order != order:
        reason = None
    strides = tuple(layout.stride(d) for d in order)
    return Laid(array, a.role, order, strides, _because(built, array, reason), reason)


def table(built: Built) -> Iterator[Laid]:
    """All arrays."""
    return (laid(built, a.name) for a in built.program.arrays)


def _because(built: Built, array: str, reason: Reason | None) -> str:
    a, assigned = built.program.array(array), built.assigned
    if array in built.asked:
        return "asked for by a hint"
    if array in assigned.given:
        return "given by the caller"
    if array not in assigned.layouts:
        return "made for a plan, as its nest reads it"
    if a.role is Role.CONSTANT or len(a.dims) < 2:
        return "there is nothing to choose" if len(a.dims) < 2 else "a constant, as it is written"
    if a.planes:
        return "the dim of its recurrence is outermost"
    if reason is None:
        return "it follows its operands"
    how = "best for the whole program" if built.options.layouts == "global" else "as its first statement likes"
    own = f"chosen, {how}: {cycles(reason.cycles)} cycles in the statements that touch it"
    if not reason.others:
        return f"{own}; none of them likes another order"
    other, price = reason.others[0]
    return f"{own}; next best {' '.join(other)}, {_more(price, reason.cycles)}"


def _more(price: float, own: float) -> str:
    """What another order costs, next to the one chosen."""
    share = price / own - 1 if own else 0.0
    more = "as much" if abs(share) < 5e-4 else f"{share:+.1%}" if share < 1 else f"{share + 1:.1f} times as much"
    return f"{cycles(price)} cycles ({more})"


# --- what `explain` says ---------------------------------------------------------------------------------------------


def chosen(x: Laid, asked: Sequence[str] | None) -> Iterator[str]:
    """Where an array lies and why, then what each other order would cost."""
    yield x.place
    yield x.because
    if x.reason is not None:
        yield from (f"{' '.join(o)} would take {_more(c, x.reason.cycles)}" for o, c in x.reason.others[1:])
    if asked is not None and tuple(asked) != x.order and x.reason is not None and x.price(asked) is None:
        yield f"{' '.join(asked)} was not weighed: no statement that touches {x.array} likes it"


def change(x: Laid, asked: Sequence[str] | None) -> Iterator[str]:
    """How to get another order: the one that was asked about, else the next best."""
    if x.role not in (Role.OUTPUT, Role.TEMPORARY):
        wanted = tuple(reversed(x.order)) if asked is None else asked
        yield f"pass {x.array} laid out as {' '.join(wanted)}"
        return
    if asked is not None and tuple(asked) == x.order:
        yield f"{x.array} lies so already"
        return
    others = () if x.reason is None else x.reason.others
    wanted = asked or (others[0][0] if others else tuple(reversed(x.order)))
    price = x.price(wanted)
    known = "" if price is None or x.reason is None else f": {_more(price, x.reason.cycles)}"
    yield f'hint layout("{x.array}", "{" ".join(wanted)}"){known}'
