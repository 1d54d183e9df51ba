# SPDX-License-Identifier: MIT
"""Modules: a checked program with its meeting points to the outside, and one specialised to sizes and strides.

Both hold finished values; what can be looked at is in `frontend.stages.lowered`, what runs in
`frontend.stages.executable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Self

from frontend.arrays.specs import Spec
from frontend.environment.options import Options
from frontend.lang.trace import Returned
from frontend.lowering import driver
from frontend.lowering.built import UNTIMED, Built, Timings
from frontend.lowering.given import Given
from frontend.lowering.hints import NO_HINTS, Hints
from frontend.recorded import unsided
from polyhedral.checks.check import Checked, violation
from polyhedral.errors import ArgumentError, DimError, Location
from polyhedral.ir import affine as aff
from polyhedral.ir.layout import Layout, row_major
from polyhedral.ir.program import Program, Role, specialise


@dataclass(frozen=True, eq=False, repr=False)
class Module:
    """A checked program and how it meets the outside: argument names in order, result structure, wanted axis orders."""

    checked: Checked
    arguments: tuple[str, ...]
    returned: Returned
    orders: Mapping[str, tuple[str, ...]]
    places: Mapping[object, tuple[str, Location | None]] = field(default_factory=dict[object, Any])
    """The statement, and its line, that asks for an equation between sizes."""

    def __repr__(self) -> str:
        return f"<Module {self.program!r}>".replace("<ph.Program ", "", 1).removesuffix(">")

    def __str__(self) -> str:
        return str(self.program)

    @property
    def program(self) -> Program:
        return self.checked.program


def module_of(checked: Checked) -> Module:
    """A program on its own: arguments are its inputs and inouts, results all its outputs."""
    p = checked.program
    outputs = tuple(a.name for a in p.with_role(Role.OUTPUT))
    inputs = tuple(a.name for a in p.with_role(Role.INPUT, Role.INOUT))
    return Module(checked, inputs, outputs[0] if len(outputs) == 1 else outputs or None, {})


class Specialised:
    """A program for given sizes and strides, with its schedule, loops and text."""

    def __init__(
        self,
        module: Module,
        specs: Mapping[str, Spec],
        sizes: Mapping[str, int],
        options: Options,
        before: Timings,
        hints: Hints = NO_HINTS,
        constants: frozenset[str] = frozenset(),
    ) -> None:
        self.module = module
        self.specs = specs
        self.sizes = dict(sizes)
        self.options = options
        self.check_sizes(self.sizes)
        program = specialise(module.program, self.sizes)
        layouts = {n: s.layout(n) for n, s in specs.items()}
        for name, order in module.orders.items():
            layouts[name] = row_major(program.array(name), order)
        self.given = Given(program, layouts, options, hints, constants)
        self.built: Built = driver.lower(program, layouts, options, before, hints, constants)

    def with_built(self, built: Built) -> Self:
        """The same program for the same arguments, scheduled in another way."""
        made = copy(self)
        made.built = built
        return made

    def check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Hold the preconditions that these sizes decide: O(1) each."""
        for c in self.module.program.assumptions:
            if aff.condition_sizes(c) <= sizes.keys() and not aff.holds(c, {}, sizes):
                raise _broken(self.module, c, sizes)
        for p in self.module.checked.preconditions:
            broken = violation(p, sizes) if aff.condition_sizes(p.condition) <= sizes.keys() else None
            if broken is not None:
                raise broken

    @property
    def program(self) -> Program:
        """The program for these sizes."""
        return self.built.program

    @property
    def layouts(self) -> Mapping[str, Layout]:
        return self.built.layouts

    def source(self, language: str | None = None) -> str:
        """The text of the kernel, in the language of its target, or for a device in `cuda` or `opencl`."""
        own = self.built.source.language
        wanted = own if language is None else str(language).lower()
        if wanted == own:
            return self.built.source.text
        if wanted not in ("cuda", "opencl"):
            raise ArgumentError("PH505", f"this kernel has no {language} source", hints=(f"source({own!r})",))
        return self._for(wanted).source.text

    def _for(self, target: str) -> Built:
        """The same program for another target."""
        program = specialise(self.module.program, self.sizes)
        layouts = {n: s.layout(n) for n, s in self.specs.items()}
        return driver.lower(program, layouts, replace(self.options, target=target), UNTIMED)


def _broken(module: Module, c: aff.Condition, sizes: Mapping[str, int]) -> DimError:
    """An assumption on sizes that does not hold, in the words of the two sizes that it compares."""
    program = module.program
    statement, place = module.places.get(unsided(c), (None, None))
    shown = {n: sizes[n] for n in sorted(aff.condition_sizes(c))}
    values = " but ".join(f"{n} = {v}" for n, v in shown.items())
    match c:
        case aff.Compare(aff.Affine(((aff.Size(a), 1), (aff.Size(b), -1)), 0), equal=True) | aff.Compare(
            aff.Affine(((aff.Size(b), -1), (aff.Size(a), 1)), 0), equal=True
        ):
            dim = a.rpartition(".")[2]
            array, other = a.rpartition(".")[0], b.rpartition(".")[0]
            return DimError(
                "PH010",
                f"{program.name}: sizes disagree: {values}"
                + (f" (both are indexed by dimension {dim})" if dim == b.rpartition(".")[2] else ""),
                statement=statement,
                location=place,
                dim=dim,
                sizes=shown,
                hints=(
                    f"if they are different axes rename one: {other or b}({dim}={dim}2)"
                    if array
                    else f"pass the same {dim}",
                ),
            )
        case _:
            return DimError(
                "PH010",
                f"{program.name} needs {c}; here {values}",
                statement=statement,
                location=place,
                sizes=shown,
                hints=("pass arrays of sizes that agree",),
            )
