# SPDX-License-Identifier: MIT
"""The order of the statements of a program that grew: after what they read, as far as circles allow.

Only memory needs an order; for everything else it is for those who read the text, and for fusion, which begins with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from polyhedral.ir import expr as ex
from polyhedral.ir.program import Program, Role, Statement

_Groups = Mapping[int | str, Sequence[Statement]]


def in_order(p: Program) -> Program:
    """The program with its positions numbered anew; statements of one place in the text stay together, and those that
    touch the same memory in their order.
    """
    groups: dict[int | str, list[Statement]] = {}
    for n, s in enumerate(p.statements):
        groups.setdefault(s.position[0] if s.ordered or len(s.position) > 1 else -1 - n, []).append(s)
    first = _before(groups, frozenset(a.name for a in p.with_role(Role.INOUT)))
    done: dict[int | str, None] = {}
    for key in groups:
        _visit(key, first, done)
    return replace(
        p,
        statements=tuple(replace(s, position=(n, *s.position[1:])) for n, key in enumerate(done) for s in groups[key]),
    )


def _before(groups: _Groups, memory: frozenset[str]) -> Mapping[int | str, Sequence[int | str]]:
    """The groups that each one comes after: who touched its memory, and who writes what it reads."""
    writers: dict[str, list[int | str]] = {}
    touched: dict[str, list[int | str]] = {}
    earlier: dict[int | str, list[int | str]] = {}
    for key, members in groups.items():
        held = sorted({n for s in members for n in s.touched} & memory)
        earlier[key] = [k for n in held for k in touched.get(n, ())]
        for n in held:
            touched.setdefault(n, []).append(key)
        for s in members:
            writers.setdefault(s.write.array, []).append(key)
    for key, members in groups.items():
        reads = [r.array for s in members for r in ex.loads(s.value) if r.array not in memory]
        earlier[key] += [w for n in reads for w in writers.get(n, ())]
    return earlier


def _visit(start: int | str, first: Mapping[int | str, Sequence[int | str]], done: dict[int | str, None]) -> None:
    stack: list[tuple[int | str, bool]] = [(start, False)]
    entered: set[int | str] = set()
    while stack:
        key, left = stack.pop()
        if left:
            done.setdefault(key)
        elif key not in done and key not in entered:
            entered.add(key)
            stack.append((key, True))
            stack += [(w, False) for w in reversed(first[key])]
