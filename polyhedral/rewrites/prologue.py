# SPDX-License-Identifier: MIT
"""Separate what depends on constants alone: it is computed once and kept, instead of at every call.

W_panels = W(...);  out = sum P * W_panels      with W constant      ->      once: W_panels = W(...)
                                                                            each call: out = sum P * W_panels
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from polyhedral.ir.program import Program, Role, Statement, reads


@dataclass(frozen=True)
class Separated:
    """`once` computes its outputs from constant arguments, None if nothing does; `each` takes them as inputs."""

    once: Program | None
    each: Program

    @property
    def kept(self) -> tuple[str, ...]:
        """The arrays that the first program makes for the second."""
        return () if self.once is None else tuple(a.name for a in self.once.with_role(Role.OUTPUT))


def separate(p: Program, constants: frozenset[str]) -> Separated:
    """Split off the statements that read nothing but constant inputs and each other."""
    known = set(constants)
    early: list[Statement] = []
    for s in p.statements:
        fixed = all(load.array in known for load in reads(s))
        if fixed and constants & {load.array for load in reads(s)} and p.array(s.write.array).role is Role.TEMPORARY:
            early.append(s)
            known.add(s.write.array)
    if not early:
        return Separated(None, p)
    made = {s.write.array for s in early}
    late = tuple(s for s in p.statements if s not in early)
    wanted = made & {load.array for s in late for load in reads(s)}
    return Separated(
        _part(p, f"{p.name}_once", tuple(early), wanted, Role.OUTPUT), _part(p, p.name, late, wanted, Role.INPUT)
    )


def _part(p: Program, name: str, statements: tuple[Statement, ...], boundary: set[str], role: Role) -> Program:
    """Some statements with the arrays that they touch; the arrays between the parts take `role`."""
    touched = {s.write.array for s in statements} | {load.array for s in statements for load in reads(s)}
    kept = tuple(
        replace(a, role=role) if a.name in boundary else a
        for a in p.arrays
        if a.name in touched or (a.role in (Role.OUTPUT, Role.INOUT) and role is Role.INPUT)
    )
    return Program(name, p.sizes, kept, statements, p.assumptions)
