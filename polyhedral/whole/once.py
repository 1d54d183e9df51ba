# SPDX-License-Identifier: MIT
"""Values that statements of one nest compute alike are made once, where they can lie in memory of the nest's own.

A row of a softmax is exponentiated for its sum and for its result: kept in the first cache between the two, it costs a
store and two loads.  The rewriting is left to `polyhedral.rewrites.extract`, what shares a nest to
`polyhedral.whole.fusion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from polyhedral.errors import Remark
from polyhedral.ir.cluster import components
from polyhedral.ir.counts import instances
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Program, Statement, reads, touched
from polyhedral.machine.target import Target
from polyhedral.plans.register_plan import RegisterPlan
from polyhedral.rewrites.extract import Shared, extract, shared_values
from polyhedral.transforms.share import Nest
from polyhedral.whole.fusion import MOST, nests

WORTH = 50_000
"""Instances of a statement from which on it is asked whether its values are made elsewhere."""


@dataclass(frozen=True)
class Once:
    """A program, the values made once in it, by the array that holds each, and those that had better not be."""

    program: Program
    values: Mapping[str, Shared] = field(default_factory=dict[str, Shared])
    refused: frozenset[Shared] = frozenset()

    @property
    def remarks(self) -> tuple[Remark, ...]:
        why = "their nest keeps it in a cache"
        users = {name: " and ".join(who for who, _, _ in v.users) for name, v in self.values.items()}
        return tuple(Remark(f"a value of {who} is made once", why, name) for name, who in users.items())


def made_once(
    p: Program, layouts: Mapping[str, Layout], target: Target, refused: Set[Shared] = frozenset(), worth: int = WORTH
) -> Once:
    """The values that would lie in memory of a nest's own, were there no register tiles, the dearest first."""
    o, no = Once(p), set(refused)
    while (more := _one_more(o, layouts, target, no, worth)) is not None:
        o = more
    return replace(o, refused=frozenset(no))


def _one_more(o: Once, layouts: Mapping[str, Layout], target: Target, no: set[Shared], worth: int) -> Once | None:
    """The dearest value made once too; those that would not lie there, by themselves or beside all others, join the
    refused.
    """
    p, name = o.program, _fresh(o.program)
    for v in shared_values(p):
        if v in no or any(instances(p.statement(who)) < worth for who, _, _ in v.users):
            continue
        more = Once(extract(p, v, name), {**o.values, name: v})
        laid = {**layouts, **{n: row_major(more.program.array(n)) for n in more.values}}
        around = _around(more.program, name)
        if name in _own(more.program, around, laid, target, {}) and not lost(more, more.program, laid, target, {}):
            return more
        no.add(v)
    return None


def _around(p: Program, array: str) -> Sequence[Statement]:
    """The statements from the first that uses an array to the last; none where those of them that depend on it, which
    would have to be in its nest too, are more than a nest has.
    """
    users = [n for n, s in enumerate(p.statements) if array in touched(s)]
    some = p.statements[users[0] : users[-1] + 1]
    made = {array}
    for s in some:
        if any(load.array in made for load in reads(s)):
            made.add(s.write.array)
    return some if len(made) <= MOST else ()


def lost(
    o: Once,
    p: Program,
    layouts: Mapping[str, Layout],
    target: Target,
    plans: Mapping[str, RegisterPlan],
    planned: Sequence[Nest] = (),
) -> set[Shared]:
    """The values that would not lie in memory of a nest's own, were the program scheduled so: `p` is what became of it,
    with these plans and nests."""
    own = _own(p, p.statements, layouts, target, plans, planned) if o.values else set[str]()
    return {v for name, v in o.values.items() if name not in own}


def _own(
    p: Program,
    some: Sequence[Statement],
    layouts: Mapping[str, Layout],
    target: Target,
    plans: Mapping[str, RegisterPlan],
    planned: Sequence[Nest] = (),
) -> set[str]:
    """The arrays in memory of a nest's own, were some statements of a program scheduled by themselves."""
    makers: dict[str, list[str]] = {}
    for s in some:
        makers.setdefault(s.write.array, []).append(s.name)
    flow = ((maker, s.name) for s in some for load in reads(s) for maker in makers.get(load.array, ()))
    edges = {(maker, reader) for maker, reader in flow if maker != reader}
    clusters = components([s.name for s in some], edges)
    return {array for nest in nests(p, clusters, edges, layouts, plans, target, planned) for array, _ in nest.local}


def _fresh(p: Program) -> str:
    taken = {a.name for a in p.arrays} | {s.name for s in p.statements}
    n = 0
    while f"once{n}" in taken:
        n += 1
    return f"once{n}"
